//! The HTTPS service: HTTP/1.1 over TLS 1.3, limits on everything a client can make long, and a way to end.
//!
//! | request | answer |
//! |---|---|
//! | `POST /` with `jsonrpc` in the body, `POST /geth`, `POST /chain/…` | JSON-RPC, see [`signer_api::rpc`] |
//! | `POST /` | signs, see [`signer_api::request`]: `{"transaction_signed": "0x…", "transaction_hash": "0x…"}` |
//! | `POST /keys` | makes a key: `{"address": "0x…", "encrypted_key": "base64"}` |
//! | `GET /attestation?nonce=HEX` | `{"document": "base64"}`, or the document itself if `Accept` prefers `application/cbor`; see [`binding::signer`]; the nonce has 1 to 64 bytes |
//! | `GET /health` | `{"status": "ok"}`, also at `/healthz`, with a slash or a query behind it, and without a client certificate |
//! | `GET /ready` | `{"status": "ready"}` when all of `[[signer.keys]]` are loaded, else 503; without a client certificate, too |
//! | `GET /metrics` | Prometheus's text format; for configured clients only |
//!
//! The hubs of `[[home]]` send the same requests over connections that [`Homes`] has opened. One that is for a service has
//! its requests carried to the service's port, and nothing else.
//!
//! HEAD is as GET. Where `client_ca` is configured, everything but `/health` and `/ready` requires a client certificate that it issued.
//!
//! An error is `{"error": {"code", "message", "field"?}}`. One of JSON-RPC has its own form and the status 200, see
//! [`signer_api::rpc::error`].
//!
//! | status | code | when |
//! |---|---|---|
//! | 400 | `bad_request` | a field (named) or the body is not as [`signer_api::request`] describes it, or no node would accept the transaction, see [`crate::pool`] |
//! | 403 | `forbidden` | the client's certificate does not allow this, or there is none |
//! | 403 | `credential_refused` | AWS refuses the request's credential |
//! | 404 | `not_found` | no such path |
//! | 404 | `key_not_found` | no such secret |
//! | 405 | `method_not_allowed` | with `Allow` |
//! | 408 | `timeout` | the body did not arrive in time |
//! | 413 | `too_large` | the body is longer than [`signer_api::request::MAX_BODY`] |
//! | 422 | `policy_refused` | the measured policy; the message names the rule |
//! | 429 | `busy` | too many keys are being fetched, documents made for this client, or long bodies read; with `Retry-After` |
//! | 500 | `internal` | a signature failed the signer's own check |
//! | 502 | `key_refused`, `key_answer` | KMS or Secrets Manager refused, or sent an unexpected response |
//! | 502 | `ledger_refused` | S3 refused, or the ledger's bucket is not as it has to be |
//! | 503 | `ledger_unavailable` | the ledger gave no answer in time; with `Retry-After` |
//! | 503 | `not_ready` | `/ready`: a configured key is not loaded, or the ledger is not usable; with `Retry-After` |
//! | 502 | `service_unavailable` | the service of a hub does not take the request, or does not answer it with HTTP |
//! | 503 | `key_unavailable`, `attestation_unavailable` | AWS or the NSM is unavailable; with `Retry-After` |
//! | 504 | `service_timeout` | the service of a hub did not answer in time |

pub mod accept;

mod accounts;
mod body;
mod budget;
mod closings;
mod connection;
mod failure;
mod home;
mod prompt;
mod route;
mod rpc;
mod seats;
mod sign;
mod trust;
mod turns;
mod upstream;

pub use budget::MOST_MEMORY;
pub use home::{Homes, Patience};

pub(crate) use rpc::is_own_method;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use binding::signer::Binding;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::cache::Cache;
use crate::config::Config;
use crate::home::Home;
use crate::keys::{Attestor, Keys, Resolve};
use crate::ledger::{Ledger, Store};
use crate::metrics::Metrics;
use crate::nonces::{Bounds, Nonces};
use crate::permission::Access;
use crate::policy::Policy;
use crate::spent::Spent;
use crate::tls::Identity;
use crate::windows::Windows;
use accounts::Accounts;
use budget::{Budget, CONNECTIONS, ENDING};
use closings::{Closing, Closings};
use connection::Guest;
use home::Counts;
use rpc::Unsent;
use seats::{Admitted, Places, Seats, Source};
use turns::Turns;
use upstream::Upstreams;

