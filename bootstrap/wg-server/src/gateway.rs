//! What all streams share: the enclaves, their relays, and the kernel's peers, changed in the order of the decisions.

mod lists;
mod peers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use tokio::sync::Mutex;
use tunnel::control::{Answer, KemCiphertext, Offer, PublicKey};
use tunnel::port::Cid;
use tunnel::preface::Role;
use tunnel::preshared;

use crate::admission;
use crate::config::{Attestation, Config, List};
use crate::datagram_relay::DatagramRelay;
use crate::enclave_id::EnclaveId;
use crate::enclaves::{Addresses, Enclave, Enclaves, Expired, Refusal};
use crate::firewall::Sets;
use crate::interface::{self, Fingerprint, Interface, Peer, PeerChange};
use crate::lease::{Changes, Leases};
use crate::proofs::Proofs;
use crate::streams::OpenStream;

pub(crate) use peers::Renewals;

/// An enclave that is refused dials again within seconds.
const REFUSAL_KEPT: Duration = Duration::from_mins(1);
/// How often the uses of leases are written, which only decide which lease is reclaimed first.
const SAVE_USES_EVERY: Duration = Duration::from_mins(1);

/// The gateway's side of all enclaves. Clones share the same state.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    interface: Interface,
    public_key: PublicKey,
    /// Relays send datagrams to this address and receive them from it.
    wireguard: SocketAddr,
    keepalive: Duration,
    state_dir: PathBuf,
    attestation: Attestation,
    lists: Vec<List>,
    sets: Sets,
    // Held while the kernel changes a peer, which takes less than a millisecond: changes keep the order of the decisions.
    state: Mutex<State>,
    // Held while the files are written, which takes milliseconds: the state's lock is not.
    files: Mutex<Files>,
}

/// What is on disk.
#[derive(Debug)]
struct Files {
    leases: Changes,
    written: Instant,
    proofs: Vec<PublicKey>,
}

#[derive(Debug)]
struct State {
    enclaves: Enclaves,
    relays: BTreeMap<EnclaveId, Arc<DatagramRelay>>,
    /// The pre-shared keys that the kernel was given, by the peers' public keys.
    preshared_keys: BTreeMap<[u8; 32], Fingerprint>,
    /// Why an enclave's last document was refused, and when.
    refusals: BTreeMap<EnclaveId, (Instant, String)>,
    /// How many answers of enclaves were refused.
    refused: u64,
}

/// An open stream of an enclave, and what its task needs.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) id: EnclaveId,
    pub(crate) stream: OpenStream,
    pub(crate) addresses: Addresses,
    /// None for an enclave elsewhere: its parent relays its datagrams.
    pub(crate) relay: Option<Arc<DatagramRelay>>,
}

/// One enclave as the status shows it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) id: EnclaveId,
    pub(crate) enclave: Enclave,
    pub(crate) relay: Option<Arc<DatagramRelay>>,
}

impl Gateway {
    /// Reads the leases. The interface is up already.
    pub(crate) fn new(
        config: &Config,
        attestation: Attestation,
        interface: Interface,
        public_key: PublicKey,
        wireguard: SocketAddr,
        sets: Sets,
    ) -> Result<Self> {
        let ranges = config.enclaves.ranges;
        let leases = Leases::load(&config.enclaves.state_dir, ranges.len())?;
        let state = State {
            enclaves: Enclaves::new(public_key, ranges, leases, attestation.key_lifetime),
            relays: BTreeMap::new(),
            preshared_keys: BTreeMap::new(),
            refusals: BTreeMap::new(),
            refused: 0,
        };
        Ok(Self {
            shared: Arc::new(Shared {
                interface,
                public_key,
                wireguard,
                keepalive: config.wireguard.persistent_keepalive,
                state_dir: config.enclaves.state_dir.clone(),
                attestation,
                lists: config.egress.lists.clone(),
                sets,
                state: Mutex::new(state),
                files: Mutex::new(Files { leases: Changes::default(), written: Instant::now(), proofs: Vec::new() }),
            }),
        })
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.shared.public_key
    }

    /// The time after which an enclave gets new keys.
    pub(crate) fn key_lifetime(&self) -> Duration {
        self.shared.attestation.key_lifetime
    }

    pub(crate) fn attestation(&self) -> &Attestation {
        &self.shared.attestation
    }

    pub(crate) fn interface(&self) -> &Interface {
        &self.shared.interface
    }

