//! The hub's side of the proof: a nonce, and the verdict on the document that answers it.

use std::time::SystemTime;

use attestation::Claims;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use binding::home::Binding;
use home::exchange::{ExchangeError, receive, send};
use home::message::{Kind, Message, Nonce};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;

use crate::trust::{Distrust, Trust};

/// What a document has proved.
pub(super) struct Proof {
    pub(super) claims: Claims,
    pub(super) binding: Binding,
}

/// Why there is no proof.
#[derive(Debug, Error)]
pub(super) enum ProofError {
    #[error("the system has no random numbers for a nonce")]
    Random,
    #[error("the TLS exporter of the connection")]
    Exporter(#[source] rustls::Error),
    #[error("the proof")]
    Exchange(#[from] ExchangeError),
    #[error("{0}")]
    Untrusted(Box<Distrust>),
}

/// Asks the other end for a document, judges it, and tells it the verdict.
pub(super) async fn verify<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut TlsStream<S>,
    trust: &Trust,
) -> Result<Proof, ProofError> {
    let mut nonce: Nonce = [0; 32];
    SystemRandom::new().fill(&mut nonce).map_err(|_unspecified| ProofError::Random)?;
    let exporter = home::exporter(stream.get_ref().1, &nonce).map_err(ProofError::Exporter)?;
    send(stream, &Message::Nonce(nonce)).await?;
    let expected = "a document";
    let document = match receive(stream, &[Kind::Document], expected).await? {
        Message::Document(document) => document,
        other @ (Message::Nonce(_) | Message::Accepted | Message::Refused(_)) => {
            return Err(ExchangeError::Unexpected { actual: other.kind(), expected }.into());
        }
    };
    match trust.judge_call(&document, &nonce, &exporter, SystemTime::now()) {
        Ok((claims, binding)) => {
            send(stream, &Message::Accepted).await?;
            Ok(Proof { claims, binding })
        }
        Err(distrust) => {
            send(stream, &Message::refusal(&distrust.to_string())).await?;
            Err(ProofError::Untrusted(Box::new(distrust)))
        }
    }
}
