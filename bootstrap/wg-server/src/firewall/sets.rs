//! The two sets of addresses that enclaves may reach, one for each IP version.
//!
//! The forwarder adds the addresses of an answer before named has it. What wg-server put there is also in its memory: when the
//! table is replaced, it comes back with its elements.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use egress::{Element, Elements};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use super::opened::{Entry, Listed, Opened};
use super::{generation, ruleset};

/// The sets' names.
pub(super) const IPV4: &str = "resolved_ipv4";
pub(super) const IPV6: &str = "resolved_ipv6";

/// A transaction has to fit into the send buffer of a netlink socket: 208 KiB where nft may not raise it
/// (net.core.wmem_default). An element has fewer than 256 bytes.
const IN_TRANSACTION: usize = 512;

/// The sets. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Sets {
    /// Locked while nft replaces the table, so that no element is lost.
    state: Arc<Mutex<State>>,
}

/// What is in the sets, and the way to them.
#[derive(Debug)]
pub(super) struct State {
    opened: Opened,
    kernel: Elements,
    /// How many of the ruleset's generations are elements of these sets, and no change of the rules.
    generations: u32,
}

/// An address that enclaves may reach because of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) address: IpAddr,
    pub(crate) name: Arc<str>,
    /// From now on.
    pub(crate) lifetime: Duration,
}

impl Sets {
    /// With what an earlier wg-server left in the kernel.
    pub(super) fn adopt(left: Option<&Value>, is_listed: impl Fn(&str) -> bool) -> Result<Self> {
        let elements = left.map(elements).unwrap_or_default();
        let opened = Opened::adopt(elements, is_listed, Instant::now());
        let kernel = Elements::open(ruleset::TABLE).context("open a netlink socket for nftables")?;
        Ok(Self { state: Arc::new(Mutex::new(State { opened, kernel, generations: 0 })) })
    }

    /// Opens addresses because of an answer, for its time to live and a margin.
    pub(crate) async fn open(&self, name: &Arc<str>, addresses: &BTreeMap<IpAddr, Duration>) -> Result<()> {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        let missing = state.opened.missing(name, addresses, now);
        if missing.is_empty() {
            return Ok(());
        }
        state.opened.ensure_room(&missing, now)?;
        let elements: Vec<Element> = missing.iter().map(|(address, entry)| element(*address, entry, now)).collect();
        match state.kernel.replace(&elements) {
            Ok(()) => state.generations = state.generations.wrapping_add(1),
            // Without its table, no enclave reaches anything, and the table comes back with these.
            Err(error) if error.is_missing() => tracing::debug!("{error}: added with the table"),
            Err(error) => return Err(error).context("open the addresses"),
        }
        state.opened.extend(missing);
        Ok(())
    }

    /// All open addresses.
    pub(crate) async fn resolved(&self) -> Vec<Resolved> {
        let (state, now) = (self.state.lock().await, Instant::now());
        let present = state.opened.present(now);
        present
            .map(|(address, Entry { name, until })| Resolved {
                address,
                name: Arc::clone(name),
                lifetime: until.saturating_duration_since(now),
            })
            .collect()
    }

    pub(super) async fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().await
    }
}

impl State {
    /// The ruleset's generation, less the elements that wg-server added: changes of rules alone.
    pub(super) fn generation(&self) -> Result<u32> {
        Ok(self.without_elements(generation::read()?))
    }

    pub(super) fn without_elements(&self, generation: u32) -> u32 {
        generation.wrapping_sub(self.generations)
    }

    /// All elements that should be there.
    pub(super) fn elements(&self) -> Vec<Element> {
        let now = Instant::now();
        self.opened.present(now).map(|(address, entry)| element(address, entry, now)).collect()
    }

    /// Adds what was too much for the table's own transaction.
    pub(super) fn add_rest(&mut self, elements: &[Element]) -> Result<()> {
        // Each element is in three messages.
        for some in elements.get(IN_TRANSACTION..).unwrap_or_default().chunks(IN_TRANSACTION / 2) {
            self.kernel.replace(some).context("put the addresses back")?;
            self.generations = self.generations.wrapping_add(1);
        }
        Ok(())
    }

    /// Whether the kernel's table has the elements that it should have.
    pub(super) fn are_in(&self, table: &Value) -> bool {
        self.opened.are(&elements(table), Instant::now())
    }
}

/// The statements that put elements back together with their table: as many as one transaction can have.
pub(super) fn statements(all: &[Element]) -> Vec<Value> {
    let of = |set: &str| {
        let of_set = all.iter().take(IN_TRANSACTION).filter(|element| element.set == set);
        let elements: Vec<Value> = of_set.map(shown).collect();
        let table = ruleset::TABLE;
        let statement = json!({"add": {"element": {"family": "inet", "table": table, "name": set, "elem": elements}}});
        (!elements.is_empty()).then_some(statement)
    };
    [IPV4, IPV6].into_iter().filter_map(of).collect()
}

fn element(address: IpAddr, Entry { name, until }: &Entry, now: Instant) -> Element {
    let set = if address.is_ipv4() { IPV4 } else { IPV6 };
    Element { set, address, lifetime: until.saturating_duration_since(now), comment: name.to_string() }
}

/// In nft's JSON, which knows whole seconds.
fn shown(Element { address, lifetime, comment, .. }: &Element) -> Value {
    let mut element = json!({"val": address, "timeout": lifetime.as_secs() + 1});
    if comment.len() <= egress::MAX_COMMENT_LEN
        && let Some(fields) = element.as_object_mut()
    {
        fields.insert("comment".to_owned(), comment.as_str().into());
    }
    json!({"elem": element})
}

/// All elements of our sets in nft's listing.
pub(super) fn elements(table: &Value) -> Vec<Listed> {
    let objects = table.get("nftables").and_then(Value::as_array).into_iter().flatten();
    let sets = objects
        .filter_map(|object| object.get("set"))
        .filter(|set| set.get("name").and_then(Value::as_str).is_some_and(|name| [IPV4, IPV6].contains(&name)));
    sets.filter_map(|set| set.get("elem")?.as_array()).flatten().filter_map(listed).collect()
}

/// An element without a timeout is a text alone.
fn listed(element: &Value) -> Option<Listed> {
    let Some(fields) = element.get("elem") else {
        let address = element.as_str()?.parse().ok()?;
        return Some(Listed { address, expires: None, comment: String::new() });
    };
    Some(Listed {
        address: fields.get("val")?.as_str()?.parse().ok()?,
        expires: fields.get("expires").and_then(Value::as_u64).map(Duration::from_secs),
        comment: fields.get("comment").and_then(Value::as_str).unwrap_or_default().to_owned(),
    })
}
