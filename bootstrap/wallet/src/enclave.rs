//! The enclave behind a URL: a connection carries requests only after an attestation document has verified it.
//!
//! [`Unverified`] can request a document and nothing else. Once the document is verified, the same connection becomes an [`Enclave`],
//! which takes requests. Nothing reconnects.

mod again;
mod url;

use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};

use attestation::{Claims, Printable};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use binding::signer::Binding;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use kms::read_ciphertext;
use signer_api::answer::{ErrorAnswer, KeyAnswer, Refusal};
use signer_api::path;
use signer_api::request::MAX_BODY;
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tracing::info;
use zeroize::Zeroizing;

use crate::http::{Answer, Connection, HttpError, Question};
use crate::tls::{self, ClientIdentity};
use crate::trust::{Distrust, Judgement, Nonce, Trust, hex};

pub use url::{EnclaveUrl, UrlError};

/// For TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The signer waits 20 s for KMS and 10 s for a body; this is more than all of it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an enclave may leave bytes of a connection without an acknowledgement. Its kernel sends them, however long the answer takes:
/// so a request to an enclave that has gone ends long before the time for its answer.
const SILENCE: Duration = Duration::from_secs(10);
/// A signed transaction is its payload and little else, in hex.
const MAX_ANSWER_LEN: usize = 2 * MAX_BODY;
/// A document of 12,288 bytes in base64, in JSON.
const MAX_DOCUMENT_ANSWER_LEN: usize = 32 << 10;

/// A connection to a server whose document has not been verified.
pub struct Unverified {
    url: EnclaveUrl,
    connection: Connection,
    tls_key: [u8; 32],
}

/// The enclave, on the connection that its document verified.
pub struct Enclave {
    url: EnclaveUrl,
    connection: Connection,
}

/// What the document of a connection has proved.
pub(crate) struct Proven {
    pub(crate) connection: Connection,
    pub(crate) claims: Claims,
    pub(crate) binding: Binding,
}

