//! The measured policy: what may be signed at all. A refusal names the rule that it breaks.
//!
//! ```toml
//! [signer.policy]
//! chain_ids = [1]
//! recipients = ["0xa5D3241A1591061F2a4bB69CA0215F66520E67cf"]   # or "any"
//! max_value = "1.5 ether"
//! max_fee_per_gas = "200 gwei"      # also for gasPrice of types 0 and 1
//! max_gas = 500000
//! contract_creation = false
//! data_selectors = ["0xa9059cbb"]   # or "any"; a call without data is always one of these
//! nonce_reuse = false               # true: another transaction for a nonce that is already signed, as for a replacement
//! [signer.policy.calls]             # optional: rules for the arguments of calls, see [`calls`]
//! [[signer.policy.windows]]         # optional: limits of what is signed in a time, see [`windows`]
//! fee_bump = false                  # optional; true: the same transaction again for its nonce, with fees raised by 10 % or more
//! # optional: blobs, delegates, any_chain_authorizations, personal_sign, see policy/kinds.rs
//! own_gas_rules = [42161]           # optional: chains whose nodes reckon gas in their own way, see [`crate::pool`]
//! [signer.policy.keys.0x2c7536E3605D9C16a7a3D7b1898e529396a65c23]
//! max_value = "20 ether"            # for this key; what it leaves out is as above
//! ```

mod argument;
mod calls;
mod judges;
mod kinds;
mod table;
mod typed_data;
mod unused;
mod verdicts;
mod windows;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ethereum::address::Address;
use ethereum::amount::Wei;
use ethereum::hex;
use ethereum::signable::Signable;
use ethereum::transaction::Transaction;
use ethereum::typed_data::TypedData;
use thiserror::Error;

pub use judges::Judges;
pub(crate) use judges::identity;
pub use table::PolicyTable;
pub use windows::{Amounts, Window};

pub(crate) use argument::Payment;
#[cfg(test)]
pub(crate) use windows::Limit;

use self::kinds::KindRules;
use crate::pool::MAX_GAS;
use calls::Calls;
use typed_data::Messages;

/// The rules for every key, and for those that have their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    base: Rules,
    keys: BTreeMap<Address, Rules>,
    own_gas_rules: BTreeSet<u64>,
}

/// What one key may sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    chain_ids: Allowed<u64>,
    recipients: Allowed<Address>,
    max_value: Wei,
    max_fee_per_gas: Wei,
    max_gas: u64,
    contract_creation: bool,
    data_selectors: Allowed<[u8; 4]>,
    nonce_reuse: bool,
    fee_bump: bool,
    calls: Calls,
    windows: Vec<Window>,
    /// None: a client without such rules.
    typed_data: Option<Messages>,
    kinds: KindRules,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed<T> {
    Any,
    Only(BTreeSet<T>),
}

impl<T> Allowed<T> {
    /// What is listed; nothing where everything is allowed.
    fn listed(&self) -> impl Iterator<Item = &T> {
        let listed = match self {
            Self::Any => None,
            Self::Only(listed) => Some(listed),
        };
        listed.into_iter().flatten()
    }
}

/// The rules by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// `chain_ids`
    ChainIds,
    /// `recipients`
    Recipients,
    /// `max_value`
    MaxValue,
    /// `max_fee_per_gas`
    MaxFeePerGas,
    /// `max_gas`
    MaxGas,
    /// `contract_creation`
    ContractCreation,
    /// `data_selectors`
    DataSelectors,
    /// `nonce_reuse`
    NonceReuse,
    /// `fee_bump`
    FeeBump,
    /// `calls`
    Calls,
    /// `windows`
    Windows,
    /// `blobs`
    Blobs,
    /// `delegates`
    Delegates,
    /// `any_chain_authorizations`
    AnyChainAuthorizations,
    /// `personal_sign`
    PersonalSign,
    /// `typed_data`
    TypedData,
}

