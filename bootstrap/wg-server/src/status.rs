//! The status socket: a Unix socket that only its owner may open. A client writes one request as JSON and closes its side, and
//! the daemon writes one answer.

mod client;
mod page;
mod table;
mod vitals;
mod watchdog;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use attestation::Policy;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tunnel::port::Cid;

use crate::admission::Attested;
use crate::config::{Allowed, Egress, Forward, List, ListId, Mode};
use crate::dns::{self, Counts};
use crate::drain::Drain;
use crate::enclaves::Phase;
use crate::firewall::{Drops, Members, Resolved, Sets};
use crate::gateway::{Gateway, Seen};
use crate::health::{Health, Kind, Repairs};
use crate::interface::Peer;
use crate::refused::Refused;
use crate::watchdog::record;
pub(crate) use client::{ask, drain, refused, renew, vitals};
pub(crate) use page::down;
pub(crate) use vitals::Vitals;
use watchdog::WatchdogReport;

/// For reading a client's request, for the answer, and for writing it.
const DEADLINE: Duration = Duration::from_secs(5);
/// One more client ends the oldest connection, so that idle clients cannot block others. A normal client is done within
/// milliseconds.
const MAX_CLIENTS: usize = 16;
/// While nft hangs, a report without the firewall's counter is better than none.
const COUNTER_DEADLINE: Duration = Duration::from_secs(1);
const MAX_REQUEST_LEN: u64 = 1024;

/// A client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    /// A [`Report`].
    Status,
    /// New keys for one enclave or for all. The answer is a [`Renewing`].
    Renew { cid: Option<u32> },
    /// A [`crate::refused::Report`], with events from this number on.
    Refused { first: u64 },
    /// Begins or ends a drain. The answer is its state, or an error.
    Drain { is_on: bool },
    /// The [`Vitals`] of one enclave.
    Vitals { cid: u32 },
}

/// What `wg-server status` shows. Times are in seconds: durations, or since 1970.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    uptime: u64,
    interface: String,
    public_key: String,
    /// The root that documents are verified against.
    trust_root: String,
    named: String,
    /// Whether named answers.
    is_named_up: bool,
    /// What named has counted since its start. `None` while it does not say.
    dns: Option<DnsReport>,
    /// Packets from enclaves to other name servers than the gateway's. `None` while the firewall cannot be read.
    dropped_questions: Option<u64>,
    egress: EgressReport,
    /// Answers of enclaves that were refused since wg-server started: a document, or a key.
    refused_answers: u64,
    /// What wg-server cannot or has not yet repaired. One sentence each, with what to do.
    problems: Vec<String>,
    /// What wg-server has repaired since it started.
    repairs: BTreeMap<Kind, RepairsReport>,
    forwards: Vec<ForwardReport>,
    /// While this host is drained. `connections` is missing if the kernel does not list them.
    drain: Option<DrainReport>,
    /// What the watchdogs of this host's enclaves know and did.
    watchdogs: Vec<WatchdogReport>,
    enclaves: Vec<EnclaveReport>,
}

/// What became of enclaves' questions.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct DnsReport {
    questions: u64,
    /// Of names that are not on the list.
    denied: u64,
    /// That no forwarder answered.
    failed: u64,
}

/// What enclaves may reach now, besides the gateway.
#[derive(Debug, Serialize, Deserialize)]
struct EgressReport {
    /// Whether packets to anything else are dropped.
    is_enforced: bool,
    /// Their number. `None` while the firewall cannot be read.
    unlisted: Option<u64>,
    /// `egress.destinations`.
    destinations: Vec<String>,
    /// The addresses of names.
    resolved: Vec<ResolvedReport>,
    /// What only some enclaves may reach.
    lists: Vec<ListReport>,
}

