//! The policy as the configuration writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use ethereum::address::Address;
use ethereum::amount::Wei;
use ethereum::hex;
use ethereum::transaction::MAX_CHAIN_ID;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::calls::Calls;
use super::kinds::{BlobTable, KindRules, KindTable};
use super::typed_data::{MessageTable, Messages};
use super::windows::WindowTable;
use super::written::Written;
use super::{Allowed, Policy, Rules, Window};
use crate::pool::BASE;

/// `[signer.policy]`, and below it `[signer.policy.keys.ADDRESS]`, which has the same rules. A client's `policy` has them, too.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyTable {
    chain_ids: Option<Vec<u64>>,
    recipients: Option<AnyOr>,
    max_value: Option<String>,
    max_fee_per_gas: Option<String>,
    max_gas: Option<u64>,
    contract_creation: Option<bool>,
    data_selectors: Option<AnyOr>,
    nonce_reuse: Option<bool>,
    fee_bump: Option<bool>,
    calls: Option<BTreeMap<String, Written>>,
    windows: Option<Vec<WindowTable>>,
    typed_data: Option<Vec<MessageTable>>,
    own_gas_rules: Option<Vec<u64>>,
    blobs: Option<BlobTable>,
    delegates: Option<Vec<String>>,
    any_chain_authorizations: Option<bool>,
    personal_sign: Option<bool>,
    #[serde(default)]
    keys: BTreeMap<String, PolicyTable>,
}

/// A list, or the word for no limit.
#[derive(Clone, Debug)]
enum AnyOr {
    Any,
    List(Vec<String>),
}

impl PolicyTable {
    /// Checks the table. `path` is where it stands: `signer.policy`.
    ///
    /// # Errors
    /// One sentence with the key and what is expected.
    pub fn check(self, path: &str) -> Result<Policy> {
        let base = self.rules(path, None)?;
        let mut keys = BTreeMap::new();
        let own_gas_rules = self.own_gas_rules.as_ref().map_or_else(|| Ok(BTreeSet::new()), chain_ids);
        let own_gas_rules = own_gas_rules.with_context(|| format!("{path}.own_gas_rules"))?;
        for (text, table) in self.keys {
            let path = format!("{path}.keys.{text}");
            let address: Address = text.parse().with_context(|| path.clone())?;
            ensure!(table.keys.is_empty(), "{path}.keys: a key has no keys of its own, expected rules");
            ensure!(
                table.own_gas_rules.is_none(),
                "{path}.own_gas_rules: a key has no chains of its own, expected this in signer.policy"
            );
            ensure!(
                keys.insert(address, table.rules(&path, Some(&base))?).is_none(),
                "{path}: written twice, expected once"
            );
        }
        Ok(Policy { base, keys, own_gas_rules })
    }

    /// Checks the table of a client, which limits only what it names.
    ///
    /// # Errors
    /// One sentence with the key and what is expected.
    pub(crate) fn check_client(&self, path: &str) -> Result<Rules> {
        ensure!(self.keys.is_empty(), "{path}.keys: a client has no rules for keys, expected them in signer.policy");
        ensure!(
            self.own_gas_rules.is_none(),
            "{path}.own_gas_rules: a client has no chains of its own, expected this in signer.policy"
        );
        self.rules(path, Some(&Rules::without_limits()))
    }

    fn rules(&self, path: &str, base: Option<&Rules>) -> Result<Rules> {
        let at = At { path, base };
        let rules = Rules {
            chain_ids: at.rule(
                "chain_ids",
                &self.chain_ids,
                |ids| chain_ids(ids).map(Allowed::Only),
                |base| &base.chain_ids,
                "a list of chain ids",
            )?,
            recipients: at.rule(
                "recipients",
                &self.recipients,
                |list| allowed(list, |text| Ok(text.parse::<Address>()?)),
                |base| &base.recipients,
                "\"any\" or a list of addresses",
            )?,
            max_value: at.rule(
                "max_value",
                &self.max_value,
                |text| amount(text),
                |base| &base.max_value,
                "an amount such as \"1.5 ether\"",
            )?,
            max_fee_per_gas: at.rule(
                "max_fee_per_gas",
                &self.max_fee_per_gas,
                |text| amount(text),
                |base| &base.max_fee_per_gas,
                "an amount such as \"200 gwei\"",
            )?,
            max_gas: at.rule("max_gas", &self.max_gas, max_gas, |base| &base.max_gas, "a number of units of gas")?,
            contract_creation: at.rule(
                "contract_creation",
                &self.contract_creation,
                |is_allowed| Ok(*is_allowed),
                |base| &base.contract_creation,
                "true or false",
            )?,
            data_selectors: at.rule(
                "data_selectors",
                &self.data_selectors,
                |list| allowed(list, selector),
                |base| &base.data_selectors,
                "\"any\" or a list of selectors such as \"0xa9059cbb\"",
            )?,
            nonce_reuse: at.rule(
                "nonce_reuse",
                &self.nonce_reuse,
                |is_allowed| Ok(*is_allowed),
                |base| &base.nonce_reuse,
                "true or false",
            )?,
            // Not written, it is off: an image's configuration from before there was this rule means the same as ever.
            fee_bump: self.fee_bump.unwrap_or_else(|| base.is_some_and(|base| base.fee_bump)),
            calls: match (&self.calls, base) {
                (Some(calls), _) => Calls::read(&format!("{path}.calls"), calls)?,
                (None, base) => base.map(|base| base.calls.clone()).unwrap_or_default(),
            },
            windows: match (&self.windows, base) {
                (Some(windows), _) => Window::read_all(&format!("{path}.windows"), windows)?,
                (None, base) => base.map(|base| base.windows.clone()).unwrap_or_default(),
            },
            typed_data: match (&self.typed_data, base) {
                (Some(tables), _) => Some(Messages::read(&format!("{path}.typed_data"), tables)?),
                (None, Some(base)) => base.typed_data.clone(),
                (None, None) => Some(Messages::default()),
            },
            kinds: KindRules::new(path, base.map(|base| &base.kinds), self.kinds())?,
        };
        check_selectors(path, &rules)?;
        Ok(rules)
    }

