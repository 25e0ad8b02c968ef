//! A plaintext from AWS KMS that only this enclave can read.
//!
//! KMS encrypts the plaintext to the public key in the enclave's attestation document. [`Recipient`] holds the private
//! key.
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
//! TLS terminates in the enclave, with servers that [`Roots`] certify. Inside it, the plaintext is encrypted to the
//! recipient's key. That message alone does not authenticate its sender, because anyone can encrypt to a public key: TLS
//! proves that it comes from KMS, and the caller checks that it is the right secret, for example by its address.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test"))]

mod bucket;
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

pub use bucket::{Bucket, BucketError, ObjectVersion, VersionList, Written};
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
