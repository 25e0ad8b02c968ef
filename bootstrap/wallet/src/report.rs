//! What a document claims and what came of it, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::SystemTime;

use attestation::{Claims, TrustRoot};
use serde::Serialize;
use signer::binding::Binding;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::enclave::EnclaveUrl;
use crate::trust::{Judgement, hex};

/// Everything there is to say about one enclave.
#[derive(Debug, Serialize)]
pub struct Report {
    url: String,
    /// SHA-256 of the key that the other end of the connection holds.
    connection_tls_key_sha256: String,
    /// `right` or `refused`.
    verdict: &'static str,
    /// Why it is refused.
    reason: Option<String>,
    trust_root: String,
    trust_root_is_aws: bool,
    /// Absent unless the document is genuine.
    claims: Option<ClaimsReport>,
}

/// Times are RFC 3339, bytes are in hex.
#[derive(Debug, Serialize)]
struct ClaimsReport {
    module_id: String,
    timestamp: String,
    /// Those that are not zero.
    pcrs: BTreeMap<u8, String>,
    certificate_not_before: String,
    certificate_not_after: String,
    public_key: Option<String>,
    user_data: Option<String>,
    nonce: Option<String>,
    /// What `user_data` says, if it is a signer's.
    binding: Option<BindingReport>,
}

#[derive(Debug, Serialize)]
struct BindingReport {
    tls_key_sha256: String,
    config_sha256: String,
}

impl Report {
    /// About the enclave at `url`, whose connection's other end holds `tls_key`.
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
            claims: judgement.claims.map(ClaimsReport::from),
        }
    }

    /// Why the enclave is not to be trusted, if so.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl From<Claims> for ClaimsReport {
    fn from(claims: Claims) -> Self {
        let binding = claims.user_data.as_deref().and_then(|bytes| Binding::decode(bytes).ok());
        let pcrs = claims.pcrs.iter().filter(|(_, pcr)| !pcr.is_zero());
        Self {
            timestamp: rfc3339(claims.timestamp),
            pcrs: pcrs.map(|(index, pcr)| (*index, pcr.to_string())).collect(),
            certificate_not_before: rfc3339(claims.not_before),
            certificate_not_after: rfc3339(claims.not_after),
            public_key: claims.public_key.as_deref().map(hex),
            user_data: claims.user_data.as_deref().map(hex),
            nonce: claims.nonce.as_deref().map(hex),
            binding: binding.map(|Binding { tls_key, config }| BindingReport {
                tls_key_sha256: hex(&tls_key),
                config_sha256: hex(&config),
            }),
            module_id: claims.module_id,
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "enclave: {}", self.url)?;
        if let Some(claims) = &self.claims {
            claims.fmt(f)?;
        }
        writeln!(f, "TLS key of this connection: sha256 {}", self.connection_tls_key_sha256)?;
        writeln!(f, "trust root: {}", self.trust_root)?;
        match &self.reason {
            Some(reason) => writeln!(f, "verdict: refused: {reason}"),
            None => writeln!(f, "verdict: right: genuine, as the measurements say, and this connection ends in it"),
        }
    }
}

impl Display for ClaimsReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // The module's name is the hypervisor's; still, nothing that a peer sends gets onto a terminal as it is.
        writeln!(f, "module: {}", self.module_id.escape_debug())?;
        writeln!(f, "made: {}", self.timestamp)?;
        let (from, to) = (&self.certificate_not_before, &self.certificate_not_after);
        writeln!(f, "signed by a certificate valid: {from} to {to}")?;
        for index in (0..=2).filter(|index| !self.pcrs.contains_key(index)) {
            writeln!(f, "PCR{index}: zero, as in debug mode")?;
        }
        for (index, pcr) in &self.pcrs {
            writeln!(f, "PCR{index}: {pcr}")?;
        }
        writeln!(f, "nonce: {}", self.nonce.as_deref().unwrap_or("none"))?;
        match &self.binding {
            Some(BindingReport { tls_key_sha256, config_sha256 }) => {
                writeln!(f, "binds TLS key: sha256 {tls_key_sha256}")?;
                writeln!(f, "configuration: sha256 {config_sha256}")
            }
            None => writeln!(f, "user data: {}, which binds no TLS key", self.user_data.as_deref().unwrap_or("none")),
        }
    }
}

/// What RFC 3339 cannot say is before year 0 or after 9999.
fn rfc3339(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_else(|_| format!("{time:?}"))
}
