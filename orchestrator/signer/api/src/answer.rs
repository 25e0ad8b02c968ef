//! What the signer answers, in JSON.

use ethereum::hex;
use ethereum::signable::Signed;
use serde::{Deserialize, Serialize};

/// The answer to a [`SignRequest`](crate::request::SignRequest).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SignAnswer {
    /// Of a transaction.
    Transaction {
        /// As a node takes it, in hex.
        transaction_signed: String,
        /// Its hash, in hex.
        transaction_hash: String,
    },
    /// Of anything else.
    Signature {
        /// `r`, `s` and `v`, in hex.
        signature: String,
        /// What is signed, in hex.
        signed_hash: String,
    },
}

impl From<&Signed> for SignAnswer {
    fn from(signed: &Signed) -> Self {
        match signed {
            Signed::Transaction(transaction) => Self::Transaction {
                transaction_signed: hex::prefixed(&transaction.raw),
                transaction_hash: hex::prefixed(&transaction.hash),
            },
            Signed::Authorization(signature) | Signed::Message(signature) | Signed::TypedData(signature) => {
                Self::Signature {
                    signature: hex::prefixed(&signature.bytes),
                    signed_hash: hex::prefixed(&signature.hash),
                }
            }
        }
    }
}

/// The answer to a [`GenerateRequest`](crate::request::GenerateRequest).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyAnswer {
    /// The key's account.
    pub address: String,
    /// KMS's `CiphertextBlob`, base64.
    pub encrypted_key: String,
}

/// An attestation document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentAnswer {
    /// COSE_Sign1, base64.
    pub document: String,
}

/// Every answer whose status is not 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// Why.
    pub error: Refusal,
}

/// Why the signer refuses a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// One of the signer's codes, such as `policy_refused`.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// The field of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

#[cfg(test)]
mod tests {
    use ethereum::signable::Signature;
    use ethereum::signature::SignedTransaction;

    use super::*;

    #[test]
    fn answers_have_these_fields_in_both_directions() {
        fn golden<T: Serialize + for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug>(answer: &T, text: &str) {
            assert_eq!(serde_json::to_string(answer).unwrap(), text);
            assert_eq!(&serde_json::from_str::<T>(text).unwrap(), answer);
        }
        let text = str::to_owned;
        let signed = SignedTransaction { raw: vec![2], hash: [3; 32] };
        let text_signed = format!(r#"{{"transaction_signed":"0x02","transaction_hash":"0x{}"}}"#, "03".repeat(32));
        golden(&SignAnswer::from(&Signed::Transaction(signed)), &text_signed);
        let signature = Signature { bytes: [4; 65], hash: [5; 32] };
        let text_signature =
            format!(r#"{{"signature":"0x{}","signed_hash":"0x{}"}}"#, "04".repeat(65), "05".repeat(32));
        for signed in [Signed::Authorization(signature), Signed::Message(signature), Signed::TypedData(signature)] {
            golden(&SignAnswer::from(&signed), &text_signature);
        }
        let key = KeyAnswer { address: text("0x04"), encrypted_key: text("b2xk") };
        golden(&key, r#"{"address":"0x04","encrypted_key":"b2xk"}"#);
        golden(&DocumentAnswer { document: text("hEM=") }, r#"{"document":"hEM="}"#);
        let error = Refusal { code: text("busy"), message: text("wait"), field: None };
        golden(&ErrorAnswer { error }, r#"{"error":{"code":"busy","message":"wait"}}"#);
        let error = Refusal { code: text("bad_request"), message: text("gas: 0"), field: Some(text("gas")) };
        golden(&ErrorAnswer { error }, r#"{"error":{"code":"bad_request","message":"gas: 0","field":"gas"}}"#);
    }
}
