//! The Lambda function: the CLI's operations as events.
//!
//! ```json
//! {"operation": "set_key", "eth_key": "64 hex digits", "replace": "address of the key that is there"}
//! {"operation": "get_key"}
//! {"operation": "sign_transaction", "transaction_payload": {}}
//! ```
//!
//! `set_key` returns `{"secret_id", "version_id", "address", "label", "replaced"}`, `get_key` the ciphertext in base64, and
//! `sign_transaction` the signer's response. `set_key` works only if `SET_KEY` allows it, and accepts `replace` only if there is a
//! key.

mod client;
mod environment;
mod runtime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ethereum::key::SecretKey;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use serde_json::value::RawValue;
use thiserror::Error;
use tracing::info;
use zeroize::Zeroizing;

use crate::aws::{Conflict, KeyName};
use crate::enclave::{Enclave, EnclaveError};
use crate::tls::ClientIdentity;

pub use environment::Environment;
pub use runtime::run;

/// Why an event failed.
#[derive(Debug, Error)]
pub enum Failure {
    /// Not one of the three events.
    #[error("event: {0}")]
    Event(String),
    /// The function may not store keys.
    #[error(
        "set_key: this function stores no keys; `wallet set-key` does, or function.may_set_key = true in config/aws.toml"
    )]
    SetKeyOff,
    /// KMS or Secrets Manager.
    #[error("{0:#}")]
    Aws(#[from] anyhow::Error),
    /// The secret with the function's client certificate.
    #[error("{0:#}")]
    ClientSecret(anyhow::Error),
    /// The enclave, or another server in its place.
    #[error("{}", chain(.0))]
    Enclave(#[from] EnclaveError),
    /// Lambda is about to end the function.
    #[error("no response before the invocation's deadline, expected a longer function timeout")]
    Deadline,
}

impl Failure {
    /// The `errorType` of the response.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Event(_) => "InvalidEvent",
            Self::SetKeyOff => "SetKeyOff",
            Self::Aws(error) if error.is::<Conflict>() => "KeyConflict",
            Self::Aws(_) => "AwsError",
            Self::ClientSecret(_) => "ClientSecretError",
            Self::Enclave(EnclaveError::Untrusted { .. }) => "EnclaveNotTrusted",
            Self::Enclave(EnclaveError::Refused { .. }) => "EnclaveRefused",
            Self::Enclave(
                EnclaveError::Connect { .. }
                | EnclaveError::Handshake { .. }
                | EnclaveError::Random
                | EnclaveError::Exchange { .. }
                | EnclaveError::Silent { .. }
                | EnclaveError::Malformed { .. },
            ) => "EnclaveUnavailable",
            Self::Deadline => "Timeout",
        }
    }
}

