//! Answers that say no.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ethereum::signature::SignError;
use hyper::StatusCode;
use signer_api::RequestError;
use signer_api::answer::{ErrorAnswer, Refusal};

use crate::keys::{AttestorError, KeyError};
use crate::ledger::{LedgerError, StoreError};
use crate::permission::Denied;
use crate::policy::{self, Rule};
use crate::spent::SpendError;

/// One row of the table of errors in [`super`].
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) field: Option<String>,
    /// The rule of the policy, for the metrics.
    pub(super) rule: Option<Rule>,
    /// The methods that a path has.
    pub(super) allow: Option<&'static str>,
    /// The client hears no more on this connection.
    pub(super) ends_connection: bool,
}

/// For how many seconds a client that came at the wrong time stays away.
pub(super) const RETRY_AFTER: &str = "1";

impl Failure {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), field: None, rule: None, allow: None, ends_connection: false }
    }

    pub(super) fn body(&self) -> String {
        let error = Refusal { code: self.code.to_owned(), message: self.message.clone(), field: self.field.clone() };
        serde_json::to_string(&ErrorAnswer { error }).expect("strings become JSON")
    }

    /// Whether the same request may succeed in a moment.
    pub(super) fn is_transient(&self) -> bool {
        [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&self.status)
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let field = Some(error.field.clone());
        Self { field, ..Self::new(StatusCode::BAD_REQUEST, "bad_request", error.to_string()) }
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", denied.to_string())
    }
}

impl From<policy::Refusal> for Failure {
    fn from(refusal: policy::Refusal) -> Self {
        let message = refusal.to_string();
        let new = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "policy_refused", message);
        Self { field: Some(refusal.rule.field().to_owned()), rule: Some(refusal.rule), ..new }
    }
}

impl From<SpendError> for Failure {
    fn from(error: SpendError) -> Self {
        let (rule, client) = match &error {
            SpendError::Nonce(error) => (error.rule(), None),
            SpendError::Window(error) => (Rule::Windows, error.client().map(str::to_owned)),
        };
        Self::from(policy::Refusal { rule, problem: error.to_string(), client })
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        let (status, code) = match error {
            KeyError::SecretId(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            KeyError::NotFound => (StatusCode::NOT_FOUND, "key_not_found"),
            KeyError::Credential(_) => (StatusCode::FORBIDDEN, "credential_refused"),
            KeyError::Refused(_) => (StatusCode::BAD_GATEWAY, "key_refused"),
            KeyError::Answer(_) => (StatusCode::BAD_GATEWAY, "key_answer"),
            KeyError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "key_unavailable"),
            KeyError::Busy => (StatusCode::TOO_MANY_REQUESTS, "busy"),
        };
        let field = matches!(error, KeyError::SecretId(_)).then(|| "secret_id".to_owned());
        Self { field, ..Self::new(status, code, error.to_string()) }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        match &error {
            LedgerError::Store(StoreError::Unavailable(_)) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable", error.to_string())
            }
            LedgerError::Store(StoreError::Refused(_)) => {
                Self::new(StatusCode::BAD_GATEWAY, "ledger_refused", error.to_string())
            }
            LedgerError::Window(window) => of_windows(&error, window.client()),
            LedgerError::Lease { owner, .. } | LedgerError::CrowdedWindow { owner, .. } => {
                of_windows(&error, owner.client())
            }
            LedgerError::Spent { .. }
            | LedgerError::Garbage { .. }
            | LedgerError::Foreign { .. }
            | LedgerError::Crowded { .. } => {
                Self::from(policy::Refusal { rule: Rule::NonceReuse, problem: error.to_string(), client: None })
            }
        }
    }
}

fn of_windows(error: &LedgerError, client: Option<&str>) -> Failure {
    let client = client.map(str::to_owned);
    Failure::from(policy::Refusal { rule: Rule::Windows, problem: error.to_string(), client })
}

impl From<SignError> for Failure {
    /// What exactly went wrong is for the log.
    fn from(_error: SignError) -> Self {
        let message = "the signature failed the signer's own check and was discarded";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

impl From<AttestorError> for Failure {
    fn from(error: AttestorError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "attestation_unavailable", error.to_string())
    }
}

/// Bytes in an answer.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
