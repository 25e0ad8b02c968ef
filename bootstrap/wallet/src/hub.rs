//! The hub: enclaves call it, prove themselves, and serve the requests of this host's programs.
//!
//! | module | what it owns |
//! |---|---|
//! | `accept` | calls, from TCP to the verdict on their document |
//! | `proof` | nonce, document, verdict |
//! | `worker` | one connection of a proven enclave: requests, health checks, its end |
//! | `queue` | requests that wait for a connection |
//! | `front` | plain HTTP on loopback or a Unix socket |
//! | `table` | who is there |
//! | `metrics` | Prometheus's page |
//!
//! A request goes to any connection that is free, in turn. An enclave whose image is no longer on the list is dropped
//! at once, with the request that is under way.

mod accept;
mod front;
mod metrics;
mod proof;
mod queue;
mod table;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use home::ALPN;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::version::TLS13;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use front::Front;

use crate::tls::HubIdentity;
use crate::trust::Trust;
use metrics::Metrics;
use queue::Queue;
use table::Table;

/// What may change while a hub runs.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The hub's certificate. Connections that exist keep theirs.
    pub identity: HubIdentity,
    /// The enclaves that are allowed.
    pub trust: Arc<Trust>,
}

/// How many connections there may be, and how long things may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of proven enclaves. Further calls are closed.
    pub proven: usize,
    /// For a call's TLS handshake.
    pub handshake: Duration,
    /// For the enclave's document.
    pub document: Duration,
    /// After this time an idle connection is asked for its health. Shorter than [`home::LONGEST_SILENCE`].
    pub check: Duration,
    /// For the answer to that.
    pub health: Duration,
    /// After this time or up to a quarter earlier, a connection is closed: the enclave opens another with a new proof.
    pub renew: Duration,
    /// For a request to get a connection.
    pub wait: Duration,
    /// For an enclave to answer a request: it waits 20 s for KMS and 10 s for a body.
    pub answer: Duration,
    /// For requests under way, when the hub ends.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            proven: 512,
            handshake: Duration::from_secs(10),
            document: Duration::from_secs(30),
            check: CHECK,
            health: Duration::from_secs(10),
            renew: Duration::from_mins(10),
            wait: Duration::from_secs(5),
            answer: Duration::from_secs(60),
            grace: Duration::from_secs(10),
        }
    }
}

/// Half of what enclaves wait for.
const CHECK: Duration = Duration::from_secs(15);
const _: () = assert!(CHECK.as_secs() * 2 <= home::LONGEST_SILENCE.as_secs(), "enclaves would leave in between");

/// What all tasks have in common.
struct Shared {
    credentials: watch::Receiver<Credentials>,
    limits: Limits,
    queue: Queue,
    table: Table,
    metrics: Metrics,
}

/// Serves until `shutdown`: calls of enclaves on `calls`, and this host's programs on `front`.
///
/// # Errors
/// TLS cannot be prepared.
pub async fn run(
    calls: TcpListener,
    front: Front,
    credentials: watch::Receiver<Credentials>,
    limits: Limits,
    shutdown: CancellationToken,
) -> Result<()> {
    tls(&credentials.borrow().identity)?;
    let shared = Arc::new(Shared {
        credentials,
        limits,
        queue: Queue::new(),
        table: Table::default(),
        metrics: Metrics::default(),
    });
    // The workers outlive the front: they answer what it has accepted.
    let answered = CancellationToken::new();
    tokio::join!(
        async {
            front::serve(Arc::clone(&shared), front, shutdown).await;
            answered.cancel();
        },
        accept::serve(&shared, calls, answered.clone()),
    );
    Ok(())
}

/// TLS 1.3 with this protocol alone. No session is resumed: each connection has a proof of its own.
fn tls(identity: &HubIdentity) -> Result<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .context("TLS 1.3")?
        .with_no_client_auth()
        .with_cert_resolver(identity.resolver.clone());
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}
