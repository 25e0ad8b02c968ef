//! The control stream: passes the gateway's messages to PID 1, and PID 1's answers to the gateway.
//!
//! When it ends, the data stream goes on: wg0 keeps its session.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tunnel::control::{self, ToEnclave};
use tunnel::internal::ToRelay;

use crate::link::Link;

/// For an offer, for our answer to be written, and for the verdict: the gateway has work to do in between.
const GATEWAY_DEADLINE: Duration = Duration::from_secs(10);

/// PID 1 replies in milliseconds, except while the signer starts or after too many messages.
const INIT_DEADLINE: Duration = Duration::from_secs(10);

/// After an answer the handshake follows at once: without a data stream its first datagrams would be lost.
const DATA_FIRST: Duration = Duration::from_secs(1);

/// The longest text of the parent that goes to the console, in characters.
const MAX_REASON: usize = 600;

/// What outlives each control stream.
pub(super) struct Control {
    link: Link,
    data_is_up: watch::Receiver<bool>,
    /// Offers that PID 1 has not replied to yet.
    unanswered: usize,
}

/// One control stream.
struct Session<'a, S> {
    stream: S,
    control: &'a mut Control,
}

/// Why a session ends.
enum End {
    /// Dial again.
    Stream(anyhow::Error),
    /// PID 1 has closed the link: exit.
    Link(anyhow::Error),
}

impl Control {
    pub(super) const fn new(link: Link, data_is_up: watch::Receiver<bool>) -> Self {
        Self { link, data_is_up, unanswered: 0 }
    }

    /// Passes messages on until the stream ends; returns why it ended.
    ///
    /// # Errors
    /// PID 1 has closed the link.
    pub(super) async fn serve(&mut self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<String> {
        let Err(end) = Session { stream, control: self }.serve().await;
        match end {
            End::Stream(end) => Ok(format!("{end:#}")),
            End::Link(end) => Err(end),
        }
    }

    /// PID 1's reply to the last offer. It replies to every offer in order, so earlier replies are to offers of streams
    /// that have ended.
    async fn reply(&mut self) -> io::Result<Option<ToRelay>> {
        loop {
            let reply = self.link.receive().await?;
            self.unanswered = self.unanswered.saturating_sub(1);
            if self.unanswered == 0 || reply.is_none() {
                return Ok(reply);
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
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
        Ok(control::read(&mut self.stream).await?)
    }

    async fn pass_on(&self, message: &ToEnclave) -> Result<(), End> {
        self.control.link.send(message).await.context("send to PID 1").map_err(End::Link)
    }

    /// Has PID 1 answer an offer.
    async fn answer(&mut self, offer: &ToEnclave) -> Result<(), End> {
        // A timeout is not an error: an answer without a data stream only costs the first handshake.
        drop(timeout(DATA_FIRST, self.control.data_is_up.wait_for(|is_up| *is_up)).await);
        self.pass_on(offer).await?;
        self.control.unanswered += 1;
        let reply = timeout(INIT_DEADLINE, self.control.reply())
            .await
            .context("wait for PID 1's reply")
            .map_err(End::Stream)?;
        let answer = match reply.context("receive from PID 1").map_err(End::Link)? {
            Some(ToRelay::Send(answer)) => answer,
            Some(ToRelay::Rejected) => {
                return Err(End::Stream(anyhow!("the gateway's offer does not fit the measured configuration")));
            }
            None => return Err(End::Link(anyhow!("PID 1 has closed the link"))),
        };
        let sent =
            timeout(GATEWAY_DEADLINE, control::write(&mut self.stream, &answer)).await.context("send the answer");
        sent.and_then(|sent| Ok(sent?)).map_err(End::Stream)
    }
}

/// The beginning of a text that the parent wrote, with control characters escaped.
fn printable(text: &str) -> String {
    text.chars().take(MAX_REASON).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tunnel::control::{Answer, KemKey, Offer, PublicKey, ToGateway};

    use super::*;
    use crate::link;

    fn offer(nonce: u8) -> ToEnclave {
        ToEnclave::Offer(Offer { nonce: [nonce; 32], public_key: PublicKey([1; 32]), ipv4: None, ipv6: None })
    }

    fn answer(document: u8) -> ToGateway {
        let (public_key, kem_key) = (PublicKey([2; 32]), KemKey([3; 1184]));
        ToGateway::Answer(Answer { public_key, kem_key, document: vec![document] })
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_comes_after_its_stream_has_ended_is_not_given_to_the_next_offer() {
        let (ours, theirs) = link::pair().unwrap();
        let (init, (_is_up, data_is_up)) = (Link::new(ours).unwrap(), watch::channel(true));
        let mut control = Control::new(Link::new(theirs).unwrap(), data_is_up);

        let (mut gateway, stream) = duplex(4096);
        control::write(&mut gateway, &offer(1)).await.unwrap();
        assert_eq!(control.serve(stream).await.unwrap(), "wait for PID 1's reply: deadline has elapsed");

        for document in [1, 2] {
            init.send(&ToRelay::Send(answer(document))).await.unwrap();
        }
        let (mut gateway, stream) = duplex(4096);
        control::write(&mut gateway, &offer(2)).await.unwrap();
        let gateway = async move { control::read::<ToGateway, _>(&mut gateway).await.unwrap() };
        let (_end, answered) = tokio::join!(control.serve(stream), gateway);
        assert_eq!(answered, answer(2));
    }

    #[test]
    fn the_parents_text_is_cut_and_escaped() {
        assert_eq!(printable("no\nlease \u{1b}[2J"), "no\\nlease \\u{1b}[2J");
        assert_eq!(printable(&"x".repeat(1000)).len(), MAX_REASON);
    }
}
