//! What the daemon is doing, for people and for programs, and what they may ask of it: over a Unix socket that only its owner
//! may open. A client writes one request as JSON and closes its side; the daemon writes one answer.

mod table;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::timeout;
use tunnel::port::Cid;

use crate::admission::Attested;
use crate::dns;
use crate::enclaves::Phase;
use crate::firewall::Firewall;
use crate::gateway::{Gateway, Seen};
use crate::interface::Peer;

/// Where wg-server keeps what lives as long as it runs, unless the configuration says otherwise.
pub(crate) const DEFAULT_RUNTIME_DIR: &str = "/run/wg-server";

/// For one client, both ways.
const DEADLINE: Duration = Duration::from_secs(5);
/// A report of 64 enclaves has about 64 KiB.
const MAX_REPORT_LEN: u64 = 4 << 20;
const MAX_REQUEST_LEN: u64 = 1024;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    /// A [`Report`].
    Status,
    /// New keys now, for one enclave or for all; the answer is how many.
    Renew { cid: Option<u32> },
}

/// Everything that `wg-server status` shows. Times are seconds: since 1970, or how long.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    uptime: u64,
    interface: String,
    public_key: String,
    /// What documents are verified against.
    trust_root: String,
    named: String,
    /// Packets of enclaves to other name servers than the gateway's; `None` while the firewall cannot be read.
    dropped_questions: Option<u64>,
    enclaves: Vec<EnclaveReport>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EnclaveReport {
    /// The parent, of an enclave that is not this host's.
    via: Option<IpAddr>,
    cid: u32,
    state: String,
    addresses: Vec<IpAddr>,
    public_key: Option<String>,
    endpoint: Option<SocketAddr>,
    connected_since: Option<u64>,
    data_stream: bool,
    latest_handshake: Option<u64>,
    /// None for an enclave that an earlier wg-server let in, until its keys are renewed.
    attested: Option<AttestedReport>,
    received_bytes: u64,
    sent_bytes: u64,
    relay: RelayReport,
}

/// What the enclave proved when it got its present key.
#[derive(Debug, Serialize, Deserialize)]
struct AttestedReport {
    module_id: String,
    pcrs: BTreeMap<u8, String>,
    /// SHA-256 of the measured configuration.
    config_sha256: String,
    /// Seconds since 1970: since then the keys are these.
    at: u64,
    /// Base64; `wg-server attest` reads it.
    document: String,
}

/// The pump's counters under their own names.
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

/// Where the socket is.
pub(crate) fn socket_path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("status.sock")
}

/// The daemon's side.
#[derive(Debug)]
pub(crate) struct Server {
    listener: UnixListener,
    started: Instant,
}

impl Server {
    /// Binds the socket; the process's umask makes it 0600. Whoever holds the lock may replace an old one.
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

    /// Answers one client after the other, for ever.
    pub(crate) async fn serve(
        &self,
        gateway: &Gateway,
        named: &dns::Named,
        firewall: &Firewall,
    ) -> std::convert::Infallible {
        loop {
            let answered = timeout(DEADLINE, self.answer(gateway, named, firewall)).await;
            match answered {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!("status: {error:#}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                // Nobody came, or somebody did not read.
                Err(_elapsed) => {}
            }
        }
    }

    async fn answer(&self, gateway: &Gateway, named: &dns::Named, firewall: &Firewall) -> Result<()> {
        let (mut client, _) = self.listener.accept().await.context("accept")?;
        let mut text = Vec::new();
        (&mut client).take(MAX_REQUEST_LEN).read_to_end(&mut text).await.context("read")?;
        let answer = match serde_json::from_slice(&text).context("a request")? {
            Request::Status => {
                serde_json::to_vec(&report(gateway, named.state(), firewall, self.started.elapsed()).await?)?
            }
            Request::Renew { cid } => serde_json::to_vec(&gateway.renew(cid.map(Cid)).await)?,
        };
        client.write_all(&answer).await.context("write")?;
        client.shutdown().await.context("close")
    }
}

/// Asks the daemon for its report.
pub(crate) fn ask(path: &Path) -> Result<Report> {
    request(path, Request::Status)
}

/// Asks the daemon for new keys: for how many enclaves it renews them.
pub(crate) fn renew(path: &Path, cid: Option<Cid>) -> Result<usize> {
    request(path, Request::Renew { cid: cid.map(|cid| cid.0) })
}

fn request<T: DeserializeOwned>(path: &Path, request: Request) -> Result<T> {
    let doing = || format!("ask {} (does wg-server run?)", path.display());
    let mut stream = UnixStream::connect(path).with_context(doing)?;
    stream.set_read_timeout(Some(DEADLINE)).with_context(doing)?;
    stream.write_all(&serde_json::to_vec(&request)?).with_context(doing)?;
    stream.shutdown(Shutdown::Write).with_context(doing)?;
    let mut text = String::new();
    (&stream).take(MAX_REPORT_LEN).read_to_string(&mut text).with_context(doing)?;
    serde_json::from_str(&text).with_context(doing)
}

async fn report(gateway: &Gateway, named: dns::State, firewall: &Firewall, uptime: Duration) -> Result<Report> {
    let peers = gateway.interface().peers().await?;
    let seen = gateway.seen().await;
    Ok(Report {
        uptime: uptime.as_secs(),
        interface: gateway.interface().name().to_string(),
        public_key: gateway.public_key().to_string(),
        trust_root: gateway.attestation().root.to_string(),
        named: named.to_string(),
        dropped_questions: firewall.dropped_questions().await.ok(),
        enclaves: seen.iter().map(|seen| enclave(seen, &peers)).collect(),
    })
}

fn enclave(Seen { id, enclave, relay }: &Seen, peers: &[Peer]) -> EnclaveReport {
    let member = enclave.peer.as_ref();
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
        public_key: member.map(|member| member.public_key.to_string()),
        endpoint: peer.and_then(|peer| peer.endpoint),
        connected_since: enclave.connected_since.map(unix_seconds),
        data_stream: enclave.data.is_some(),
        latest_handshake: peer.and_then(|peer| peer.latest_handshake).map(unix_seconds),
        attested: member.and_then(|member| member.attested.as_deref()).map(AttestedReport::from),
        received_bytes: peer.map_or(0, |peer| peer.rx_bytes),
        sent_bytes: peer.map_or(0, |peer| peer.tx_bytes),
        relay: relay.as_ref().map(|relay| RelayReport::from(relay.counters())).unwrap_or_default(),
    }
}

impl From<&Attested> for AttestedReport {
    fn from(attested: &Attested) -> Self {
        let Attested { claims, binding, document, at } = attested;
        let pcrs = claims.pcrs.iter().filter(|(_, pcr)| !pcr.is_zero());
        Self {
            module_id: claims.module_id.clone(),
            pcrs: pcrs.map(|(index, pcr)| (*index, pcr.to_string())).collect(),
            config_sha256: hex(&binding.config),
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

/// Two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
