//! A signed transaction as geth shows it (go-ethereum: `core/types/transaction_marshalling.go`).

use ethereum::authorization::{Authorization, SignedAuthorization};
use ethereum::hex;
use ethereum::signable::Signature;
use ethereum::signature::{SignError, SignedTransaction};
use ethereum::transaction::{Access, Kind, Transaction};
use serde::Serialize;

use super::quantity;

/// `{raw, tx}`, the result of `account_signTransaction`.
#[derive(Debug, Serialize)]
pub struct SignedJson {
    raw: String,
    tx: TransactionJson,
}

/// The fields in geth's order. Those without a value are null or absent, as there.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct TransactionJson {
    r#type: String,
    chain_id: String,
    nonce: String,
    to: Option<String>,
    gas: String,
    gas_price: Option<String>,
    max_priority_fee_per_gas: Option<String>,
    max_fee_per_gas: Option<String>,
    value: String,
    input: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_fee_per_blob_gas: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_list: Option<Vec<AccessJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blob_versioned_hashes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_list: Option<Vec<AuthorizationJson>>,
    v: String,
    r: String,
    s: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    y_parity: Option<String>,
    hash: String,
}

/// An entry of an access list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AccessJson {
    address: String,
    storage_keys: Vec<String>,
}

impl From<&Access> for AccessJson {
    fn from(access: &Access) -> Self {
        let storage_keys = access.storage_keys.iter().map(|key| hex::prefixed(key)).collect();
        Self { address: hex::prefixed(&access.address.0), storage_keys }
    }
}

/// An entry of a list of authorisations.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationJson {
    chain_id: String,
    address: String,
    nonce: String,
    y_parity: String,
    r: String,
    s: String,
}

impl AuthorizationJson {
    /// Of what was requested and what was signed.
    #[must_use]
    pub fn new(authorization: Authorization, signature: &Signature) -> Self {
        let [r, s] = [0, 32].map(|at| std::array::from_fn(|byte| signature.bytes.get(at + byte).copied().unwrap_or(0)));
        let y_parity = signature.bytes.last() == Some(&1);
        Self::from(&SignedAuthorization { authorization, y_parity, r, s })
    }
}

impl From<&SignedAuthorization> for AuthorizationJson {
    fn from(entry: &SignedAuthorization) -> Self {
        Self {
            chain_id: quantity(entry.authorization.chain_id.into()),
            address: hex::prefixed(&entry.authorization.contract.0),
            nonce: quantity(entry.authorization.nonce.into()),
            y_parity: quantity(entry.y_parity.into()),
            r: number(&entry.r),
            s: number(&entry.s),
        }
    }
}

impl SignedJson {
    /// Of what was requested and what was signed.
    ///
    /// # Errors
    /// What was signed is not a transaction.
    pub fn new(transaction: &Transaction, signed: &SignedTransaction) -> Result<Self, SignError> {
        let values = signed.values()?;
        let list = |list: &[Access]| Some(list.iter().map(AccessJson::from).collect());
        let parity = Some(quantity(values.v.into()));
        let fields = match &transaction.kind {
            Kind::Legacy { gas_price } => TransactionJson {
                r#type: quantity(0),
                gas_price: Some(quantity(gas_price.0)),
                ..TransactionJson::default()
            },
            Kind::AccessList { gas_price, access_list } => TransactionJson {
                r#type: quantity(1),
                gas_price: Some(quantity(gas_price.0)),
                access_list: list(access_list),
                y_parity: parity,
                ..TransactionJson::default()
            },
            Kind::DynamicFee { max_fee_per_gas, max_priority_fee_per_gas, access_list } => TransactionJson {
                r#type: quantity(2),
                max_fee_per_gas: Some(quantity(max_fee_per_gas.0)),
                max_priority_fee_per_gas: Some(quantity(max_priority_fee_per_gas.0)),
                access_list: list(access_list),
                y_parity: parity,
                ..TransactionJson::default()
            },
            Kind::Blob {
                max_fee_per_gas,
                max_priority_fee_per_gas,
                access_list,
                max_fee_per_blob_gas,
                blob_versioned_hashes,
            } => TransactionJson {
                r#type: quantity(3),
                max_fee_per_gas: Some(quantity(max_fee_per_gas.0)),
                max_priority_fee_per_gas: Some(quantity(max_priority_fee_per_gas.0)),
                max_fee_per_blob_gas: Some(quantity(max_fee_per_blob_gas.0)),
                access_list: list(access_list),
                blob_versioned_hashes: Some(blob_versioned_hashes.iter().map(|hash| hex::prefixed(hash)).collect()),
                y_parity: parity,
                ..TransactionJson::default()
            },
            Kind::SetCode { max_fee_per_gas, max_priority_fee_per_gas, access_list, authorizations } => {
                TransactionJson {
                    r#type: quantity(4),
                    max_fee_per_gas: Some(quantity(max_fee_per_gas.0)),
                    max_priority_fee_per_gas: Some(quantity(max_priority_fee_per_gas.0)),
                    access_list: list(access_list),
                    authorization_list: Some(authorizations.iter().map(AuthorizationJson::from).collect()),
                    y_parity: parity,
                    ..TransactionJson::default()
                }
            }
        };
        let tx = TransactionJson {
            chain_id: quantity(transaction.chain_id.into()),
            nonce: quantity(transaction.nonce.into()),
            to: transaction.to.map(|to| hex::prefixed(&to.0)),
            gas: quantity(transaction.gas.into()),
            value: quantity(transaction.value.0),
            input: hex::prefixed(&transaction.data),
            v: quantity(values.v.into()),
            r: number(&values.r),
            s: number(&values.s),
            hash: hex::prefixed(&signed.hash),
            ..fields
        };
        Ok(Self { raw: hex::prefixed(&signed.raw), tx })
    }
}

/// A quantity of up to 256 bits.
fn number(big_endian: &[u8; 32]) -> String {
    let digits = hex::prefixed(big_endian);
    let digits = digits.trim_start_matches("0x").trim_start_matches('0');
    if digits.is_empty() { "0x0".to_owned() } else { format!("0x{digits}") }
}
