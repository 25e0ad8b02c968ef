//! Each rule by itself, for whoever wants to know which of them decide about a request.

use std::fmt::Display;

use ethereum::amount::{ETHER, GWEI, Wei};
use ethereum::hex;
use ethereum::number::Uint;
use ethereum::signable::Signable;
use ethereum::transaction::Kind;

use super::{Allowed, Rule, Rules};

/// Entries of a list that are shown.
const MOST_SHOWN: usize = 3;

/// What one rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) rule: Rule,
    /// What it allows, or the problem.
    pub(crate) outcome: Result<String, String>,
}

impl Rules {
    /// What each rule says that needs no memory of what was signed.
    pub(crate) fn verdicts(&self, subject: &Signable) -> Vec<Verdict> {
        let rules = Rule::ALL.into_iter().filter(|rule| rule.is_about(subject));
        let rules = rules.filter_map(|rule| Some((rule, self.alone(rule)?)));
        let judged = rules.map(|(rule, alone)| {
            // Calls that have rules for their arguments never get to data_selectors.
            let refusal = alone.check(subject).err().filter(|refusal| refusal.rule == rule);
            Verdict { rule, outcome: refusal.map_or_else(|| Ok(self.allowed(rule)), |refusal| Err(refusal.problem)) }
        });
        judged.collect()
    }

    /// These rules with nothing but this one. None for those about what has been signed before.
    fn alone(&self, rule: Rule) -> Option<Self> {
        let Self { chain_ids, recipients, data_selectors, calls, typed_data, kinds, .. } = self.clone();
        let free = Self::without_limits();
        Some(match rule {
            Rule::ChainIds => Self { chain_ids, ..free },
            Rule::Recipients => Self { recipients, ..free },
            Rule::MaxValue => Self { max_value: self.max_value, ..free },
            Rule::MaxFeePerGas => Self { max_fee_per_gas: self.max_fee_per_gas, ..free },
            Rule::MaxGas => Self { max_gas: self.max_gas, ..free },
            Rule::ContractCreation => Self { contract_creation: self.contract_creation, ..free },
            Rule::DataSelectors => Self { data_selectors, calls, ..free },
            Rule::Calls => Self { calls, ..free },
            Rule::TypedData => Self { typed_data, ..free },
            Rule::Blobs | Rule::Delegates | Rule::AnyChainAuthorizations | Rule::PersonalSign => Self { kinds, ..free },
            Rule::NonceReuse | Rule::FeeBump | Rule::Windows => return None,
        })
    }

    fn allowed(&self, rule: Rule) -> String {
        match rule {
            Rule::ChainIds => listed(&self.chain_ids, u64::to_string),
            Rule::Recipients => listed(&self.recipients, ToString::to_string),
            Rule::MaxValue => at_most(self.max_value, ETHER, "ether"),
            Rule::MaxFeePerGas => at_most(self.max_fee_per_gas, GWEI, "gwei"),
            Rule::MaxGas if self.max_gas == u64::MAX => "any".to_owned(),
            Rule::MaxGas => format!("at most {}", self.max_gas),
            Rule::ContractCreation => self.contract_creation.to_string(),
            Rule::DataSelectors => listed(&self.data_selectors, |selector| hex::prefixed(selector)),
            Rule::Calls if self.calls.is_empty() => "no rules for arguments".to_owned(),
            Rule::Calls => "the rules for arguments".to_owned(),
            Rule::Blobs | Rule::Delegates | Rule::AnyChainAuthorizations | Rule::PersonalSign | Rule::TypedData => {
                "the rules for this kind".to_owned()
            }
            Rule::NonceReuse => self.nonce_reuse.to_string(),
            Rule::FeeBump => self.fee_bump.to_string(),
            Rule::Windows => format!("{} windows", self.windows.len()),
        }
    }
}

impl Rule {
    fn is_about(self, subject: &Signable) -> bool {
        match (self, subject) {
            (Self::ChainIds, subject) => !matches!(subject, Signable::Message(_)),
            (Self::PersonalSign, subject) => matches!(subject, Signable::Message(_)),
            (Self::TypedData, subject) => matches!(subject, Signable::TypedData(_)),
            (Self::Delegates | Self::AnyChainAuthorizations, Signable::Authorization(_)) => true,
            (Self::Blobs, Signable::Transaction(transaction)) => matches!(transaction.kind, Kind::Blob { .. }),
            (Self::Delegates | Self::AnyChainAuthorizations, Signable::Transaction(transaction)) => {
                matches!(transaction.kind, Kind::SetCode { .. })
            }
            (_, subject) => matches!(subject, Signable::Transaction(_)),
        }
    }
}

fn listed<T: Ord>(allowed: &Allowed<T>, shown: impl Fn(&T) -> String) -> String {
    let Allowed::Only(values) = allowed else { return "any".to_owned() };
    let first: Vec<_> = values.iter().take(MOST_SHOWN).map(shown).collect();
    match values.len() {
        0 => "none".to_owned(),
        len if len > MOST_SHOWN => format!("{} and {} more", first.join(", "), len - MOST_SHOWN),
        _ => first.join(", "),
    }
}

/// The largest number is none that somebody wrote.
fn at_most(Wei(most): Wei, decimals: u32, unit: impl Display) -> String {
    let decimals = u8::try_from(decimals).unwrap_or_default();
    if most == u128::MAX { "any".to_owned() } else { format!("at most {} {unit}", Uint::from(most).in_units(decimals)) }
}
