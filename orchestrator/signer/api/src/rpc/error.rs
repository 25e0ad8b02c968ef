//! Errors of JSON-RPC. The numbers are those of the specification, of geth, and of op-signer.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::RequestError;

/// The body is not JSON.
pub const PARSE: i64 = -32700;
/// It is not a call, or a batch that is empty or too long.
pub const INVALID_REQUEST: i64 = -32600;
/// No such method here.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// A parameter is missing or wrong.
pub const INVALID_PARAMS: i64 = -32602;
/// The signer, AWS or an upstream failed, and the same call may fail again.
pub const INTERNAL: i64 = -32603;
/// Not available at the moment (EIP-1474): the same call may succeed after a pause.
pub const UNAVAILABLE: i64 = -32002;
/// Too much at once (EIP-1474): the same call may succeed after a pause.
pub const BUSY: i64 = -32005;
/// The method is known, and this signer does not serve it (EIP-1474).
pub const UNSUPPORTED: i64 = -32004;
/// The policy refuses, or no node would accept it.
pub const REFUSED: i64 = -32010;
/// This client may not.
pub const UNAUTHORISED: i64 = -32011;

/// Why a call fails.
#[derive(Clone, Debug, Serialize)]
pub struct RpcError {
    /// One of the above, or an upstream's.
    pub code: i64,
    /// One sentence.
    pub message: String,
    /// [`ErrorData`], or what an upstream says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

/// What a program reads.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ErrorData<'a> {
    /// The signer's code, as in its own form: `policy_refused`.
    pub code: &'a str,
    /// The rule of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'a str>,
    /// The field of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'a str>,
    /// After how many seconds the same call may succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The hash of a transaction that is signed, and that the upstream may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_hash: Option<&'a str>,
}

impl RpcError {
    /// Without data.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// With data.
    ///
    /// # Panics
    /// Never: strings and numbers become JSON.
    #[must_use]
    pub fn with(self, data: &ErrorData<'_>) -> Self {
        let json = serde_json::to_string(data).expect("strings and numbers become JSON");
        Self { data: Some(RawValue::from_string(json).expect("this is JSON")), ..self }
    }
}

impl From<RequestError> for RpcError {
    fn from(error: RequestError) -> Self {
        let data = ErrorData { code: "bad_request", field: Some(&error.field), ..ErrorData::default() };
        Self::new(INVALID_PARAMS, error.to_string()).with(&data)
    }
}
