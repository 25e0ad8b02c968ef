//! A call that fails: the code and the words of JSON-RPC for what the service says in its own form.

use signer_api::RequestError;
use signer_api::rpc::RpcError;
use signer_api::rpc::error::{
    BUSY, ErrorData, INTERNAL, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE, REFUSED, UNAUTHORISED,
    UNAVAILABLE, UNSUPPORTED,
};

use crate::policy::Rule;
use crate::service::failure::Failure;

/// Why there is no result.
pub(super) struct CallError {
    pub(super) error: RpcError,
    /// For the metrics.
    pub(super) outcome: &'static str,
    /// The rule of the policy, for the metrics.
    pub(super) rule: Option<Rule>,
}

impl CallError {
    pub(super) fn new(error: RpcError, outcome: &'static str) -> Self {
        Self { error, outcome, rule: None }
    }

    /// With the outcome of its code.
    pub(super) fn with_code(code: i64, message: impl Into<String>) -> Self {
        Self::new(RpcError::new(code, message), outcome(code))
    }
}

/// The outcome, for the metrics, of what is wrong with a call itself.
pub(super) fn outcome(code: i64) -> &'static str {
    match code {
        PARSE | INVALID_REQUEST | INVALID_PARAMS => "bad_request",
        METHOD_NOT_FOUND | UNSUPPORTED => "not_found",
        REFUSED => "policy_refused",
        UNAUTHORISED => "forbidden",
        BUSY => "busy",
        UNAVAILABLE => "unavailable",
        _ => "internal",
    }
}

impl From<RequestError> for CallError {
    fn from(error: RequestError) -> Self {
        Self::new(error.into(), "bad_request")
    }
}

/// Where the service's own form has the transaction, and where a call has it.
const OWN: &str = "transaction_payload.";
const PLACE: &str = "params[0].";

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        let is_of_transaction = failure.field.as_ref().is_some_and(|field| field.starts_with(OWN));
        let code = match failure.code {
            // The fields of the call have been read: no node would accept the transaction.
            "policy_refused" | "bad_request" if is_of_transaction => REFUSED,
            "policy_refused" => REFUSED,
            "forbidden" => UNAUTHORISED,
            "busy" => BUSY,
            _ if failure.is_transient() => UNAVAILABLE,
            _ => INTERNAL,
        };
        let field = failure.field.as_ref().map(|field| field.replacen(OWN, PLACE, 1));
        let message = match failure.message.strip_prefix(OWN) {
            Some(rest) => format!("{PLACE}{rest}"),
            None => failure.message.clone(),
        };
        let data = ErrorData {
            code: failure.code,
            rule: failure.rule.map(Rule::name),
            field: field.as_deref(),
            retry_after: failure.is_transient().then_some(1),
            transaction_hash: None,
        };
        Self { error: RpcError::new(code, message).with(&data), outcome: failure.code, rule: failure.rule }
    }
}
