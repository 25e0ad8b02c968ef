//! The signature's numbers, read from a signed transaction. Each type ends with them.

use ethers_core::utils::rlp::{DecoderError, Rlp};

use super::{SignError, SignedTransaction};

/// The three numbers, as a node shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureValues {
    /// EIP-155's number in a transaction of type 0, else the parity of `y`.
    pub v: u64,
    /// Big-endian.
    pub r: [u8; 32],
    /// Big-endian.
    pub s: [u8; 32],
}

impl SignedTransaction {
    /// Reads the numbers from the bytes.
    ///
    /// # Errors
    /// The bytes are not a transaction. [`super::UnsignedTransaction::sign`] never makes such bytes.
    pub fn values(&self) -> Result<SignatureValues, SignError> {
        self.read().map_err(|error| SignError::Decode(error.to_string()))
    }

    fn read(&self) -> Result<SignatureValues, DecoderError> {
        let (&first, rest) = self.raw.split_first().ok_or(DecoderError::RlpIsTooShort)?;
        // EIP-2718: a list is a transaction of before there were types.
        let list = Rlp::new(if first < 0xc0 { rest } else { &self.raw });
        let at = list.item_count()?.checked_sub(3).ok_or(DecoderError::RlpIncorrectListLen)?;
        let number = |at: usize| {
            let bytes: Vec<u8> = list.val_at(at)?;
            let zeros = 32_usize.checked_sub(bytes.len()).ok_or(DecoderError::RlpIsTooBig)?;
            let mut number = [0; 32];
            for (to, from) in number.iter_mut().skip(zeros).zip(bytes) {
                *to = from;
            }
            Ok(number)
        };
        Ok(SignatureValues { v: list.val_at(at)?, r: number(at + 1)?, s: number(at + 2)? })
    }
}

#[cfg(test)]
mod tests {
    use alloy_consensus::{Transaction as _, TxEnvelope};
    use alloy_eips::eip2718::Decodable2718;

    use super::*;
    use crate::address::Address;
    use crate::amount::Wei;
    use crate::key::SecretKey;
    use crate::signature::UnsignedTransaction;
    use crate::transaction::{Kind, Transaction};

    #[test]
    fn the_values_are_those_that_alloy_reads() {
        let key = SecretKey::parse("01".repeat(32).as_bytes()).unwrap();
        let kinds = [
            Kind::Legacy { gas_price: Wei(1) },
            Kind::AccessList { gas_price: Wei(1), access_list: Vec::new() },
            Kind::DynamicFee { max_fee_per_gas: Wei(2), max_priority_fee_per_gas: Wei(1), access_list: Vec::new() },
        ];
        // Many: one r in 256 has a leading zero.
        for (kind, nonce) in kinds.iter().flat_map(|kind| (0..200).map(move |nonce| (kind, nonce))) {
            let (to, value, data, kind) = (Some(Address([7; 20])), Wei(1), Vec::new(), kind.clone());
            let transaction = Transaction { chain_id: 5, nonce, gas: 21_000, to, value, data, kind };
            let signed = UnsignedTransaction::new(&transaction).sign(&key).unwrap();
            let read = TxEnvelope::decode_2718(&mut signed.raw.as_slice()).unwrap();
            let signature = read.signature();
            let v = if read.is_legacy() { 5 * 2 + 35 } else { 0 } + u64::from(signature.v());
            let expected = SignatureValues { v, r: signature.r().to_be_bytes(), s: signature.s().to_be_bytes() };
            assert_eq!(read.nonce(), nonce);
            assert_eq!(signed.values(), Ok(expected));
        }
    }

    #[test]
    fn other_bytes_have_no_values() {
        for raw in [vec![], vec![2], vec![2, 0xc0], vec![0xc2, 1, 1], vec![0xff; 40]] {
            assert!(SignedTransaction { raw, hash: [0; 32] }.values().is_err());
        }
    }
}
