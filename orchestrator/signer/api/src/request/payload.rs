//! `transaction_payload`: which fields each type has, and what each may be.

use ethereum::address::Address;
use ethereum::amount::{ETHER, Wei};
use ethereum::hex;
use ethereum::transaction::{Access, Kind, MAX_CHAIN_ID, MAX_NONCE, Transaction};
use serde_json::value::RawValue;

use super::MAX_DATA;
use crate::error::RequestError;
use crate::json::{fields, join, shown};

const NAMES: [&str; 11] = [
    "value",
    "to",
    "nonce",
    "type",
    "chainId",
    "gas",
    "maxFeePerGas",
    "maxPriorityFeePerGas",
    "gasPrice",
    "data",
    "accessList",
];

/// A field that the request has, and where.
struct Field<'a> {
    path: String,
    /// As it was written.
    text: &'a str,
}

pub(super) fn parse(text: &str, path: &str) -> Result<Transaction, RequestError> {
    let raw = fields(text, path, NAMES)?;
    let mut all = NAMES.iter().zip(raw).map(|(name, raw)| Slot { path: join(path, name), raw });
    let mut next = || all.next().expect("as many slots as names");
    let [value, to, nonce, kind, chain_id, gas, max_fee, max_priority_fee, gas_price, data, access_list] =
        std::array::from_fn(|_| next());
    let kind = match kind_number(&kind, &gas_price, &max_fee, &access_list)? {
        0 => {
            for (other, instead) in
                [(&max_fee, "gasPrice"), (&max_priority_fee, "gasPrice"), (&access_list, "type 1 or 2")]
            {
                other.refuse("a transaction of type 0", instead)?;
            }
            Kind::Legacy { gas_price: gas_price.required("the price of a unit of gas in wei")?.wei()? }
        }
        1 => {
            for other in [&max_fee, &max_priority_fee] {
                other.refuse("a transaction of type 1", "gasPrice")?;
            }
            Kind::AccessList {
                gas_price: gas_price.required("the price of a unit of gas in wei")?.wei()?,
                access_list: access_list.optional(Field::access_list)?,
            }
        }
        _ => {
            gas_price.refuse("a transaction of type 2", "maxFeePerGas and maxPriorityFeePerGas")?;
            let max_fee_per_gas = max_fee.required("the most that a unit of gas may cost in wei")?.wei()?;
            let priority = max_priority_fee.required("the most of it that is a tip in wei")?;
            let max_priority_fee_per_gas = priority.wei()?;
            if max_priority_fee_per_gas > max_fee_per_gas {
                return Err(priority.error(&format!("expected at most maxFeePerGas, {max_fee_per_gas}")));
            }
            Kind::DynamicFee {
                max_fee_per_gas,
                max_priority_fee_per_gas,
                access_list: access_list.optional(Field::access_list)?,
            }
        }
    };
    let creates = to.raw.is_none();
    let transaction = Transaction {
        chain_id: chain_id.required("the number of a chain")?.whole(1, MAX_CHAIN_ID)?,
        nonce: nonce.required("the account's next nonce")?.whole(0, MAX_NONCE)?,
        gas: gas.required("the gas limit")?.whole(1, u64::MAX)?,
        to: to.field().map(|to| to.address()).transpose()?,
        value: value.required("an amount of ether")?.ether()?,
        data: data.optional(Field::data)?,
        kind,
    };
    if creates && transaction.data.is_empty() {
        return Err(RequestError::new(&to.path, "missing, expected an address, or data with a contract to create"));
    }
    Ok(transaction)
}

/// As eth-account decides it where `type` is left out.
fn kind_number(kind: &Slot, gas_price: &Slot, max_fee: &Slot, access_list: &Slot) -> Result<u64, RequestError> {
    let Some(kind) = kind.field() else {
        return match (gas_price.raw, max_fee.raw) {
            (Some(_), None) => Ok(u64::from(access_list.raw.is_some())),
            (None, Some(_)) => Ok(2),
            (None, None) | (Some(_), Some(_)) => Err(RequestError::new(
                &kind.path,
                "missing, expected 0, 1 or 2, or else either gasPrice or maxFeePerGas to tell it by",
            )),
        };
    };
    kind.whole(0, 2)
}

/// A field that the request may have.
struct Slot<'a> {
    path: String,
    raw: Option<&'a RawValue>,
}