/// Why a request to the enclave failed.
#[derive(Debug, Error)]
pub enum EnclaveError {
    /// No TCP connection.
    #[error("connect to {url}")]
    Connect {
        /// Where.
        url: EnclaveUrl,
        /// Why.
        source: io::Error,
    },
    /// No TLS 1.3, or no proof of possession of the certificate's key.
    #[error("TLS handshake with {url}, expected TLS 1.3")]
    Handshake {
        /// Where.
        url: EnclaveUrl,
        /// Why.
        source: io::Error,
    },
    /// The system's generator failed.
    #[error("the system has no random numbers for a nonce")]
    Random,
    /// The connection ended, or does not carry HTTP.
    #[error("ask {url} for {path}")]
    Exchange {
        /// Where.
        url: EnclaveUrl,
        /// What.
        path: &'static str,
        /// Why.
        source: HttpError,
    },
    /// No response in time.
    #[error("{doing} {url}: no answer within {after:?}")]
    Silent {
        /// Where.
        url: EnclaveUrl,
        /// What it was asked for.
        doing: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// Not a signer's response.
    #[error("{url} answers {path} with {problem}")]
    Malformed {
        /// Where.
        url: EnclaveUrl,
        /// What it was asked for.
        path: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// Verification failed. No request was sent.
    #[error("{url} failed attestation, and no request was sent")]
    Untrusted {
        /// Where.
        url: EnclaveUrl,
        /// Why.
        source: Box<Distrust>,
    },
    /// The signer refused the request.
    #[error("{url} refuses {path} with HTTP {status}: {}", OneLine(.refusal))]
    Refused {
        /// Where.
        url: EnclaveUrl,
        /// What it was asked for.
        path: &'static str,
        /// The HTTP status.
        status: u16,
        /// Its words.
        refusal: Box<Refusal>,
    },
}

impl EnclaveError {
    /// Whether another client certificate might succeed. Nothing has been signed then.
    #[must_use]
    pub fn may_be_of_the_certificate(&self) -> bool {
        match self {
            Self::Handshake { .. } => true,
            // A client of TLS 1.3 is done before its certificate is judged: the first answer is the verdict, or a reset
            // that overtakes it.
            Self::Exchange { path, source: HttpError::Protocol(_) | HttpError::Unsent(_), .. } => {
                *path == path::ATTESTATION
            }
            Self::Refused { status, refusal, .. } => *status == 403 && refusal.code == "forbidden",
            Self::Connect { .. }
            | Self::Random
            | Self::Exchange { .. }
            | Self::Silent { .. }
            | Self::Malformed { .. }
            | Self::Untrusted { .. } => false,
        }
    }
}

impl Unverified {
    /// Connects, and learns which key the server holds.
    ///
    /// # Errors
    /// No TCP connection, no TLS 1.3, or a server without its certificate's key.
    pub async fn connect(url: &EnclaveUrl, identity: Option<&ClientIdentity>) -> Result<Self, EnclaveError> {
        let silent = |_elapsed| EnclaveError::Silent { url: url.clone(), doing: "connect to", after: CONNECT_TIMEOUT };
        timeout(CONNECT_TIMEOUT, Self::shake_hands(url, identity)).await.map_err(silent)?
    }

    async fn shake_hands(url: &EnclaveUrl, identity: Option<&ClientIdentity>) -> Result<Self, EnclaveError> {
        let connecting = |source| EnclaveError::Connect { url: url.clone(), source };
        let handshaking = |source| EnclaveError::Handshake { url: url.clone(), source };
        let stream = TcpStream::connect((url.host(), url.port())).await.map_err(connecting)?;
        stream.set_nodelay(true).and_then(|()| notice_silence(&stream)).map_err(connecting)?;
        let (stream, tls_key) = tls::connect(stream, url.server_name(), identity).await.map_err(handshaking)?;
        let connection = Connection::new(stream, url.authority()).await;
        let connection =
            connection.map_err(|source| EnclaveError::Exchange { url: url.clone(), path: "HTTP/1.1", source })?;
        Ok(Self { url: url.clone(), connection, tls_key })
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the server's key.
    #[must_use]
    pub fn tls_key(&self) -> &[u8; 32] {
        &self.tls_key
    }

    /// Requests a document with a fresh nonce and verifies it.
    ///
    /// # Errors
    /// No document. The verdict on a document is in the [`Judgement`].
    pub async fn judge(&mut self, trust: &Trust) -> Result<Judgement, EnclaveError> {
        let mut nonce: Nonce = [0; 32];
        SystemRandom::new().fill(&mut nonce).map_err(|_unspecified| EnclaveError::Random)?;
        let document = self.document(&nonce).await?;
        Ok(trust.judge(&document, &nonce, &self.tls_key, SystemTime::now()))
    }

    async fn document(&mut self, nonce: &Nonce) -> Result<Vec<u8>, EnclaveError> {
        let question = Question {
            method: Method::GET,
            path: &format!("{}?nonce={}", path::ATTESTATION, hex(nonce)),
            headers: &[("accept", "application/json")],
            body: Bytes::new(),
            max_answer: MAX_DOCUMENT_ANSWER_LEN,
        };
        let answer = ask(&self.url, &mut self.connection, path::ATTESTATION, question).await?;
        attestation::decode(&answer).map_err(|error| EnclaveError::Malformed {
            url: self.url.clone(),
            path: path::ATTESTATION,
            problem: format!("no attestation document: {error}"),
        })
    }
}

impl Enclave {
    /// Connects, and verifies that the server is the enclave.
    ///
    /// # Errors
    /// As with [`Unverified`]; and [`EnclaveError::Untrusted`] if verification fails.
    pub async fn connect(
        url: &EnclaveUrl,
        identity: Option<&ClientIdentity>,
        trust: &Trust,
    ) -> Result<Self, EnclaveError> {
        let Proven { connection, .. } = prove(url, identity, trust).await?;
        Ok(Self { url: url.clone(), connection })
    }

    /// Sends a signing request, and returns the response; both are JSON, see `signer_api`. The request is zeroed once it is sent.
    ///
    /// # Errors
    /// No response, or a refusal.
    pub async fn sign(&mut self, request: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, EnclaveError> {
        self.post(path::SIGN, request).await
    }

    /// Generates a key in the enclave that only this enclave can use.
    ///
    /// # Errors
    /// No response, a refusal, or a response without a key.
    pub async fn generate_key(&mut self) -> Result<GeneratedKey, EnclaveError> {
        let answer = self.post(path::KEYS, Zeroizing::new(b"{}".to_vec())).await?;
        let malformed = |problem: String| EnclaveError::Malformed { url: self.url.clone(), path: path::KEYS, problem };
        let answer: KeyAnswer = serde_json::from_slice(&answer)
            .map_err(|error| malformed(format!("no key ({error}), expected \"address\" and \"encrypted_key\"")))?;
        match read_ciphertext(&answer.encrypted_key) {
            Ok(ciphertext) => Ok(GeneratedKey { address: answer.address, ciphertext }),
            Err(error) => Err(malformed(format!("an encrypted_key that {error}"))),
        }
    }

    async fn post(&mut self, path: &'static str, body: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, EnclaveError> {
        let headers = &[("content-type", "application/json")];
        let body = Bytes::from_owner(body);
        let question = Question { method: Method::POST, path, headers, body, max_answer: MAX_ANSWER_LEN };
        ask(&self.url, &mut self.connection, path, question).await
    }
}

/// Connects, and verifies that the server is the enclave.
pub(crate) async fn prove(
    url: &EnclaveUrl,
    identity: Option<&ClientIdentity>,
    trust: &Trust,
) -> Result<Proven, EnclaveError> {
    let mut unverified = Unverified::connect(url, identity).await?;
    let Judgement { claims, verdict } = unverified.judge(trust).await?;
    let Unverified { url, connection, .. } = unverified;
    match verdict {
        Ok(binding) => {
            let claims = claims.expect("a verdict without an error is on the claims of a genuine document");
            Ok(Proven { connection, claims, binding })
        }
        Err(distrust) => Err(EnclaveError::Untrusted { url, source: Box::new(distrust) }),
    }
}

/// A key that the enclave generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedKey {
    /// Its account's address, as the enclave reports it.
    pub address: String,
    /// KMS decrypts it, for the enclave only.
    pub ciphertext: Vec<u8>,
}

/// Sends a request, and repeats it for as long as the signer is busy, after the time that it names.
async fn ask(
    url: &EnclaveUrl,
    connection: &mut Connection,
    path: &'static str,
    question: Question<'_>,
) -> Result<Zeroizing<Vec<u8>>, EnclaveError> {
    let mut first_answer = None;
    loop {
        let silent = |_elapsed| EnclaveError::Silent { url: url.clone(), doing: "ask", after: ANSWER_TIMEOUT };
        let answer = timeout(ANSWER_TIMEOUT, connection.ask(question.clone())).await.map_err(silent)?;
        let answer = answer.map_err(|source| EnclaveError::Exchange { url: url.clone(), path, source })?;
        if answer.status == StatusCode::OK {
            return Ok(answer.body);
        }
        let waited = first_answer.get_or_insert_with(Instant::now).elapsed();
        let Some(wait) = again::wait(answer.status, &answer.headers, waited) else {
            return Err(refused(url, path, &answer));
        };
        info!(%url, path, status = answer.status.as_u16(), ?wait, "busy, retrying after this time");
        sleep(wait).await;
    }
}

fn refused(url: &EnclaveUrl, path: &'static str, answer: &Answer) -> EnclaveError {
    let status = answer.status.as_u16();
    match serde_json::from_slice::<ErrorAnswer>(&answer.body) {
        Ok(ErrorAnswer { error }) => EnclaveError::Refused { url: url.clone(), path, status, refusal: Box::new(error) },
        Err(_) => {
            let problem = format!("HTTP {status} without a reason, expected a signer at this URL");
            EnclaveError::Malformed { url: url.clone(), path, problem }
        }
    }
}

/// A refusal on one line, whatever the other end says.
struct OneLine<'a>(&'a Refusal);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { code, message, field } = self.0;
        write!(f, "{}: {}", Printable(code), Printable(message))?;
        match field {
            Some(field) => write!(f, " (field {})", Printable(field)),
            None => Ok(()),
        }
    }
}

