//! Verifies by a document that a connection terminates in the enclave: one to its signer, or one from it to a hub.
//! No I/O.

use std::time::SystemTime;

use attestation::{At, Claims, Measurements, Pcr, Policy, PolicyError, TrustRoot, Violation};
use binding::signer::Binding;
use binding::{BindingError, home};
use thiserror::Error;

/// A number that is used once, so that a document cannot be older than the request.
pub type Nonce = [u8; 32];

/// The trust root, and the enclaves that are allowed.
#[derive(Clone, Debug)]
pub struct Trust {
    root: TrustRoot,
    policy: Policy,
}

/// Why there is no [`Trust`].
#[derive(Debug, Error)]
pub enum TrustError {
    /// No enclave is allowed.
    #[error("no enclave is allowed, expected the measurements of its image, or values of PCR0, PCR1 or PCR8")]
    Empty,
    /// A PCR or a value that identifies nothing.
    #[error(transparent)]
    Register(#[from] PolicyError),
}

/// The result of verification.
#[derive(Debug)]
pub struct Judgement {
    /// Absent unless the document is genuine: otherwise its claims prove nothing.
    pub claims: Option<Claims>,
    /// What the document binds; or why it is refused.
    pub verdict: Result<Binding, Distrust>,
}

/// Why a connection is not trusted.
#[derive(Debug, Error)]
pub enum Distrust {
    /// The document is not genuine.
    #[error("the attestation document: {0}")]
    Document(attestation::Error),
    /// The document is genuine, and of an enclave that is not allowed.
    #[error("{0}")]
    Enclave(Violation),
    /// A replayed or stale document.
    #[error("the attestation document has nonce {}, expected {}: it is replayed or stale", hex(.actual), hex(.expected))]
    Nonce {
        /// The document's.
        actual: Vec<u8>,
        /// This connection's.
        expected: Nonce,
    },
    /// The document binds something else, or nothing.
    #[error("the attestation document's user_data: {0}")]
    Binding(BindingError),
    /// The document is right, and the connection does not terminate in its enclave.
    #[error(
        "the attestation document binds TLS key {}, and this connection has {}: its other end only relays the enclave's documents",
        hex(.bound), hex(.actual)
    )]
    TlsKey {
        /// The document's.
        bound: [u8; 32],
        /// The connection's.
        actual: [u8; 32],
    },
    /// The document is right, and made for another connection to another server.
    #[error(
        "the attestation document binds TLS exporter {}, and this connection has {}: its other end only relays the enclave's documents",
        hex(.bound), hex(.actual)
    )]
    Exporter {
        /// The document's.
        bound: [u8; 32],
        /// The connection's.
        actual: [u8; 32],
    },
}

impl Trust {
    /// Trusts enclaves of any of `images` whose other registers have one of the given values, as certified by `root`.
    ///
    /// # Errors
    /// A register that identifies nothing, or neither images nor values for PCR0, PCR1 or PCR8.
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

    /// The trust root.
    #[must_use]
    pub fn root(&self) -> &TrustRoot {
        &self.root
    }

    /// Verifies the document that answered `nonce` on the connection to the server with `tls_key`.
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

    /// Verifies the document of a calling enclave, which answered `nonce` on the connection with `exporter`.
    ///
    /// # Errors
    /// Why the connection is not trusted.
    pub fn judge_call(
        &self,
        document: &[u8],
        nonce: &Nonce,
        exporter: &[u8; 32],
        now: SystemTime,
    ) -> Result<(Claims, home::Binding), Distrust> {
        let claims = attestation::verify(document, &self.root, At::Time(now)).map_err(Distrust::Document)?;
        self.admit(&claims, nonce)?;
        let user_data = claims.user_data.as_deref().unwrap_or_default();
        let binding = home::Binding::decode(user_data).map_err(Distrust::Binding)?;
        if binding.exporter != *exporter {
            return Err(Distrust::Exporter { bound: binding.exporter, actual: *exporter });
        }
        Ok((claims, binding))
    }

    /// Whether the enclave of a document that has been verified is allowed.
    ///
    /// # Errors
    /// The PCR that is not allowed.
    pub fn allows(&self, claims: &Claims) -> Result<(), Distrust> {
        self.policy.check(claims).map_err(Distrust::Enclave)
    }

    /// The image that these claims are of, as it was named in [`Trust::new`].
    #[must_use]
    pub fn image(&self, claims: &Claims) -> Option<&str> {
        self.policy.label(claims)
    }

    fn admit(&self, claims: &Claims, nonce: &Nonce) -> Result<(), Distrust> {
        self.allows(claims)?;
        let actual = claims.nonce.as_deref().unwrap_or_default();
        if actual != nonce {
            return Err(Distrust::Nonce { actual: actual.to_vec(), expected: *nonce });
        }
        Ok(())
    }

    fn verdict(&self, claims: &Claims, nonce: &Nonce, tls_key: &[u8; 32]) -> Result<Binding, Distrust> {
        self.admit(claims, nonce)?;
        let binding = Binding::decode(claims.user_data.as_deref().unwrap_or_default()).map_err(Distrust::Binding)?;
        if binding.tls_key != *tls_key {
            return Err(Distrust::TlsKey { bound: binding.tls_key, actual: *tls_key });
        }
        Ok(binding)
    }
}

/// In lower case; `none` if empty.
pub(crate) fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() { "none".to_owned() } else { const_hex::encode(bytes) }
}