/// One of `egress.lists`.
#[derive(Debug, Serialize, Deserialize)]
struct ListReport {
    name: String,
    destinations: Vec<String>,
    resolved: Vec<ResolvedReport>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ResolvedReport {
    address: IpAddr,
    /// The name on the allow-list that resolved to it.
    name: String,
    /// Seconds since 1970.
    until: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct RepairsReport {
    count: u64,
    last: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ForwardReport {
    port: u16,
    to: SocketAddr,
    /// Whether the target is the address of a present peer.
    is_peer: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct DrainReport {
    /// For how long new connections have been refused.
    seconds: Option<u64>,
    /// Those that are under way.
    connections: Option<usize>,
}

/// How many enclaves renew their keys, and the present problems.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Renewing {
    enclaves: usize,
    problems: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EnclaveReport {
    /// The parent of an enclave on another host.
    via: Option<IpAddr>,
    cid: u32,
    state: String,
    addresses: Vec<IpAddr>,
    /// The names of the lists in `egress.lists` that are for it now.
    lists: BTreeSet<String>,
    public_key: Option<String>,
    endpoint: Option<SocketAddr>,
    /// Those of its peer in the kernel.
    allowed_ips: Vec<IpNet>,
    connected_since: Option<u64>,
    /// How often it has connected.
    connections: u64,
    data_stream: bool,
    latest_handshake: Option<u64>,
    /// `None` for a peer that was adopted from an earlier wg-server, until its keys are renewed.
    attested: Option<AttestedReport>,
    received_bytes: u64,
    sent_bytes: u64,
    relay: RelayReport,
}

/// What the enclave proved when it got its present key.
#[derive(Debug, Serialize, Deserialize)]
struct AttestedReport {
    module_id: String,
    /// The file of `attestation.measurements_paths` that names its image.
    image: Option<String>,
    pcrs: BTreeMap<u8, String>,
    /// SHA-256 of the measured configuration.
    config_sha256: String,
    /// When the keys were proved, in seconds since 1970.
    at: u64,
    /// Base64; `wg-server attest` reads it.
    document: String,
}

/// The relay's counters.
#[derive(Debug, Default, Serialize, Deserialize)]
struct RelayReport {
    to_enclave_frames: u64,
    to_enclave_bytes: u64,
    to_enclave_dropped: u64,
    to_enclave_unfit: u64,
    to_enclave_foreign: u64,
    from_enclave_datagrams: u64,
    from_enclave_bytes: u64,
    from_enclave_dropped: u64,
    udp_errors: u64,
}

/// The path of the socket.
pub(crate) fn socket_path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("status.sock")
}

/// The sources of a report.
#[derive(Debug)]
pub(crate) struct Watched<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) named: &'a dns::Named<'a>,
    pub(crate) health: &'a Health,
    pub(crate) drops: &'a Drops,
    pub(crate) sets: &'a Sets,
    pub(crate) refused: &'a Refused,
    pub(crate) egress: &'a Egress,
    pub(crate) forwards: &'a [Forward],
    pub(crate) drain: &'a Drain,
    /// Where the watchdogs of this host leave what they know. `None`: its enclaves run elsewhere.
    pub(crate) watchdog_dir: Option<&'a Path>,
}

/// The daemon's side.
#[derive(Debug)]
pub(crate) struct Server {
    listener: UnixListener,
    started: Instant,
}

impl Server {
    /// Binds the socket. The process's umask makes it 0600. The holder of the lock may replace an old one.
    pub(crate) fn bind(runtime_dir: &Path) -> Result<Self> {
        let path = socket_path(runtime_dir);
        let doing = || format!("listen on {}", path.display());
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).with_context(doing);
        }
        Ok(Self { listener: UnixListener::bind(&path).with_context(doing)?, started: Instant::now() })
    }

    /// Answers clients for ever.
    pub(crate) async fn serve(&self, watched: &Watched<'_>) -> std::convert::Infallible {
        self.answer_each(async |request| match request {
            Request::Status => Ok(serde_json::to_vec(&report(watched, self.started.elapsed()).await)?),
            Request::Renew { cid } => Ok(serde_json::to_vec(&Renewing {
                enclaves: watched.gateway.renew(cid.map(Cid)).await,
                problems: watched.health.problems(),
            })?),
            Request::Drain { is_on } => {
                let done = if is_on { watched.drain.begin().await } else { watched.drain.end().await };
                Ok(serde_json::to_vec(&done.map_err(|error| format!("{error:#}")))?)
            }
            Request::Vitals { cid } => Ok(serde_json::to_vec(&Vitals::of(watched.gateway, watched.health, cid).await)?),
            Request::Refused { first } => Ok(serde_json::to_vec(&watched.refused.report(first))?),
        })
        .await
    }

    /// Makes one answer at a time. Slow clients do not delay others.
    async fn answer_each(&self, answer: impl AsyncFn(Request) -> Result<Vec<u8>>) -> std::convert::Infallible {
        let (mut clients, mut handles) = (JoinSet::new(), VecDeque::new());
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((client, _)) => {
                        make_room(&mut handles);
                        handles.push_back(clients.spawn(async { read(client).await.map(Some) }));
                    }
                    Err(error) => {
                        tracing::debug!("status: accept: {error}");
                        sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(ended) = clients.join_next() => match ended {
                    Ok(Ok(Some((client, request)))) => match timeout(DEADLINE, answer(request)).await {
                        Ok(Ok(answer)) => {
                            handles.push_back(clients.spawn(async { write(client, answer).await.map(|()| None) }));
                        }
                        Ok(Err(error)) => tracing::debug!("status: {error:#}"),
                        Err(_elapsed) => tracing::debug!("status: no answer within {DEADLINE:?}"),
                    },
                    Ok(Ok(None)) => {}
                    Ok(Err(error)) => tracing::debug!("status: {error:#}"),
                    Err(error) if error.is_cancelled() => tracing::debug!("status: the oldest client made room"),
                    Err(error) => tracing::error!(%error, "a status client's task"),
                },
            }
        }
    }
}