    /// Takes over the peers of a wg-server that was killed. Each gets the endpoint of its new relay, and nothing else changes.
    pub(crate) async fn adopt_peers(&self) -> Result<()> {
        let proofs = Proofs::load(&self.shared.state_dir);
        let mut state = self.shared.state.lock().await;
        for peer in self.shared.interface.peers().await? {
            let age = proofs.age(peer.public_key);
            let adopted = state.enclaves.adopt(peer.public_key, &peer.allowed_ips, age, Instant::now());
            let change = match adopted {
                Some(id) => {
                    let endpoint = self.relay(&mut state, id)?.map(|relay| relay.endpoint());
                    tracing::info!(enclave = %id, public_key = %peer.public_key, ?endpoint, proof_age = ?age, "peer adopted");
                    state.preshared_keys.insert(peer.public_key.0, peer.preshared_key);
                    if peer.keepalive != self.keepalive() {
                        self.tell(Some(PeerChange::KeepAlive(peer.public_key))).await?;
                    }
                    // The kernel learns the endpoint of an enclave elsewhere from its datagrams.
                    endpoint.map(|endpoint| PeerChange::Move { public_key: peer.public_key, endpoint })
                }
                None => {
                    tracing::info!(public_key = %peer.public_key, proof_age = ?age, "peer removed: no known enclave has its addresses, or its proof has expired");
                    Some(PeerChange::Remove(peer.public_key))
                }
            };
            self.tell(change).await?;
        }
        self.settle_lists(&state).await?;
        drop(state);
        self.save_proofs().await;
        Ok(())
    }

