//! Answers: a result or an error, with the `id` of the call.

use super::envelope::Id;
use super::error::RpcError;

/// The answer of a call that succeeded. `result` is JSON.
#[must_use]
pub fn result(id: Id<'_>, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.as_json())
}

/// The answer of a call that failed.
///
/// # Panics
/// Never: strings and numbers become JSON.
#[must_use]
pub fn error(id: Id<'_>, error: &RpcError) -> String {
    let error = serde_json::to_string(error).expect("strings and numbers become JSON");
    format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.as_json())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::error::{ErrorData, REFUSED};

    #[test]
    fn answers_have_these_fields() {
        assert_eq!(result(Id::NULL, "\"0x1\""), r#"{"jsonrpc":"2.0","id":null,"result":"0x1"}"#);
        let refused = RpcError::new(REFUSED, "policy rule max_gas: 2, at most 1").with(&ErrorData {
            code: "policy_refused",
            rule: Some("max_gas"),
            ..ErrorData::default()
        });
        assert_eq!(
            error(Id::NULL, &refused),
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32010,"message":"policy rule max_gas: 2, at most 1","data":{"code":"policy_refused","rule":"max_gas"}}}"#
        );
    }
}