/// An event with exactly the fields of its operation.
enum Operation<'a> {
    SetKey { key: SecretKey, replace: Option<KeyName> },
    GetKey,
    SignTransaction(&'a RawValue),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event<'a> {
    operation: String,
    eth_key: Option<Secret>,
    replace: Option<String>,
    #[serde(borrow)]
    transaction_payload: Option<&'a RawValue>,
}

struct Secret(Zeroizing<String>);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// Answers one event, in JSON.
///
/// # Errors
/// A [`Failure`], which never shows a key.
pub async fn answer(environment: &mut Environment, event: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match Operation::parse(event)? {
        Operation::SetKey { .. } if !environment.may_set_key => Err(Failure::SetKeyOff),
        Operation::SetKey { key, replace } => {
            let Environment { aws, secret_id, key_arn, context, .. } = environment;
            let place = aws.place(secret_id, replace.as_ref()).await?;
            let ciphertext = aws.encrypt(&key, key_arn, context).await?;
            let stored = aws.store(&place, &key.address(), &ciphertext).await?;
            let answer = json!({
                "secret_id": stored.arn,
                "version_id": stored.version_id,
                "address": key.address().to_string(),
                "label": stored.label,
                "replaced": stored.replaced.map(|key| key.to_string()),
            });
            Ok(Zeroizing::new(answer.to_string().into_bytes()))
        }
        Operation::GetKey => {
            let (_, ciphertext) = environment.aws.stored(&environment.secret_id).await?;
            Ok(Zeroizing::new(json!(STANDARD.encode(ciphertext)).to_string().into_bytes()))
        }
        Operation::SignTransaction(payload) => {
            let request =
                format!("{{\"transaction_payload\": {payload}, \"secret_id\": {}}}", json!(environment.secret_id));
            sign(environment, &request).await
        }
    }
}

/// With the client certificate of the secret, if there is one. An earlier event may have read a certificate that has been replaced
/// since. So if the enclave may have refused the certificate, it is read again, once.
async fn sign(environment: &mut Environment, request: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let Environment { aws, url, trust, client, .. } = environment;
    let ask = async |identity: Option<&ClientIdentity>| {
        let mut enclave = Enclave::connect(url, identity, trust).await?;
        enclave.sign(Zeroizing::new(request.as_bytes().to_vec())).await
    };
    let Some(client) = client else { return Ok(ask(None).await?) };
    if let Some(kept) = client.kept() {
        match ask(Some(kept)).await {
            Err(error) if error.may_be_of_the_certificate() => {
                info!(error = chain(&error), "reading the client's certificate again");
            }
            result => return Ok(result?),
        }
    }
    let identity = client.read(aws).await.map_err(Failure::ClientSecret)?;
    Ok(ask(Some(identity)).await?)
}

impl<'a> Operation<'a> {
    fn parse(event: &'a [u8]) -> Result<Self, Failure> {
        const EXPECTED: &str = "expected \"set_key\" with \"eth_key\" and, where a key is, \"replace\", \"get_key\" with nothing, or \"sign_transaction\" with \"transaction_payload\"";
        // The parser's own message could show a part of a key.
        let wrong = |error: serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            Failure::Event(format!("not understood from line {line}, column {column} on, {EXPECTED}"))
        };
        let event: Event<'a> = serde_json::from_slice(event).map_err(wrong)?;
        match (event.operation.as_str(), event.eth_key, event.replace, event.transaction_payload) {
            ("set_key", Some(Secret(text)), replace, None) => {
                let key = SecretKey::parse(text.as_bytes());
                let key = key.map_err(|error| Failure::Event(format!("eth_key: {error}")))?;
                // The field may hold a secret key by mistake: do not show it.
                let wrong = |_| {
                    Failure::Event(
                        "replace: expected a key's address, such as 0x and 40 hex digits, or a VersionId".to_owned(),
                    )
                };
                let replace = replace.map(|text| text.parse()).transpose().map_err(wrong)?;
                Ok(Self::SetKey { key, replace })
            }
            ("get_key", None, None, None) => Ok(Self::GetKey),
            ("sign_transaction", None, None, Some(payload)) if payload.get().starts_with('{') => {
                Ok(Self::SignTransaction(payload))
            }
            ("sign_transaction", None, None, Some(_)) => {
                Err(Failure::Event("transaction_payload: expected an object".to_owned()))
            }
            ("set_key" | "get_key" | "sign_transaction", ..) => {
                Err(Failure::Event(format!("operation {:?} with other fields, {EXPECTED}", event.operation)))
            }
            _ => Err(Failure::Event("unknown operation, ".to_owned() + EXPECTED)),
        }
    }
}

/// An error and its causes, on one line.
fn chain(error: &EnclaveError) -> String {
    anyhow::Chain::new(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(event: &str) -> String {
        match Operation::parse(event.as_bytes()) {
            Ok(_) => panic!("{event} is understood"),
            Err(failure) => {
                assert_eq!(failure.name(), "InvalidEvent");
                failure.to_string()
            }
        }
    }

    #[test]
    fn the_three_events_are_understood() {
        let key = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
        let event = format!(r#"{{"operation": "set_key", "eth_key": "{key}"}}"#);
        let Ok(Operation::SetKey { key, replace: None }) = Operation::parse(event.as_bytes()) else {
            panic!("{event}")
        };
        assert_eq!(key.address().to_string(), "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23");
        assert!(matches!(Operation::parse(br#"{"operation": "get_key"}"#), Ok(Operation::GetKey)));
        let event = br#"{"operation": "sign_transaction", "transaction_payload": {"value": 0.10}}"#;
        let Ok(Operation::SignTransaction(payload)) = Operation::parse(event) else { panic!("not understood") };
        assert_eq!(payload.get(), r#"{"value": 0.10}"#, "numbers stay as they are written");
    }

    #[test]
    fn other_events_are_refused_with_what_would_be_right_and_without_the_key() {
        for event in [
            "",
            "[]",
            "{}",
            r#"{"operation": "sign"}"#,
            r#"{"operation": "set_key"}"#,
            r#"{"operation": "set_key", "eth_key": 31337}"#,
            r#"{"operation": "set_key", "eth_key": "31337"}"#,
            r#"{"operation": "set_key", "eth_key": "31337", "more": 1}"#,
            r#"{"operation": "set_key", "replace": "0x31337"}"#,
            r#"{"operation": "get_key", "replace": "0x31337"}"#,
            r#"{"operation": "sign_transaction", "replace": "0x31337", "transaction_payload": {}}"#,
            r#"{"operation": "get_key", "more": "31337"}"#,
            r#"{"operation": "31337"}"#,
            r#"{"operation": "get_key", "eth_key": "31337"}"#,
            r#"{"operation": "sign_transaction"}"#,
            r#"{"operation": "sign_transaction", "transaction_payload": "31337"}"#,
            r#"{"operation": "get_key", "operation": "set_key"}"#,
        ] {
            let error = refused(event);
            assert!(error.contains("expected") && !error.contains("31337"), "{event}: {error}");
        }
    }
}
