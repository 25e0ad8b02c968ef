//! What a node answers.

use std::borrow::Cow;

use anyhow::anyhow;
use hyper::StatusCode;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use signer_api::rpc::RpcError;

use super::UpstreamError;

/// A response that has been read.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

/// A result, JSON, or the node's error.
pub(in crate::service) type Answered = Result<String, RpcError>;

/// Other fields are of no use, and nodes have some.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "even_null")]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<ErrorObject<'a>>,
}

#[derive(Deserialize)]
struct ErrorObject<'a> {
    code: i64,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// A result of null is a result: a transaction that is not in a block has a receipt of null.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Whatever the status is, an error in JSON-RPC's form is the node's word.
pub(super) fn read(status: StatusCode, body: &[u8]) -> Result<Answered, UpstreamError> {
    let envelope = serde_json::from_slice::<Envelope<'_>>(body);
    match envelope {
        Ok(Envelope { error: Some(error), .. }) => Ok(Err(RpcError {
            code: error.code,
            message: format!("upstream: {}", signer_api::shown(&error.message)),
            data: error.data.map(ToOwned::to_owned),
        })),
        Ok(Envelope { result: Some(result), .. }) if status.is_success() => Ok(Ok(result.get().to_owned())),
        Ok(_) | Err(_) if !status.is_success() => Err(UpstreamError::Unavailable(anyhow!("HTTP {status}"))),
        Ok(_) | Err(_) => {
            Err(UpstreamError::Answer("not an answer of JSON-RPC, expected a result or an error".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(body: &str) -> Answered {
        read(StatusCode::OK, body.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_result_is_passed_on_as_it_is_even_null() {
        assert_eq!(ok(r#"{"jsonrpc":"2.0","id":1,"result":{"a": [1]},"x":2}"#).unwrap(), r#"{"a": [1]}"#);
        assert_eq!(ok(r#"{"jsonrpc":"2.0","id":1,"result":null}"#).unwrap(), "null");
        assert_eq!(ok(r#"{"result":1,"error":null}"#).unwrap(), "1");
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(ok(&format!(r#"{{"result":{deep}}}"#)).unwrap(), deep);
    }

    #[test]
    fn an_error_is_the_nodes_word_whatever_the_status() {
        let body = r#"{"error":{"code":3,"message":"execution reverted\n","data":"0x08c379a0"}}"#;
        for status in [StatusCode::OK, StatusCode::BAD_REQUEST] {
            let error = read(status, body.as_bytes()).unwrap().unwrap_err();
            assert_eq!((error.code, error.message.as_str()), (3, "upstream: execution reverted\\n"));
            assert_eq!(error.data.unwrap().get(), r#""0x08c379a0""#);
        }
        let long = format!(r#"{{"error":{{"code":3,"message":"{}"}}}}"#, "x".repeat(10_000));
        assert!(ok(&long).unwrap_err().message.len() < 200);
    }

    #[test]
    fn anything_else_is_no_answer() {
        for body in [
            "",
            "{}",
            "[]",
            "<html>",
            r#"{"result":}"#,
            r#"{"error":5}"#,
            r#"{"error":{"code":"x"}}"#,
            r#"{"result":1,"result":2}"#,
        ] {
            assert!(matches!(read(StatusCode::OK, body.as_bytes()), Err(UpstreamError::Answer(_))), "{body}");
        }
        for body in ["<html>", r#"{"result":1}"#] {
            let read = read(StatusCode::TOO_MANY_REQUESTS, body.as_bytes());
            assert!(matches!(read, Err(UpstreamError::Unavailable(_))), "{body}");
        }
    }
}
