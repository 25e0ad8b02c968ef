//! Requests that wait for a connection. Each connection takes one at a time, in turn.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use thiserror::Error;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

use crate::http::Answer;

/// Requests that wait. The front has no more connections than this.
pub(super) const MAX_WAITING: usize = 256;

/// A request for any enclave.
pub(super) struct Asked {
    pub(super) method: Method,
    /// With the query.
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
}

/// A request with those who wait for it.
pub(super) struct Job {
    pub(super) asked: Asked,
    started: oneshot::Sender<()>,
    answer: oneshot::Sender<Result<Answer, String>>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum Unanswered {
    #[error("no proven enclave had a free connection within {0:?}; repeat the request")]
    NoEnclave(Duration),
    #[error("the connection to the enclave ended before its answer; repeat the request")]
    Ended,
    #[error("{0}")]
    Broken(String),
}

pub(super) struct Queue {
    in_end: mpsc::Sender<Job>,
    /// The worker with the lock gets the next one. The others wait for the lock in a line.
    out_end: Mutex<mpsc::Receiver<Job>>,
}

impl Queue {
    pub(super) fn new() -> Self {
        let (in_end, out_end) = mpsc::channel(MAX_WAITING);
        Self { in_end, out_end: Mutex::new(out_end) }
    }

    /// Has a request answered. `wait` is for a connection; the connection has its own limit for the answer.
    pub(super) async fn ask(&self, asked: Asked, wait: Duration) -> Result<Answer, Unanswered> {
        let (started, has_started) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let waiting = async {
            // Without a receiver there is nobody to start it either.
            drop(self.in_end.send(Job { asked, started, answer }).await);
            has_started.await
        };
        match timeout(wait, waiting).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Unanswered::Ended),
            Err(_elapsed) => return Err(Unanswered::NoEnclave(wait)),
        }
        match answered.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(reason)) => Err(Unanswered::Broken(reason)),
            Err(_) => Err(Unanswered::Ended),
        }
    }

    /// The next request that somebody still waits for. Cancel safe: what is not returned is not taken.
    pub(super) async fn next(&self) -> Option<Started> {
        let mut out_end = self.out_end.lock().await;
        loop {
            let Job { asked, started, answer } = out_end.recv().await?;
            if started.send(()).is_ok() {
                return Some(Started { asked, answer });
            }
        }
    }
}

/// A request that a connection has taken.
pub(super) struct Started {
    pub(super) asked: Asked,
    pub(super) answer: oneshot::Sender<Result<Answer, String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str) -> Asked {
        Asked { method: Method::GET, path: path.to_owned(), headers: Vec::new(), body: Bytes::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_nobody_takes_is_given_up_and_not_taken_later() {
        let queue = Queue::new();
        let wait = Duration::from_secs(5);
        assert!(matches!(queue.ask(asked("/late"), wait).await, Err(Unanswered::NoEnclave(_))));
        let (answer, ()) = tokio::join!(queue.ask(asked("/"), wait), async {
            let started = queue.next().await.unwrap();
            assert_eq!(started.asked.path, "/");
            drop(started);
        });
        assert!(matches!(answer, Err(Unanswered::Ended)));
    }
}
