//! `transaction_payload`: which fields each type has, and what each may be.

use ethereum::amount::Wei;
use ethereum::transaction::{Kind, MAX_CHAIN_ID, MAX_NONCE, Transaction};

use crate::error::RequestError;
use crate::field::{Field, Slot};
use crate::json::{fields, join};

const NAMES: [&str; 14] = [
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
    "maxFeePerBlobGas",
    "blobVersionedHashes",
    "authorizationList",
];

/// What a type has in place of a field that it does not have.
const OF_BLOBS: &str = "type 3";
const OF_SET_CODE: &str = "type 4";

pub(super) fn parse(text: &str, path: &str) -> Result<Transaction, RequestError> {
    let raw = fields(text, path, NAMES)?;
    let mut all = NAMES.iter().zip(raw).map(|(name, raw)| Slot { path: join(path, name), raw });
    let mut next = || all.next().expect("as many slots as names");
    let [
        value,
        to,
        nonce,
        kind,
        chain_id,
        gas,
        max_fee,
        max_priority_fee,
        gas_price,
        data,
        access_list,
        blob_fee,
        hashes,
        authorizations,
    ] = std::array::from_fn(|_| next());
    let number = match kind.field() {
        Some(kind) => kind.whole(0, 4)?,
        // As eth-account decides it.
        None => {
            told_by_its_fields(&kind.path, [&gas_price, &max_fee, &access_list, &blob_fee, &hashes, &authorizations])?
        }
    };
    let has = |number: u64, subject: &str, others: &[(&Slot, &str)]| {
        others.iter().try_for_each(|(other, instead)| other.refuse(&format!("{subject} of type {number}"), instead))
    };
    let subject = "a transaction";
    if number != 3 {
        has(number, subject, &[(&blob_fee, OF_BLOBS), (&hashes, OF_BLOBS)])?;
    }
    if number != 4 {
        has(number, subject, &[(&authorizations, OF_SET_CODE)])?;
    }
    let chain_id = chain_id.required("the number of a chain")?.whole(1, MAX_CHAIN_ID)?;
    let kind = match number {
        0 => {
            has(
                number,
                subject,
                &[(&max_fee, "gasPrice"), (&max_priority_fee, "gasPrice"), (&access_list, "type 1 or 2")],
            )?;
            Kind::Legacy { gas_price: gas_price.required("the price of a unit of gas in wei")?.wei()? }
        }
        1 => {
            has(number, subject, &[(&max_fee, "gasPrice"), (&max_priority_fee, "gasPrice")])?;
            Kind::AccessList {
                gas_price: gas_price.required("the price of a unit of gas in wei")?.wei()?,
                access_list: access_list.optional(Field::access_list)?,
            }
        }
        _ => {
            has(number, subject, &[(&gas_price, "maxFeePerGas and maxPriorityFeePerGas")])?;
            let (max_fee_per_gas, max_priority_fee_per_gas) = fees(&max_fee, &max_priority_fee)?;
            let access_list = access_list.optional(Field::access_list)?;
            match number {
                3 => Kind::Blob {
                    max_fee_per_gas,
                    max_priority_fee_per_gas,
                    access_list,
                    max_fee_per_blob_gas: blob_fee
                        .required("the most that a unit of blob gas may cost in wei")?
                        .wei()?,
                    blob_versioned_hashes: hashes.required("the hashes of the blobs")?.blob_versioned_hashes()?,
                },
                4 => Kind::SetCode {
                    max_fee_per_gas,
                    max_priority_fee_per_gas,
                    access_list,
                    authorizations: authorizations
                        .required("the signed authorisations")?
                        .authorization_list(chain_id)?,
                },
                _ => Kind::DynamicFee { max_fee_per_gas, max_priority_fee_per_gas, access_list },
            }
        }
    };
    let transaction = Transaction {
        chain_id,
        nonce: nonce.required("the account's next nonce")?.whole(0, MAX_NONCE)?,
        gas: gas.required("the gas limit")?.whole(1, u64::MAX)?,
        to: to.field().map(|to| to.address()).transpose()?,
        value: value.required("an amount of ether")?.ether()?,
        data: data.optional(Field::data)?,
        kind,
    };
    if transaction.to.is_none() {
        if number > 2 {
            let problem = format!("missing, expected an address: a transaction of type {number} creates no contract");
            return Err(RequestError::new(&to.path, problem));
        }
        if transaction.data.is_empty() {
            return Err(RequestError::new(&to.path, "missing, expected an address, or data with a contract to create"));
        }
    }
    Ok(transaction)
}

fn fees(max_fee: &Slot, max_priority_fee: &Slot) -> Result<(Wei, Wei), RequestError> {
    let max_fee = max_fee.required("the most that a unit of gas may cost in wei")?.wei()?;
    let priority = max_priority_fee.required("the most of it that is a tip in wei")?;
    let max_priority_fee = priority.wei()?;
    if max_priority_fee > max_fee {
        return Err(priority.error(&format!("expected at most maxFeePerGas, {max_fee}")));
    }
    Ok((max_fee, max_priority_fee))
}

fn told_by_its_fields(path: &str, slots: [&Slot; 6]) -> Result<u64, RequestError> {
    let [gas_price, max_fee, access_list, blob_fee, hashes, authorizations] = slots.map(|slot| slot.raw.is_some());
    match (gas_price, max_fee) {
        (true, false) => Ok(u64::from(access_list)),
        (false, true) if blob_fee || hashes => Ok(3),
        (false, true) if authorizations => Ok(4),
        (false, true) => Ok(2),
        (false, false) | (true, true) => Err(RequestError::new(
            path,
            "missing, expected 0 to 4, or else either gasPrice or maxFeePerGas to tell it by",
        )),
    }
}
