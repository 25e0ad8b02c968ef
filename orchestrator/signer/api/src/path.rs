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
/// `GET`: whether all configured keys are loaded.
pub const READY: &str = "/ready";
/// `POST`: JSON-RPC whose transactions are answered as geth answers them; also behind a chain.
pub const GETH: &str = "/geth";
/// `POST`: JSON-RPC for one chain, whose number follows: `/chain/8453`.
pub const CHAIN: &str = "/chain";
