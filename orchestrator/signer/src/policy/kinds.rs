//! What is signed beside transactions of types 0 to 2. Each kind is off until the configuration turns it on.
//!
//! ```toml
//! blobs = { max_count = 6, max_fee_per_blob_gas = "10 gwei" }           # without it: no transaction of type 3
//! delegates = ["0x63c0c19a282a1B52b07dD5a65b58948A07DAE32B"]            # without it: no type 4 and no authorisation
//! any_chain_authorizations = false                                      # true: also those for chain 0, which is every chain
//! personal_sign = false                                                 # true: messages of EIP-191
//! ```

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use ethereum::address::Address;
use ethereum::amount::Wei;
use ethereum::authorization::Authorization;
use ethereum::signable::Signable;
use ethereum::transaction::{Kind, Transaction};
use serde::Deserialize;

use super::{Allowed, Refusal, Rule, require};
use crate::pool::MAX_BLOBS;

/// The rules of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KindRules {
    blobs: Option<BlobRules>,
    delegates: Option<Allowed<Address>>,
    any_chain_authorizations: bool,
    personal_sign: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct BlobRules {
    max_count: usize,
    max_fee_per_blob_gas: Wei,
}

/// The same as the configuration writes it, each rule where it is written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KindTable<'a> {
    pub(super) blobs: Option<&'a BlobTable>,
    pub(super) delegates: Option<&'a [String]>,
    pub(super) any_chain_authorizations: Option<bool>,
    pub(super) personal_sign: Option<bool>,
}

/// `blobs`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlobTable {
    max_count: usize,
    max_fee_per_blob_gas: String,
}

impl KindRules {
    /// What is written at `path`. What it leaves out is as in `base`, or off.
    pub(super) fn new(path: &str, base: Option<&Self>, table: KindTable<'_>) -> Result<Self> {
        let KindTable { blobs, delegates, any_chain_authorizations, personal_sign } = table;
        let base = base.cloned().unwrap_or_default();
        let blobs = blobs.map(BlobTable::check).transpose().with_context(|| format!("{path}.blobs"))?;
        let delegates = delegates.map(addresses).transpose().with_context(|| format!("{path}.delegates"))?;
        Ok(Self {
            blobs: blobs.or(base.blobs),
            delegates: delegates.map(Allowed::Only).or(base.delegates),
            any_chain_authorizations: any_chain_authorizations.unwrap_or(base.any_chain_authorizations),
            personal_sign: personal_sign.unwrap_or(base.personal_sign),
        })
    }

    /// What a client's rules fall back to.
    pub(super) fn without_limits() -> Self {
        Self {
            blobs: Some(BlobRules { max_count: usize::MAX, max_fee_per_blob_gas: Wei(u128::MAX) }),
            delegates: Some(Allowed::Any),
            any_chain_authorizations: true,
            personal_sign: true,
        }
    }

    /// Whether an authorisation may be for every chain.
    pub(super) fn any_chain(&self) -> bool {
        self.any_chain_authorizations
    }

    /// Judges what is to be signed by its kind.
    pub(super) fn check(&self, subject: &Signable, chain_ids: &Allowed<u64>) -> Result<(), Refusal> {
        match subject {
            Signable::Transaction(transaction) => self.check_transaction(transaction),
            Signable::Authorization(authorization) => {
                let chain_id = authorization.chain_id;
                let is_listed = chain_id == 0 || chain_ids.has(&chain_id);
                require(is_listed, Rule::ChainIds, || format!("chain {chain_id} is not among them"))?;
                self.check_authorization(authorization)
            }
            Signable::Message(_) => {
                require(self.personal_sign, Rule::PersonalSign, || "no messages are signed".to_owned())
            }
            // It has rules of its own, see `super::typed_data`.
            Signable::TypedData(_) => Ok(()),
        }
    }

    fn check_transaction(&self, transaction: &Transaction) -> Result<(), Refusal> {
        match &transaction.kind {
            Kind::Legacy { .. } | Kind::AccessList { .. } | Kind::DynamicFee { .. } => Ok(()),
            Kind::Blob { max_fee_per_blob_gas, blob_versioned_hashes, .. } => {
                let Some(rules) = &self.blobs else {
                    return require(false, Rule::Blobs, || "no transactions of type 3 are signed".to_owned());
                };
                let (count, fee, most) =
                    (blob_versioned_hashes.len(), max_fee_per_blob_gas, rules.max_fee_per_blob_gas);
                require(count <= rules.max_count, Rule::Blobs, || {
                    format!("{count} blobs, at most {}", rules.max_count)
                })?;
                require(*fee <= most, Rule::Blobs, || format!("{fee} for a unit of blob gas, at most {most}"))
            }
            Kind::SetCode { authorizations, .. } => {
                authorizations.iter().try_for_each(|signed| self.check_authorization(&signed.authorization))
            }
        }
    }

    fn check_authorization(&self, authorization: &Authorization) -> Result<(), Refusal> {
        let Authorization { chain_id, contract, .. } = *authorization;
        let Some(delegates) = &self.delegates else {
            return require(false, Rule::Delegates, || "no authorisations are signed, nor type 4".to_owned());
        };
        require(delegates.has(&contract), Rule::Delegates, || format!("{contract} is not among them"))?;
        let is_allowed = chain_id != 0 || self.any_chain_authorizations;
        require(is_allowed, Rule::AnyChainAuthorizations, || {
            "chain 0 is every chain, and none is allowed for that".to_owned()
        })
    }
}

impl BlobTable {
    fn check(&self) -> Result<BlobRules> {
        let Self { max_count, ref max_fee_per_blob_gas } = *self;
        ensure!((1..=MAX_BLOBS).contains(&max_count), "max_count: {max_count}, expected 1 to {MAX_BLOBS} (EIP-7594)");
        let fee = Wei::from_unit(max_fee_per_blob_gas);
        let fee = fee.with_context(|| format!("max_fee_per_blob_gas: `{}`", max_fee_per_blob_gas.escape_debug()))?;
        Ok(BlobRules { max_count, max_fee_per_blob_gas: fee })
    }
}

fn addresses(texts: &[String]) -> Result<BTreeSet<Address>> {
    let mut addresses = BTreeSet::new();
    for text in texts {
        let address = text.parse().with_context(|| format!("`{}`", text.escape_debug()))?;
        ensure!(addresses.insert(address), "{address} is written twice, expected each once");
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests;
