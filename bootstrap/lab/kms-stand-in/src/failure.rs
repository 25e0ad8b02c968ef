//! Errors in KMS's form.

use hyper::StatusCode;

/// The response to a request that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// For the client. As terse as KMS's.
    pub(crate) message: String,
    /// For the log.
    pub(crate) reason: String,
}

/// The names of KMS's errors and of AWS's common errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    AccessDenied,
    Disabled,
    ExpiredToken,
    IncompleteSignature,
    IncorrectKey,
    Internal,
    InvalidCiphertext,
    InvalidSignature,
    InvalidState,
    MissingAuthenticationToken,
    NotFound,
    RequestTooLarge,
    Serialization,
    Throttling,
    UnknownOperation,
    UnrecognizedClient,
    UnsupportedOperation,
    Validation,
}

impl Failure {
    /// Logs the client's message.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, reason: message.clone(), message }
    }

    /// Logs another reason than the client's message.
    pub(crate) fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..self }
    }
}

impl Kind {
    /// The response's `__type`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDeniedException",
            Self::Disabled => "DisabledException",
            Self::ExpiredToken => "ExpiredTokenException",
            Self::IncompleteSignature => "IncompleteSignatureException",
            Self::IncorrectKey => "IncorrectKeyException",
            Self::Internal => "KMSInternalException",
            Self::InvalidCiphertext => "InvalidCiphertextException",
            Self::InvalidSignature => "InvalidSignatureException",
            Self::InvalidState => "KMSInvalidStateException",
            Self::MissingAuthenticationToken => "MissingAuthenticationTokenException",
            Self::NotFound => "NotFoundException",
            Self::RequestTooLarge => "RequestEntityTooLargeException",
            Self::Serialization => "SerializationException",
            Self::Throttling => "ThrottlingException",
            Self::UnknownOperation => "UnknownOperationException",
            Self::UnrecognizedClient => "UnrecognizedClientException",
            Self::UnsupportedOperation => "UnsupportedOperationException",
            Self::Validation => "ValidationException",
        }
    }

    /// KMS answers every client error with 400, apart from these.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::RequestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::AccessDenied
            | Self::Disabled
            | Self::ExpiredToken
            | Self::IncompleteSignature
            | Self::IncorrectKey
            | Self::InvalidCiphertext
            | Self::InvalidSignature
            | Self::InvalidState
            | Self::MissingAuthenticationToken
            | Self::NotFound
            | Self::Serialization
            | Self::Throttling
            | Self::UnknownOperation
            | Self::UnrecognizedClient
            | Self::UnsupportedOperation
            | Self::Validation => StatusCode::BAD_REQUEST,
        }
    }
}
