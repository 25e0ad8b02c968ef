//! AWS credentials.

use std::fmt;
use std::time::SystemTime;

use aws_credential_types::Credentials as SdkCredentials;
use thiserror::Error;

/// What one AWS session signs its requests with; nothing of it is ever printed, and the library zeroes it when it is
/// dropped.
pub struct Credentials {
    inner: SdkCredentials,
    /// The instance's role, if they are its.
    role: Option<String>,
}

/// Which part is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CredentialsError {
    /// AWS's are 20 letters and digits.
    #[error("access key id: expected 16 to 128 letters and digits")]
    AccessKeyId,
    /// AWS's are 40 characters of base64.
    #[error("secret access key: expected 16 to 128 printable characters without spaces")]
    SecretAccessKey,
    /// AWS's have some hundred characters of base64.
    #[error("session token: expected 16 to 8192 printable characters without spaces")]
    SessionToken,
}

impl Credentials {
    /// Credentials from a signing request, with a session token if they are temporary.
    ///
    /// # Errors
    /// Text that a credential cannot have, before it gets into an HTTP header.
    pub fn new(
        access_key_id: String,
        secret_access_key: String,
        session_token: Option<String>,
    ) -> Result<Self, CredentialsError> {
        Self::made(access_key_id, secret_access_key, session_token, None)
    }

    /// Credentials of the instance's role of that name.
    pub(crate) fn of_role(
        role: &str,
        access_key_id: String,
        secret_access_key: String,
        session_token: String,
        expiry: SystemTime,
    ) -> Result<Self, CredentialsError> {
        let credentials = Self::made(access_key_id, secret_access_key, Some(session_token), Some(expiry))?;
        Ok(Self { role: Some(role.to_owned()), ..credentials })
    }

    fn made(
        access_key_id: String,
        secret_access_key: String,
        session_token: Option<String>,
        expiry: Option<SystemTime>,
    ) -> Result<Self, CredentialsError> {
        // Parsed and zeroed by the library's type from here on, whatever is found out about it.
        let inner = SdkCredentials::new(access_key_id, secret_access_key, session_token, expiry, "kms");
        let id = inner.access_key_id();
        if !(16..=128).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(CredentialsError::AccessKeyId);
        }
        if !is_printable(inner.secret_access_key(), 128) {
            return Err(CredentialsError::SecretAccessKey);
        }
        if inner.session_token().is_some_and(|token| !is_printable(token, 8192)) {
            return Err(CredentialsError::SessionToken);
        }
        Ok(Self { inner, role: None })
    }

    /// The name of the instance's role, if they are its.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        self.role.as_deref()
    }

    /// Whether they belong to the same session: AWS gives each session another id.
    pub(crate) fn are_those(&self, other: &Self) -> bool {
        self.inner.access_key_id() == other.inner.access_key_id()
    }

    pub(crate) fn expiry(&self) -> Option<SystemTime> {
        self.inner.expiry()
    }

    /// The library's type, which shares the memory, to be given to the library.
    #[must_use]
    pub fn expose(&self) -> SdkCredentials {
        self.inner.clone()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

fn is_printable(text: &str, longest: usize) -> bool {
    (16..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "AKIDEXAMPLE0EXAMPLE0";
    const SECRET: &str = "not+a+secret/but/an+example/of/forty/chars";

    fn made(id: &str, secret: &str, token: Option<&str>) -> Result<Credentials, CredentialsError> {
        Credentials::new(id.to_owned(), secret.to_owned(), token.map(str::to_owned))
    }

    #[test]
    fn what_cannot_be_a_credential_is_named() {
        assert!(made(ID, SECRET, None).is_ok());
        assert!(made(ID, SECRET, Some("0123456789abcdef==")).is_ok());
        for id in ["", "AKID", "AKIDEXAMPLE0EXAMPLE0\r\nx: y", &"A".repeat(129)] {
            assert_eq!(made(id, SECRET, None).unwrap_err(), CredentialsError::AccessKeyId);
        }
        for secret in ["", "with spaces in between it all", &"s".repeat(129)] {
            assert_eq!(made(ID, secret, None).unwrap_err(), CredentialsError::SecretAccessKey);
        }
        for token in ["", "0123456789abcdef\r\nhost: evil", "sixteen-and-\u{e4}-more", &"t".repeat(8193)] {
            assert_eq!(made(ID, SECRET, Some(token)).unwrap_err(), CredentialsError::SessionToken);
        }
    }

    #[test]
    fn nothing_of_them_is_printed() {
        let printed = format!("{:?}", made(ID, SECRET, Some("0123456789abcdef")).unwrap());
        assert_eq!(printed, "Credentials { .. }");
    }
}