fn make_room(handles: &mut VecDeque<AbortHandle>) {
    handles.retain(|handle| !handle.is_finished());
    if handles.len() >= MAX_CLIENTS
        && let Some(oldest) = handles.pop_front()
    {
        oldest.abort();
    }
}

async fn read(mut client: UnixStream) -> Result<(UnixStream, Request)> {
    let mut text = Vec::new();
    let mut limited = (&mut client).take(MAX_REQUEST_LEN);
    timeout(DEADLINE, limited.read_to_end(&mut text)).await.context("wait for a request")?.context("read")?;
    Ok((client, serde_json::from_slice(&text).context("a request")?))
}

async fn write(mut client: UnixStream, answer: Vec<u8>) -> Result<()> {
    let write = async {
        client.write_all(&answer).await?;
        client.shutdown().await
    };
    timeout(DEADLINE, write).await.context("wait for a client to read")?.context("write")
}

async fn report(watched: &Watched<'_>, uptime: Duration) -> Report {
    let Watched { gateway, named, health, drops, sets, refused: _, egress, forwards, drain, watchdog_dir } = watched;
    let mut problems = health.problems();
    // The report is needed most when wg0 is missing.
    let peers = gateway.interface().peers().await.unwrap_or_else(|error| {
        problems.push(format!("{error:#}: the report has no data from the kernel"));
        Vec::new()
    });
    let (counts, named) = (named.counts().await, named.state());
    problems.extend(named.problem.iter().map(|problem| format!("named: {problem}")));
    let seen = gateway.seen().await;
    let is_peer = |address: IpAddr| {
        let owner = seen.iter().find(|seen| seen.enclave.addresses.all().contains(&address));
        owner.is_some_and(|owner| owner.enclave.phase() == Phase::Peer)
    };
    let dropped = async {
        // One after the other within the deadline of both.
        (drops.dropped_questions().await.ok(), drops.unlisted().await.ok())
    };
    let (dropped_questions, unlisted) = timeout(COUNTER_DEADLINE, dropped).await.unwrap_or_default();
    let (resolved, members) = (sets.resolved().await, sets.members().borrow().clone());
    let of = |id: &ListId| resolved.iter().filter(|it| it.list == *id).map(ResolvedReport::from).collect();
    let list = |List { name, destinations, .. }: &List| ListReport {
        name: name.to_string(),
        destinations: texts(destinations),
        resolved: of(&ListId::Some(name.clone())),
    };
    Report {
        uptime: uptime.as_secs(),
        interface: gateway.interface().name().to_string(),
        public_key: gateway.public_key().to_string(),
        trust_root: gateway.attestation().root.to_string(),
        named: named.to_string(),
        is_named_up: named.phase == dns::Phase::Running,
        dns: counts.map(|Counts { questions, denied, failed }| DnsReport { questions, denied, failed }),
        dropped_questions,
        egress: EgressReport {
            is_enforced: egress.mode == Mode::Enforce,
            unlisted,
            destinations: texts(&egress.destinations),
            resolved: of(&ListId::Every),
            lists: egress.lists.iter().map(list).collect(),
        },
        refused_answers: gateway.refused().await,
        problems,
        repairs: health.repairs().into_iter().map(|(kind, repairs)| (kind, repairs.into())).collect(),
        forwards: forwards
            .iter()
            .map(|Forward { port, to }| ForwardReport { port: *port, to: *to, is_peer: is_peer(to.ip()) })
            .collect(),
        drain: drain_report(drain).await,
        watchdogs: watchdog_dir.map(record::all).unwrap_or_default().iter().map(WatchdogReport::from).collect(),
        enclaves: seen.iter().map(|seen| enclave(seen, &peers, &members, &gateway.attestation().policy)).collect(),
    }
}

