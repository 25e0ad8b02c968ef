//! The sets of addresses that enclaves may reach, and of the enclaves that may: two for each list and IP version.
//!
//! The forwarder adds the addresses of an answer before named has it. The gateway sets which enclaves a list is for when peers
//! come and go. What wg-server put there is also in its memory: when the table is replaced, it comes back with its elements.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use egress::{Element, Elements};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, watch};

use super::members::Members;
use super::opened::{Entry, Key, Listed, Opened};
use super::{generation, ruleset};
use crate::config::{ListId, ListName};
use crate::dns::Reasons;

/// A transaction has to fit into the send buffer of a netlink socket: 208 KiB where nft may not raise it
/// (net.core.wmem_default). An element has fewer than 256 bytes.
const IN_TRANSACTION: usize = 512;

/// The sets. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Sets {
    /// Locked while nft replaces the table, so that no element is lost.
    state: Arc<Mutex<State>>,
    members: watch::Receiver<Members>,
    /// Whether the kernel refused the members.
    are_refused: Arc<AtomicBool>,
}

/// What is in the sets, and the way to them.
#[derive(Debug)]
pub(super) struct State {
    /// Those of `egress.lists`.
    lists: Vec<ListName>,
    opened: Opened,
    members: watch::Sender<Members>,
    are_refused: Arc<AtomicBool>,
    kernel: Elements,
    /// How many of the ruleset's generations are elements of these sets, and no change of the rules.
    generations: u32,
}

/// An address that enclaves may reach because of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) list: ListId,
    pub(crate) address: IpAddr,
    pub(crate) name: Arc<str>,
    /// From now on.
    pub(crate) lifetime: Duration,
}

/// The name of a list's set of addresses of one IP version.
pub(super) fn set_name(list: &ListId, is_ipv4: bool) -> String {
    let version = if is_ipv4 { 4 } else { 6 };
    match list {
        ListId::Every => format!("resolved_ipv{version}"),
        ListId::Some(name) => format!("resolved_{name}_ipv{version}"),
    }
}

impl Sets {
    /// With what an earlier wg-server left in the kernel, but without its members: which enclaves these are is not known yet.
    pub(crate) fn adopt(
        lists: Vec<ListName>,
        left: Option<&Value>,
        is_listed: impl Fn(&ListId, &str) -> bool,
    ) -> Result<Self> {
        let elements = left.map(|left| elements(left, &lists)).unwrap_or_default();
        let opened = Opened::adopt(elements, is_listed, Instant::now());
        let kernel = Elements::open(ruleset::TABLE).context("open a netlink socket for nftables")?;
        let (sender, members) = watch::channel(Members::default());
        let are_refused = Arc::new(AtomicBool::new(false));
        let state =
            State { lists, opened, members: sender, are_refused: Arc::clone(&are_refused), kernel, generations: 0 };
        Ok(Self { state: Arc::new(Mutex::new(state)), members, are_refused })
    }

    /// Opens addresses because of an answer, for its time to live and a margin.
    pub(crate) async fn open(&self, reasons: &Reasons, addresses: &BTreeMap<IpAddr, Duration>) -> Result<()> {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        let missing = state.opened.missing(reasons, addresses, now);
        if missing.is_empty() {
            return Ok(());
        }
        state.opened.ensure_room(&missing, now)?;
        let elements: Vec<Element> = missing.iter().map(|(key, entry)| element(key, entry, now)).collect();
        match state.kernel.replace(&elements) {
            Ok(()) => state.generations = state.generations.wrapping_add(1),
            // Without its table, no enclave reaches anything, and the table comes back with these.
            Err(error) if error.is_missing() => tracing::debug!("{error}: added with the table"),
            Err(error) => return Err(error).context("open the addresses"),
        }
        state.opened.extend(missing);
        Ok(())
    }

    /// Sets for which enclaves each list is.
    pub(crate) async fn admit(&self, members: Members) -> Result<()> {
        // The lock may be taken for seconds, while nft replaces the table. What does not change does not wait for it.
        if *self.members.borrow() == members && !self.are_refused.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.state.lock().await.admit(members)
    }

    /// Closes to enclaves what is not for them in `members`, and opens nothing.
    pub(crate) async fn narrow(&self, members: &Members) -> Result<()> {
        let left = self.members.borrow().and(members);
        self.admit(left).await
    }