/// How long and how much a client may.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once. A further one takes the place of one that does nothing; if all are busy it is closed.
    pub connections: usize,
    /// Of these, those without a handshake yet, or without a client certificate where one is expected.
    pub unproven: usize,
    /// Of these, those from one IPv4 address or one IPv6 /64. Clients behind one address translation or load balancer
    /// share an address, so it is half of all.
    pub of_source: usize,
    /// For the TLS handshake. Generous, because a slow handshake takes nobody's place while there is room: with two
    /// hundred clients at once each waits for the others, and when there is no room the one that does nothing goes.
    pub handshake: Duration,
    /// For the head of the next request, from the end of the last: slow heads and idle connections alike.
    pub head: Duration,
    /// For the body, from the end of the head.
    pub body: Duration,
    /// Bytes, for the bodies of all requests that are longer than ordinary ones; further ones are turned away.
    pub bodies: usize,
    /// For a client to take anything at all of an answer.
    pub write: Duration,
    /// For a client's turn to have a document made: a module that hangs must not make lines of those who wait.
    pub turn: Duration,
    /// For a key or a document to arrive.
    pub fetch: Duration,
    /// For an upstream to answer a question.
    pub upstream: Duration,
    /// For a service to answer a hub's request. Shorter than hubs wait.
    pub service: Duration,
    /// For a connection as a whole. Its client's certificate may have expired since; it connects again.
    pub age: Duration,
    /// For connections to end once shutdown has begun, and for one that is too old.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS,
            unproven: CONNECTIONS / 2,
            of_source: CONNECTIONS / 2,
            handshake: Duration::from_mins(1),
            head: Duration::from_secs(15),
            body: Duration::from_secs(10),
            bodies: budget::BODIES,
            write: Duration::from_secs(10),
            turn: Duration::from_secs(5),
            fetch: Duration::from_secs(20),
            upstream: Duration::from_secs(10),
            service: Duration::from_secs(50),
            age: Duration::from_mins(15),
            grace: Duration::from_secs(10),
        }
    }
}

/// The signer, ready to serve.
pub struct Service<K, A> {
    shared: Arc<Shared<K, A>>,
    identity: Identity,
    homes: Vec<Home>,
    config_digest: [u8; 32],
}

/// What all connections have in common.
struct Shared<K, A> {
    keys: K,
    attestor: A,
    access: Access,
    policy: Policy,
    /// Those of the policy.
    chains: BTreeSet<u64>,
    cache: Cache,
    accounts: Accounts,
    spent: Mutex<Spent>,
    ledger: Option<Ledger>,
    metrics: Metrics,
    turns: Turns,
    bodies: Budget,
    seats: Arc<Seats>,
    closings: Closings,
    homes: Counts,
    upstreams: Upstreams,
    unsent: Unsent,
    user_data: [u8; Binding::LEN],
    limits: Limits,
}

/// How often expired keys are looked for, and the log is told of closed connections.
const SWEEP: Duration = Duration::from_secs(1);