/// What the policy does not let through.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("policy rule {rule}{}: {problem}", .client.as_ref().map(|client| format!(" of client {client}")).unwrap_or_default())]
pub struct Refusal {
    /// Which one.
    pub rule: Rule,
    /// What was asked for and what the rule allows.
    pub problem: String,
    /// The client whose rule it is; none for the key's.
    pub client: Option<String>,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::ChainIds,
        Self::Recipients,
        Self::MaxValue,
        Self::MaxFeePerGas,
        Self::MaxGas,
        Self::ContractCreation,
        Self::DataSelectors,
        Self::NonceReuse,
        Self::FeeBump,
        Self::Calls,
        Self::Windows,
        Self::Blobs,
        Self::Delegates,
        Self::AnyChainAuthorizations,
        Self::PersonalSign,
        Self::TypedData,
    ];

    /// As the configuration has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ChainIds => "chain_ids",
            Self::Recipients => "recipients",
            Self::MaxValue => "max_value",
            Self::MaxFeePerGas => "max_fee_per_gas",
            Self::MaxGas => "max_gas",
            Self::ContractCreation => "contract_creation",
            Self::DataSelectors => "data_selectors",
            Self::NonceReuse => "nonce_reuse",
            Self::FeeBump => "fee_bump",
            Self::Calls => "calls",
            Self::Windows => "windows",
            Self::Blobs => "blobs",
            Self::Delegates => "delegates",
            Self::AnyChainAuthorizations => "any_chain_authorizations",
            Self::PersonalSign => "personal_sign",
            Self::TypedData => "typed_data",
        }
    }

    /// The field of the request that it judges.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::ChainIds => "transaction_payload.chainId",
            Self::Recipients | Self::ContractCreation => "transaction_payload.to",
            Self::MaxValue => "transaction_payload.value",
            Self::MaxFeePerGas | Self::FeeBump => "transaction_payload.maxFeePerGas",
            Self::MaxGas => "transaction_payload.gas",
            Self::DataSelectors | Self::Calls => "transaction_payload.data",
            Self::NonceReuse => "transaction_payload.nonce",
            Self::Windows => "transaction_payload",
            Self::Blobs => "transaction_payload.blobVersionedHashes",
            Self::Delegates | Self::AnyChainAuthorizations => "transaction_payload.authorizationList",
            Self::PersonalSign => "message",
            Self::TypedData => "typed_data",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Policy {
    /// The rules for the key of this address.
    #[must_use]
    pub fn rules(&self, key: Address) -> &Rules {
        self.keys.get(&key).unwrap_or(&self.base)
    }

    /// The chains that any key may sign for.
    #[must_use]
    pub fn chain_ids(&self) -> BTreeSet<u64> {
        let all = std::iter::once(&self.base).chain(self.keys.values());
        all.flat_map(|rules| rules.chain_ids.listed()).copied().collect()
    }

    /// Whether the nodes of this chain reckon gas as Ethereum's do.
    #[must_use]
    pub fn has_ethereums_gas_rules(&self, chain_id: u64) -> bool {
        !self.own_gas_rules.contains(&chain_id)
    }

    /// What is written, and can never be of use: a sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let base = ("signer.policy".to_owned(), &self.base);
        let keys = self.keys.iter().map(|(key, rules)| (format!("signer.policy.keys.{key}"), rules));
        let is_its_own = |rules: &Rules| (rules.max_gas, &rules.chain_ids) != (self.base.max_gas, &self.base.chain_ids);
        let all = std::iter::once(base).chain(keys.filter(|(_, rules)| is_its_own(rules)));
        let mut warnings: Vec<_> = all.filter_map(|(path, rules)| self.warning(&path, rules)).collect();
        warnings.extend(self.base.unused("signer.policy", None));
        for (key, rules) in &self.keys {
            warnings.extend(rules.unused(&format!("signer.policy.keys.{key}"), Some(&self.base)));
        }
        warnings
    }

    fn warning(&self, path: &str, rules: &Rules) -> Option<String> {
        let Allowed::Only(chain_ids) = &rules.chain_ids else { return None };
        let chains = chain_ids.iter().filter(|chain_id| self.has_ethereums_gas_rules(**chain_id));
        let chains: Vec<String> = chains.map(u64::to_string).collect();
        (rules.max_gas > MAX_GAS && !chains.is_empty()).then(|| {
            format!(
                "{path}.max_gas: {} is more than a transaction may have on chain {} (EIP-7825); expected at most {MAX_GAS}, or the \
                 chain in signer.policy.own_gas_rules",
                rules.max_gas,
                chains.join(" and ")
            )
        })
    }

    /// The rules for every key, then those of keys that have their own.
    pub fn all_rules(&self) -> impl Iterator<Item = &Rules> {
        std::iter::once(&self.base).chain(self.keys.values())
    }

    /// Whether this key has rules of its own.
    #[must_use]
    pub fn names(&self, key: Address) -> bool {
        self.keys.contains_key(&key)
    }
}