    fn kinds(&self) -> KindTable<'_> {
        KindTable {
            blobs: self.blobs.as_ref(),
            delegates: self.delegates.as_deref(),
            any_chain_authorizations: self.any_chain_authorizations,
            personal_sign: self.personal_sign,
        }
    }
}

impl Rules {
    /// What a client's rules fall back to.
    pub(super) fn without_limits() -> Self {
        Self {
            chain_ids: Allowed::Any,
            recipients: Allowed::Any,
            max_value: Wei(u128::MAX),
            max_fee_per_gas: Wei(u128::MAX),
            max_gas: u64::MAX,
            contract_creation: true,
            data_selectors: Allowed::Any,
            nonce_reuse: true,
            fee_bump: true,
            calls: Calls::default(),
            windows: Vec::new(),
            typed_data: None,
            kinds: KindRules::without_limits(),
        }
    }
}

/// Refuses selectors that would let calls past the rules for their arguments.
fn check_selectors(path: &str, rules: &Rules) -> Result<()> {
    if rules.calls.is_empty() {
        return Ok(());
    }
    let Allowed::Only(selectors) = &rules.data_selectors else {
        bail!(
            "{path}.data_selectors: \"any\" beside calls would allow every call that calls does not name, expected a list, such as []"
        );
    };
    for selector in selectors {
        if let Some(function) = rules.calls.function(*selector) {
            bail!(
                "{path}.data_selectors: `{}` is {function} of calls and would allow it with any arguments, expected it in one of the two",
                hex::prefixed(selector)
            );
        }
    }
    Ok(())
}

/// Where rules stand, and what they fall back to.
struct At<'a> {
    path: &'a str,
    base: Option<&'a Rules>,
}

impl At<'_> {
    fn rule<T, R: Clone>(
        &self,
        name: &str,
        written: &Option<T>,
        read: impl FnOnce(&T) -> Result<R>,
        of_base: impl FnOnce(&Rules) -> &R,
        expected: &str,
    ) -> Result<R> {
        match (written, self.base) {
            (Some(written), _) => read(written).with_context(|| format!("{}.{name}", self.path)),
            (None, Some(base)) => Ok(of_base(base).clone()),
            (None, None) => bail!("{}.{name}: missing, expected {expected}", self.path),
        }
    }
}

fn chain_ids(ids: &Vec<u64>) -> Result<BTreeSet<u64>> {
    ensure!(!ids.is_empty(), "an empty list allows no transaction, expected chain ids");
    for id in ids {
        ensure!((1..=MAX_CHAIN_ID).contains(id), "{id} is not a chain id, expected 1 to {MAX_CHAIN_ID}");
    }
    distinct(ids.iter().copied())
}

fn amount(text: &str) -> Result<Wei> {
    Wei::from_unit(text).with_context(|| format!("`{}`", text.escape_debug()))
}

fn max_gas(gas: &u64) -> Result<u64> {
    ensure!(*gas >= BASE, "{gas} allows no transaction, expected at least {BASE}");
    Ok(*gas)
}

fn selector(text: &str) -> Result<[u8; 4]> {
    let bytes = text.strip_prefix("0x").and_then(hex::decode_array);
    bytes.context("expected 0x and 8 hex digits, the first four bytes of call data")
}

fn allowed<T: Ord>(list: &AnyOr, read: impl Fn(&str) -> Result<T>) -> Result<Allowed<T>> {
    let AnyOr::List(entries) = list else { return Ok(Allowed::Any) };
    let entries: Vec<T> = entries
        .iter()
        .map(|entry| read(entry).with_context(|| format!("`{}`", entry.escape_debug())))
        .collect::<Result<_>>()?;
    Ok(Allowed::Only(distinct(entries.into_iter())?))
}

fn distinct<T: Ord>(entries: impl ExactSizeIterator<Item = T>) -> Result<BTreeSet<T>> {
    let len = entries.len();
    let set: BTreeSet<T> = entries.collect();
    ensure!(set.len() == len, "an entry is written twice, expected each once");
    Ok(set)
}

impl<'de> Deserialize<'de> for AnyOr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyOrVisitor)
    }
}

struct AnyOrVisitor;

impl<'de> Visitor<'de> for AnyOrVisitor {
    type Value = AnyOr;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"any\" or a list of strings")
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<AnyOr, E> {
        match word {
            "any" => Ok(AnyOr::Any),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<AnyOr, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            list.push(entry);
        }
        Ok(AnyOr::List(list))
    }
}
