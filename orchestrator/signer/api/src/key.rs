//! Which key a request names, and the AWS credentials that open it.

use std::fmt;

use zeroize::Zeroizing;

/// Which key a request means.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyReference {
    /// Name or ARN of a Secrets Manager secret.
    SecretId(String),
    /// KMS's `CiphertextBlob`.
    EncryptedKey(Vec<u8>),
}

impl fmt::Debug for KeyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecretId(id) => write!(f, "SecretId({id:?})"),
            Self::EncryptedKey(bytes) => write!(f, "EncryptedKey({} bytes)", bytes.len()),
        }
    }
}

/// AWS credentials that came with a request.
pub struct Credential {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    token: Option<Zeroizing<String>>,
}

impl Credential {
    /// Of long-term credentials (no token) or temporary ones.
    #[must_use]
    pub fn new(access_key_id: String, secret_access_key: Zeroizing<String>, token: Option<Zeroizing<String>>) -> Self {
        Self { access_key_id, secret_access_key, token }
    }

    /// Its public half.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// To sign AWS requests with.
    #[must_use]
    pub fn expose_secret_access_key(&self) -> &str {
        &self.secret_access_key
    }

    /// To send with AWS requests.
    #[must_use]
    pub fn expose_token(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.as_str())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}, redacted)", self.access_key_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_secrets_nor_tokens_nor_ciphertexts() {
        let secret = |text: &str| Zeroizing::new(text.to_owned());
        let credential = Credential::new("AKIAEXAMPLE".into(), secret("hush"), Some(secret("psst")));
        assert_eq!(format!("{credential:?}"), "Credential(AKIAEXAMPLE, redacted)");
        assert_eq!(format!("{:?}", KeyReference::EncryptedKey(vec![7; 99])), "EncryptedKey(99 bytes)");
    }
}
