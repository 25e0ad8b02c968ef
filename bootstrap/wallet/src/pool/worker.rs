//! One connection of a proven enclave: it carries one request at a time. Without one, it asks for the enclave's health.

use std::fmt;
use std::time::Duration;

use attestation::Claims;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, Uri};
use signer_api::path;
use signer_api::request::MAX_BODY;
use tokio::time::{Instant, sleep_until, timeout};

use super::Pool;
use super::queue::{Asked, Broken, Started};
use super::table::Seat;
use crate::http::{Answer, Connection, Question};

/// A signed transaction is its payload and little else, in hex.
const MAX_ANSWER_LEN: usize = 2 * MAX_BODY;

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// By us, so that the enclave proves itself again.
    Renewed,
    /// By the enclave, or on the way.
    Closed,
    /// An exchange failed.
    Unhealthy(String),
    /// The enclave's image is not on the list any more.
    Untrusted(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Renewed => f.write_str("closed for a new proof"),
            Self::Closed => f.write_str("the enclave has closed the connection"),
            Self::Unhealthy(reason) => write!(f, "closed: {reason}"),
            Self::Untrusted(reason) => write!(f, "dropped, it is not allowed any more: {reason}"),
        }
    }
}

/// Works until the connection ends or has to.
pub(crate) async fn work(pool: &Pool, mut connection: Connection, claims: &Claims, seat: &Seat<'_>) -> End {
    tokio::select! {
        end = untrusted(pool, claims) => end,
        end = serve(pool, &mut connection, seat) => end,
    }
}

async fn serve(pool: &Pool, connection: &mut Connection, seat: &Seat<'_>) -> End {
    let renewal = Instant::now() + lifetime(pool.limits.renew, random());
    loop {
        let check = Instant::now() + pool.limits.check;
        let exchanged = tokio::select! {
            biased;
            () = connection.ended() => return End::Closed,
            () = sleep_until(renewal) => return End::Renewed,
            Some(started) = pool.queue.next() => {
                seat.count_request();
                request(pool, connection, started).await
            }
            () = sleep_until(check) => health(pool, connection).await,
        };
        if let Err(reason) = exchanged {
            return End::Unhealthy(reason);
        }
    }
}

/// Until the list of images changes and this one is not on it. Also at the start: it may have changed meanwhile.
async fn untrusted(pool: &Pool, claims: &Claims) -> End {
    let mut list = pool.trust.clone();
    loop {
        let trust = list.borrow_and_update().clone();
        if let Err(distrust) = trust.allows(claims) {
            return End::Untrusted(distrust.to_string());
        }
        if list.changed().await.is_err() {
            // Nothing changes any more.
            std::future::pending::<()>().await;
        }
    }
}

/// How long a connection lives: `most`, shortened at random by up to a quarter. Connections to an enclave are opened all
/// at once, and should not be renewed all at once.
fn lifetime(most: Duration, random: u32) -> Duration {
    most - (most / 4).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Without random bytes connections end together, which is not worth an error.
fn random() -> u32 {
    let mut random = [0; 4];
    match SystemRandom::new().fill(&mut random) {
        Ok(()) => u32::from_ne_bytes(random),
        Err(_unspecified) => 0,
    }
}

async fn request(pool: &Pool, connection: &mut Connection, started: Started) -> Result<(), String> {
    let Started { asked, answer: to } = started;
    let answer = ask(connection, &asked, pool.limits.answer).await;
    let result = answer.as_ref().map(|_answer| ()).map_err(|broken| broken.reason.clone());
    // The client may have gone.
    drop(to.send(answer));
    result
}

async fn ask(connection: &mut Connection, asked: &Asked, limit: Duration) -> Result<Answer, Broken> {
    let mut request = Request::new(Full::new(asked.body.clone()));
    *request.method_mut() = asked.method.clone();
    *request.uri_mut() = Uri::from(asked.target.clone());
    *request.headers_mut() = asked.headers.clone();
    match timeout(limit, connection.exchange(request, MAX_ANSWER_LEN)).await {
        Ok(answer) => answer.map_err(Broken::from),
        Err(_elapsed) => Err(Broken { reason: format!("no answer within {limit:?}"), was_sent: true }),
    }
}

async fn health(pool: &Pool, connection: &mut Connection) -> Result<(), String> {
    let (limit, path) = (pool.limits.health, path::HEALTH);
    let question = Question { method: Method::GET, path, headers: &[], body: Bytes::new(), max_answer: MAX_ANSWER_LEN };
    match timeout(limit, connection.ask(question)).await {
        // Whatever it is: a hub for a service has the answer of the service.
        Ok(Ok(_answer)) => Ok(()),
        Ok(Err(error)) => Err(format!("{:#}", anyhow::Error::from(error))),
        Err(_elapsed) => Err(format!("no answer within {limit:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_lives_for_three_quarters_of_its_time_at_least() {
        let most = Duration::from_secs(600);
        assert_eq!(lifetime(most, 0), most);
        assert_eq!(lifetime(most, u32::MAX), Duration::from_secs(450));
    }
}
