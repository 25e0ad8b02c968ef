//! The object that describes a transaction: the parameter of `eth_signTransaction`, `eth_sendTransaction` and
//! `account_signTransaction`.
//!
//! | field | value |
//! |---|---|
//! | `from` | the account that signs |
//! | `to` | left out or null: `data` creates a contract |
//! | `gas` or `gasLimit` | quantity |
//! | `value` | quantity of wei, 0 if left out |
//! | `nonce` | quantity |
//! | `data` or `input` | bytes |
//! | `chainId` | quantity; left out, it is the chain of the path |
//! | `gasPrice` | for types 0 and 1; for other types only if it equals `maxFeePerGas` (Arbitrum Nitro sends both) |
//! | `maxFeePerGas`, `maxPriorityFeePerGas` | for types 2, 3 and 4 |
//! | `accessList` | for all types but 0 |
//! | `maxFeePerBlobGas`, `blobVersionedHashes` | for type 3 |
//! | `blobs`, `commitments`, `proofs`, `blobVersion` | whatever they are: the hashes are signed, and these are not (geth and Arbitrum Nitro send them) |
//! | `authorizationList` | for type 4 |
//! | `type` | quantity; left out, the fees and the lists tell it |
//!
//! Of two names for the same value both may be written, if their values are equal.

use ethereum::address::Address;
use ethereum::amount::Wei;
use ethereum::hex;
use ethereum::transaction::{Access, Kind, MAX_CHAIN_ID, MAX_NONCE, Transaction};
use serde::Serialize;
use serde_json::value::RawValue;

use super::params::Params;
use super::quantity;
use super::signed::AccessJson;
use crate::error::RequestError;
use crate::field::{Field, Slot};
use crate::json::{fields_or_nulls, join};

const NAMES: [&str; 21] = [
    "from",
    "to",
    "gas",
    "gasLimit",
    "value",
    "nonce",
    "data",
    "input",
    "chainId",
    "gasPrice",
    "maxFeePerGas",
    "maxPriorityFeePerGas",
    "accessList",
    "type",
    "maxFeePerBlobGas",
    "blobVersionedHashes",
    "authorizationList",
    "blobs",
    "commitments",
    "proofs",
    "blobVersion",
];

/// The highest number of a type.
const MAX_TYPE: u64 = 4;

/// A transaction of which things may be missing that an upstream knows.
#[derive(Clone, Debug)]
pub struct TransactionCall {
    path: String,
    /// The account that signs.
    pub from: Address,
    /// At least 1, at most [`MAX_CHAIN_ID`].
    pub chain_id: Option<u64>,
    /// At most [`MAX_NONCE`].
    pub nonce: Option<u64>,
    /// The gas limit.
    pub gas: Option<u64>,
    /// None creates a contract.
    pub to: Option<Address>,
    /// What is transferred.
    pub value: Wei,
    /// Call data, or the code that creates a contract.
    pub data: Vec<u8>,
    /// The number of the type, if it was written.
    pub kind: Option<u64>,
    /// For types 0 and 1.
    pub gas_price: Option<Wei>,
    /// For the others.
    pub max_fee_per_gas: Option<Wei>,
    /// For the others.
    pub max_priority_fee_per_gas: Option<Wei>,
    /// What it will touch.
    pub access_list: Option<Vec<Access>>,
    /// For type 3.
    pub max_fee_per_blob_gas: Option<Wei>,
    /// For type 3.
    pub blob_versioned_hashes: Option<Vec<[u8; 32]>>,
    /// For type 4, as it was written: what an entry may be depends on the chain.
    authorizations: Option<String>,
    /// The first of those that type 3 may have, and that are not read.
    sidecar: Option<&'static str>,
}

/// What an upstream estimates the gas of.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Estimated<'a> {
    from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    value: String,
    input: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_list: Option<Vec<AccessJson>>,
    // With the fees, a node says before anything is signed that they are too low, or the account too poor.
    #[serde(skip_serializing_if = "Option::is_none")]
    gas_price: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_fee_per_gas: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_priority_fee_per_gas: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_list: Option<&'a RawValue>,
}

impl TransactionCall {
    /// The only parameter of the call. Clef's second one, the signature of the function that is called, is the policy's to say here.
    ///
    /// # Errors
    /// The field that is wrong, and what would be right.
    pub fn read(params: Params<'_>) -> Result<Self, RequestError> {
        let [transaction, method_selector] = params.read(["transaction", "methodSelector"])?;
        if let Some(selector) = method_selector.field() {
            return Err(
                selector.error("expected no second parameter, or null: the policy says which functions may be called")
            );
        }
        Self::parse(&transaction)
    }

