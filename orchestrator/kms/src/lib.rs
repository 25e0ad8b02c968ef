//! A plaintext from AWS KMS that only this enclave can read.
//!
//! KMS encrypts what it decrypts to the key that the enclave's attestation document names, and [`Recipient`] opens
//! that.
//!
//! ```text
//! measured configuration: [kms] [secrets] [imds]      config
//!           |
//!   Imds or the request -> Credentials
//!           |
//!   Secrets::stored_key -> StoredKey, its ciphertext   or the ciphertext comes with the request
//!           |
//!   Client::decrypt -> Plaintext                       one Recipient per boot, one Attestor::document per attempt
//! ```
//!
//! Whoever is between the enclave and AWS sees TLS that ends in the enclave, with servers that [`Roots`] vouch for.
//! Whoever reads that all the same finds a message for the recipient's key. But that message alone proves nothing of
//! its sender, as anybody can encrypt to a public key: that it comes from KMS is what TLS says, and that it is the
//! right secret is for the caller to check, such as by its address.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")
)]

mod ciphertext;
mod client;
pub mod cms;
pub mod config;
mod credentials;
mod endpoint;
mod https;
mod imds;
mod key_arn;
mod plaintext;
mod recipient;
mod refusal;
mod retry;
mod role;
mod roots;
mod sdk;
mod secret_id;
mod secrets;

#[cfg(any(test, feature = "seal"))]
pub mod seal;

pub use ciphertext::{CiphertextError, read_ciphertext};
pub use client::{Attestor, Client, KmsError, MAX_CIPHERTEXT_LEN, MAX_PLAINTEXT_LEN};
pub use credentials::{Credentials, CredentialsError};
pub use endpoint::{Endpoint, EndpointError, http_address};
pub use https::{CallError, DnsFuture, Https, HttpsError, ResolveDns, ResolveDnsError};
pub use imds::{Imds, ImdsError};
pub use key_arn::{KeyArn, KeyArnError};
pub use plaintext::Plaintext;
pub use recipient::{KeyError, Recipient};
pub use refusal::{Reason, Refusal};
pub use retry::RetryBudget;
pub use role::{AwsError, RoleError};
pub use roots::{Roots, RootsError};
pub use secret_id::{MAX_SECRET_ID_LEN, SecretIdError, SecretPlace, check_secret_id, secret_place};
pub use secrets::{Secrets, SecretsError, StoredKey};
