//! What is wrong with a request.

use thiserror::Error;

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {problem}")]
pub struct RequestError {
    /// The path of the field, such as `transaction_payload.to`, or `body`.
    pub field: String,
    /// What is wrong with it and what would be right. Never shows a credential or a ciphertext.
    pub problem: String,
}

impl RequestError {
    /// About one field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}