    /// For which enclaves each list is.
    pub(crate) fn members(&self) -> watch::Receiver<Members> {
        self.members.clone()
    }

    /// All open addresses.
    pub(crate) async fn resolved(&self) -> Vec<Resolved> {
        let (state, now) = (self.state.lock().await, Instant::now());
        let present = state.opened.present(now);
        present
            .map(|((list, address), Entry { name, until })| Resolved {
                list: list.clone(),
                address: *address,
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
    fn admit(&mut self, members: Members) -> Result<()> {
        // After a refusal, the sets may have anything.
        let known = (!self.are_refused.load(Ordering::Relaxed)).then(|| self.members.borrow().clone());
        let changes = members.changes(known.as_ref(), &self.lists);
        self.members.send_replace(members);
        if changes.is_empty() {
            return Ok(());
        }
        let filled = self.kernel.fill(&changes);
        self.are_refused.store(filled.is_err(), Ordering::Relaxed);
        match filled {
            Ok(()) => self.generations = self.generations.wrapping_add(1),
            // As above.
            Err(error) if error.is_missing() => tracing::debug!("{error}: set with the table"),
            Err(error) => return Err(error).context("set for which enclaves the lists are"),
        }
        Ok(())
    }

    /// The ruleset's generation, less the elements that wg-server added: changes of rules alone.
    pub(super) fn generation(&self) -> Result<u32> {
        Ok(self.without_elements(generation::read()?))
    }

    pub(super) fn without_elements(&self, generation: u32) -> u32 {
        generation.wrapping_sub(self.generations)
    }

    /// All addresses that should be there.
    pub(super) fn elements(&self) -> Vec<Element> {
        let now = Instant::now();
        self.opened.present(now).map(|(key, entry)| element(key, entry, now)).collect()
    }

    /// The statements that put members and addresses back together with their table: as many as one transaction can have.
    pub(super) fn statements(&self, all: &[Element]) -> Vec<Value> {
        let mut of_sets: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for element in all.iter().take(IN_TRANSACTION) {
            of_sets.entry(&element.set).or_default().push(shown(element));
        }
        let table = ruleset::TABLE;
        let addition = |(set, elements): (&str, Vec<Value>)| json!({"add": {"element": {"family": "inet", "table": table, "name": set, "elem": elements}}});
        let members = self.members.borrow().statements(&self.lists);
        members.into_iter().chain(of_sets.into_iter().map(addition)).collect()
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
        self.opened.are(&elements(table, &self.lists), Instant::now())
            && self.members.borrow().are_in(table, &self.lists)
    }
}

fn element((list, address): &Key, Entry { name, until }: &Entry, now: Instant) -> Element {
    Element {
        set: set_name(list, address.is_ipv4()),
        address: *address,
        lifetime: until.saturating_duration_since(now),
        comment: name.to_string(),
    }
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

/// All addresses in our sets in nft's listing.
pub(super) fn elements(table: &Value, lists: &[ListName]) -> Vec<Listed> {
    let ids = std::iter::once(ListId::Every).chain(lists.iter().cloned().map(ListId::Some));
    let names: BTreeMap<String, ListId> =
        ids.flat_map(|id| [true, false].map(|is_ipv4| (set_name(&id, is_ipv4), id.clone()))).collect();
    let objects = table.get("nftables").and_then(Value::as_array).into_iter().flatten();
    let of_ours = objects.filter_map(|object| {
        let set = object.get("set")?;
        let list = names.get(set.get("name")?.as_str()?)?;
        Some(set.get("elem")?.as_array()?.iter().filter_map(|element| listed(list, element)))
    });
    of_ours.flatten().collect()
}

/// An element without a timeout is a text alone.
fn listed(list: &ListId, element: &Value) -> Option<Listed> {
    let list = list.clone();
    let Some(fields) = element.get("elem") else {
        let address = element.as_str()?.parse().ok()?;
        return Some(Listed { list, address, expires: None, comment: String::new() });
    };
    Some(Listed {
        list,
        address: fields.get("val")?.as_str()?.parse().ok()?,
        expires: fields.get("expires").and_then(Value::as_u64).map(Duration::from_secs),
        comment: fields.get("comment").and_then(Value::as_str).unwrap_or_default().to_owned(),
    })
}
