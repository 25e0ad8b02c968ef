//! The claims and the verdict, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::SystemTime;

use anyhow::{Result, bail};
use attestation::{Claims, TrustRoot};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tunnel::binding::Binding;

use crate::status::hex;

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
    /// What `user_data` says, if it is this project's.
    binding: Option<BindingReport>,
}

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
            claims: claims.map(ClaimsReport::from),
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

impl From<Claims> for ClaimsReport {
    fn from(claims: Claims) -> Self {
        let binding = claims.user_data.as_deref().and_then(|bytes| Binding::decode(bytes).ok());
        Self {
            timestamp: rfc3339(claims.timestamp),
            pcrs: claims
                .pcrs
                .iter()
                .filter(|(_, pcr)| !pcr.is_zero())
                .map(|(index, pcr)| (*index, pcr.to_string()))
                .collect(),
            certificate_not_before: rfc3339(claims.not_before),
            certificate_not_after: rfc3339(claims.not_after),
            public_key: claims.public_key.as_deref().map(hex),
            user_data: claims.user_data.as_deref().map(hex),
            nonce: claims.nonce.as_deref().map(hex),
            binding: binding.map(BindingReport::from),
            module_id: claims.module_id,
        }
    }
}

impl From<Binding> for BindingReport {
    fn from(binding: Binding) -> Self {
        Self {
            wireguard_key: binding.public_key.to_string(),
            gateway_key: binding.gateway.to_string(),
            cid: binding.cid.0,
            config_sha256: hex(&binding.config),
            kem_key_sha256: hex(&binding.kem_key),
            tls_key_sha256: binding.tls_key.map(|digest| hex(&digest)),
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

impl Display for ClaimsReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "module: {}", self.module_id)?;
        writeln!(f, "made: {}", self.timestamp)?;
        writeln!(
            f,
            "signed by a certificate valid: {} to {}",
            self.certificate_not_before, self.certificate_not_after
        )?;
        for index in 0..=2 {
            if !self.pcrs.contains_key(&index) {
                writeln!(f, "PCR{index}: zero, as in debug mode")?;
            }
        }
        for (index, pcr) in &self.pcrs {
            writeln!(f, "PCR{index}: {pcr}")?;
        }
        for (name, value) in [("public key", &self.public_key), ("user data", &self.user_data), ("nonce", &self.nonce)]
        {
            writeln!(f, "{name}: {}", value.as_deref().unwrap_or("(none)"))?;
        }
        let Some(binding) = &self.binding else { return Ok(()) };
        writeln!(f, "binds, for the tunnel of enclave-wireguard:")?;
        writeln!(f, "  WireGuard key: {}", binding.wireguard_key)?;
        writeln!(f, "  gateway's key: {}", binding.gateway_key)?;
        writeln!(f, "  CID: {}", binding.cid)?;
        writeln!(f, "  configuration: sha256 {}", binding.config_sha256)?;
        writeln!(f, "  ML-KEM-768 key: sha256 {}", binding.kem_key_sha256)?;
        writeln!(f, "  TLS key: {}", binding.tls_key_sha256.as_deref().unwrap_or("(none)"))
    }
}

/// What RFC 3339 cannot say is before year 0 or after 9999.
fn rfc3339(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_else(|_| format!("{time:?}"))
}
