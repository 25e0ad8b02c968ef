//! One control stream: the offer, the enclave's answer, the renewal of its keys, and the end.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tunnel::control::{self, ControlError, Offer, PublicKey, ToEnclave, ToGateway};

use crate::gateway::{Gateway, Opened};

/// From the offer to the answer. The enclave's NSM may take seconds for a document.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Messages are small: an enclave that does not read one hangs.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// The enclave starts its handshake at once. Until wg-server has seen it, the enclave's packets are dropped.
const FIRST_LOOK: Duration = Duration::from_millis(5);
/// The interval at which wg-server looks for the handshake of an enclave whose datagrams are lost.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Makes the enclave a peer and renews its keys until the stream ends. Returns the reason for the end.
pub(crate) async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    gateway: &Gateway,
    opened: &Opened,
) -> Result<String> {
    Session { gateway, opened }.run(&mut stream).await
}

struct Session<'a> {
    gateway: &'a Gateway,
    opened: &'a Opened,
}

impl Session<'_> {
    async fn run(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<String> {
        loop {
            let public_key = self.exchange(stream).await?;
            let due = Instant::now() + self.gateway.key_lifetime();
            tokio::select! {
                end = wait_for_end(stream) => return end,
                renew = self.until_renewal(public_key, due) => renew?,
            }
        }
    }

    /// Offers, verifies the answer, and returns the key that the enclave has proved.
    async fn exchange(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<PublicKey> {
        let addresses = self.opened.addresses;
        let public_key = self.gateway.public_key();
        let offer = Offer { nonce: rand::random(), public_key, ipv4: addresses.ipv4, ipv6: addresses.ipv6 };
        write(stream, &ToEnclave::Offer(offer.clone())).await.context("send the offer")?;
        let answer = timeout(ANSWER_DEADLINE, control::read::<ToGateway, _>(stream)).await;
        let ToGateway::Answer(answer) = answer.context("wait for the answer")?.context("read the answer")?;
        let public_key = answer.public_key;
        match self.gateway.answer(self.opened, &offer, answer).await? {
            Ok(ciphertext) => {
                write(stream, &ToEnclave::Accepted(ciphertext)).await.context("send the acceptance")?;
                Ok(public_key)
            }
            Err(reason) => {
                write(stream, &ToEnclave::Refused(reason.clone())).await.context("send the refusal")?;
                bail!("refused: {reason}")
            }
        }
    }

    /// Waits until the key must be replaced. Its lifetime starts with its proof, with or without a handshake.
    async fn until_renewal(&self, public_key: PublicKey, due: Instant) -> Result<()> {
        let asked = async {
            if self.until_handshake(public_key).await? {
                self.opened.stream.renewal_requested().await;
            }
            Ok::<_, anyhow::Error>("requested")
        };
        let reason = tokio::select! {
            () = sleep_until(due) => "key_lifetime has passed",
            asked = asked => asked?,
        };
        tracing::info!(enclave = %self.opened.id, reason, "renewing the keys");
        Ok(())
    }

    /// Whether the handshake came before new keys were requested. If the kernel has lost the key, there can be no handshake.
    async fn until_handshake(&self, public_key: PublicKey) -> Result<bool> {
        let mut pause = FIRST_LOOK;
        while !self.gateway.confirm(self.opened.id, public_key).await? {
            tokio::select! {
                () = sleep(pause) => {}
                () = self.opened.stream.renewal_requested() => return Ok(false),
            }
            pause = (pause * 5 / 4).min(LAST_LOOK);
        }
        Ok(true)
    }
}

/// The enclave sends nothing between two offers.
async fn wait_for_end(stream: &mut (impl AsyncRead + Unpin)) -> Result<String> {
    match control::read::<ToGateway, _>(stream).await {
        Err(ControlError::Closed) => Ok("the enclave closed it".to_owned()),
        Err(error) => Err(error).context("wait for the end"),
        Ok(ToGateway::Answer(_)) => bail!("a second answer to one offer"),
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &ToEnclave) -> Result<()> {
    Ok(timeout(WRITE_DEADLINE, control::write(stream, message)).await??)
}
