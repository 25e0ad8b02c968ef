//! The claims and the verdict, for people and for programs.

use std::fmt::{self, Display, Formatter};

use anyhow::{Result, bail};
use attestation::{Claims, ClaimsReport, TrustRoot};
use binding::tunnel::Binding;
use serde::Serialize;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Genuine, and of one of the images that were named.
    Right,
    /// Genuine; no image was named.
    Genuine,
    /// With the rule that it breaks.
    Refused(String),
}

/// Everything there is to say about one document.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// `right`, `genuine` or `refused`.
    verdict: &'static str,
    /// Why it is refused.
    reason: Option<String>,
    trust_root: String,
    trust_root_is_aws: bool,
    /// Absent unless the document is genuine: then nothing that it says may be believed.
    claims: Option<ClaimsReport<BindingReport>>,
}

/// What `user_data` says, if it is this project's.
#[derive(Debug, Serialize)]
struct BindingReport {
    wireguard_key: String,
    gateway_key: String,
    cid: u32,
    config_sha256: String,
    kem_key_sha256: String,
    tls_key_sha256: Option<String>,
}

impl Report {
    pub(super) fn new(root: &TrustRoot, verdict: Verdict, claims: Option<Claims>) -> Self {
        let (verdict, reason) = match verdict {
            Verdict::Right => ("right", None),
            Verdict::Genuine => ("genuine", None),
            Verdict::Refused(reason) => ("refused", Some(reason)),
        };
        Self {
            verdict,
            reason,
            trust_root: root.to_string(),
            trust_root_is_aws: root.is_aws(),
            claims: claims.map(report),
        }
    }

    /// Whether the claims may be believed, whatever they are.
    pub(super) fn is_genuine(&self) -> bool {
        self.claims.is_some()
    }

    /// The reason, as an error.
    pub(super) fn into_result(self) -> Result<()> {
        match self.reason {
            Some(reason) => bail!("refused, with {}: {reason}", self.trust_root),
            None => Ok(()),
        }
    }
}

fn report(claims: Claims) -> ClaimsReport<BindingReport> {
    let binding = claims.user_data.as_deref().and_then(|bytes| Binding::decode(bytes).ok());
    ClaimsReport::new(claims, binding.map(BindingReport::from))
}

impl From<Binding> for BindingReport {
    fn from(binding: Binding) -> Self {
        Self {
            wireguard_key: binding.public_key.to_string(),
            gateway_key: binding.gateway.to_string(),
            cid: binding.cid.0,
            config_sha256: const_hex::encode(binding.config),
            kem_key_sha256: const_hex::encode(binding.kem_key),
            tls_key_sha256: binding.tls_key.map(const_hex::encode),
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(claims) = &self.claims {
            claims.fmt(f)?;
        }
        writeln!(f, "trust root: {}", self.trust_root)?;
        match (self.verdict, &self.reason) {
            (_, Some(reason)) => writeln!(f, "verdict: refused: {reason}"),
            ("right", _) => writeln!(f, "verdict: genuine, and of the image that was named"),
            _ => writeln!(f, "verdict: genuine; --measurements compares it with an image"),
        }
    }
}

impl Display for BindingReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "binds, for the tunnel of enclave-wireguard:")?;
        writeln!(f, "  WireGuard key: {}", self.wireguard_key)?;
        writeln!(f, "  gateway's key: {}", self.gateway_key)?;
        writeln!(f, "  CID: {}", self.cid)?;
        writeln!(f, "  configuration: sha256 {}", self.config_sha256)?;
        writeln!(f, "  ML-KEM-768 key: sha256 {}", self.kem_key_sha256)?;
        writeln!(f, "  TLS key: {}", self.tls_key_sha256.as_deref().unwrap_or("(none)"))
    }
}
