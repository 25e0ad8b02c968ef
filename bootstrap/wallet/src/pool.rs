//! Connections of proven enclaves, and plain HTTP for this host's programs, whose requests go over them.
//!
//! [`crate::proxy`] opens the connections. For [`crate::hub`], the enclaves do.
//!
//! | module | what it owns |
//! |---|---|
//! | `front` | where programs connect |
//! | `guard` | requests of web pages, which are refused |
//! | `exchange` | one request: to an enclave and back |
//! | `failure` | answers that say no, as the signer or JSON-RPC has them |
//! | `queue` | requests that wait for a connection |
//! | `worker` | one connection: requests, health checks, its end |
//! | `table` | who is there |
//! | `metrics` | Prometheus's page |
//!
//! A request goes to any connection that is free, in turn. An enclave whose image is no longer on the list is dropped
//! at once, with the request that is under way.

pub(crate) mod front;
pub(crate) mod metrics;
pub(crate) mod table;
pub(crate) mod worker;

mod exchange;
mod failure;
mod guard;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use front::{Front, Rules};

use crate::trust::Trust;
use metrics::{Metrics, Outcome};
use queue::Queue;
use table::Table;

/// How many programs there may be, and how long things may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of programs. Those beyond are told so.
    pub clients: usize,
    /// For the head of a program's next request.
    pub head: Duration,
    /// For its body.
    pub body: Duration,
    /// For a program to take anything at all of an answer.
    pub write: Duration,
    /// After this time an idle connection to an enclave is asked for its health.
    pub check: Duration,
    /// For the answer to that.
    pub health: Duration,
    /// After this time or up to a quarter earlier, a connection to an enclave is closed: the next has a new proof.
    pub renew: Duration,
    /// For a request to get a connection.
    pub wait: Duration,
    /// For an enclave to answer a request: it waits 20 s for KMS and 10 s for a body.
    pub answer: Duration,
    /// For requests under way, at the end.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 256,
            head: Duration::from_mins(1),
            body: Duration::from_secs(10),
            write: Duration::from_secs(30),
            check: Duration::from_secs(10),
            health: Duration::from_secs(10),
            renew: Duration::from_mins(10),
            wait: Duration::from_secs(5),
            answer: Duration::from_secs(60),
            grace: Duration::from_secs(10),
        }
    }
}

/// What all tasks of a hub or a proxy have in common.
pub(crate) struct Pool {
    /// `hub` or `proxy`, for the path and the names of its metrics.
    pub(crate) name: &'static str,
    pub(crate) trust: watch::Receiver<Arc<Trust>>,
    pub(crate) limits: Limits,
    queue: Queue,
    pub(crate) table: Table,
    pub(crate) metrics: Metrics,
}

impl Pool {
    pub(crate) fn new(
        name: &'static str,
        trust: watch::Receiver<Arc<Trust>>,
        limits: Limits,
        outcomes: &[Outcome],
    ) -> Self {
        let (queue, metrics) = (Queue::new(), Metrics::new(name, outcomes));
        Self { name, trust, limits, queue, table: Table::default(), metrics }
    }
}
