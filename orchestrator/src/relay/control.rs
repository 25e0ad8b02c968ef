//! The control stream: hands the gateway's offers to PID 1, and PID 1's answers to the gateway.
//!
//! Its loss does not stop the data stream: wg0 and its session live on.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tokio::sync::watch;
use tokio::time::timeout;
use tunnel::control::{self, ToEnclave};
use tunnel::internal::ToRelay;
use tunnel::port::{Cid, Port};
use tunnel::preface::{Preface, Role};
use tunnel::vsock;

use super::retry::Retry;
use crate::link::Link;

/// For the connection, and once more for the preface.
const DEADLINE: Duration = Duration::from_secs(2);

/// For an offer, for our answer to go out, and for the verdict on it: the gateway has work to do in between.
const GATEWAY_DEADLINE: Duration = Duration::from_secs(10);

/// PID 1 answers in milliseconds, or holds offers back because there were too many.
const INIT_DEADLINE: Duration = Duration::from_secs(10);

/// An answer lets the gateway speak at once: without a data stream its first words would be lost.
const DATA_FIRST: Duration = Duration::from_secs(1);

/// Of a text that the parent wrote, this much goes on the console.
const MAX_REASON: usize = 600;

/// Dials, serves, and dials again; returns only when PID 1 has closed the link.
pub(super) async fn run(link: &Link, data_is_up: watch::Receiver<bool>) -> Result<Infallible> {
    let mut retry = Retry::new("control");
    loop {
        let mut stream = match dial().await {
            Ok(stream) => stream,
            Err(error) => {
                retry.pause(format_args!("{error:#}"), None).await;
                continue;
            }
        };
        let start = Instant::now();
        retry.connected(start);
        let mut session = Session { stream: &mut stream, link, data_is_up: data_is_up.clone() };
        let end = match session.serve().await {
            Err(End::Stream(end)) => end,
            Err(End::Link(end)) => return Err(end),
        };
        drop(stream);
        retry.pause(format_args!("{end:#}"), Some(start.elapsed())).await;
    }
}

async fn dial() -> Result<vsock::Stream> {
    let mut stream = vsock::connect(Cid::PARENT, Port::CONTROL, DEADLINE).await?;
    let exchange = Preface::new(Role::Control).exchange(&mut stream);
    timeout(DEADLINE, exchange).await.context("wait for the preface")?.context("exchange prefaces")?;
    Ok(stream)
}

/// One control stream.
struct Session<'a> {
    stream: &'a mut vsock::Stream,
    link: &'a Link,
    data_is_up: watch::Receiver<bool>,
}

/// Why a session ends.
enum End {
    /// Another stream may do better.
    Stream(anyhow::Error),
    /// Without PID 1 no stream is of use.
    Link(anyhow::Error),
}

impl Session<'_> {
    /// Passes messages on in both directions until something ends the stream.
    async fn serve(&mut self) -> Result<Infallible, End> {
        let mut message = self.read_in_time("wait for an offer").await?;
        loop {
            message = match message {
                ToEnclave::Offer(_) => {
                    self.answer(&message).await?;
                    self.read_in_time("wait for a verdict").await?
                }
                ToEnclave::Accepted(_) => {
                    self.pass_on(&message).await?;
                    // Nothing more is due: the stream is open for as long as the enclave is a peer.
                    self.read().await.map_err(End::Stream)?
                }
                ToEnclave::Refused(ref reason) => {
                    self.pass_on(&message).await?;
                    return Err(End::Stream(anyhow!("the gateway refuses this enclave: {}", printable(reason))));
                }
            }
        }
    }

    async fn read_in_time(&mut self, doing: &'static str) -> Result<ToEnclave, End> {
        let message = timeout(GATEWAY_DEADLINE, self.read()).await.context(doing).flatten();
        message.map_err(End::Stream)
    }

    async fn read(&mut self) -> Result<ToEnclave> {
        Ok(control::read(self.stream).await?)
    }

    async fn pass_on(&self, message: &ToEnclave) -> Result<(), End> {
        self.link.send(message).await.context("tell PID 1").map_err(End::Link)
    }

    /// Has PID 1 answer an offer.
    async fn answer(&mut self, offer: &ToEnclave) -> Result<(), End> {
        // Its outcome is no matter: an answer without a data stream only costs the gateway's first handshake.
        drop(timeout(DATA_FIRST, self.data_is_up.wait_for(|is_up| *is_up)).await);
        self.pass_on(offer).await?;
        let reply = timeout(INIT_DEADLINE, self.link.receive()).await.context("wait for PID 1").map_err(End::Stream)?;
        let answer = match reply.context("hear from PID 1").map_err(End::Link)? {
            Some(ToRelay::Send(answer)) => answer,
            Some(ToRelay::Rejected) => {
                return Err(End::Stream(anyhow!("the gateway's offer does not fit the measured configuration")));
            }
            None => return Err(End::Link(anyhow!("PID 1 has closed the link"))),
        };
        let sent = timeout(GATEWAY_DEADLINE, control::write(self.stream, &answer)).await.context("send the answer");
        sent.and_then(|sent| Ok(sent?)).map_err(End::Stream)
    }
}

/// The parent's text without anything that a terminal would obey, and not too much of it.
fn printable(text: &str) -> String {
    text.chars().take(MAX_REASON).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parents_text_is_short_and_harmless() {
        assert_eq!(printable("no\nlease \u{1b}[2J"), "no\\nlease \\u{1b}[2J");
        assert_eq!(printable(&"x".repeat(1000)).len(), MAX_REASON);
    }
}
