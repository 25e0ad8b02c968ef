//! What stands in for KMS and Secrets Manager: enough of their JSON 1.1 protocol to decrypt what it encrypted, and to
//! do wrong.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Request;
use hyper::body::Bytes;
use kms::cms::EnvelopedData;
use kms::seal::{Form, encode, seal};
use serde_json::{Value, json};

use crate::server::Answer;
use crate::signature;

pub(crate) const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
pub(crate) const OTHER_KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/ffffffff-12ab-34cd-56ef-1234567890ab";
pub(crate) const KNOWN_ID: &str = "ASIAEXAMPLE0KNOWN000";
/// Of a session that is revoked, or of a role that may do nothing.
pub(crate) const REVOKED_ID: &str = "ASIAEXAMPLE0REVOKED0";
pub(crate) const KNOWN_SECRET: &str = "not+a+secret/but/an+example/of/forty/chars";
pub(crate) const EXPIRED_TOKEN: &str = "example+expired+token";
/// What the tests' attestor writes before a public key and the document's number.
pub(crate) const DOCUMENT: &[u8] = b"a document of a test, number ";

/// What an answer does differently from KMS.
pub(crate) enum Twist {
    Nothing,
    Error(u16, &'static str),
    Silence,
    Text(&'static str),
    Field(&'static str, Value),
    Message(fn(&EnvelopedData) -> Vec<u8>),
    /// Encrypts to a key that is not the document's.
    Recipient(Vec<u8>),
}

/// Shared between a test and its server.
#[derive(Clone, Default)]
pub(crate) struct StandIn {
    twists: Arc<Mutex<VecDeque<Twist>>>,
    seen: Arc<Mutex<Vec<Request<Value>>>>,
    secret: Arc<Mutex<Value>>,
}

impl StandIn {
    /// One twist for each request, in turn; after them it answers as KMS does.
    pub(crate) fn with(twists: impl IntoIterator<Item = Twist>) -> Self {
        Self { twists: Arc::new(Mutex::new(twists.into_iter().collect())), ..Self::default() }
    }

    pub(crate) fn store(&self, secret: Value) {
        *self.secret.lock().unwrap() = secret;
    }

    pub(crate) fn seen(&self) -> Vec<Request<Value>> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    pub(crate) fn answer(&self, request: Request<Bytes>) -> Answer {
        let is_signed = signature::is_right(&request, KNOWN_SECRET);
        let (parts, body) = request.into_parts();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let header =
            |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        assert_eq!(header("content-type"), "application/x-amz-json-1.1");
        let (target, authorization, token) =
            (header("x-amz-target"), header("authorization"), header("x-amz-security-token"));
        self.seen.lock().unwrap().push(Request::from_parts(parts.clone(), body.clone()));

        let twist = self.twists.lock().unwrap().pop_front().unwrap_or(Twist::Nothing);
        match twist {
            Twist::Error(status, code) => return Some(error(status, code)),
            Twist::Silence => return None,
            Twist::Text(text) => return Some((200, text.to_owned())),
            Twist::Nothing | Twist::Field(..) | Twist::Message(_) | Twist::Recipient(_) => {}
        }
        if authorization.contains(REVOKED_ID) && is_signed {
            return Some(error(400, "AccessDeniedException"));
        }
        if !authorization.contains(KNOWN_ID) {
            return Some(error(400, "UnrecognizedClientException"));
        }
        if !is_signed {
            return Some(error(400, "InvalidSignatureException"));
        }
        if token == EXPIRED_TOKEN {
            return Some(error(400, "ExpiredTokenException"));
        }
        let answer = match target.as_str() {
            "TrentService.Encrypt" => Ok(encrypt(&body)),
            "TrentService.Decrypt" => decrypt(&body, &twist),
            "secretsmanager.GetSecretValue" => Ok(self.secret.lock().unwrap().clone()),
            other => panic!("{other}"),
        };
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(code) => return Some(error(400, code)),
        };
        if let Twist::Field(name, value) = twist {
            answer[name] = value;
        }
        Some((200, answer.to_string()))
    }
}

fn error(status: u16, code: &str) -> (u16, String) {
    (status, json!({ "__type": code, "message": "the stand-in says no" }).to_string())
}

/// The ciphertext says all that Decrypt has to check, and hides nothing.
fn encrypt(body: &Value) -> Value {
    let ciphertext = json!([body["KeyId"], body["EncryptionContext"], body["Plaintext"]]).to_string();
    json!({ "KeyId": body["KeyId"], "CiphertextBlob": STANDARD.encode(ciphertext) })
}

fn decrypt(body: &Value, twist: &Twist) -> Result<Value, &'static str> {
    let ciphertext: Value =
        serde_json::from_slice(&bytes(&body["CiphertextBlob"])).map_err(|_not_ours| "InvalidCiphertextException")?;
    if ciphertext[0] != body["KeyId"] {
        return Err("IncorrectKeyException");
    }
    if ciphertext[1] != body["EncryptionContext"] {
        return Err("InvalidCiphertextException");
    }
    assert_eq!(body["Recipient"]["KeyEncryptionAlgorithm"], "RSAES_OAEP_SHA_256");
    let document = bytes(&body["Recipient"]["AttestationDocument"]);
    let public_key = match twist {
        Twist::Recipient(other) => other.as_slice(),
        _ => document.strip_prefix(DOCUMENT).and_then(|rest| rest.get(1..)).ok_or("AccessDeniedException")?,
    };
    let message = seal(public_key, &bytes(&ciphertext[2])).unwrap();
    let message = match twist {
        Twist::Message(change) => change(&message),
        _ => encode(&message, Form::Indefinite),
    };
    Ok(json!({
        "KeyId": body["KeyId"], "EncryptionAlgorithm": "SYMMETRIC_DEFAULT", "Plaintext": "",
        "CiphertextForRecipient": STANDARD.encode(message),
    }))
}

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}
