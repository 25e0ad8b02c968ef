//! Admission: the gateway admits an enclave's key when the attestation document in its answer satisfies the operator's policy
//! and binds what was offered and answered.

use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use attestation::{At, Claims, Expected};
use binding::tunnel::{Binding, kem_key_digest};
use tunnel::control::{Answer, Offer};
use tunnel::port::Cid;

use crate::config::Attestation;

/// What an enclave has proved.
#[derive(Clone, Debug)]
pub(crate) struct Attested {
    pub(crate) claims: Claims,
    pub(crate) binding: Binding,
    /// As the enclave sent it, so that others can verify it again.
    pub(crate) document: Vec<u8>,
    pub(crate) at: SystemTime,
}

/// Checks an answer to `offer` on the control stream of `cid`.
///
/// # Errors
/// The rule that the document breaks, or the wrong value that it binds.
pub(crate) fn verify(
    answer: Answer,
    offer: &Offer,
    cid: Cid,
    trust: &Attestation,
    now: SystemTime,
) -> Result<Attested> {
    let Answer { public_key, kem_key, document } = answer;
    let expected = Expected { nonce: Some(&offer.nonce), ..Expected::default() };
    let claims = attestation::attest(&document, &trust.root, &trust.policy, &expected, At::Time(now))
        .context("the attestation document")?;
    let user_data = claims.user_data.as_deref().unwrap_or_default();
    let binding = Binding::decode(user_data).context("the attestation document's user_data")?;
    ensure!(binding.gateway == offer.public_key, "the attestation document is for the gateway {}", binding.gateway);
    ensure!(binding.cid == cid, "the attestation document is for CID {}, but this is CID {cid}", binding.cid);
    ensure!(
        binding.public_key == public_key,
        "the attestation document is for the WireGuard key {}, but the answer has {public_key}",
        binding.public_key
    );
    ensure!(
        binding.kem_key == kem_key_digest(&kem_key),
        "the attestation document is for another ML-KEM key than that of the answer"
    );
    Ok(Attested { claims, binding, document, at: now })
}

#[cfg(test)]
mod tests;
