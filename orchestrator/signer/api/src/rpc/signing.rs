//! The parameters of methods that sign something else than a transaction.
//!
//! | method | parameters |
//! |---|---|
//! | `personal_sign` | message, address; a password behind them is ignored |
//! | `eth_signTypedData`, `eth_signTypedData_v3`, `eth_signTypedData_v4`, `account_signTypedData` | address, typed data |
//! | `account_signData` | `text/plain` or `data/typed`, address, data |
//! | `eth_sign7702Authorization` | `contract`, `chain_id`, `nonce` and `from`, in an object |

use ethereum::address::Address;
use ethereum::signable::Signable;

use super::params::Params;
use crate::error::RequestError;
use crate::field::Slot;
use crate::json::{fields, join, shown};
use crate::{authorization, message, typed_data};

const FROM: &str = "the address of the account that signs, one of eth_accounts";

/// What is to be signed, and by whom.
#[derive(Debug)]
pub struct Signing {
    /// The account that signs.
    pub from: Address,
    /// No transaction.
    pub subject: Signable,
}

impl Signing {
    /// The parameters of one of these methods; none of another one.
    ///
    /// # Errors
    /// The parameter that is wrong, and what would be right.
    pub fn of_method(method: &str, params: Params<'_>) -> Option<Result<Self, RequestError>> {
        Some(match method {
            "personal_sign" => Self::message(params),
            // web3.py and Clef have names of their own for version 4.
            "eth_signTypedData" | "eth_signTypedData_v3" | "eth_signTypedData_v4" | "account_signTypedData" => {
                Self::typed_data(params)
            }
            "account_signData" => Self::of_clef(params),
            "eth_sign7702Authorization" => Self::authorization(params),
            _ => return None,
        })
    }

    fn message(params: Params<'_>) -> Result<Self, RequestError> {
        let [message, from, _password] = params.read(["message", "address", "password"])?;
        let message = message::parse(&message.required("the message, as 0x and hex digits or as text")?)?;
        let from = from.required(FROM)?;
        let from = from.address().map_err(|_another| from.error("expected an address, and the message before it"))?;
        Ok(Self { from, subject: Signable::Message(message) })
    }

    fn typed_data(params: Params<'_>) -> Result<Self, RequestError> {
        let [from, data] = params.read(["address", "typed_data"])?;
        let data = typed_data::parse(&data.required("an object with types, primaryType, domain and message")?)?;
        Ok(Self { from: from.required(FROM)?.address()?, subject: Signable::TypedData(data) })
    }

    fn of_clef(params: Params<'_>) -> Result<Self, RequestError> {
        let [kind, from, data] = params.read(["content_type", "address", "data"])?;
        let expected = "expected \"text/plain\" or \"data/typed\"";
        let kind = kind.required(expected)?;
        let data = data.required("what is signed")?;
        let subject = match kind.string(expected)?.as_str() {
            "text/plain" => Signable::Message(message::parse(&data)?),
            "data/typed" => Signable::TypedData(typed_data::parse(&data)?),
            other => return Err(RequestError::new(&kind.path, format!("{}: {expected}", shown(other)))),
        };
        Ok(Self { from: from.required(FROM)?.address()?, subject })
    }

    fn authorization(params: Params<'_>) -> Result<Self, RequestError> {
        let (text, path) = if params.as_json().starts_with('[') {
            let [object] = params.read(["authorization"])?;
            let field = object.required("an object with contract, chain_id, nonce and from")?;
            (field.text, field.path)
        } else {
            (params.as_json(), "params".to_owned())
        };
        let [contract, chain_id, nonce, from] = fields(text, &path, ["contract", "chain_id", "nonce", "from"])?;
        let from = Slot { path: join(&path, "from"), raw: from };
        let authorization = authorization::of(&path, [contract, chain_id, nonce])?;
        Ok(Self { from: from.required(FROM)?.address()?, subject: Signable::Authorization(authorization) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    const FROM_TEXT: &str = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23";

    fn read(params: &str, read: impl Fn(Params<'_>) -> Result<Signing, RequestError>) -> Result<Signing, String> {
        let raw = RawValue::from_string(params.to_owned()).unwrap();
        Params::of(Some(&raw)).and_then(read).map_err(|error| error.to_string())
    }

    #[test]
    fn a_message_comes_before_its_address_and_typed_data_behind_it() {
        let signing = read(&format!(r#"["0x6869", "{FROM_TEXT}", "password"]"#), Signing::message).unwrap();
        assert_eq!(signing.subject, Signable::Message(ethereum::message::Message(b"hi".to_vec())));
        assert_eq!(signing.from.to_string(), FROM_TEXT);
        let data = r#"{"types":{"EIP712Domain":[{"name":"name","type":"string"}],"A":[{"name":"b","type":"uint8"}]},
            "primaryType":"A","domain":{"name":"x"},"message":{"b":1}}"#;
        for params in [format!(r#"["{FROM_TEXT}", {data}]"#), format!(r#"["data/typed", "{FROM_TEXT}", {data}]"#)] {
            let kind = if params.contains("data/typed") { Signing::of_clef } else { Signing::typed_data };
            assert!(matches!(read(&params, kind).unwrap().subject, Signable::TypedData(_)), "{params}");
        }
        let text = read(&format!(r#"["text/plain", "{FROM_TEXT}", "0x6869"]"#), Signing::of_clef).unwrap();
        assert_eq!(text.subject, signing.subject);
    }

    #[test]
    fn an_authorisation_is_an_object_in_a_list_or_the_parameters_by_name() {
        let object = format!(r#"{{"contract":"{FROM_TEXT}","chain_id":0,"nonce":"0x5","from":"{FROM_TEXT}"}}"#);
        for params in [format!("[{object}]"), object.clone()] {
            let Signable::Authorization(authorization) = read(&params, Signing::authorization).unwrap().subject else {
                panic!("{params}")
            };
            assert_eq!((authorization.chain_id, authorization.nonce), (0, 5));
        }
        let missing = object.replace(r#","nonce":"0x5""#, "");
        assert!(read(&missing, Signing::authorization).unwrap_err().starts_with("params.nonce: missing, expected"));
        let missing = object.replace(&format!(r#","from":"{FROM_TEXT}""#), "");
        assert!(
            read(&format!("[{missing}]"), Signing::authorization).unwrap_err().starts_with("params[0].from: missing")
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (params, kind, expected) in [
            ("[]", Signing::message as fn(Params<'_>) -> _, "params[0]: missing, expected the message"),
            (r#"["hi"]"#, Signing::message, "params[1]: missing, expected the address"),
            (r#"["hi", "0x1"]"#, Signing::message, "params[1]: "),
            (
                r#"["0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"]"#,
                Signing::typed_data,
                "params[1]: missing, expected an object",
            ),
            (r#"["application/x", "a", "b"]"#, Signing::of_clef, "params[0]: application/x: expected \"text/plain\""),
            (r#"[{"hash": "0x"}]"#, Signing::authorization, "params[0].hash: unknown field"),
        ] {
            let error = read(params, kind).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