    fn parse(slot: &Slot<'_>) -> Result<Self, RequestError> {
        let object = slot.required("an object with the transaction")?;
        let raw = fields_or_nulls(object.text, &object.path, NAMES)?;
        let mut all = NAMES
            .iter()
            .zip(raw)
            .map(|(name, raw)| Slot { path: join(&object.path, name), raw: raw.filter(|raw| raw.get() != "null") });
        let mut next = || all.next().expect("as many slots as names");
        let [
            from,
            to,
            gas,
            gas_limit,
            value,
            nonce,
            data,
            input,
            chain_id,
            gas_price,
            max_fee,
            priority,
            list,
            kind,
            blob_fee,
            hashes,
            authorizations,
            blobs,
            commitments,
            proofs,
            blob_version,
        ] = std::array::from_fn(|_| next());
        Ok(Self {
            from: from.required("the address of the account that signs, one of eth_accounts")?.address()?,
            chain_id: chain_id.read(|field| field.quantity(1, MAX_CHAIN_ID))?,
            nonce: nonce.read(|field| field.quantity(0, MAX_NONCE))?,
            gas: one_of(&gas, &gas_limit, |field| field.quantity(1, u64::MAX))?,
            to: to.read(Field::address)?,
            value: value.read(Field::wei_quantity)?.unwrap_or_default(),
            data: one_of(&data, &input, Field::data)?.unwrap_or_default(),
            kind: kind.read(|field| field.quantity(0, MAX_TYPE))?,
            gas_price: gas_price.read(Field::wei_quantity)?,
            max_fee_per_gas: max_fee.read(Field::wei_quantity)?,
            max_priority_fee_per_gas: priority.read(Field::wei_quantity)?,
            access_list: list.read(Field::access_list)?,
            max_fee_per_blob_gas: blob_fee.read(Field::wei_quantity)?,
            blob_versioned_hashes: hashes.read(Field::blob_versioned_hashes)?,
            authorizations: authorizations.field().map(|field| field.text.to_owned()),
            sidecar: [
                ("blobs", blobs),
                ("commitments", commitments),
                ("proofs", proofs),
                ("blobVersion", blob_version),
            ]
            .into_iter()
            .find_map(|(name, slot)| slot.raw.map(|_| name)),
            path: object.path,
        })
    }

    /// The transaction, if nothing is missing. `chain_id` is for one that names no chain.
    ///
    /// # Errors
    /// The field that is missing or that the type does not have, and what would be right.
    pub fn transaction(self, chain_id: Option<u64>) -> Result<Transaction, RequestError> {
        let missing = |name: &str, expected: &str| self.error(name, format!("missing, expected {expected}"));
        let chain_id = self.chain_id.or(chain_id);
        let chain_id =
            chain_id.ok_or_else(|| missing("chainId", "the number of a chain, or a path such as /chain/1"))?;
        let kind = self.of_type(chain_id)?;
        if self.to.is_none() && matches!(kind, Kind::Blob { .. } | Kind::SetCode { .. }) {
            return Err(missing("to", "an address: a transaction of this type creates no contract"));
        }
        if self.to.is_none() && self.data.is_empty() {
            return Err(missing("to", "an address, or data with a contract to create"));
        }
        Ok(Transaction {
            chain_id,
            nonce: self.nonce.ok_or_else(|| missing("nonce", "the account's next nonce"))?,
            gas: self.gas.ok_or_else(|| missing("gas", "the gas limit"))?,
            to: self.to,
            value: self.value,
            data: self.data,
            kind,
        })
    }

    /// The number of the type: as written, or as the other fields tell it. None: they do not.
    #[must_use]
    pub fn type_number(&self) -> Option<u64> {
        let has_pair = self.max_fee_per_gas.is_some() || self.max_priority_fee_per_gas.is_some();
        let has_blobs = self.max_fee_per_blob_gas.is_some() || self.blob_versioned_hashes.is_some();
        self.kind.or(match (has_pair, self.gas_price) {
            _ if has_blobs => Some(3),
            _ if self.authorizations.is_some() => Some(4),
            (true, _) => Some(2),
            (false, Some(_)) => Some(u64::from(self.access_list.is_some())),
            (false, None) => None,
        })
    }