    /// Opens a stream, ends the one that it replaces, and leases an address if the enclave is new.
    pub(crate) async fn open(&self, id: EnclaveId, role: Role) -> Result<Result<Opened, Refusal>> {
        let mut state = self.shared.state.lock().await;
        let (stream, addresses) = match state.enclaves.opened(id, role, SystemTime::now()) {
            Ok(opened) => opened,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let (relay, changes) = (self.relay(&mut state, id), state.enclaves.leases().changes());
        drop(state);
        // A new enclave learns its address after that is on disk. A known enclave does not wait for the disk.
        let prepared = match relay {
            Ok(relay) => self.save_leases(|saved| changes.places > saved.leases.places).await.map(|()| relay),
            Err(error) => Err(error),
        };
        match prepared {
            Ok(relay) => Ok(Ok(Opened { id, stream, addresses, relay })),
            Err(error) => {
                self.close(id, &stream).await;
                Err(error)
            }
        }
    }

    /// Verifies an answer and adds its key to the kernel. Returns the ciphertext from which the enclave derives the pre-shared key.
    /// The inner error is the reason that the enclave is told.
    pub(crate) async fn answer(
        &self,
        opened: &Opened,
        offer: &Offer,
        answer: Answer,
    ) -> Result<Result<KemCiphertext, String>> {
        let Opened { id, stream, relay, .. } = opened;
        let public_key = answer.public_key;
        let secret = preshared::encapsulate(&answer.kem_key, offer, public_key).map_err(anyhow::Error::new);
        let verified = admission::verify(answer, offer, id.cid, &self.shared.attestation, SystemTime::now());
        let mut state = self.shared.state.lock().await;
        let ((preshared_key, ciphertext), attested) = match secret.and_then(|secret| Ok((secret, verified?))) {
            Ok(proved) => proved,
            Err(error) => {
                state.enclaves.refused(*id, stream, Instant::now());
                return Ok(Err(state.refuse(*id, format!("{error:#}"))));
            }
        };
        let former = match state.enclaves.answered(*id, stream, Arc::new(attested), Instant::now()) {
            Ok(former) => former,
            Err(refusal) => return Ok(Err(state.refuse(*id, refusal.to_string()))),
        };
        state.refusals.remove(id);
        self.tell(former).await?;
        let endpoint = relay.as_ref().map(|relay| relay.endpoint());
        let fingerprint = self.shared.interface.add_candidate(public_key, &preshared_key, endpoint).await?;
        state.preshared_keys.insert(public_key.0, fingerprint);
        Ok(Ok(ciphertext))
    }

    /// Whether the key has had a handshake. If so, it becomes the enclave's key.
    pub(crate) async fn confirm(&self, id: EnclaveId, public_key: PublicKey) -> Result<bool> {
        let peers = self.shared.interface.peers().await?;
        let has_handshake = |peer: &Peer| peer.public_key == public_key && peer.latest_handshake.is_some();
        if !peers.iter().any(has_handshake) {
            return Ok(false);
        }
        let mut state = self.shared.state.lock().await;
        let changes = state.enclaves.confirmed(id, public_key);
        let is_renewal = changes.len() > 1;
        self.narrow_lists(&state).await?;
        for change in changes {
            self.tell(Some(change)).await?;
        }
        // The tunnel works without it, and every check of the peers repeats it.
        if let Err(error) = self.settle_lists(&state).await {
            tracing::warn!("{error:#}");
        }
        drop(state);
        self.save_proofs().await;
        tracing::info!(enclave = %id, %public_key, is_renewal, "the enclave is a peer: its document is valid and it has had a handshake");
        Ok(true)
    }

    /// How many answers of enclaves were refused: a document, or a key.
    pub(crate) async fn refused(&self) -> u64 {
        self.shared.state.lock().await.refused
    }

    /// The enclaves whose last document was refused a moment ago, and why.
    pub(crate) async fn refusals(&self) -> Vec<(EnclaveId, String)> {
        let state = self.shared.state.lock().await;
        let recent = state.refusals.iter().filter(|(_, (at, _))| at.elapsed() < REFUSAL_KEPT);
        recent.map(|(id, (_, reason))| (*id, reason.clone())).collect()
    }

    /// Requests new keys from one enclave or from all. Returns from how many.
    pub(crate) async fn renew(&self, cid: Option<Cid>) -> usize {
        let state = self.shared.state.lock().await;
        let meant = state.enclaves.entries().filter(|(of, _)| cid.is_none_or(|cid| cid == of.cid));
        let streams = meant.filter_map(|(_, enclave)| enclave.streams.control());
        streams.inspect(|stream| stream.request_renewal()).count()
    }

    /// A stream has ended.
    pub(crate) async fn close(&self, id: EnclaveId, stream: &OpenStream) {
        let mut state = self.shared.state.lock().await;
        let change = state.enclaves.closed(id, stream, Instant::now());
        if let Err(error) = self.tell(change).await {
            tracing::warn!("{error:#}");
        }
        state.forget_relays();
    }

    /// In seconds.
    fn keepalive(&self) -> u16 {
        interface::seconds(self.shared.keepalive)
    }

    async fn tell(&self, change: Option<PeerChange>) -> Result<()> {
        match change {
            Some(change) => self.shared.interface.apply(change, self.shared.keepalive).await,
            None => Ok(()),
        }
    }

    /// Removes expired peers, and saves which leases were used.
    pub(crate) async fn expire(&self) {
        let mut state = self.shared.state.lock().await;
        for Expired { id, public_key, reason } in state.enclaves.expired(Instant::now()) {
            tracing::info!(enclave = %id, %public_key, reason, "peer removed");
            if let Err(error) = self.tell(Some(PeerChange::Remove(public_key))).await {
                tracing::warn!("{error:#}");
            }
        }
        if let Err(error) = self.settle_lists(&state).await {
            tracing::warn!("{error:#}");
        }
        state.forget_relays();
        state.refusals.retain(|_, (at, _)| at.elapsed() < REFUSAL_KEPT);
        let changes = state.enclaves.leases().changes();
        drop(state);
        let is_due = |saved: &Files| changes.uses > saved.leases.uses && saved.written.elapsed() >= SAVE_USES_EVERY;
        if let Err(error) = self.save_leases(is_due).await {
            tracing::warn!("{error:#}");
        }
    }

    /// The present enclaves.
    pub(crate) async fn seen(&self) -> Vec<Seen> {
        let state = self.shared.state.lock().await;
        let entries = state.enclaves.entries();
        entries
            .map(|(id, enclave)| Seen { id, enclave: enclave.clone(), relay: state.relays.get(&id).cloned() })
            .collect()
    }

    /// Saves the leases if `is_due` still holds when it is this caller's turn: another caller may have saved them meanwhile.
    async fn save_leases(&self, is_due: impl Fn(&Files) -> bool) -> Result<()> {
        let mut files = self.shared.files.lock().await;
        if !is_due(&files) {
            return Ok(());
        }
        let (leases, dir) = (self.shared.state.lock().await.enclaves.leases().clone(), self.shared.state_dir.clone());
        let changes = leases.changes();
        tokio::task::spawn_blocking(move || leases.save(&dir)).await.context("save the leases")??;
        (files.leases, files.written) = (changes, Instant::now());
        Ok(())
    }

    /// Saves when the peers proved their keys, if the keys have changed. A proof that is not on disk only expires earlier.
    async fn save_proofs(&self) {
        let mut files = self.shared.files.lock().await;
        let ages: Vec<_> = self.shared.state.lock().await.enclaves.proofs(Instant::now()).collect();
        let keys: Vec<PublicKey> = ages.iter().map(|(key, _)| *key).collect();
        if keys == files.proofs {
            return;
        }
        let dir = self.shared.state_dir.clone();
        let saved = tokio::task::spawn_blocking(move || Proofs::save(&dir, &ages)).await;
        match saved.context("save the proofs").and_then(|saved| saved) {
            Ok(()) => files.proofs = keys,
            Err(error) => tracing::warn!("{error:#}"),
        }
    }

    /// The relay of an enclave on this host. It keeps its UDP socket for as long as the enclave is known.
    fn relay(&self, state: &mut State, id: EnclaveId) -> Result<Option<Arc<DatagramRelay>>> {
        if id.via.is_some() {
            return Ok(None);
        }
        if let Some(relay) = state.relays.get(&id) {
            return Ok(Some(Arc::clone(relay)));
        }
        let relay = Arc::new(
            DatagramRelay::here(self.shared.wireguard).with_context(|| format!("make the UDP socket of {id}"))?,
        );
        state.relays.insert(id, Arc::clone(&relay));
        Ok(Some(relay))
    }
}

impl State {
    /// Keeps the reason for the status.
    fn refuse(&mut self, id: EnclaveId, reason: String) -> String {
        self.refusals.insert(id, (Instant::now(), reason.clone()));
        self.refused += 1;
        reason
    }

    fn forget_relays(&mut self) {
        let Self { enclaves, relays, .. } = self;
        relays.retain(|id, _| enclaves.contains(*id));
    }
}

#[cfg(test)]
mod tests;
