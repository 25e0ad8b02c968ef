//! Values of one field: each is read as one type, or refused in a sentence that names the field.

use ethereum::address::Address;
use ethereum::amount::{ETHER, Wei};
use ethereum::authorization::{Authorization, SignedAuthorization};
use ethereum::hex;
use ethereum::number::Uint;
use ethereum::transaction::{Access, BLOB_VERSION, MAX_CHAIN_ID, MAX_NONCE};
use serde_json::value::RawValue;

use crate::error::RequestError;
use crate::json::{fields, join, shown};

/// The longest `data`: no node's transaction pool takes a longer transaction (geth: `txMaxSize`, 128 KiB).
pub const MAX_DATA: usize = 128 * 1024;

/// Authorisations of one transaction. Each is recovered, which takes a tenth of a millisecond; Ethereum's limit of gas
/// leaves room for 670.
pub const MAX_AUTHORIZATIONS: usize = 256;

/// A field that a request has, and where.
pub struct Field<'a> {
    pub(crate) path: String,
    /// As it was written.
    pub(crate) text: &'a str,
}

/// A field that a request may have.
pub(crate) struct Slot<'a> {
    pub(crate) path: String,
    pub(crate) raw: Option<&'a RawValue>,
}

impl<'a> Slot<'a> {
    pub(crate) fn field(&self) -> Option<Field<'a>> {
        self.raw.map(|raw| Field { path: self.path.clone(), text: raw.get() })
    }

    pub(crate) fn required(&self, what: &str) -> Result<Field<'a>, RequestError> {
        self.field().ok_or_else(|| RequestError::new(&self.path, format!("missing, expected {what}")))
    }

    pub(crate) fn optional<T: Default>(
        &self,
        read: fn(&Field<'a>) -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        self.field().map_or_else(|| Ok(T::default()), |field| read(&field))
    }

    pub(crate) fn refuse(&self, subject: &str, instead: &str) -> Result<(), RequestError> {
        match self.raw {
            None => Ok(()),
            Some(_) => Err(RequestError::new(&self.path, format!("{subject} has no such field, expected {instead}"))),
        }
    }
}

impl<'a> Field<'a> {
    /// The value `text`, as JSON, of the field at `path`.
    #[must_use]
    pub fn new(path: impl Into<String>, text: &'a str) -> Self {
        Self { path: path.into(), text }
    }

    /// `problem` behind what the client wrote.
    pub(crate) fn error(&self, problem: &str) -> RequestError {
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

    pub(crate) fn whole(&self, min: u64, max: u64) -> Result<u64, RequestError> {
        let number = self.number().and_then(|number| u64::try_from(number).ok());
        let number = number.filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| {
            self.error(&format!("expected a whole number from {min} to {max}, as a JSON number or as \"0x…\" in hex"))
        })
    }

    pub(crate) fn wei(&self) -> Result<Wei, RequestError> {
        let expected = "expected a whole number of wei below 2^128, as a JSON number or as \"0x…\" in hex";
        self.number().map(Wei).ok_or_else(|| self.error(expected))
    }

    pub(crate) fn ether(&self) -> Result<Wei, RequestError> {
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

    pub(crate) fn string(&self, expected: &str) -> Result<String, RequestError> {
        serde_json::from_str(self.text).map_err(|_another_type| self.error(expected))
    }

    pub(crate) fn address(&self) -> Result<Address, RequestError> {
        self.string("expected a string of 0x and 40 hex digits")?
            .parse()
            .map_err(|error| self.error(&format!("{error}")))
    }

    pub(crate) fn data(&self) -> Result<Vec<u8>, RequestError> {
        let expected = "expected a string of 0x and an even number of hex digits";
        let bytes = self.string(expected)?.strip_prefix("0x").and_then(hex::decode);
        let bytes = bytes.ok_or_else(|| self.error(expected))?;
        if bytes.len() > MAX_DATA {
            return Err(self.error(&format!("{} bytes, expected at most {MAX_DATA}", bytes.len())));
        }
        Ok(bytes)
    }

    fn bytes32(&self, expected: &str) -> Result<[u8; 32], RequestError> {
        let bytes = self.string(expected)?.strip_prefix("0x").and_then(hex::decode_array);
        bytes.ok_or_else(|| self.error(expected))
    }

    pub(crate) fn access_list(&self) -> Result<Vec<Access>, RequestError> {
        let entry = |entry: Field<'a>| {
            let [address, keys] = fields(entry.text, &entry.path, ["address", "storageKeys"])?;
            let slot = |name: &str, raw| Slot { path: join(&entry.path, name), raw };
            Ok(Access {
                address: slot("address", address).required("the address of a contract")?.address()?,
                storage_keys: slot("storageKeys", keys)
                    .required("a list of slots")?
                    .list("expected a list of slots")?
                    .map(|key| key.bytes32("expected a string of 0x and 64 hex digits"))
                    .collect::<Result<_, _>>()?,
            })
        };
        self.list("expected a list of {\"address\": …, \"storageKeys\": […]}")?.map(entry).collect()
    }

