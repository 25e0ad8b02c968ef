//! One control stream: the offer, the enclave's answer, and the wait for its end.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::timeout;
use tunnel::control::{self, ControlError, Offer, ToEnclave, ToGateway};
use tunnel::port::Cid;
use tunnel::vsock::Stream;

use crate::gateway::{Admitted, Gateway};

/// From the offer to the answer; the enclave's NSM may take seconds for a document.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// A message is small: an enclave that does not take it is stuck.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// Makes the enclave a peer and stays until its stream ends or is replaced; says why in words.
pub(crate) async fn serve(mut stream: Stream, cid: Cid, gateway: &Gateway, admitted: &Admitted) -> Result<String> {
    tokio::select! {
        () = admitted.replaced.cancelled() => Ok("a newer stream took over".to_owned()),
        end = exchange(&mut stream, cid, gateway, admitted) => end,
    }
}

async fn exchange(stream: &mut Stream, cid: Cid, gateway: &Gateway, admitted: &Admitted) -> Result<String> {
    let addresses = admitted.admission.addresses;
    let offer =
        Offer { nonce: rand::random(), public_key: gateway.public_key(), ipv4: addresses.ipv4, ipv6: addresses.ipv6 };
    write(stream, &ToEnclave::Offer(offer)).await.context("send the offer")?;
    let answer = timeout(ANSWER_DEADLINE, control::read::<ToGateway, _>(stream)).await;
    let ToGateway::Answer(answer) = answer.context("wait for the answer")?.context("read the answer")?;
    if let Err(refusal) = gateway.answer(cid, admitted, answer.public_key).await? {
        write(stream, &ToEnclave::Refused(refusal.to_string())).await.context("send the refusal")?;
        bail!("refused: {refusal}");
    }
    write(stream, &ToEnclave::Accepted).await.context("send the acceptance")?;
    tracing::info!(%cid, public_key = %answer.public_key, addresses = ?addresses.all(), "the enclave is a peer");
    match control::read::<ToGateway, _>(stream).await {
        Err(ControlError::Closed) => Ok("the enclave closed it".to_owned()),
        Err(error) => Err(error).context("wait for the end"),
        Ok(ToGateway::Answer(_)) => bail!("a second answer to one offer"),
    }
}

async fn write(stream: &mut Stream, message: &ToEnclave) -> Result<()> {
    Ok(timeout(WRITE_DEADLINE, control::write(stream, message)).await??)
}
