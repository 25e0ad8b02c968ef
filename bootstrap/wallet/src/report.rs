//! The claims of a document and the verdict, for people and for programs.

use std::fmt::{self, Display, Formatter};

use attestation::{Claims, ClaimsReport, TrustRoot};
use binding::signer::Binding;
use serde::Serialize;

use crate::enclave::EnclaveUrl;
use crate::trust::{Judgement, hex};

/// The report on one enclave.
#[derive(Debug, Serialize)]
pub struct Report {
    url: String,
    /// SHA-256 of the server's TLS key on this connection.
    connection_tls_key_sha256: String,
    /// `right` or `refused`.
    verdict: &'static str,
    /// Why it is refused.
    reason: Option<String>,
    trust_root: String,
    trust_root_is_aws: bool,
    /// Absent unless the document is genuine.
    claims: Option<ClaimsReport<BindingReport>>,
}

/// What `user_data` says, if it is a signer's.
#[derive(Debug, Serialize)]
struct BindingReport {
    tls_key_sha256: String,
    config_sha256: String,
}

impl Report {
    /// About the enclave at `url`, whose server holds `tls_key`.
    #[must_use]
    pub fn new(url: &EnclaveUrl, tls_key: &[u8; 32], root: &TrustRoot, judgement: Judgement) -> Self {
        let reason = judgement.verdict.err().map(|distrust| distrust.to_string());
        Self {
            url: url.to_string(),
            connection_tls_key_sha256: hex(tls_key),
            verdict: if reason.is_none() { "right" } else { "refused" },
            reason,
            trust_root: root.to_string(),
            trust_root_is_aws: root.is_aws(),
            claims: judgement.claims.map(report),
        }
    }

    /// Why the enclave is not trusted, if so.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

fn report(claims: Claims) -> ClaimsReport<BindingReport> {
    let binding = claims.user_data.as_deref().and_then(|bytes| Binding::decode(bytes).ok());
    let binding = binding.map(|Binding { tls_key, config }| BindingReport {
        tls_key_sha256: hex(&tls_key),
        config_sha256: hex(&config),
    });
    ClaimsReport::new(claims, binding)
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "enclave: {}", self.url)?;
        if let Some(claims) = &self.claims {
            claims.fmt(f)?;
            if claims.binding().is_none() {
                writeln!(f, "binds no TLS key")?;
            }
        }
        writeln!(f, "TLS key of this connection: sha256 {}", self.connection_tls_key_sha256)?;
        writeln!(f, "trust root: {}", self.trust_root)?;
        match &self.reason {
            Some(reason) => writeln!(f, "verdict: refused: {reason}"),
            None => {
                writeln!(f, "verdict: right: genuine, of a named image, and this TLS connection ends in the enclave")
            }
        }
    }
}

impl Display for BindingReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "binds TLS key: sha256 {}", self.tls_key_sha256)?;
        writeln!(f, "configuration: sha256 {}", self.config_sha256)
    }
}
