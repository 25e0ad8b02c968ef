//! Requests that wait for a connection. Each connection takes one at a time, in turn.
//!
//! When a connection fails, the request goes to another one:
//!
//! | request | nothing of it was sent | it was sent |
//! |---|---|---|
//! | GET, HEAD | again, for as long as a request waits | once more |
//! | `POST /`, JSON-RPC without `eth_send…` | the same | once more: the signer answers the same request with the same signature |
//! | any other | the same | not again: the enclave may have carried it out |
//!
//! An answer is final, whatever its status.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::http::uri::PathAndQuery;
use signer_api::path;
use thiserror::Error;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::failure::is_repeatable;
use crate::http::{Answer, HttpError};

/// Requests in the line. Further ones wait to get into it.
const MAX_WAITING: usize = 256;

/// A request for any enclave.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A request with those who wait for it.
struct Job {
    asked: Arc<Asked>,
    started: oneshot::Sender<()>,
    answer: oneshot::Sender<Result<Answer, Broken>>,
}

/// A request that a connection has taken.
pub(super) struct Started {
    pub(super) asked: Arc<Asked>,
    pub(super) answer: oneshot::Sender<Result<Answer, Broken>>,
}

/// Why a connection has no answer.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub(super) reason: String,
    /// Whether the enclave may have some of the request.
    pub(super) was_sent: bool,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum Unanswered {
    #[error("no proven enclave had a free connection within {0:?}; repeat the request")]
    NoEnclave(Duration),
    #[error("the connection to the enclave failed before its answer, which may be lost: {0}")]
    Broken(String),
}

pub(super) struct Queue {
    in_end: mpsc::Sender<Job>,
    /// The worker with the lock gets the next one. The others wait for the lock in a line.
    out_end: Mutex<mpsc::Receiver<Job>>,
}

impl Asked {
    /// Whether an enclave that has answered may be asked again.
    fn is_repeatable(&self) -> bool {
        match self.method {
            Method::GET | Method::HEAD => true,
            Method::POST => {
                let asked = self.target.path();
                let is_of_chain = || asked.strip_prefix(path::CHAIN).is_some_and(|rest| rest.starts_with('/'));
                let is_signing = [path::SIGN, path::GETH].contains(&asked) || is_of_chain();
                is_signing && is_repeatable(&self.body)
            }
            _ => false,
        }
    }
}

impl Broken {
    /// A connection that ended without a word.
    fn ended() -> Self {
        Self { reason: "it was closed".to_owned(), was_sent: true }
    }
}

impl From<HttpError> for Broken {
    fn from(error: HttpError) -> Self {
        let was_sent = !matches!(error, HttpError::Unsent(_));
        Self { reason: format!("{:#}", anyhow::Error::from(error)), was_sent }
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        let (in_end, out_end) = mpsc::channel(MAX_WAITING);
        Self { in_end, out_end: Mutex::new(out_end) }
    }

    /// Has a request answered. `wait` is for a connection; the connection has its own limit for the answer.
    pub(super) async fn ask(&self, asked: Asked, wait: Duration) -> Result<Answer, Unanswered> {
        let (asked, mut deadline, mut lost) = (Arc::new(asked), Instant::now() + wait, None);
        loop {
            let Ok(answer) = self.attempt(Arc::clone(&asked), deadline).await else {
                return Err(lost.map_or(Unanswered::NoEnclave(wait), Unanswered::Broken));
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(Broken { was_sent: false, .. }) => {}
                Err(Broken { reason, .. }) if lost.is_none() && asked.is_repeatable() => {
                    (deadline, lost) = (Instant::now() + wait, Some(reason));
                }
                Err(Broken { reason, .. }) => return Err(Unanswered::Broken(reason)),
            }
        }
    }

