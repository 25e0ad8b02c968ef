//! The answer to an attested request: CMS EnvelopedData (RFC 5652, section 6), byte for byte in the form that KMS uses.
//!
//! | what                  | how                                                                                |
//! |-----------------------|------------------------------------------------------------------------------------|
//! | encoding              | BER: ContentInfo, EnvelopedData and EncryptedContentInfo are of indefinite length  |
//! | versions              | EnvelopedData 2, recipient 2                                                       |
//! | recipient             | one, `[0] subjectKeyIdentifier`: SHA-256 of the public key's SubjectPublicKeyInfo  |
//! | content key           | RSAES-OAEP, SHA-256 and MGF1 with SHA-256, both explicit                           |
//! | content               | AES-256-CBC, padded as PKCS #7 says, in OCTET STRINGs of at most 1000 bytes        |

use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::fill;
use zeroize::Zeroizing;

use crate::recipient::RecipientKey;

/// In the whole sequences below: OBJECT IDENTIFIER and its length go before each.
const ENVELOPED_DATA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03];
const DATA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const RSAES_OAEP: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07];
const MGF1: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
const SHA256: &[u8] = &[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const AES_256_CBC: &[u8] = &[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];
const AES_128_CBC: &[u8] = &[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x02];
const NULL: &[u8] = &[0x05, 0x00];
const VERSION_2: &[u8] = &[0x02, 0x01, 0x02];

const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]` of a simple value, here an octet string.
const CONTEXT_0: u8 = 0x80;
const CONTEXT_0_CONSTRUCTED: u8 = 0xa0;
const CONTEXT_1_CONSTRUCTED: u8 = 0xa1;
const INDEFINITE: u8 = 0x80;
const END_OF_CONTENTS: &[u8] = &[0, 0];

/// What Bouncy Castle, from which KMS's encoding comes by its looks, puts into one piece.
const PIECE_LEN: usize = 1000;
const BLOCK_LEN: usize = 16;

/// A secret for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnvelopedData {
    pub(crate) key_identifier: [u8; 32],
    pub(crate) encrypted_key: Vec<u8>,
    pub(crate) iv: [u8; BLOCK_LEN],
    pub(crate) content: Vec<u8>,
}

impl EnvelopedData {
    /// Encrypts with a new key.
    pub(crate) fn seal(plaintext: &[u8], recipient: &RecipientKey) -> Result<Self, Unspecified> {
        let mut key = Zeroizing::new([0; 32]);
        let mut iv = [0; BLOCK_LEN];
        fill(key.as_mut_slice())?;
        fill(&mut iv)?;
        let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, key.as_slice())?)?;
        let mut content = plaintext.to_vec();
        cipher.less_safe_encrypt(&mut content, EncryptionContext::Iv128(FixedLength::from(iv)))?;
        Ok(Self {
            key_identifier: recipient.identifier(),
            encrypted_key: recipient.encrypt(key.as_slice())?,
            iv,
            content,
        })
    }

    pub(crate) fn to_ber(&self) -> Vec<u8> {
        self.to_ber_with(AES_256_CBC)
    }

    /// Says that the content is encrypted with AES-128.
    pub(crate) fn to_ber_with_another_algorithm(&self) -> Vec<u8> {
        self.to_ber_with(AES_128_CBC)
    }

    /// Makes the padding wrong: in CBC a block's bit is the next one's too.
    pub(crate) fn spoil_padding(&mut self) {
        let before_last = self.content.len().checked_sub(BLOCK_LEN + 1);
        let byte = match before_last.and_then(|index| self.content.get_mut(index)) {
            Some(byte) => byte,
            None => self.iv.last_mut().expect("an IV has a last byte"),
        };
        // More than a block: no padding is that long.
        *byte ^= 0x40;
    }

    /// Makes it a key for nobody.
    pub(crate) fn spoil_key(&mut self) {
        if let Some(byte) = self.encrypted_key.last_mut() {
            *byte ^= 1;
        }
    }

    fn to_ber_with(&self, content_algorithm: &[u8]) -> Vec<u8> {
        let sha256 = tlv(SEQUENCE, &[SHA256, NULL]);
        let mgf1 = tlv(SEQUENCE, &[MGF1, &sha256]);
        let oaep_parameters =
            tlv(SEQUENCE, &[&tlv(CONTEXT_0_CONSTRUCTED, &[&sha256]), &tlv(CONTEXT_1_CONSTRUCTED, &[&mgf1])]);
        let recipient = tlv(
            SEQUENCE,
            &[
                VERSION_2,
                &tlv(CONTEXT_0, &[&self.key_identifier]),
                &tlv(SEQUENCE, &[RSAES_OAEP, &oaep_parameters]),
                &tlv(OCTET_STRING, &[&self.encrypted_key]),
            ],
        );
        let pieces: Vec<_> = self.content.chunks(PIECE_LEN).map(|piece| tlv(OCTET_STRING, &[piece])).collect();
        let content = indefinite(
            SEQUENCE,
            &[
                DATA,
                &tlv(SEQUENCE, &[content_algorithm, &tlv(OCTET_STRING, &[&self.iv])]),
                &indefinite(CONTEXT_0_CONSTRUCTED, &pieces.iter().map(Vec::as_slice).collect::<Vec<_>>()),
            ],
        );
        let enveloped = indefinite(SEQUENCE, &[VERSION_2, &tlv(SET, &[&recipient]), &content]);
        indefinite(SEQUENCE, &[ENVELOPED_DATA, &indefinite(CONTEXT_0_CONSTRUCTED, &[&enveloped])])
    }
}

/// Tag, length, value.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let length = value.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let header = match (value.len(), u8::try_from(length.len())) {
        (0, _) => vec![tag, 0],
        (..=0x7f, _) => [&[tag], length.as_slice()].concat(),
        (_, Ok(count)) => [&[tag, 0x80 | count], length.as_slice()].concat(),
        (_, Err(_)) => unreachable!("a length has eight bytes at most"),
    };
    [header, value].concat()
}

/// A value that ends where it says so.
fn indefinite(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[tag, INDEFINITE], parts.concat().as_slice(), END_OF_CONTENTS].concat()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::process::Command;

    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::PrivateDecryptingKey;

    use super::*;

    /// A public test vector: what KMS itself answered.
    const REAL: &[u8] = include_bytes!("cms/ciphertext-for-recipient.ber");

    /// What OpenSSL finds in it, if it can open it.
    pub(crate) fn try_open(ber: &[u8], key: &PrivateDecryptingKey) -> Option<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let [ber_path, key_path, out_path] = ["cms.ber", "key.der", "out"].map(|name| dir.path().join(name));
        fs::write(&ber_path, ber).unwrap();
        fs::write(&key_path, AsDer::<Pkcs8V1Der<'_>>::as_der(key).unwrap().as_ref()).unwrap();
        let output = Command::new("openssl")
            .args(["cms", "-decrypt", "-inform", "DER", "-binary", "-in"])
            .arg(&ber_path)
            .args(["-keyform", "DER", "-inkey"])
            .arg(&key_path)
            .arg("-out")
            .arg(&out_path)
            .output()
            .unwrap();
        output.status.success().then(|| fs::read(&out_path).unwrap())
    }

    pub(crate) fn open(ber: &[u8], key: &PrivateDecryptingKey) -> Vec<u8> {
        try_open(ber, key).unwrap()
    }

    #[test]
    fn what_kms_answered_has_these_very_bytes() {
        let part = |offset: usize, len: usize| &REAL[offset..offset + len];
        let enveloped = EnvelopedData {
            key_identifier: part(33, 32).try_into().unwrap(),
            encrypted_key: part(131, 256).to_vec(),
            iv: part(415, 16).try_into().unwrap(),
            content: part(435, 48).to_vec(),
        };
        assert_eq!(enveloped.to_ber(), REAL);
    }

    #[test]
    fn a_long_content_comes_in_pieces_of_a_thousand_bytes() {
        let content: Vec<u8> = (0..2016_u32).map(|index| index.to_le_bytes()[0]).collect();
        let enveloped = EnvelopedData {
            key_identifier: [1; 32],
            encrypted_key: vec![2; 256],
            iv: [3; 16],
            content: content.clone(),
        };
        let ber = enveloped.to_ber();
        let tail = [
            &[0xa0, 0x80, 0x04, 0x82, 0x03, 0xe8][..],
            &content[..1000],
            &[0x04, 0x82, 0x03, 0xe8],
            &content[1000..2000],
            &[0x04, 0x10],
            &content[2000..],
            &[0; 10],
        ]
        .concat();
        assert!(ber.ends_with(&tail));
    }

    #[test]
    fn lengths_are_as_short_as_they_can_be() {
        for (len, header) in [
            (0, &[4, 0][..]),
            (127, &[4, 127]),
            (128, &[4, 0x81, 128]),
            (256, &[4, 0x82, 1, 0]),
            (65536, &[4, 0x83, 1, 0, 0]),
        ] {
            assert_eq!(tlv(4, &[&vec![0; len]])[..header.len()], *header, "{len}");
        }
    }
}
