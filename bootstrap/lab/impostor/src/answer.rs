//! The answers that a gateway has to refuse.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};
use aws_nitro_enclaves_nsm_api::api::{Request, Response};
use aws_nitro_enclaves_nsm_api::driver::nsm_process_request;
use tunnel::binding::{Binding, kem_key_digest, sha256};
use tunnel::control::{self, Answer, Offer, PublicKey, ToGateway};
use tunnel::port::Cid;
use tunnel::preshared::Decapsulator;

/// A message of an enclave to its gateway, without its length: what [`control::decode`] takes.
const REPLAY_PATH: &str = "/config/replay";
const HONEST_PATH: &str = "/config/honest";
const NSM_PATH: &str = "/dev/nsm";

/// What is wrong with the answer.
pub(crate) enum Wrong {
    /// It is another enclave's, given to another offer.
    Time(Box<Answer>),
    /// Everything in it is true, but this is not the image that the gateway waits for.
    Image,
}

impl Wrong {
    /// What the image says: `/config/replay` has the answer to give, `/config/honest` is there or not.
    pub(crate) fn read() -> Result<Self> {
        match fs::read(REPLAY_PATH) {
            Ok(bytes) => {
                let ToGateway::Answer(answer) = control::decode(&bytes).context(REPLAY_PATH)?;
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

/// All that an orchestrator would do.
fn honest(offer: &Offer) -> Result<Answer> {
    // Half of all bytes are a point of the curve, and nobody looks: no handshake is to come of it.
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
