//! What all streams share: the enclaves, their relays, and the kernel's peers, changed in the order of the decisions.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use tunnel::control::PublicKey;
use tunnel::port::Cid;
use tunnel::preface::Role;

use crate::config::Config;
use crate::enclaves::{Admission, Enclave, Enclaves, Refusal, StreamId};
use crate::interface::{Interface, PeerChange};
use crate::lease::Leases;
use crate::relay::Relay;

/// The gateway's side of every enclave. Cloning it shares it.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    interface: Interface,
    public_key: PublicKey,
    listen_port: u16,
    keepalive: Duration,
    state_dir: PathBuf,
    // Held while the kernel is told: its answer takes less than a millisecond, and the order of changes is that of decisions.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    enclaves: Enclaves,
    relays: BTreeMap<Cid, Arc<Relay>>,
    streams: BTreeMap<StreamId, CancellationToken>,
}

/// A stream that was let in.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) admission: Admission,
    pub(crate) relay: Arc<Relay>,
    /// Cancelled when a newer stream takes over.
    pub(crate) replaced: CancellationToken,
}

/// One enclave as the status shows it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) cid: Cid,
    pub(crate) enclave: Enclave,
    pub(crate) relay: Option<Arc<Relay>>,
}

impl Gateway {
    /// Reads the leases. The interface is up already.
    pub(crate) fn new(config: &Config, interface: Interface, public_key: PublicKey) -> Result<Self> {
        let ranges = config.enclaves.ranges;
        let leases = Leases::load(&config.enclaves.state_dir, ranges.len())?;
        let state = State {
            enclaves: Enclaves::new(public_key, ranges, leases),
            relays: BTreeMap::new(),
            streams: BTreeMap::new(),
        };
        Ok(Self {
            shared: Arc::new(Shared {
                interface,
                public_key,
                listen_port: config.wireguard.listen_port,
                keepalive: config.wireguard.persistent_keepalive,
                state_dir: config.enclaves.state_dir.clone(),
                state: Mutex::new(state),
            }),
        })
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.shared.public_key
    }

    pub(crate) fn interface(&self) -> &Interface {
        &self.shared.interface
    }

    /// Takes over the peers of a wg-server that was killed: each gets its relay's new endpoint, and nothing else changes.
    pub(crate) async fn adopt_peers(&self) -> Result<()> {
        let mut state = self.shared.state.lock().await;
        for peer in self.shared.interface.peers().await? {
            let adopted = state.enclaves.adopt(peer.public_key, &peer.allowed_ips, Instant::now());
            let change = match adopted {
                Some(cid) => {
                    let endpoint = self.relay(&mut state, cid)?.endpoint();
                    tracing::info!(%cid, public_key = %peer.public_key, %endpoint, "peer adopted");
                    PeerChange::Move { public_key: peer.public_key, endpoint }
                }
                None => {
                    tracing::info!(public_key = %peer.public_key, "peer of no known enclave removed");
                    PeerChange::Remove(peer.public_key)
                }
            };
            self.shared.interface.apply(change, self.shared.keepalive).await?;
        }
        Ok(())
    }

    /// Lets a stream in, ends the one that it replaces, and leases an address if the enclave is new.
    pub(crate) async fn open(&self, cid: Cid, role: Role) -> Result<Result<Admitted, Refusal>> {
        let mut state = self.shared.state.lock().await;
        let admission = match state.enclaves.opened(cid, role, SystemTime::now()) {
            Ok(admission) => admission,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(former) = admission.replaces.and_then(|stream| state.streams.remove(&stream)) {
            former.cancel();
        }
        let prepared = self.prepare(&mut state, cid).await;
        match prepared {
            Ok(relay) => {
                let replaced = CancellationToken::new();
                state.streams.insert(admission.stream, replaced.clone());
                Ok(Ok(Admitted { admission, relay, replaced }))
            }
            Err(error) => {
                state.enclaves.closed(cid, role, admission.stream, Instant::now());
                Err(error)
            }
        }
    }

    /// The enclave's key makes it a peer.
    pub(crate) async fn answer(&self, cid: Cid, admitted: &Admitted, key: PublicKey) -> Result<Result<(), Refusal>> {
        let mut state = self.shared.state.lock().await;
        let changes = match state.enclaves.answered(cid, admitted.admission.stream, key, admitted.relay.endpoint()) {
            Ok(changes) => changes,
            Err(refusal) => return Ok(Err(refusal)),
        };
        for change in changes {
            self.shared.interface.apply(change, self.shared.keepalive).await?;
        }
        Ok(Ok(()))
    }

    /// A stream has ended.
    pub(crate) async fn close(&self, cid: Cid, role: Role, stream: StreamId) {
        let mut state = self.shared.state.lock().await;
        state.streams.remove(&stream);
        state.enclaves.closed(cid, role, stream, Instant::now());
        state.forget_relays();
    }

    /// Removes the peers whose grace period is over.
    pub(crate) async fn expire(&self) {
        let mut state = self.shared.state.lock().await;
        for change in state.enclaves.expired(Instant::now()) {
            tracing::info!(?change, "grace period over");
            if let Err(error) = self.shared.interface.apply(change, self.shared.keepalive).await {
                tracing::warn!("{error:#}");
            }
        }
        state.forget_relays();
    }

    /// Every enclave at this moment.
    pub(crate) async fn seen(&self) -> Vec<Seen> {
        let state = self.shared.state.lock().await;
        let entries = state.enclaves.entries();
        entries
            .map(|(cid, enclave)| Seen { cid, enclave: enclave.clone(), relay: state.relays.get(&cid).cloned() })
            .collect()
    }

    async fn prepare(&self, state: &mut MutexGuard<'_, State>, cid: Cid) -> Result<Arc<Relay>> {
        let relay = self.relay(state, cid)?;
        let (leases, dir) = (state.enclaves.leases().clone(), self.shared.state_dir.clone());
        tokio::task::spawn_blocking(move || leases.save(&dir)).await.context("save the leases")??;
        Ok(relay)
    }

    /// The relay of a CID, which keeps its UDP socket for as long as the enclave is known.
    fn relay(&self, state: &mut State, cid: Cid) -> Result<Arc<Relay>> {
        if let Some(relay) = state.relays.get(&cid) {
            return Ok(Arc::clone(relay));
        }
        let wireguard = SocketAddr::from((Ipv4Addr::LOCALHOST, self.shared.listen_port));
        let relay = Arc::new(Relay::new(wireguard).with_context(|| format!("make the UDP socket of CID {cid}"))?);
        state.relays.insert(cid, Arc::clone(&relay));
        Ok(relay)
    }
}

impl State {
    fn forget_relays(&mut self) {
        let Self { enclaves, relays, .. } = self;
        relays.retain(|cid, _| enclaves.contains(*cid));
    }
}
