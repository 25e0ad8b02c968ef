//! Calls the hubs of `[[home]]`, and serves the requests that they send over these connections.
//!
//! The proof comes first, see the crate `home`. Afterwards a hub is a client of the signer like any other, with the
//! permissions of its `[[home]]`; or its requests are carried to the port of a service. Every step has a time limit. When one fails, or the connection ends, the next attempt
//! comes after a pause.

mod carry;
mod counts;
mod dial;
mod proof;

pub(super) use counts::Counts;
pub(super) use dial::tcp;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::home::ALPN;
use ::home::pause::{Pauses, Troubles};
use anyhow::{Context, Result, anyhow};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use rustls::ClientConfig;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::connection::{Visit, requests};
use super::prompt::Prompt;
use super::seats::Source;
use super::{Shared, note, route, trust};
use crate::home::{Home, Offer};
use crate::keys::{Attestor, Keys, Resolve};
use crate::permission::Caller;

/// How long each step of a call may take.
#[derive(Clone, Debug)]
pub struct Patience {
    /// To find the hub's addresses.
    pub resolve: Duration,
    /// For TCP to each address.
    pub connect: Duration,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the hub to send its nonce, and later its verdict.
    pub message: Duration,
    /// From the end of a request to the end of the next one's head. Longer than [`::home::LONGEST_SILENCE`].
    pub silence: Duration,
    /// For a connection as a whole. The hub's certificate may have expired since. Hubs renew proofs more often.
    pub age: Duration,
    /// The longest that the first pause can be.
    pub first_pause: Duration,
    /// A connection that carried requests for so long was a good one: the next pause is the first.
    pub lived: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(10),
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(10),
            message: Duration::from_secs(10),
            silence: Duration::from_mins(1),
            age: Duration::from_hours(1),
            first_pause: Duration::from_millis(100),
            lived: Duration::from_secs(10),
        }
    }
}

const _: () = assert!(::home::LONGEST_SILENCE.as_secs() < 60, "hubs may be silent for longer than enclaves wait");

/// Addresses of one hub that are tried. A name may have any number of them.
const MAX_ADDRESSES: usize = 8;

/// The calls to all hubs.
pub struct Homes<K, A, R> {
    lines: Vec<Arc<Line>>,
    shared: Arc<Shared<K, A>>,
    resolver: Arc<R>,
}

/// One hub, and what all connections to it have in common.
struct Line {
    home: Home,
    caller: Caller,
    tls: Arc<ClientConfig>,
    patience: Patience,
    config_digest: [u8; 32],
    troubles: Mutex<Troubles>,
}

type Stream = TlsStream<Prompt<TcpStream>>;

impl<K: Keys, A: Attestor, R: Resolve> Homes<K, A, R> {
    pub(super) fn new(
        shared: Arc<Shared<K, A>>,
        homes: &[Home],
        config_digest: [u8; 32],
        resolver: R,
        patience: &Patience,
    ) -> Result<Self> {
        let line = |home: &Home| -> Result<Arc<Line>> {
            let tls = trust::config(Some(&home.identity), ALPN).with_context(|| format!("TLS to {}", home.url))?;
            Ok(Arc::new(Line {
                caller: home.caller(),
                home: home.clone(),
                tls: Arc::new(tls),
                patience: patience.clone(),
                config_digest,
                troubles: Mutex::default(),
            }))
        };
        Ok(Self { lines: homes.iter().map(line).collect::<Result<_>>()?, shared, resolver: Arc::new(resolver) })
    }

    /// Calls until `shutdown`, then lets requests under way end for at most the grace period.
    pub async fn call(self, shutdown: CancellationToken) {
        let mut calls = JoinSet::new();
        for line in &self.lines {
            for _ in 0..line.home.connections {
                let (line, shared, resolver) = (Arc::clone(line), Arc::clone(&self.shared), Arc::clone(&self.resolver));
                let shutdown = shutdown.clone();
                calls.spawn(async move { keep(&line, &*shared, &*resolver, shutdown).await });
            }
        }
        let grace = async {
            shutdown.cancelled().await;
            sleep(self.shared.limits.grace).await;
        };
        let ended = async {
            while let Some(ended) = calls.join_next().await {
                note(ended);
            }
        };
        tokio::select! {
            () = ended => {}
            () = grace => calls.shutdown().await,
        }
    }
}

