//! The measured policy: which transactions may be signed at all. A refusal names the rule that it breaks.
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
//! fee_bump = false                  # optional; true: the same transaction again for its nonce, with fees raised by 10 % or more
//! own_gas_rules = [42161]           # optional: chains whose nodes reckon gas in their own way, see [`crate::pool`]
//! [signer.policy.keys.0x2c7536E3605D9C16a7a3D7b1898e529396a65c23]
//! max_value = "20 ether"            # for this key; what it leaves out is as above
//! ```

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ethereum::address::Address;
use ethereum::amount::Wei;
use ethereum::hex;
use ethereum::signable::Signable;
use ethereum::transaction::Transaction;
use thiserror::Error;

pub use table::PolicyTable;

use crate::pool::MAX_GAS;

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
    chain_ids: BTreeSet<u64>,
    recipients: Allowed<Address>,
    max_value: Wei,
    max_fee_per_gas: Wei,
    max_gas: u64,
    contract_creation: bool,
    data_selectors: Allowed<[u8; 4]>,
    nonce_reuse: bool,
    fee_bump: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed<T> {
    Any,
    Only(BTreeSet<T>),
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
}

/// A transaction that the policy does not let through.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("policy rule {rule}: {problem}")]
pub struct Refusal {
    /// Which one.
    pub rule: Rule,
    /// What the transaction has and what the rule allows.
    pub problem: String,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ChainIds,
        Self::Recipients,
        Self::MaxValue,
        Self::MaxFeePerGas,
        Self::MaxGas,
        Self::ContractCreation,
        Self::DataSelectors,
        Self::NonceReuse,
        Self::FeeBump,
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
            Self::DataSelectors => "transaction_payload.data",
            Self::NonceReuse => "transaction_payload.nonce",
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
        all.filter_map(|(path, rules)| self.warning(&path, rules)).collect()
    }

    fn warning(&self, path: &str, rules: &Rules) -> Option<String> {
        let chains = rules.chain_ids.iter().filter(|chain_id| self.has_ethereums_gas_rules(**chain_id));
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

    /// Whether this key has rules of its own.
    #[must_use]
    pub fn names(&self, key: Address) -> bool {
        self.keys.contains_key(&key)
    }
}

impl Rules {
    /// Whether another transaction may be signed for a nonce that has been signed for; [`crate::nonces`] knows which have.
    #[must_use]
    pub fn allows_nonce_reuse(&self) -> bool {
        self.nonce_reuse
    }

    /// Whether the same transaction may be signed again with raised fees.
    #[must_use]
    pub fn allows_fee_bump(&self) -> bool {
        self.fee_bump
    }

    /// Judges what is to be signed.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, subject: &Signable) -> Result<(), Refusal> {
        match subject {
            Signable::Transaction(transaction) => self.check_transaction(transaction),
        }
    }

    fn check_transaction(&self, transaction: &Transaction) -> Result<(), Refusal> {
        let Transaction { chain_id, gas, value, .. } = *transaction;
        require(self.chain_ids.contains(&chain_id), Rule::ChainIds, || format!("chain {chain_id} is not among them"))?;
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
                self.check_data(&transaction.data)
            }
        }
    }

    fn check_data(&self, data: &[u8]) -> Result<(), Refusal> {
        if data.is_empty() {
            return Ok(());
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
    if is_so { Ok(()) } else { Err(Refusal { rule, problem: problem() }) }
}

#[cfg(test)]
mod tests;
