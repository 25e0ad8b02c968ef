//! The answer to an attested request: CMS EnvelopedData (RFC 5652, section 6) in KMS's exact encoding, and the wrong
//! variants for faults. [`kms::cms`] has the structure, [`kms::seal`] writes it.

use kms::cms::EnvelopedData;
use kms::seal::{Form, encode};

/// The piece length of Bouncy Castle, which KMS appears to use.
const FORM: Form = Form::Pieces(1000);

/// id-aes256-CBC and id-aes128-CBC (RFC 3565, section 4.1) differ in the last byte.
const AES_256_CBC: [u8; 9] = *b"\x60\x86\x48\x01\x65\x03\x04\x01\x2a";
const AES_128_CBC: [u8; 9] = *b"\x60\x86\x48\x01\x65\x03\x04\x01\x02";

/// In KMS's encoding.
pub(crate) fn to_ber(message: &EnvelopedData) -> Vec<u8> {
    encode(message, FORM)
}

/// Names AES-128 as the content's algorithm.
pub(crate) fn to_ber_with_another_algorithm(message: &EnvelopedData) -> Vec<u8> {
    let mut ber = to_ber(message);
    let at = ber.windows(AES_256_CBC.len()).position(|bytes| bytes == AES_256_CBC).expect("it names its algorithm");
    ber.splice(at..at + AES_128_CBC.len(), AES_128_CBC);
    ber
}

/// Makes the padding wrong: in CBC, a changed bit of a block changes the same bit of the next block's plaintext.
pub(crate) fn spoil_padding(message: &mut EnvelopedData) {
    let block = message.initialisation_vector.len();
    let before_last = message.encrypted_content.len().checked_sub(block + 1);
    let byte = match before_last.and_then(|index| message.encrypted_content.get_mut(index)) {
        Some(byte) => byte,
        None => message.initialisation_vector.last_mut().expect("an IV has a last byte"),
    };
    // Longer than a block, so never valid padding.
    *byte ^= 0x40;
}

/// Makes the encrypted key impossible to decrypt.
pub(crate) fn spoil_key(message: &mut EnvelopedData) {
    if let Some(byte) = message.encrypted_key.last_mut() {
        *byte ^= 1;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::process::Command;

    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::PrivateDecryptingKey;

    use super::*;

    /// A public test vector: a real answer from KMS.
    const REAL: &[u8] = include_bytes!("../../../../orchestrator/kms/tests/vectors/ciphertext-for-recipient.ber");

    /// The plaintext, if OpenSSL can decrypt it.
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

    fn part(offset: usize, len: usize) -> &'static [u8] {
        &REAL[offset..offset + len]
    }

    pub(crate) fn open(ber: &[u8], key: &PrivateDecryptingKey) -> Vec<u8> {
        try_open(ber, key).unwrap()
    }

    #[test]
    fn what_kms_answered_has_these_very_bytes() {
        let message = EnvelopedData {
            key_identifier: part(33, 32).try_into().unwrap(),
            encrypted_key: part(131, 256).to_vec(),
            initialisation_vector: part(415, 16).try_into().unwrap(),
            encrypted_content: part(435, 48).to_vec(),
        };
        assert_eq!(to_ber(&message), REAL);
    }

    #[test]
    fn a_long_content_comes_in_pieces_of_a_thousand_bytes() {
        let content: Vec<u8> = (0..2016_u32).map(|index| index.to_le_bytes()[0]).collect();
        let ber = to_ber(&EnvelopedData {
            key_identifier: [1; 32],
            encrypted_key: vec![2; 256],
            initialisation_vector: [3; 16],
            encrypted_content: content.clone(),
        });
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
}