impl Rules {
    /// The most that a unit of gas may cost.
    #[must_use]
    pub fn max_fee_per_gas(&self) -> Wei {
        self.max_fee_per_gas
    }

    /// Whether another transaction may be signed for a nonce that has been signed for; [`crate::nonces`] knows which have.
    #[must_use]
    pub fn allows_nonce_reuse(&self) -> bool {
        self.nonce_reuse
    }

    /// Whether an authorisation may be for every chain.
    pub(crate) fn allows_any_chain(&self) -> bool {
        self.kinds.any_chain()
    }

    /// Whether the same transaction may be signed again with raised fees.
    #[must_use]
    pub fn allows_fee_bump(&self) -> bool {
        self.fee_bump
    }

    /// The limits of what is signed in a time.
    #[must_use]
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// What the rules for arguments declare as payments.
    fn payments(&self, subject: &Signable) -> Vec<Payment> {
        match subject {
            Signable::Transaction(Transaction { to: Some(to), data, .. }) => self.calls.payments(*to, data),
            Signable::TypedData(data) => {
                self.typed_data.as_ref().map(|messages| messages.payments(data)).unwrap_or_default()
            }
            Signable::Transaction(_) | Signable::Authorization(_) | Signable::Message(_) => Vec::new(),
        }
    }

    /// Judges what is to be signed.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, subject: &Signable) -> Result<(), Refusal> {
        match subject {
            Signable::Transaction(transaction) => self.check_transaction(transaction)?,
            Signable::TypedData(data) => self.check_typed_data(data)?,
            Signable::Authorization(_) | Signable::Message(_) => {}
        }
        self.kinds.check(subject, &self.chain_ids)
    }

    fn check_typed_data(&self, data: &TypedData) -> Result<(), Refusal> {
        let Some(messages) = &self.typed_data else { return Ok(()) };
        if let Some(chain_id) = typed_data::chain_id(data) {
            require(self.chain_ids.has(&chain_id), Rule::ChainIds, || format!("chain {chain_id} is not among them"))?;
        }
        messages.check(data).or_else(|problem| require(false, Rule::TypedData, || problem))
    }

    fn check_transaction(&self, transaction: &Transaction) -> Result<(), Refusal> {
        let Transaction { chain_id, gas, value, .. } = *transaction;
        require(self.chain_ids.has(&chain_id), Rule::ChainIds, || format!("chain {chain_id} is not among them"))?;
        require(value <= self.max_value, Rule::MaxValue, || format!("{value}, at most {}", self.max_value))?;
        let fee = transaction.max_fee_per_gas();
        require(fee <= self.max_fee_per_gas, Rule::MaxFeePerGas, || {
            format!("{fee}, at most {}", self.max_fee_per_gas)
        })?;
        require(gas <= self.max_gas, Rule::MaxGas, || format!("{gas}, at most {}", self.max_gas))?;
        match transaction.to {
            None => require(self.contract_creation, Rule::ContractCreation, || "no contract may be created".to_owned()),
            Some(to) => {
                require(self.recipients.has(&to), Rule::Recipients, || format!("{to} is not among them"))?;
                self.check_data(to, &transaction.data)
            }
        }
    }

    fn check_data(&self, to: Address, data: &[u8]) -> Result<(), Refusal> {
        if data.is_empty() {
            return Ok(());
        }
        if let Some(judged) = self.calls.check(to, data) {
            return judged.or_else(|problem| require(false, Rule::Calls, || problem));
        }
        let is_allowed = match (&self.data_selectors, data.first_chunk::<4>()) {
            (Allowed::Any, _) => true,
            (Allowed::Only(selectors), Some(selector)) => selectors.contains(selector),
            // A contract's fallback function would take them.
            (Allowed::Only(_), None) => false,
        };
        let shown = || hex::prefixed(data.get(..4).unwrap_or(data));
        require(is_allowed, Rule::DataSelectors, || format!("{} is not among them", shown()))
    }
}

impl<T: Ord> Allowed<T> {
    fn has(&self, value: &T) -> bool {
        match self {
            Self::Any => true,
            Self::Only(values) => values.contains(value),
        }
    }
}

fn require(is_so: bool, rule: Rule, problem: impl FnOnce() -> String) -> Result<(), Refusal> {
    if is_so { Ok(()) } else { Err(Refusal { rule, problem: problem(), client: None }) }
}

#[cfg(test)]
mod tests;