    /// On one connection, if one takes it in time.
    async fn attempt(&self, asked: Arc<Asked>, deadline: Instant) -> Result<Result<Answer, Broken>, ()> {
        let (started, has_started) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let waiting = async {
            // Without a receiver there is nobody to start it either.
            drop(self.in_end.send(Job { asked, started, answer }).await);
            has_started.await
        };
        match timeout_at(deadline, waiting).await {
            Ok(Ok(())) => Ok(answered.await.unwrap_or_else(|_| Err(Broken::ended()))),
            Ok(Err(_)) => Ok(Err(Broken::ended())),
            Err(_elapsed) => Err(()),
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

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use zeroize::Zeroizing;

    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    fn asked(method: Method, path: &'static str, body: &'static str) -> Asked {
        let (target, body) = (PathAndQuery::from_static(path), Bytes::from_static(body.as_bytes()));
        Asked { method, target, headers: HeaderMap::new(), body }
    }

    fn fine() -> Answer {
        Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: Zeroizing::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_nobody_takes_is_given_up_and_not_taken_later() {
        let queue = Queue::new();
        assert!(matches!(queue.ask(asked(Method::PUT, "/late", ""), WAIT).await, Err(Unanswered::NoEnclave(_))));
        let (answer, ()) = tokio::join!(queue.ask(asked(Method::PUT, "/", ""), WAIT), async {
            let started = queue.next().await.unwrap();
            assert_eq!(started.asked.target, "/");
            drop(started);
        });
        assert!(matches!(answer, Err(Unanswered::Broken(_))));
    }

    /// How many connections had a request that each of them failed.
    async fn failures(asked: Asked, was_sent: bool) -> (usize, Result<Answer, Unanswered>) {
        let (queue, mut count) = (Queue::new(), 0);
        let failing = async {
            while count < 5 {
                let Some(Started { answer, .. }) = queue.next().await else { break };
                count += 1;
                answer.send(Err(Broken { reason: "reset".to_owned(), was_sent })).unwrap_or_default();
            }
            let started = queue.next().await.unwrap();
            started.answer.send(Ok(fine())).unwrap_or_default();
            std::future::pending::<()>().await;
        };
        let answer = tokio::select! {
            answer = queue.ask(asked, WAIT) => answer,
            () = failing => unreachable!("it is pending"),
        };
        (count, answer)
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_sent_goes_to_the_next_connection() {
        let (count, answer) = failures(asked(Method::POST, "/keys", "{}"), false).await;
        assert!(count == 5 && answer.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_is_repeated_once_and_only_if_its_answer_is_the_same() {
        for (method, path, body, expected) in [
            (Method::POST, "/", "{\"transaction_payload\":{}}", 2),
            (Method::GET, "/health", "", 2),
            (Method::HEAD, "/health", "", 2),
            (Method::POST, "/", r#"{"jsonrpc":"2.0","method":"eth_signTransaction"}"#, 2),
            (Method::POST, "/chain/1/geth", r#"[{"jsonrpc":"2.0","method":"personal_sign"}]"#, 2),
            (Method::POST, "/", r#"{"jsonrpc":"2.0","method":"eth_sendTransaction"}"#, 1),
            (Method::POST, "/chain/1", r#"{"jsonrpc":"2.0","method":"eth_sendRawTransaction"}"#, 1),
            (Method::POST, "/", r#"{"jsonrpc":"2.0","method":"eth\u005fsendTransaction"}"#, 1),
            (
                Method::POST,
                "/",
                r#"[{"jsonrpc":"2.0","method":"personal_sign"},{"jsonrpc":"2.0","method":"eth_sendTransaction"}]"#,
                1,
            ),
            (Method::POST, "/keys", "{}", 1),
            (Method::POST, "/chains", "{}", 1),
            (Method::PUT, "/", "", 1),
        ] {
            let (count, answer) = failures(asked(method.clone(), path, body), true).await;
            assert_eq!(count, expected, "{method} {path} {body}");
            assert!(answer.is_err_and(|error| error.to_string().ends_with("may be lost: reset")));
        }
    }
}
