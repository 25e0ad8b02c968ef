//! Whether a document makes a connection the enclave's. No I/O.

use std::time::SystemTime;

use attestation::{At, Claims, Measurements, Pcr, Policy, PolicyError, TrustRoot, Violation};
use binding::BindingError;
use binding::signer::Binding;
use thiserror::Error;

/// A number that is used once: it makes a document one that cannot be older than the question.
pub type Nonce = [u8; 32];

/// Whom to believe, and what.
#[derive(Clone, Debug)]
pub struct Trust {
    root: TrustRoot,
    policy: Policy,
}

/// Why there is no [`Trust`].
#[derive(Debug, Error)]
pub enum TrustError {
    /// Nothing says what is to run in the enclave.
    #[error(
        "nothing says which enclave is right: name the measurements of its image, or the values of PCR0, PCR1 or PCR8"
    )]
    Empty,
    /// A value that means nothing.
    #[error(transparent)]
    Register(#[from] PolicyError),
}

/// What came of a document.
#[derive(Debug)]
pub struct Judgement {
    /// Absent unless the document is genuine: then nothing in it may be believed.
    pub claims: Option<Claims>,
    /// Right, with what the document binds; or why it is refused.
    pub verdict: Result<Binding, Distrust>,
}

/// Why a connection is not the enclave's.
#[derive(Debug, Error)]
pub enum Distrust {
    /// Not genuine.
    #[error("the attestation document: {0}")]
    Document(attestation::Error),
    /// Genuine, and of another enclave.
    #[error("{0}")]
    Enclave(Violation),
    /// An old document, or somebody else's.
    #[error("the attestation document answers another nonce, {}, expected {}: it is replayed or stale", hex(.actual), hex(.expected))]
    Nonce {
        /// The document's.
        actual: Vec<u8>,
        /// This connection's.
        expected: Nonce,
    },
    /// Of an enclave that binds something else, or nothing.
    #[error("the attestation document's user_data: {0}")]
    Binding(BindingError),
    /// The document is right, and the connection is not the enclave's.
    #[error(
        "the attestation document binds TLS key {}, and this connection's is {}: it ends at somebody who relays the enclave's documents",
        hex(.bound), hex(.actual)
    )]
    TlsKey {
        /// The document's.
        bound: [u8; 32],
        /// The connection's.
        actual: [u8; 32],
    },
}

impl Trust {
    /// Believes in enclaves of any of `images`, whose other registers have one of the values that are given; as `root` says.
    ///
    /// # Errors
    /// Registers without a meaning, and neither images nor values for PCR0, PCR1 or PCR8.
    pub fn new(
        root: TrustRoot,
        images: impl IntoIterator<Item = (String, Measurements)>,
        values: impl IntoIterator<Item = (u8, Pcr)>,
    ) -> Result<Self, TrustError> {
        let mut policy = Policy::new();
        for (label, image) in images {
            policy.allow_image(label, image);
        }
        for (index, value) in values {
            policy.allow(index, value)?;
        }
        if policy.is_empty() { Err(TrustError::Empty) } else { Ok(Self { root, policy }) }
    }

    /// Whose documents are genuine.
    #[must_use]
    pub fn root(&self) -> &TrustRoot {
        &self.root
    }

    /// Judges the document that came over the connection whose other end holds `tls_key`, as an answer to `nonce`.
    #[must_use]
    pub fn judge(&self, document: &[u8], nonce: &Nonce, tls_key: &[u8; 32], now: SystemTime) -> Judgement {
        match attestation::verify(document, &self.root, At::Time(now)) {
            Ok(claims) => {
                let verdict = self.verdict(&claims, nonce, tls_key);
                Judgement { claims: Some(claims), verdict }
            }
            Err(error) => Judgement { claims: None, verdict: Err(Distrust::Document(error)) },
        }
    }

    fn verdict(&self, claims: &Claims, nonce: &Nonce, tls_key: &[u8; 32]) -> Result<Binding, Distrust> {
        self.policy.check(claims).map_err(Distrust::Enclave)?;
        let actual = claims.nonce.as_deref().unwrap_or_default();
        if actual != nonce {
            return Err(Distrust::Nonce { actual: actual.to_vec(), expected: *nonce });
        }
        let binding = Binding::decode(claims.user_data.as_deref().unwrap_or_default()).map_err(Distrust::Binding)?;
        if binding.tls_key != *tls_key {
            return Err(Distrust::TlsKey { bound: binding.tls_key, actual: *tls_key });
        }
        Ok(binding)
    }
}

/// In lower case; `none` for nothing.
pub(crate) fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() { "none".to_owned() } else { const_hex::encode(bytes) }
}
