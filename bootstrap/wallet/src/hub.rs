//! The hub: enclaves call it, prove themselves, and serve the requests of this host's programs.
//!
//! | module | what it owns |
//! |---|---|
//! | `accept` | calls, from TCP to the verdict on their document |
//! | `proof` | nonce, document, verdict |
//!
//! [`crate::pool`] has the rest.

mod accept;
mod proof;

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

use crate::pool::front::{self, Front};
use crate::pool::metrics::Outcome;
use crate::pool::{self, Pool};
use crate::tls::HubIdentity;
use crate::trust::Trust;

/// How many connections there may be, and how long things may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of proven enclaves. Further calls are closed.
    pub proven: usize,
    /// For a call's TLS handshake.
    pub handshake: Duration,
    /// For the enclave's document.
    pub document: Duration,
    /// Of what follows. `check` is shorter than [`home::LONGEST_SILENCE`].
    pub pool: pool::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            proven: 512,
            handshake: Duration::from_secs(10),
            document: Duration::from_secs(30),
            pool: pool::Limits { check: CHECK, ..pool::Limits::default() },
        }
    }
}

/// A third of what enclaves wait for.
const CHECK: Duration = Duration::from_secs(15);
const _: () = assert!(CHECK.as_secs() * 2 <= home::LONGEST_SILENCE.as_secs(), "enclaves would leave in between");

/// What all tasks have in common.
struct Shared {
    /// The hub's certificate. Connections that exist keep theirs.
    identity: watch::Receiver<HubIdentity>,
    limits: Limits,
    pool: Arc<Pool>,
}

/// Serves until `shutdown`: calls of enclaves on `calls`, and this host's programs on `front`. What is watched may change
/// meanwhile.
///
/// # Errors
/// TLS cannot be prepared.
pub async fn run(
    calls: TcpListener,
    front: Front,
    identity: watch::Receiver<HubIdentity>,
    trust: watch::Receiver<Arc<Trust>>,
    limits: Limits,
    shutdown: CancellationToken,
) -> Result<()> {
    tls(&identity.borrow())?;
    let outcomes = [Outcome::Accepted, Outcome::Refused, Outcome::Handshake, Outcome::Displaced];
    let pool = Arc::new(Pool::new("hub", trust, limits.pool.clone(), &outcomes));
    let shared = Arc::new(Shared { identity, limits, pool: Arc::clone(&pool) });
    // The workers outlive the front: they answer what it has accepted.
    let answered = CancellationToken::new();
    tokio::join!(
        async {
            front::serve(pool, front, shutdown).await;
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
