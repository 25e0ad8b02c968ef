//! The answers that a gateway has to refuse.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};
use aws_nitro_enclaves_nsm_api::api::{Request, Response};
use aws_nitro_enclaves_nsm_api::driver::nsm_process_request;
use binding::sha256;
use binding::tunnel::{Binding, kem_key_digest};
use tunnel::control::{Answer, Offer, PublicKey, ToGateway};
use tunnel::message;
use tunnel::port::Cid;
use tunnel::preshared::Decapsulator;

/// A message of an enclave to its gateway, without its length: what [`message::decode`] takes.
const REPLAY_PATH: &str = "/config/replay";
const HONEST_PATH: &str = "/config/honest";
const NSM_PATH: &str = "/dev/nsm";

/// The flaw of the answer.
pub(crate) enum Wrong {
    /// A replay: another enclave's answer to an earlier offer.
    Time(Box<Answer>),
    /// A genuine answer of an image that the gateway does not accept.
    Image,
}

impl Wrong {
    /// Reads the image's configuration: `/config/replay` has the answer to replay, or `/config/honest` exists.
    pub(crate) fn read() -> Result<Self> {
        match fs::read(REPLAY_PATH) {
            Ok(bytes) => {
                let ToGateway::Answer(answer) = message::decode(&bytes).context(REPLAY_PATH)?;
                Ok(Self::Time(Box::new(answer)))
            }
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context(REPLAY_PATH),
            Err(_) if fs::exists(HONEST_PATH).context(HONEST_PATH)? => Ok(Self::Image),
            Err(_) => bail!("neither {REPLAY_PATH} nor {HONEST_PATH}"),
        }
    }

    /// The answer to this offer.
    pub(crate) fn answer(&self, offer: &Offer) -> Result<Answer> {
        match self {
            Self::Time(answer) => Ok(Answer::clone(answer)),
            Self::Image => honest(offer),
        }
    }
}

/// The answer that an orchestrator would give.
fn honest(offer: &Offer) -> Result<Answer> {
    // Any bytes will do: there must not be a handshake with this key.
    let public_key = PublicKey(rand::random());
    let (_, kem_key) = Decapsulator::generate()?;
    let binding = Binding {
        public_key,
        kem_key: kem_key_digest(&kem_key),
        tls_key: None,
        config: sha256(b""),
        gateway: offer.public_key,
        cid: Cid(vsock::get_local_cid().context("ask for the context id")?),
    };
    let module = OpenOptions::new().read(true).write(true).open(NSM_PATH).context(NSM_PATH)?;
    let request = Request::Attestation {
        user_data: Some(binding.encode().to_vec().into()),
        nonce: Some(offer.nonce.to_vec().into()),
        public_key: None,
    };
    let response = nsm_process_request(module.as_raw_fd(), request);
    if let Response::Error(code) = response {
        bail!("{NSM_PATH}: no document: {code:?}");
    }
    let Response::Attestation { document } = response else {
        bail!("{NSM_PATH}: an answer to another request");
    };
    Ok(Answer { public_key, kem_key, document })
}
