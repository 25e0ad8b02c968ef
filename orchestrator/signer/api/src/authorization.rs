//! What `eth_sign7702Authorization` signs.
//!
//! ```json
//! {"contract": "0x…", "chain_id": 1, "nonce": 0}
//! ```

use ethereum::authorization::Authorization;
use ethereum::transaction::{MAX_CHAIN_ID, MAX_NONCE};

use serde_json::value::RawValue;

use crate::error::RequestError;
use crate::field::{Field, Slot};
use crate::json::{fields, join};

/// Reads an authorisation, all of whose fields are required: nobody but the client knows the account's next nonce.
///
/// # Errors
/// The field that is wrong, and what is expected.
pub fn parse(field: &Field<'_>) -> Result<Authorization, RequestError> {
    of(&field.path, fields(field.text, &field.path, ["contract", "chain_id", "nonce"])?)
}

/// Of the fields `contract`, `chain_id` and `nonce` of the object at `path`.
pub(crate) fn of(
    path: &str,
    [contract, chain_id, nonce]: [Option<&RawValue>; 3],
) -> Result<Authorization, RequestError> {
    let slot = |name: &str, raw| Slot { path: join(path, name), raw };
    Ok(Authorization {
        contract: slot("contract", contract).required("the address of the contract")?.address()?,
        chain_id: slot("chain_id", chain_id)
            .required("the number of a chain, or 0 for every chain")?
            .whole(0, MAX_CHAIN_ID)?,
        nonce: slot("nonce", nonce).required("the account's nonce, which this spends")?.whole(0, MAX_NONCE)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"contract": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "chain_id": 1, "nonce": "0x7"}"#;

    fn refused(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        parse(&Field::new("params[0]", &GOOD.replacen(from, to, 1))).unwrap_err().to_string()
    }

    #[test]
    fn an_authorisation_is_read() {
        let Authorization { chain_id, contract, nonce } = parse(&Field::new("params[0]", GOOD)).unwrap();
        assert_eq!((chain_id, nonce), (1, 7));
        assert_eq!(contract.to_string(), "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf");
        let every = parse(&Field::new("params[0]", &GOOD.replace("\"chain_id\": 1", "\"chain_id\": 0"))).unwrap();
        assert_eq!(every.chain_id, 0);
    }

    #[test]
    fn each_field_is_required_once_and_nothing_else_is_read() {
        assert!(
            refused(", \"nonce\": \"0x7\"", "").starts_with("params[0].nonce: missing, expected the account's nonce")
        );
        assert!(refused("\"chain_id\": 1, ", "").starts_with("params[0].chain_id: missing"));
        assert!(refused("\"contract\"", "\"address\"").starts_with("params[0].address: unknown field"));
        assert!(refused("\"chain_id\": 1", "\"chain_id\": 1, \"chain_id\": 1").contains("written twice"));
        assert!(refused("\"0x7\"", "null").starts_with("params[0].nonce: null"));
        assert!(refused("\"0x7\"", "-1").starts_with("params[0].nonce: -1: expected a whole number"));
        assert!(refused("\"0x7\"", "18446744073709551615").contains("expected a whole number"));
        assert!(refused("\"chain_id\": 1", "\"chain_id\": \"1\"").contains("expected a whole number"));
        assert!(refused("67cf", "67cF").starts_with("params[0].contract: "));
        assert!(refused("\"0x7\"", &"[".repeat(10_000)).starts_with("params[0]"));
    }
}
