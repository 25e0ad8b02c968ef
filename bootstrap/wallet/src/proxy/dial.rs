//! The connections to each enclave: made one after the other, proved, used, and made again when they end.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use attestation::Printable;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use home::pause::{Pauses, Troubles};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Limits, Shared};
use crate::enclave::{EnclaveError, EnclaveUrl, Proven, prove};
use crate::pool::metrics::Outcome;
use crate::pool::worker::{self, End};

/// One of the enclaves that were named.
pub(super) struct Upstream {
    url: EnclaveUrl,
    /// Who holds it connects. The others wait: an enclave that is down is not asked by all at once.
    door: Mutex<Door>,
}

struct Door {
    pauses: Pauses,
    troubles: Troubles,
}

impl Upstream {
    pub(super) fn new(url: EnclaveUrl, limits: &Limits) -> Self {
        let pauses = Pauses::new(limits.first_pause, limits.longest_pause);
        Self { url, door: Mutex::new(Door { pauses, troubles: Troubles::default() }) }
    }
}

/// Keeps all connections until `shutdown`.
///
/// # Errors
/// A task that panics.
pub(super) async fn keep(
    shared: &Arc<Shared>,
    upstreams: Vec<Arc<Upstream>>,
    shutdown: CancellationToken,
) -> Result<()> {
    let mut lines = JoinSet::new();
    for upstream in upstreams {
        for _ in 0..shared.limits.connections {
            lines.spawn(line(Arc::clone(shared), Arc::clone(&upstream)));
        }
    }
    tokio::select! {
        () = shutdown.cancelled() => {}
        Some(ended) = lines.join_next() => ended.context("a connection to an enclave")?,
    }
    lines.shutdown().await;
    Ok(())
}

/// Keeps one connection, for ever.
async fn line(shared: Arc<Shared>, upstream: Arc<Upstream>) {
    let (pool, url) = (&shared.pool, &upstream.url);
    loop {
        let (Proven { connection, claims, binding }, is_back) = connect(&shared, &upstream).await;
        let image = pool.trust.borrow().image(&claims).map(ToOwned::to_owned);
        let seat = pool.table.enter(&claims, &binding.config, image.as_deref(), url.to_string());
        let enclave = Printable(&claims.module_id);
        match (is_back || seat.is_first(), claims.pcrs.get(&0)) {
            (true, Some(pcr0)) => info!(%url, %enclave, image = seat.image(), %pcr0, "verified"),
            (true, None) => info!(%url, %enclave, image = seat.image(), "verified"),
            (false, _) => debug!(%url, %enclave, image = seat.image(), "verified"),
        }
        let start = Instant::now();
        let end = worker::work(pool, connection, &claims, &seat).await;
        pool.metrics.ended(&end);
        let lived = start.elapsed();
        match &end {
            End::Renewed | End::Closed => debug!(%url, %enclave, ?lived, "{end}"),
            End::Unhealthy(_) | End::Untrusted(_) => warn!(%url, %enclave, ?lived, "{end}"),
        }
        drop(seat);
        let mut door = upstream.door.lock().await;
        if lived >= shared.limits.lived || matches!(end, End::Renewed) {
            door.pauses.reset();
        } else {
            // An enclave that takes connections and closes them is not asked without rest.
            sleep(door.pauses.next(random())).await;
        }
    }
}

/// Tries until a connection is proved. The second value is whether that is news.
async fn connect(shared: &Shared, upstream: &Upstream) -> (Proven, bool) {
    let (pool, url) = (&shared.pool, &upstream.url);
    let mut door = upstream.door.lock().await;
    let mut list = pool.trust.clone();
    loop {
        let (trust, identity) = (list.borrow_and_update().clone(), shared.identity.borrow().clone());
        let error = match prove(url, identity.as_ref(), &trust).await {
            Ok(proven) => {
                pool.metrics.proof(Outcome::Accepted);
                pool.table.set_problem(url, None);
                return (proven, door.troubles.ended());
            }
            Err(error) => error,
        };
        let is_refused = matches!(error, EnclaveError::Untrusted { .. });
        pool.metrics.proof(if is_refused { Outcome::Refused } else { Outcome::Unreachable });
        let reason = format!("{:#}", anyhow::Error::from(error));
        pool.table.set_problem(url, Some(&reason));
        match door.troubles.is_news(&reason, Instant::now()) {
            true => warn!("{reason}"),
            false => debug!("{reason}"),
        }
        let pause = door.pauses.next(random());
        tokio::select! {
            () = sleep(pause) => {}
            // Another list may allow it.
            Ok(()) = list.changed() => {}
        }
    }
}

/// Without random bytes there is no jitter, which is not worth an error.
fn random() -> u32 {
    let mut random = [0; 4];
    match SystemRandom::new().fill(&mut random) {
        Ok(()) => u32::from_ne_bytes(random),
        Err(_unspecified) => u32::MAX,
    }
}