    /// `blobVersionedHashes`: at least one.
    ///
    /// # Errors
    /// The entry that is none, and what is expected.
    pub fn blob_versioned_hashes(&self) -> Result<Vec<[u8; 32]>, RequestError> {
        let expected = "expected a list of at least one hash of a blob";
        let hashes =
            self.list(expected)?.map(|entry| {
                let hash = entry.bytes32("expected a string of 0x and 64 hex digits")?;
                match hash {
                    [BLOB_VERSION, ..] => Ok(hash),
                    _ => Err(entry
                        .error("expected a hash that begins with 0x01, as that of a KZG commitment does (EIP-4844)")),
                }
            });
        let hashes: Vec<_> = hashes.collect::<Result<_, _>>()?;
        if hashes.is_empty() { Err(self.error(expected)) } else { Ok(hashes) }
    }

    /// `authorizationList` of a transaction on `chain_id`: at least one, each by somebody.
    ///
    /// # Errors
    /// The field of the entry that is wrong, and what is expected.
    pub fn authorization_list(&self, chain_id: u64) -> Result<Vec<SignedAuthorization>, RequestError> {
        let expected = "expected a list of at least one {\"chainId\": …, \"address\": …, \"nonce\": …, \"yParity\": …, \"r\": …, \"s\": …}";
        let entries = self.list(expected)?;
        if entries.len() == 0 {
            return Err(self.error(expected));
        }
        if entries.len() > MAX_AUTHORIZATIONS {
            let problem = format!("{} authorisations, expected at most {MAX_AUTHORIZATIONS}", entries.len());
            return Err(RequestError::new(&self.path, problem));
        }
        entries.map(|entry| entry.signed_authorization(chain_id)).collect()
    }

    fn signed_authorization(&self, chain_id: u64) -> Result<SignedAuthorization, RequestError> {
        let names = ["chainId", "address", "nonce", "yParity", "r", "s"];
        let [chain, address, nonce, y_parity, r, s] = fields(self.text, &self.path, names)?;
        let slot = |name: &str, raw| Slot { path: join(&self.path, name), raw };
        let chain = slot("chainId", chain).required("the transaction's chain, or 0 for every chain")?;
        let authorization = Authorization {
            chain_id: chain.whole(0, MAX_CHAIN_ID)?,
            contract: slot("address", address).required("the address of a contract")?.address()?,
            nonce: slot("nonce", nonce).required("the nonce of the account that signed it")?.whole(0, MAX_NONCE)?,
        };
        if ![0, chain_id].contains(&authorization.chain_id) {
            return Err(
                chain.error(&format!("expected the transaction's chain, {chain_id}, or 0: nodes pass over any other"))
            );
        }
        let y_parity = slot("yParity", y_parity).required("0 or 1")?.whole(0, 1)? == 1;
        let r = slot("r", r).required("a number of the signature")?.uint()?.to_be_bytes();
        let s = slot("s", s).required("a number of the signature")?.uint()?.to_be_bytes();
        let signed = SignedAuthorization { authorization, y_parity, r, s };
        if signed.authority().is_none() {
            let problem = "the signature is nobody's, expected that of an account, with the lower s";
            return Err(RequestError::new(&self.path, problem));
        }
        Ok(signed)
    }

    /// A number of 256 bits: a JSON integer, or hex digits with zeros in front or not.
    fn uint(&self) -> Result<Uint, RequestError> {
        let hex = self.text.strip_prefix("\"0x").and_then(|rest| rest.strip_suffix('"'));
        let number = hex.map_or_else(|| Uint::from_digits(self.text), Uint::from_hex);
        let expected = "expected a whole number below 2^256, as a JSON number or as \"0x…\" in hex";
        number.ok_or_else(|| self.error(expected))
    }

    pub(crate) fn list(
        &self,
        expected: &str,
    ) -> Result<impl ExactSizeIterator<Item = Field<'a>> + use<'a>, RequestError> {
        let entries: Vec<&'a RawValue> =
            serde_json::from_str(self.text).map_err(|_another_type| self.error(expected))?;
        let path = self.path.clone();
        let field = move |(at, raw): (usize, &'a RawValue)| Field { path: format!("{path}[{at}]"), text: raw.get() };
        Ok(entries.into_iter().enumerate().map(field))
    }
}