impl<K: Keys, A: Attestor> Service<K, A> {
    /// Makes the TLS key. `config_digest` is SHA-256 of the measured configuration as it was read.
    ///
    /// # Errors
    /// No TLS key can be made, or the client CA does not load.
    pub fn new(config: Config, config_digest: [u8; 32], keys: K, attestor: A) -> Result<Self> {
        let limits = Limits { handshake: config.handshake_timeout, ..Limits::default() };
        Self::with_limits(config, config_digest, keys, attestor, limits)
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// As above.
    pub fn with_limits(config: Config, config_digest: [u8; 32], keys: K, attestor: A, limits: Limits) -> Result<Self> {
        let identity = Identity::generate(&config.access)?;
        let binding = Binding { tls_key: identity.digest, config: config_digest };
        let nonces = Nonces::new(config.payers(), Bounds::default());
        let windows = Windows::new(config.payers(), config.windows()).in_ledger(config.ledger.is_some());
        let spent = Mutex::new(Spent::new(nonces, windows));
        let shared = Shared {
            keys,
            attestor,
            access: config.access,
            chains: config.policy.chain_ids(),
            policy: config.policy,
            cache: Cache::new(config.key_cache_time),
            accounts: Accounts::new(config.keys),
            spent,
            ledger: config.ledger.map(Ledger::new),
            metrics: Metrics::new(&config_digest),
            turns: Turns::new(),
            bodies: Budget::new(limits.bodies),
            seats: Seats::new(Places {
                all: limits.connections,
                unproven: limits.unproven,
                of_source: limits.of_source,
            }),
            closings: Closings::default(),
            homes: Counts::new(config.homes.iter().map(|home| home.caller().name().to_owned())),
            upstreams: Upstreams::new(config.upstreams, limits.upstream)?,
            unsent: Unsent::default(),
            user_data: binding.encode(),
            limits,
        };
        Ok(Self { shared: Arc::new(shared), identity, homes: config.homes, config_digest })
    }

    /// The calls to the hubs of the configuration, to be made beside [`Self::serve`].
    ///
    /// # Errors
    /// A hub's CA that does not load.
    pub fn homes<R: Resolve>(&self, resolver: R) -> Result<Homes<K, A, R>> {
        self.homes_with(resolver, &Patience::default())
    }

    /// The same with other time limits.
    ///
    /// # Errors
    /// As above.
    pub fn homes_with<R: Resolve>(&self, resolver: R, patience: &Patience) -> Result<Homes<K, A, R>> {
        Homes::new(Arc::clone(&self.shared), &self.homes, self.config_digest, resolver, patience)
    }

    /// Finds the addresses of the configuration's upstreams with this. Without it they cannot be reached.
    pub fn resolve_with<R: Resolve>(&self, resolver: R) {
        self.shared.upstreams.resolve_with(resolver);
    }

    /// Keeps the ledger of the configuration in this bucket. Without it nothing with a nonce is signed.
    pub fn keep_ledger_in(&self, store: impl Store) {
        if let Some(ledger) = &self.shared.ledger {
            ledger.keep_in(store);
        }
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the TLS key, for whatever else binds it.
    #[must_use]
    pub fn tls_key_digest(&self) -> [u8; 32] {
        self.identity.digest
    }

    /// Serves until `shutdown`, then lets requests under way end for at most the grace period.
    ///
    /// # Errors
    /// None at present: a failed accept is logged and tried again.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> Result<()> {
        let Self { shared, identity, .. } = self;
        let acceptor = TlsAcceptor::from(identity.config);
        let (mut connections, mut loading) = (JoinSet::new(), JoinSet::new());
        for at in 0..shared.accounts.count() {
            loading.spawn(accounts::keep_loading(Arc::clone(&shared), at));
        }
        let checked = Arc::clone(&shared);
        loading.spawn(async move {
            if let Some(ledger) = &checked.ledger {
                ledger.keep_checking().await;
            }
        });
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                // Those that have lost their seats end at once: this waits for nobody's client.
                accepted = listener.accept(), if connections.len() < shared.limits.connections + ENDING => match accepted {
                    Ok((stream, peer)) => if let Some(guest) = shared.admit(stream, peer) {
                        let (shared, acceptor, shutdown) = (Arc::clone(&shared), acceptor.clone(), shutdown.clone());
                        connections.spawn(connection::serve(shared, acceptor, guest, shutdown));
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: they come back as connections end.
                        warn!(%error, "accept");
                        sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(ended) = connections.join_next() => note(ended),
                Some(ended) = loading.join_next() => note(ended),
                _tick = sweep.tick() => {
                    shared.cache.evict(Instant::now());
                    shared.spent().expire(Instant::now());
                    shared.closings.tell(Instant::now());
                }
            }
        }
        drop(listener);
        loading.shutdown().await;
        info!(connections = connections.len(), "signer: no new connections");
        let drained = timeout(shared.limits.grace, async {
            while let Some(ended) = connections.join_next().await {
                note(ended);
            }
        });
        if drained.await.is_err() {
            warn!(connections = connections.len(), "signer: cut off after the grace period");
            connections.shutdown().await;
        }
        Ok(())
    }
}

impl<K, A> Shared<K, A> {
    /// A seat for a new connection; without one it ends here.
    fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Option<Guest> {
        let source = Source::of(peer.ip());
        match self.seats.admit(source) {
            Ok(Admitted { seat, displaced }) => {
                if let Some((loser, bound)) = displaced {
                    self.closings.note(Closing::from(bound), loser);
                }
                Some(Guest { stream, source, seat })
            }
            Err(bound) => {
                self.closings.note(Closing::from(bound), source);
                debug!(%peer, ?bound, "connection: closed, all others are busy");
                None
            }
        }
    }
}

fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "connection");
    }
}
