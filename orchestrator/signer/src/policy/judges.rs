//! The rules of a key and those of a client. Both have to allow what is signed, so the stricter one decides.

use std::collections::BTreeMap;

use ethereum::address::Address;
use ethereum::amount::Wei;
use ethereum::number::Uint;
use ethereum::signable::{Signable, Unsigned};
use ethereum::transaction::Fees;

use super::argument::Payment;
use super::{Amounts, Policy, Refusal, Rules, typed_data};
use crate::nonces::Payer;
use crate::permission::Caller;
use crate::windows::{Owner, Spending};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Judges<'a> {
    key: Address,
    of_key: &'a Rules,
    of_client: Option<(&'a str, &'a Rules)>,
}

impl<'a> Judges<'a> {
    /// Those for a key that a caller uses.
    #[must_use]
    pub fn new(policy: &'a Policy, key: Address, caller: &'a Caller) -> Self {
        Self { key, of_key: policy.rules(key), of_client: caller.rules() }
    }

    /// Judges what is to be signed.
    ///
    /// # Errors
    /// The first rule that it breaks, of the key before those of the client.
    pub fn check(&self, subject: &Signable) -> Result<(), Refusal> {
        self.of_key.check(subject)?;
        self.of_client.map_or(Ok(()), |(client, rules)| {
            rules.check(subject).map_err(|refusal| Refusal { client: Some(client.to_owned()), ..refusal })
        })
    }

    /// Whether another transaction may be signed for a nonce that has been signed for.
    #[must_use]
    pub fn allow_nonce_reuse(&self) -> bool {
        self.both(Rules::allows_nonce_reuse)
    }

    /// Whether the same transaction may be signed again with raised fees.
    #[must_use]
    pub fn allow_fee_bump(&self) -> bool {
        self.both(Rules::allows_fee_bump)
    }

    /// What signing spends of windows. None if there are no windows.
    #[must_use]
    pub fn spending(&self, payer: Payer<'a>, subject: &Signable) -> Option<Spending<'a>> {
        let of_client = self.of_client.map(|(client, rules)| (Owner::Client(client.to_owned()), rules.windows()));
        let windows = [Some((Owner::Key(self.key), self.of_key.windows())), of_client].into_iter().flatten();
        let windows: Vec<_> = windows.filter(|(_, windows)| !windows.is_empty()).collect();
        (!windows.is_empty()).then(|| Spending {
            payer,
            id: (self.key, identity(subject)),
            chain_id: chain_id(subject),
            amounts: Amounts { value: value(subject), payments: self.payments(subject) },
            windows,
        })
    }

    fn both(&self, allows: impl Fn(&Rules) -> bool) -> bool {
        allows(self.of_key) && self.of_client.is_none_or(|(_, rules)| allows(rules))
    }

    /// What the rules of either declare. What both declare is one payment.
    fn payments(&self, subject: &Signable) -> Vec<Payment> {
        let mut most = BTreeMap::new();
        for rules in [Some(self.of_key), self.of_client.map(|(_, rules)| rules)].into_iter().flatten() {
            let mut sums = BTreeMap::new();
            for Payment { token, amount } in rules.payments(subject) {
                let sum = sums.entry(token).or_insert(Uint::ZERO);
                *sum = sum.saturating_add(amount);
            }
            for (token, sum) in sums {
                let most = most.entry(token).or_insert(sum);
                *most = sum.max(*most);
            }
        }
        most.into_iter().map(|(token, amount)| Payment { token, amount }).collect()
    }
}

/// What stays the same when fees are raised.
pub(crate) fn identity(subject: &Signable) -> [u8; 32] {
    match subject {
        Signable::Transaction(transaction) => {
            Unsigned::new(&Signable::Transaction(transaction.with_fees(Fees::default()))).hash()
        }
        Signable::Authorization(_) | Signable::Message(_) | Signable::TypedData(_) => Unsigned::new(subject).hash(),
    }
}

fn chain_id(subject: &Signable) -> Option<u64> {
    match subject {
        Signable::Transaction(transaction) => Some(transaction.chain_id),
        // Chain 0 is every chain.
        Signable::Authorization(authorization) => Some(authorization.chain_id).filter(|chain_id| *chain_id != 0),
        Signable::TypedData(data) => typed_data::chain_id(data),
        Signable::Message(_) => None,
    }
}

fn value(subject: &Signable) -> Wei {
    match subject {
        Signable::Transaction(transaction) => transaction.value,
        Signable::Authorization(_) | Signable::Message(_) | Signable::TypedData(_) => Wei(0),
    }
}
