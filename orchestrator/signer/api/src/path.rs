//! The paths of the signer's HTTP interface.

/// `POST`: sign, see [`crate::request::SignRequest`].
pub const SIGN: &str = "/";
/// `POST`: make a key, see [`crate::request::GenerateRequest`].
pub const KEYS: &str = "/keys";
/// `GET`: an attestation document.
pub const ATTESTATION: &str = "/attestation";
/// `GET`: whether the signer serves.
pub const HEALTH: &str = "/health";
/// `GET`: Prometheus's text format.
pub const METRICS: &str = "/metrics";
