//! A certificate taken apart.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair};
use der::{Decode, Reader, SliceReader};
use rcgen::KeyPair;

/// The three parts of a certificate, each in DER.
pub(super) struct Parts {
    pub(super) tbs: Vec<u8>,
    pub(super) algorithm: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl Parts {
    pub(super) fn of(der: &[u8]) -> Self {
        let mut reader = SliceReader::new(der).unwrap();
        reader
            .sequence(|reader| {
                let mut next = || reader.tlv_bytes().map(<[u8]>::to_vec);
                der::Result::Ok(Self { tbs: next()?, algorithm: next()?, signature: next()? })
            })
            .unwrap()
    }

    pub(super) fn whole(&self) -> Vec<u8> {
        tlv(0x30, &[&self.tbs[..], &self.algorithm, &self.signature].concat())
    }

    /// Puts `to` in the place of `from` in what is signed, and has the owner of `key` sign it again.
    pub(super) fn replace(mut self, from: &[u8], to: &[u8], key: &KeyPair) -> Self {
        let at = self.tbs.windows(from.len()).position(|bytes| bytes == from).unwrap();
        self.tbs.splice(at..at + from.len(), to.iter().copied());
        if der::asn1::AnyRef::from_der(&self.tbs).is_err() {
            // Of another length now than its head says: 30 82 and two bytes.
            self.tbs = tlv(0x30, &self.tbs[4..]);
        }
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, key.serialized_der()).unwrap();
        let signature = key.sign(&SystemRandom::new(), &self.tbs).unwrap();
        self.signature = tlv(3, &[&[0], signature.as_ref()].concat());
        self
    }
}

/// Something of DER: tag, length, content.
pub(super) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match content.len() {
        0..=0x7f => vec![tag, len[1]],
        0x80..=0xff => vec![tag, 0x81, len[1]],
        _ => vec![tag, 0x82, len[0], len[1]],
    };
    [&head[..], content].concat()
}