impl<'a> Slot<'a> {
    fn field(&self) -> Option<Field<'a>> {
        self.raw.map(|raw| Field { path: self.path.clone(), text: raw.get() })
    }

    fn required(&self, what: &str) -> Result<Field<'a>, RequestError> {
        self.field().ok_or_else(|| RequestError::new(&self.path, format!("missing, expected {what}")))
    }

    fn optional<T: Default>(&self, read: fn(&Field<'a>) -> Result<T, RequestError>) -> Result<T, RequestError> {
        self.field().map_or_else(|| Ok(T::default()), |field| read(&field))
    }

    fn refuse(&self, subject: &str, instead: &str) -> Result<(), RequestError> {
        match self.raw {
            None => Ok(()),
            Some(_) => Err(RequestError::new(&self.path, format!("{subject} has no such field, expected {instead}"))),
        }
    }
}

impl<'a> Field<'a> {
    /// `problem` behind what the client wrote.
    fn error(&self, problem: &str) -> RequestError {
        RequestError::new(&self.path, format!("{}: {problem}", shown(self.text)))
    }

    /// A JSON integer, or a quantity as Ethereum's RPC writes it.
    fn number(&self) -> Option<u128> {
        let Some(quoted) = self.text.strip_prefix('"') else {
            // JSON has neither leading zeros nor a plus sign; a minus sign, a point and an exponent are no u128.
            return self.text.parse().ok();
        };
        let digits = quoted.strip_suffix('"')?.strip_prefix("0x")?;
        let is_canonical = digits == "0" || !digits.starts_with('0');
        let is_hex = (1..=32).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_canonical && is_hex).then(|| u128::from_str_radix(digits, 16).ok())?
    }

    fn whole(&self, min: u64, max: u64) -> Result<u64, RequestError> {
        let number = self.number().and_then(|number| u64::try_from(number).ok());
        let number = number.filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| {
            self.error(&format!("expected a whole number from {min} to {max}, as a JSON number or as \"0x…\" in hex"))
        })
    }

    fn wei(&self) -> Result<Wei, RequestError> {
        let expected = "expected a whole number of wei below 2^128, as a JSON number or as \"0x…\" in hex";
        self.number().map(Wei).ok_or_else(|| self.error(expected))
    }

    fn ether(&self) -> Result<Wei, RequestError> {
        let string: String;
        let text = match self.text.as_bytes().first() {
            Some(b'"') => {
                string = self.string("expected an amount of ether, such as 0.25 or \"0.25\"")?;
                string.as_str()
            }
            _ => self.text,
        };
        Wei::from_decimal(text, ETHER).map_err(|error| self.error(&format!("ether: {error}")))
    }

    fn string(&self, expected: &str) -> Result<String, RequestError> {
        serde_json::from_str(self.text).map_err(|_another_type| self.error(expected))
    }

    fn address(&self) -> Result<Address, RequestError> {
        self.string("expected a string of 0x and 40 hex digits")?
            .parse()
            .map_err(|error| self.error(&format!("{error}")))
    }

    fn data(&self) -> Result<Vec<u8>, RequestError> {
        let expected = "expected a string of 0x and an even number of hex digits";
        let bytes = self.string(expected)?.strip_prefix("0x").and_then(hex::decode);
        let bytes = bytes.ok_or_else(|| self.error(expected))?;
        if bytes.len() > MAX_DATA {
            return Err(self.error(&format!("{} bytes, expected at most {MAX_DATA}", bytes.len())));
        }
        Ok(bytes)
    }

    fn storage_key(&self) -> Result<[u8; 32], RequestError> {
        let expected = "expected a string of 0x and 64 hex digits";
        let key = self.string(expected)?.strip_prefix("0x").and_then(hex::decode_array);
        key.ok_or_else(|| self.error(expected))
    }

    fn access_list(&self) -> Result<Vec<Access>, RequestError> {
        let entry = |entry: Field<'a>| {
            let [address, keys] = fields(entry.text, &entry.path, ["address", "storageKeys"])?;
            let slot = |name: &str, raw| Slot { path: join(&entry.path, name), raw };
            Ok(Access {
                address: slot("address", address).required("the address of a contract")?.address()?,
                storage_keys: slot("storageKeys", keys)
                    .required("a list of slots")?
                    .list("expected a list of slots")?
                    .map(|key| key.storage_key())
                    .collect::<Result<_, _>>()?,
            })
        };
        self.list("expected a list of {\"address\": …, \"storageKeys\": […]}")?.map(entry).collect()
    }

    fn list(&self, expected: &str) -> Result<impl Iterator<Item = Field<'a>>, RequestError> {
        let entries: Vec<&'a RawValue> =
            serde_json::from_str(self.text).map_err(|_another_type| self.error(expected))?;
        let path = self.path.clone();
        let field = move |(at, raw): (usize, &'a RawValue)| Field { path: format!("{path}[{at}]"), text: raw.get() };
        Ok(entries.into_iter().enumerate().map(field))
    }
}
