//! The gate to port 53 of this host for enclaves: open only while our own name server answers there.
//!
//! A separate table, so that it stays closed whatever happens to the other one.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use nftables::batch::Batch;
use nftables::schema::{Chain, NfListObject, Nftables, Rule, Table as Declaration};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use tokio::sync::Mutex;

use super::nft::Nft;
use super::table::Table;
use super::{Found, rule, ruleset};

pub(super) const TABLE: &str = "wg_server_dns";
const CHAIN: &str = "input";
const DNS: u16 = 53;

/// The gate. Clones share the same state.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nft: Nft,
    closed: String,
    open: String,
    /// `Some` while the gate should be closed. Locked while nft runs, so that the last call decides.
    table: Mutex<Option<Table>>,
}

impl Gate {
    pub(crate) fn new(nft_path: PathBuf, interface: &str) -> Result<Self> {
        let nft = Nft::new(nft_path);
        let (closed, open) = (ruleset::as_json(&closed(interface))?, ruleset::as_json(&open())?);
        Ok(Self { shared: Arc::new(Shared { nft, closed, open, table: Mutex::new(None) }) })
    }

    /// Drops the enclaves' packets to port 53 of this host. Closing a closed gate is fine.
    pub(crate) async fn close(&self) -> Result<()> {
        let mut table = self.shared.table.lock().await;
        // If this fails, every check retries it.
        let table = table.insert(Table::new(TABLE, self.shared.closed.clone()));
        table.put(&self.shared.nft, Vec::new()).await.context("close port 53 for enclaves").map(drop)
    }

    /// Lets enclaves reach port 53.
    pub(crate) async fn open(&self) -> Result<()> {
        let mut table = self.shared.table.lock().await;
        self.shared.nft.apply(&self.shared.open).await.context("open port 53 for enclaves")?;
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

fn closed(interface: &str) -> Nftables<'static> {
    let mut batch = start();
    batch.add(table());
    batch.add(NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: CHAIN.into(),
        _type: Some(NfChainType::Filter),
        hook: Some(NfHook::Input),
        prio: Some(0),
        policy: Some(NfChainPolicy::Accept),
        ..Default::default()
    }));
    for protocol in ["udp", "tcp"] {
        let asks = vec![rule::comes_from(interface), rule::destination_port(protocol, DNS)];
        batch.add(NfListObject::Rule(Rule {
            family: NfFamily::INet,
            table: TABLE.into(),
            chain: CHAIN.into(),
            expr: [asks, rule::drop().to_vec()].concat().into(),
            ..Default::default()
        }));
    }
    batch.to_nftables()
}

fn open() -> Nftables<'static> {
    start().to_nftables()
}

/// Deleting what is not there is an error; adding what is there is none.
fn start() -> Batch<'static> {
    let mut batch = Batch::new();
    batch.add(table());
    batch.delete(table());
    batch
}

fn table() -> NfListObject<'static> {
    NfListObject::Table(Declaration { family: NfFamily::INet, name: TABLE.into(), handle: None })
}
