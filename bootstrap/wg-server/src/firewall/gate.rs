//! Gates: to port 53 of this host for enclaves, which is open only while our own name server answers there, and to enclaves for new
//! connections through forwarded ports, which is closed while this host is drained.
//!
//! Each is a separate table, so that it stays closed whatever happens to the other ones.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use nftables::batch::Batch;
use nftables::schema::{Chain, NfListObject, Nftables, Rule as Statements, Table as Declaration};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use tokio::sync::Mutex;

use super::nft::Nft;
use super::rule::Rule;
use super::table::Table;
use super::{Found, rule, ruleset};

pub(super) const DNS_TABLE: &str = "wg_server_dns";
pub(super) const DRAIN_TABLE: &str = "wg_server_drain";
const DNS: u16 = 53;

/// The gate. Clones share the same state.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nft: Nft,
    name: &'static str,
    /// What it leads to.
    what: &'static str,
    closed: String,
    open: String,
    /// `Some` while the gate should be closed. Locked while nft runs, so that the last call decides.
    table: Mutex<Option<Table>>,
}

impl Gate {
    /// To port 53 of this host.
    pub(crate) fn to_port_53(nft_path: PathBuf, interface: &str) -> Result<Self> {
        let asks = |protocol| vec![rule::comes_from(interface), rule::destination_port(protocol, DNS)];
        let rules = ["udp", "tcp"].map(|protocol| [asks(protocol), rule::drop().to_vec()].concat());
        Self::new(nft_path, DNS_TABLE, "port 53 for enclaves", NfHook::Input, &rules)
    }

    /// To enclaves through `nat.forwards`. Only a packet that begins a connection meets it, and is answered with a reset.
    pub(crate) fn to_enclaves(nft_path: PathBuf, uplink: &str, interface: &str) -> Result<Self> {
        let begins = vec![
            rule::comes_from(uplink),
            rule::goes_to(interface),
            rule::has_changed_destination(),
            rule::begins_a_connection(),
        ];
        let rules = [[begins, rule::reset().to_vec()].concat()];
        Self::new(nft_path, DRAIN_TABLE, "forwarded ports for new connections", NfHook::Forward, &rules)
    }

    fn new(nft_path: PathBuf, name: &'static str, what: &'static str, hook: NfHook, rules: &[Rule]) -> Result<Self> {
        let (closed, open) = (ruleset::as_json(&closed(name, hook, rules))?, ruleset::as_json(&open(name))?);
        let nft = Nft::new(nft_path);
        Ok(Self { shared: Arc::new(Shared { nft, name, what, closed, open, table: Mutex::new(None) }) })
    }

    /// Keeps the packets out. Closing a closed gate is fine.
    pub(crate) async fn close(&self) -> Result<()> {
        let Shared { nft, name, what, closed, .. } = &*self.shared;
        let mut table = self.shared.table.lock().await;
        // If this fails, every check retries it.
        let table = table.insert(Table::new(name, closed.clone()));
        table.put(nft, Vec::new()).await.with_context(|| format!("close {what}")).map(drop)
    }

    /// Lets them pass.
    pub(crate) async fn open(&self) -> Result<()> {
        let Shared { nft, what, open, .. } = &*self.shared;
        let mut table = self.shared.table.lock().await;
        nft.apply(open).await.with_context(|| format!("open {what}"))?;
        *table = None;
        Ok(())
    }

    /// Closes it again if it should be closed and is not. Returns what was found instead.
    pub(super) async fn restore(&self) -> Result<Option<Found>> {
        match self.shared.table.lock().await.as_mut() {
            Some(table) => Ok(table.restore(&self.shared.nft, |_| true, Vec::new).await?.map(|(found, _)| found)),
            None => Ok(None),
        }
    }
}

fn closed(name: &'static str, hook: NfHook, rules: &[Rule]) -> Nftables<'static> {
    /// Its only chain.
    const CHAIN: &str = "closed";
    let mut batch = start(name);
    batch.add(table(name));
    batch.add(NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: name.into(),
        name: CHAIN.into(),
        _type: Some(NfChainType::Filter),
        hook: Some(hook),
        prio: Some(0),
        policy: Some(NfChainPolicy::Accept),
        ..Default::default()
    }));
    for rule in rules {
        batch.add(NfListObject::Rule(Statements {
            family: NfFamily::INet,
            table: name.into(),
            chain: CHAIN.into(),
            expr: rule.clone().into(),
            ..Default::default()
        }));
    }
    batch.to_nftables()
}

fn open(name: &'static str) -> Nftables<'static> {
    start(name).to_nftables()
}

/// Deleting what is not there is an error; adding what is there is none.
fn start(name: &'static str) -> Batch<'static> {
    let mut batch = Batch::new();
    batch.add(table(name));
    batch.delete(table(name));
    batch
}

fn table(name: &'static str) -> NfListObject<'static> {
    NfListObject::Table(Declaration { family: NfFamily::INet, name: name.into(), handle: None })
}
