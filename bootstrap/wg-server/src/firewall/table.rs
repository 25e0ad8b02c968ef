//! A table of ours: put in place whole, in one transaction, and compared with what it was.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Found;
use super::generation;
use super::nft::{Nft, normalised};

/// Others may be changing their rules while ours are put in place.
const TRIES: usize = 5;

/// What a table should be.
#[derive(Debug)]
pub(super) struct Table {
    name: &'static str,
    transaction: String,
    /// As the kernel lists it; `None` until it was put in place.
    listed: Option<Value>,
}

impl Table {
    /// Nothing is done yet. The transaction replaces whatever has the name.
    pub(super) fn new(name: &'static str, transaction: String) -> Self {
        Self { name, transaction, listed: None }
    }

    /// Puts it in place; a generation in which it was so, unless something else changes its rules all the time.
    ///
    /// What is listed is ours if nobody's change came between ours and the listing: ours raises the generation by one. On a
    /// host that is never quiet it is ours if it is what it was, or the first time, if it has what was put there and is the
    /// same after each try.
    ///
    /// `more` follows the transaction: what is in its sets.
    pub(super) async fn put(&mut self, nft: &Nft, more: Vec<Value>) -> Result<Option<u32>> {
        let mut listings = Vec::new();
        let transaction = self.followed_by(more)?;
        for _ in 0..TRIES {
            let before = generation::read()?;
            nft.apply(&transaction).await?;
            let Some(listed) = nft.table(self.name).await?.map(normalised) else { continue };
            let after = generation::read()?;
            if after == before.wrapping_add(1) {
                self.listed = Some(listed);
                return Ok(Some(after));
            }
            if self.listed.as_ref() == Some(&listed) {
                return Ok(None);
            }
            listings.push(listed);
        }
        let are_same = listings.len() == TRIES && listings.windows(2).all(|two| two.first() == two.last());
        if let (None, true, Some(last)) = (&self.listed, are_same, listings.pop())
            && parts(&serde_json::from_str(&self.transaction)?) == parts(&last)
        {
            self.listed = Some(last);
            return Ok(None);
        }
        bail!(
            "something else on this host changed it in each of {TRIES} tries, expected it to be left alone: `nft monitor` shows \
             the changes"
        )
    }

    /// Puts it back if it is not what it was, or if `is_complete` does not hold for it. Returns what was there instead, and the
    /// generation of [`Table::put`].
    pub(super) async fn restore(
        &mut self,
        nft: &Nft,
        is_complete: impl Fn(&Value) -> bool,
        more: impl Fn() -> Vec<Value>,
    ) -> Result<Option<(Found, Option<u32>)>> {
        let name = self.name;
        let found = nft.table(name).await.with_context(|| format!("read the firewall table inet {name}"))?;
        let has_changed = if found.is_some() { Found::Changed(name) } else { Found::Nothing(name) };
        let is_complete = found.as_ref().is_some_and(is_complete);
        if is_complete && found.map(normalised) == self.listed {
            return Ok(None);
        }
        let generation =
            self.put(nft, more()).await.with_context(|| format!("put the firewall table inet {name} back"))?;
        Ok(Some((has_changed, generation)))
    }

    fn followed_by(&self, more: Vec<Value>) -> Result<String> {
        let mut transaction: Value = serde_json::from_str(&self.transaction).context("read the transaction")?;
        if let Some(statements) = transaction.get_mut("nftables").and_then(Value::as_array_mut) {
            statements.extend(more);
        }
        Ok(transaction.to_string())
    }
}

/// How many rules there are in each chain, and which chains, counters and sets.
fn parts(statements: &Value) -> BTreeMap<(&str, &str), usize> {
    let mut parts = BTreeMap::new();
    for statement in statements.get("nftables").and_then(Value::as_array).into_iter().flatten() {
        let object = statement.get("add").unwrap_or(statement);
        for (kind, name) in [("chain", "name"), ("counter", "name"), ("set", "name"), ("rule", "chain")] {
            if let Some(name) = object.get(kind).and_then(|object| object.get(name)?.as_str()) {
                *parts.entry((kind, name)).or_default() += 1;
            }
        }
    }
    parts
}
