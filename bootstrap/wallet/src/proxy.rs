//! The proxy: it connects to enclaves, has each connection proved, and serves the requests of this host's programs.
//!
//! `dial` keeps the connections. [`crate::enclave`] proves them, and [`crate::pool`] has the rest.

mod dial;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::enclave::EnclaveUrl;
use crate::pool::front::{self, Front};
use crate::pool::metrics::Outcome;
use crate::pool::{self, Pool};
use crate::tls::ClientIdentity;
use crate::trust::Trust;
use dial::Upstream;

/// How many connections there are, and how long things may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections to each enclave.
    pub connections: usize,
    /// The longest that the first pause before another attempt to connect can be. The next ones are longer.
    pub first_pause: Duration,
    /// The longest of all.
    pub longest_pause: Duration,
    /// A connection that lived for so long was a good one: the next pause is the first.
    pub lived: Duration,
    /// Of the rest. `check` is shorter than what the signer waits for a request, 15 s, and `renew` than what it keeps a
    /// connection, 15 minutes: it closes one without a word, and a request may be on its way.
    pub pool: pool::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
            lived: Duration::from_secs(10),
            pool: pool::Limits::default(),
        }
    }
}

/// What all tasks have in common.
struct Shared {
    /// The certificate that enclaves are shown. Connections that exist keep theirs.
    identity: watch::Receiver<Option<ClientIdentity>>,
    limits: Limits,
    pool: Arc<Pool>,
}

/// Serves this host's programs on `front` until `shutdown`, with connections to the enclaves at `urls`. What is watched
/// may change meanwhile.
///
/// # Errors
/// A task that panics.
pub async fn run(
    urls: Vec<EnclaveUrl>,
    front: Front,
    identity: watch::Receiver<Option<ClientIdentity>>,
    trust: watch::Receiver<Arc<Trust>>,
    limits: Limits,
    shutdown: CancellationToken,
) -> Result<()> {
    let outcomes = [Outcome::Accepted, Outcome::Refused, Outcome::Unreachable];
    let pool = Arc::new(Pool::new("proxy", trust, limits.pool.clone(), &outcomes));
    let upstreams = urls.into_iter().map(|url| Arc::new(Upstream::new(url, &limits))).collect();
    let shared = Arc::new(Shared { identity, limits, pool: Arc::clone(&pool) });
    // The connections outlive the front: they answer what it has accepted.
    let answered = CancellationToken::new();
    let serving = async {
        front::serve(pool, front, shutdown).await;
        answered.cancel();
        Ok(())
    };
    tokio::try_join!(serving, dial::keep(&shared, upstreams, answered.clone())).map(|((), ())| ())
}
