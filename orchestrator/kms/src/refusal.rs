//! What AWS says when it says no: <https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html> and the
//! errors that each operation lists.

use std::fmt;

/// How much of AWS's explanation is kept, in characters.
const MAX_MESSAGE_LEN: usize = 300;
/// The same of its error codes.
const MAX_CODE_LEN: usize = 64;

/// An answer with an error that asking again does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it means.
    pub reason: Reason,
    /// The HTTP status.
    pub status: u16,
    /// AWS's name for it, such as `AccessDeniedException`; empty if the answer has none.
    pub code: String,
    /// AWS's explanation; often empty.
    pub message: String,
}

/// What a [`Refusal`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The key policy or the role's policy denies it.
    AccessDenied,
    /// The key is disabled.
    Disabled,
    /// The key cannot be used in its state, for example while its deletion is scheduled.
    InvalidState,
    /// Encrypted under another key than the one that was named.
    IncorrectKey,
    /// Not a ciphertext of KMS, or another encryption context.
    InvalidCiphertext,
    /// The key is not for encryption.
    InvalidKeyUsage,
    /// No such key or secret.
    NotFound,
    /// The credentials have expired.
    ExpiredCredentials,
    /// AWS does not know these credentials.
    UnknownCredentials,
    /// The secret access key or the clock is wrong.
    Signature,
    /// The request is invalid.
    InvalidRequest,
    /// An unknown code.
    Other,
}

/// What an error's status and code ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// AWS is overloaded or broken: ask again later.
    Passing,
    Final(Reason),
}

pub(crate) fn judge(status: u16, code: &str) -> Verdict {
    let reason = match code {
        // The SDKs' throttling codes; KMS sends them with status 400.
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "SlowDown"
        | "PriorRequestNotComplete" => return Verdict::Passing,
        _ if status >= 500 || status == 429 => return Verdict::Passing,
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" | "OptInRequired" => Reason::AccessDenied,
        "DisabledException" => Reason::Disabled,
        "KMSInvalidStateException" => Reason::InvalidState,
        "IncorrectKeyException" => Reason::IncorrectKey,
        "InvalidCiphertextException" => Reason::InvalidCiphertext,
        "InvalidKeyUsageException" => Reason::InvalidKeyUsage,
        "NotFoundException" | "ResourceNotFoundException" => Reason::NotFound,
        "NoSuchBucket" => Reason::NotFound,
        "ExpiredTokenException" | "ExpiredToken" => Reason::ExpiredCredentials,
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "InvalidToken"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => Reason::UnknownCredentials,
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "RequestTimeTooSkewed"
        | "RequestExpired" => Reason::Signature,
        "ValidationException" | "ValidationError" | "InvalidParameterException" | "InvalidRequestException" => {
            Reason::InvalidRequest
        }
        _ => Reason::Other,
    };
    Verdict::Final(reason)
}

impl Refusal {
    pub(crate) fn new(reason: Reason, status: u16, code: &str, message: &str) -> Self {
        let printable = |text: &str, length| text.chars().filter(|char| !char.is_control()).take(length).collect();
        let (code, message) = (printable(code, MAX_CODE_LEN), printable(message, MAX_MESSAGE_LEN));
        Self { reason, status, code, message }
    }

    /// What AWS says, without what an operator of KMS should check.
    pub(crate) fn fact(&self) -> String {
        let Self { status, code, message, .. } = self;
        let code = if code.is_empty() { "no error code" } else { code };
        let message = if message.is_empty() { String::new() } else { format!(", \"{message}\"") };
        format!("{code} (HTTP {status}){message}")
    }
}

impl Reason {
    /// What an operator should check.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::AccessDenied => {
                "compare the role and this image's measurements with the key policy; an enclave in debug mode has none"
            }
            Self::Disabled => "enable the key",
            Self::InvalidState => "look at the key's state: its deletion may be scheduled",
            Self::IncorrectKey => "it was encrypted under another key than kms.key_arn",
            Self::InvalidCiphertext => "it is not a ciphertext of KMS, or its context is not kms.encryption_context",
            Self::InvalidKeyUsage => "kms.key_arn has to be a symmetric key for ENCRYPT_DECRYPT",
            Self::NotFound => "look for it in this account and region",
            Self::ExpiredCredentials => "bring newer credentials, and compare the clocks",
            Self::UnknownCredentials => "the credentials belong to no account of this partition or were deleted",
            Self::Signature => "the secret access key is wrong, or the enclave's clock is",
            Self::InvalidRequest | Self::Other => "what AWS says about it is all that is known",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.fact(), self.reason.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_and_broken_servers_pass() {
        for (status, code) in [
            (400, "ThrottlingException"),
            (429, ""),
            (500, "KMSInternalException"),
            (503, ""),
            (500, "KeyUnavailableException"),
        ] {
            assert_eq!(judge(status, code), Verdict::Passing, "{status} {code}");
        }
    }

    #[test]
    fn everything_else_is_final_and_has_a_reason() {
        for (code, reason) in [
            ("AccessDeniedException", Reason::AccessDenied),
            ("DisabledException", Reason::Disabled),
            ("KMSInvalidStateException", Reason::InvalidState),
            ("IncorrectKeyException", Reason::IncorrectKey),
            ("InvalidCiphertextException", Reason::InvalidCiphertext),
            ("InvalidKeyUsageException", Reason::InvalidKeyUsage),
            ("NotFoundException", Reason::NotFound),
            ("ExpiredTokenException", Reason::ExpiredCredentials),
            ("UnrecognizedClientException", Reason::UnknownCredentials),
            ("InvalidSignatureException", Reason::Signature),
            ("ValidationException", Reason::InvalidRequest),
            ("SomethingNew", Reason::Other),
            ("", Reason::Other),
        ] {
            assert_eq!(judge(400, code), Verdict::Final(reason), "{code}");
        }
        assert_eq!(judge(301, ""), Verdict::Final(Reason::Other));
    }

    #[test]
    fn a_refusal_is_one_printable_line_with_a_hint() {
        let message = format!("no\n\u{1b}[31m{}", "x".repeat(1000));
        let refusal = Refusal::new(Reason::Disabled, 400, "DisabledException", &message);
        let line = refusal.to_string();
        assert!(line.starts_with("DisabledException (HTTP 400), \"no[31mxxx"), "{line}");
        assert!(line.ends_with("\"; enable the key") && line.len() < 400, "{line}");
        let nameless = Refusal::new(Reason::Other, 403, "", "");
        assert!(nameless.to_string().starts_with("no error code (HTTP 403); "), "{nameless}");
    }
}
