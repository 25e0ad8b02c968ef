//! The enclaves' way to port 53 of this host: open only while the name server there is known to be our own.
//!
//! A table of its own, so that it stays closed whatever is done to the other.

use std::path::PathBuf;

use anyhow::{Context, Result};
use nftables::batch::Batch;
use nftables::schema::{Chain, NfListObject, Nftables, Rule, Table};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

use super::nft::Nft;
use super::{rule, ruleset};
use crate::config::InterfaceName;

pub(super) const TABLE: &str = "wg_server_dns";
const CHAIN: &str = "input";
const DNS: u16 = 53;

/// Closed where it says so, until it is opened.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    nft: Nft,
    interface: InterfaceName,
}

impl Gate {
    pub(crate) fn new(nft_path: PathBuf, interface: InterfaceName) -> Self {
        Self { nft: Nft::new(nft_path), interface }
    }

    /// Drops what enclaves ask this host's port 53; already closed, it stays so.
    pub(crate) async fn close(&self) -> Result<()> {
        self.run(&closed(&self.interface)).await.context("keep enclaves' questions from another name server")
    }

    /// Lets them ask.
    pub(crate) async fn open(&self) -> Result<()> {
        self.run(&open()).await.context("let enclaves ask named")
    }

    async fn run(&self, transaction: &Nftables<'_>) -> Result<()> {
        self.nft.apply(&ruleset::as_json(transaction)?).await
    }
}

fn closed(interface: &InterfaceName) -> Nftables<'static> {
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
        let asks = vec![rule::comes_from(interface.as_str()), rule::destination_port(protocol, DNS)];
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
    NfListObject::Table(Table { family: NfFamily::INet, name: TABLE.into(), handle: None })
}
