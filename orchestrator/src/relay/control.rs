//! The control stream: hands the gateway's offers to PID 1, and PID 1's answers to the gateway.
//!
//! Its loss does not stop the data stream: wg0 and its session live on.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tokio::sync::watch;
use tokio::time::timeout;
use tunnel::control::{self, Offer, ToEnclave, ToGateway};
use tunnel::port::{Cid, Port};
use tunnel::preface::{Preface, Role};
use tunnel::vsock;

use super::retry::Retry;
use crate::link::{Link, State, Stream, ToInit, ToRelay};

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

/// Dials, serves, and dials again; returns only when PID 1 is gone.
pub(super) async fn run(link: &Link, data_is_up: watch::Receiver<bool>) -> Result<()> {
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
        link.send(&ToInit::Stream(Stream::Control, State::Up)).await.context("tell PID 1")?;
        let mut session = Session { stream: &mut stream, link, data_is_up: data_is_up.clone() };
        let Err(end) = session.serve().await;
        drop(stream);
        link.send(&ToInit::Stream(Stream::Control, State::Down)).await.context("tell PID 1")?;
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

impl Session<'_> {
    /// Answers offers until something ends the stream.
    async fn serve(&mut self) -> Result<Infallible> {
        let mut message = timeout(GATEWAY_DEADLINE, self.read()).await.context("wait for an offer")??;
        loop {
            message = match message {
                ToEnclave::Offer(offer) => {
                    self.answer(offer).await?;
                    timeout(GATEWAY_DEADLINE, self.read()).await.context("wait for a verdict")??
                }
                ToEnclave::Accepted(ciphertext) => {
                    self.link.send(&ToInit::Accepted(ciphertext)).await.context("tell PID 1")?;
                    // Nothing more is due: the stream is open for as long as the enclave is a peer.
                    self.read().await?
                }
                ToEnclave::Refused(reason) => {
                    self.link.send(&ToInit::Refused).await.context("tell PID 1")?;
                    bail!("the gateway refuses this enclave: {}", printable(&reason));
                }
            }
        }
    }

    async fn read(&mut self) -> Result<ToEnclave> {
        Ok(control::read(self.stream).await?)
    }

    async fn answer(&mut self, offer: Offer) -> Result<()> {
        // Its outcome is no matter: an answer without a data stream only costs the gateway's first handshake.
        drop(timeout(DATA_FIRST, self.data_is_up.wait_for(|is_up| *is_up)).await);
        self.link.send(&ToInit::Offer(offer)).await.context("tell PID 1")?;
        let reply = timeout(INIT_DEADLINE, self.link.receive()).await.context("wait for PID 1")?;
        match reply.context("hear from PID 1")? {
            Some(ToRelay::Answer(answer)) => {
                let answer = ToGateway::Answer(*answer);
                timeout(GATEWAY_DEADLINE, control::write(self.stream, &answer)).await.context("send the answer")??;
                Ok(())
            }
            Some(ToRelay::Rejected) => Err(anyhow!("the gateway's offer does not fit the measured configuration")),
            None => Err(anyhow!("PID 1 has closed the link")),
        }
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