/// Ends the connection after [`SILENCE`] (tcp(7): `TCP_USER_TIMEOUT`), whether bytes are under way or an answer is waited for.
fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE / 2).with_interval(SILENCE / 4))?;
    socket.set_tcp_user_timeout(Some(SILENCE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_enclave_that_has_gone_is_noticed_before_the_time_for_its_answer_is_over() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        notice_silence(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert_eq!((socket.tcp_user_timeout().unwrap(), socket.keepalive().unwrap()), (Some(SILENCE), true));
        assert_eq!(socket.tcp_keepalive_time().unwrap(), SILENCE / 2);
    }

    #[tokio::test]
    async fn a_connection_that_ends_is_of_the_certificate_only_before_anything_was_asked() {
        for (path, expected) in [(path::ATTESTATION, true), (path::SIGN, false)] {
            let (client, server) = tokio::io::duplex(64);
            drop(server);
            let mut connection = Connection::new(client, "localhost").await.unwrap();
            let question = Question { method: Method::GET, path, headers: &[], body: Bytes::new(), max_answer: 1 };
            let url: EnclaveUrl = "https://localhost".parse().unwrap();
            let error = ask(&url, &mut connection, path, question).await.unwrap_err();
            assert!(matches!(error, EnclaveError::Exchange { .. }), "{error:?}");
            assert_eq!(error.may_be_of_the_certificate(), expected, "{path}");
        }
    }
}
