//! `lab record`: a gateway that records an enclave's answer, as a hostile parent can, to replay it later.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::timeout;
use tunnel::control::{self, Offer, PublicKey, ToEnclave, ToGateway};
use tunnel::message;
use tunnel::port::{Cid, Port};
use tunnel::preface::{Preface, Role};
use tunnel::vsock::{self, Stream};

/// An enclave without a gateway connects again within five seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which enclave to record, and what to offer.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// CID of the enclave
    cid: u32,
    /// The gateway's public key, so that only the nonce is wrong in the replay
    gateway: PublicKey,
    /// The enclave's addresses
    #[arg(required = true)]
    addresses: Vec<IpAddr>,
}

/// The enclave's answer to an offer with another nonce: the message without its length. Stop wg-server first.
///
/// # Errors
/// No answer in time.
pub(crate) async fn record(options: &Options) -> Result<Vec<u8>> {
    let answer = timeout(PATIENCE, listen(options)).await;
    answer.with_context(|| format!("wait for enclave {} to answer", options.cid))?
}

async fn listen(options: &Options) -> Result<Vec<u8>> {
    let listener = vsock::listen(Port::CONTROL)?;
    loop {
        let (mut stream, cid) = listener.accept().await?;
        if cid == Cid(options.cid) {
            return exchange(&mut stream, options).await;
        }
    }
}

async fn exchange(stream: &mut Stream, options: &Options) -> Result<Vec<u8>> {
    Preface::new(Role::Control).exchange(stream).await.context("exchange prefaces")?;
    let ipv4 = options.addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    let ipv6 = options.addresses.iter().find_map(|address| match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(*address),
    });
    let offer = Offer { nonce: *b"a nonce that the gateway made no", public_key: options.gateway, ipv4, ipv6 };
    control::write(stream, &ToEnclave::Offer(offer)).await.context("send the offer")?;
    let ToGateway::Answer(answer) = control::read(stream).await.context("read the answer")?;
    Ok(message::encode(&ToGateway::Answer(answer))?)
}