    fn of_type(&self, chain_id: u64) -> Result<Kind, RequestError> {
        let missing = |name: &str, expected: &str| self.error(name, format!("missing, expected {expected}"));
        let number = self.type_number();
        let number = number.ok_or_else(|| missing("maxFeePerGas", "it with maxPriorityFeePerGas, or else gasPrice"))?;
        let access_list = self.access_list.clone().unwrap_or_default();
        if number != 3 {
            self.refuse("maxFeePerBlobGas", self.max_fee_per_blob_gas.is_some(), number, "type 0x3")?;
            self.refuse("blobVersionedHashes", self.blob_versioned_hashes.is_some(), number, "type 0x3")?;
            self.refuse(self.sidecar.unwrap_or("blobs"), self.sidecar.is_some(), number, "type 0x3")?;
        }
        if number != 4 {
            self.refuse("authorizationList", self.authorizations.is_some(), number, "type 0x4")?;
        }
        if number < 2 {
            for (name, fee) in
                [("maxFeePerGas", self.max_fee_per_gas), ("maxPriorityFeePerGas", self.max_priority_fee_per_gas)]
            {
                self.refuse(name, fee.is_some(), number, "gasPrice")?;
            }
            let gas_price = self.gas_price.ok_or_else(|| missing("gasPrice", "the price of a unit of gas in wei"))?;
            if number == 1 {
                return Ok(Kind::AccessList { gas_price, access_list });
            }
            self.refuse("accessList", self.access_list.is_some(), number, "type 0x1 or 0x2")?;
            return Ok(Kind::Legacy { gas_price });
        }
        let (max_fee_per_gas, max_priority_fee_per_gas) = self.fee_pair()?;
        Ok(match number {
            3 => Kind::Blob {
                max_fee_per_gas,
                max_priority_fee_per_gas,
                access_list,
                max_fee_per_blob_gas: self
                    .max_fee_per_blob_gas
                    .ok_or_else(|| missing("maxFeePerBlobGas", "the most that a unit of blob gas may cost in wei"))?,
                blob_versioned_hashes: self
                    .blob_versioned_hashes
                    .clone()
                    .ok_or_else(|| missing("blobVersionedHashes", "the hashes of the blobs"))?,
            },
            4 => {
                let text = self
                    .authorizations
                    .as_deref()
                    .ok_or_else(|| missing("authorizationList", "the signed authorisations"))?;
                let field = Field::new(join(&self.path, "authorizationList"), text);
                let authorizations = field.authorization_list(chain_id)?;
                Kind::SetCode { max_fee_per_gas, max_priority_fee_per_gas, access_list, authorizations }
            }
            _ => Kind::DynamicFee { max_fee_per_gas, max_priority_fee_per_gas, access_list },
        })
    }

    fn fee_pair(&self) -> Result<(Wei, Wei), RequestError> {
        let missing = |name: &str, expected: &str| self.error(name, format!("missing, expected {expected}"));
        let max_fee = self.max_fee_per_gas.ok_or_else(|| missing("maxFeePerGas", "the most a unit of gas may cost"))?;
        let priority = self
            .max_priority_fee_per_gas
            .ok_or_else(|| missing("maxPriorityFeePerGas", "the most of it that is a tip"))?;
        if priority > max_fee {
            let problem = format!("{priority}, expected at most maxFeePerGas, {max_fee}");
            return Err(self.error("maxPriorityFeePerGas", problem));
        }
        match self.gas_price {
            Some(price) if price != max_fee => {
                let problem =
                    format!("{price} beside maxFeePerGas, expected the same, {max_fee}, or only one of the two");
                Err(self.error("gasPrice", problem))
            }
            Some(_) | None => Ok((max_fee, priority)),
        }
    }

    fn refuse(&self, name: &str, is_there: bool, number: u64, instead: &str) -> Result<(), RequestError> {
        match is_there {
            true => {
                Err(self.error(name, format!("a transaction of type {number} has no such field, expected {instead}")))
            }
            false => Ok(()),
        }
    }

    /// About one of its fields.
    #[must_use]
    pub fn error(&self, name: &str, problem: String) -> RequestError {
        RequestError::new(join(&self.path, name), problem)
    }

    /// The parameter of `eth_estimateGas`, JSON.
    ///
    /// # Panics
    /// Never: strings become JSON.
    #[must_use]
    pub fn estimated(&self) -> String {
        let wei = |fee: Option<Wei>| fee.map(|Wei(fee)| quantity(fee));
        let estimated = Estimated {
            from: self.from.to_string(),
            to: self.to.map(|to| to.to_string()),
            value: quantity(self.value.0),
            input: hex::prefixed(&self.data),
            access_list: self.access_list.as_ref().map(|list| list.iter().map(AccessJson::from).collect()),
            gas_price: wei(self.gas_price),
            max_fee_per_gas: wei(self.max_fee_per_gas),
            max_priority_fee_per_gas: wei(self.max_priority_fee_per_gas),
            authorization_list: self.authorizations.as_deref().and_then(|list| serde_json::from_str(list).ok()),
        };
        serde_json::to_string(&estimated).expect("strings become JSON")
    }
}

/// A value with two names: either, or both if they are equal.
fn one_of<'a, T: PartialEq>(
    one: &Slot<'a>,
    other: &Slot<'a>,
    read: impl Fn(&Field<'a>) -> Result<T, RequestError>,
) -> Result<Option<T>, RequestError> {
    match (one.read(&read)?, other.read(&read)?) {
        (Some(first), Some(second)) if first != second => {
            let problem = format!("another value than that of {}, expected the same, or only one of the two", one.path);
            Err(RequestError::new(&other.path, problem))
        }
        (first, second) => Ok(first.or(second)),
    }
}

impl<'a> Slot<'a> {
    /// The value, if there is one.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Field<'a>) -> Result<T, RequestError>,
    ) -> Result<Option<T>, RequestError> {
        self.field().map(|field| read(&field)).transpose()
    }
}

#[cfg(test)]
mod tests;