/// Keeps one connection to the hub until `shutdown`.
async fn keep<K: Keys, A: Attestor, R: Resolve>(
    line: &Line,
    shared: &Shared<K, A>,
    resolver: &R,
    shutdown: CancellationToken,
) {
    let mut pauses = Pauses::new(line.patience.first_pause, line.home.longest_pause);
    loop {
        let connected = tokio::select! {
            () = shutdown.cancelled() => return,
            connected = connect(line, shared, resolver) => connected,
        };
        match connected {
            Ok((stream, address)) => {
                line.is_up();
                let start = Instant::now();
                serve(line, shared, stream, address, shutdown.clone()).await;
                let lived = start.elapsed();
                debug!(hub = %line.home.url, ?lived, "home: the connection ended");
                if lived >= line.patience.lived {
                    pauses.reset();
                }
            }
            Err(error) => {
                shared.homes.failed(line.caller.name());
                line.is_down(&format!("{error:#}"));
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(pauses.next(random())) => {}
        }
    }
}

/// Without random bytes there is no jitter, which is not worth an error.
pub(super) fn random() -> u32 {
    let mut random = [0; 4];
    match SystemRandom::new().fill(&mut random) {
        Ok(()) => u32::from_ne_bytes(random),
        Err(_unspecified) => u32::MAX,
    }
}

/// A connection on which the hub has accepted the proof.
async fn connect<K: Keys, A: Attestor, R: Resolve>(
    line: &Line,
    shared: &Shared<K, A>,
    resolver: &R,
) -> Result<(Stream, IpAddr)> {
    let tcp = dial::tcp(&line.home.url, resolver, &line.patience).await?;
    let address = tcp.peer_addr().context("the hub's address")?.ip();
    let tcp = Prompt::new(tcp, shared.limits.write);
    let mut stream = dial::tls(&line.home.url, Arc::clone(&line.tls), tcp, line.patience.handshake).await?;
    proof::prove(line, shared, &mut stream).await.context("prove this enclave to the hub")?;
    Ok((stream, address))
}

async fn serve<K: Keys, A: Attestor>(
    line: &Line,
    shared: &Shared<K, A>,
    stream: Stream,
    address: IpAddr,
    shutdown: CancellationToken,
) {
    let _connected = shared.homes.connected(line.caller.name());
    let Patience { silence: head, age, .. } = line.patience;
    let source = Source::of(address);
    let visit = Visit { client: line.caller.name(), source, head, age };
    let answer = |request| async move {
        match &line.home.offer {
            Offer::Signer(_) => route::answer(shared, &line.caller, source, request).await,
            Offer::Service(port) => carry::answer(shared, port, request).await,
        }
    };
    if let Some(mut stream) = requests(&shared.limits, stream, visit, answer, shutdown).await {
        // A hub that takes no goodbye is cut off.
        let _cut_off = timeout(shared.limits.grace, stream.shutdown()).await;
    }
}

impl Line {
    fn is_up(&self) {
        if self.troubles().ended() {
            info!(hub = %self.home.url, "home: connected, the hub has accepted this enclave");
        }
    }

    fn is_down(&self, reason: &str) {
        let hub = &self.home.url;
        match self.troubles().is_news(reason, Instant::now()) {
            true => warn!(%hub, "home: {reason}; trying again"),
            false => debug!(%hub, "home: {reason}; trying again"),
        }
    }

    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `what` comes to within `limit`.
async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    let result = timeout(limit, future).await;
    result.unwrap_or_else(|_elapsed| Err(anyhow!("nothing within {limit:?}"))).with_context(|| what.to_owned())
}