async fn drain_report(drain: &Drain) -> Option<DrainReport> {
    if !drain.is_on() {
        return None;
    }
    let state = drain.state().await.ok();
    Some(DrainReport {
        seconds: state.and_then(|state| state.seconds),
        connections: state.map(|state| state.connections),
    })
}

impl Renewing {
    pub(crate) fn is_nobody(&self) -> bool {
        self.enclaves == 0
    }
}

fn texts(destinations: &[Allowed]) -> Vec<String> {
    destinations.iter().map(ToString::to_string).collect()
}

impl From<&Resolved> for ResolvedReport {
    fn from(Resolved { list: _, address, name, lifetime }: &Resolved) -> Self {
        Self { address: *address, name: name.to_string(), until: unix_seconds(SystemTime::now() + *lifetime) }
    }
}

impl From<Repairs> for RepairsReport {
    fn from(Repairs { count, last }: Repairs) -> Self {
        Self { count, last: last.map(unix_seconds) }
    }
}

fn enclave(Seen { id, enclave, relay }: &Seen, peers: &[Peer], members: &Members, policy: &Policy) -> EnclaveReport {
    let member = enclave.peer.as_ref();
    let lists = enclave.addresses.all().into_iter().flat_map(|address| members.lists(address));
    let peer = peers.iter().find(|peer| member.is_some_and(|member| member.public_key == peer.public_key));
    EnclaveReport {
        via: id.via,
        cid: id.cid.0,
        state: match enclave.phase() {
            Phase::Connecting => "connecting",
            Phase::Peer => "peer",
            Phase::Away => "away",
        }
        .to_owned(),
        addresses: enclave.addresses.all(),
        lists: lists.map(|list| list.to_string()).collect(),
        public_key: member.map(|member| member.public_key.to_string()),
        endpoint: peer.and_then(|peer| peer.endpoint),
        allowed_ips: peer.map_or_else(Vec::new, |peer| peer.allowed_ips.clone()),
        connected_since: enclave.connected_since.map(unix_seconds),
        connections: enclave.connections,
        data_stream: enclave.streams.data().is_some(),
        latest_handshake: peer.and_then(|peer| peer.latest_handshake).map(unix_seconds),
        attested: member
            .and_then(|member| member.attested.as_deref())
            .map(|attested| AttestedReport::of(attested, policy)),
        received_bytes: peer.map_or(0, |peer| peer.rx_bytes),
        sent_bytes: peer.map_or(0, |peer| peer.tx_bytes),
        relay: relay.as_ref().map(|relay| RelayReport::from(relay.counters())).unwrap_or_default(),
    }
}

impl AttestedReport {
    fn of(attested: &Attested, policy: &Policy) -> Self {
        let Attested { claims, binding, document, at } = attested;
        let pcrs = claims.pcrs.iter().filter(|(_, pcr)| !pcr.is_zero());
        Self {
            module_id: claims.module_id.clone(),
            image: policy.label(claims).map(str::to_owned),
            pcrs: pcrs.map(|(index, pcr)| (*index, pcr.to_string())).collect(),
            config_sha256: const_hex::encode(binding.config),
            at: unix_seconds(*at),
            document: STANDARD.encode(document),
        }
    }
}

impl From<tunnel::counters::Snapshot> for RelayReport {
    fn from(counters: tunnel::counters::Snapshot) -> Self {
        Self {
            to_enclave_frames: counters.to_stream_frames,
            to_enclave_bytes: counters.to_stream_bytes,
            to_enclave_dropped: counters.to_stream_dropped,
            to_enclave_unfit: counters.to_stream_unfit,
            to_enclave_foreign: counters.to_stream_foreign,
            from_enclave_datagrams: counters.to_udp_datagrams,
            from_enclave_bytes: counters.to_udp_bytes,
            from_enclave_dropped: counters.to_udp_dropped,
            udp_errors: counters.udp_errors,
        }
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    // A clock before 1970 was never set.
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
