//! The other side: messages as KMS makes them, for tests and for `kms-stand-in`.

use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use zeroize::Zeroizing;

use crate::cms::ber::Tag;
use crate::cms::{AES_256_CBC, DATA, ENVELOPED_DATA, EnvelopedData, MGF1, RSAES_OAEP, SHA256};
use crate::recipient::key_identifier;

/// Three ways to write the same message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All lengths known: as DER is.
    Definite,
    /// As KMS writes: the outer lengths are open, the content is in one piece.
    Indefinite,
    /// The outer lengths are open, and the content is in pieces of this many bytes.
    Pieces(usize),
}

/// Encrypts `plaintext` to a key, which is a SubjectPublicKeyInfo in DER.
///
/// # Errors
/// A key that is not an RSA key of 2048 bits or more.
pub fn seal(public_key: &[u8], plaintext: &[u8]) -> Result<EnvelopedData, Unspecified> {
    let mut content_key = Zeroizing::new([0; 32]);
    rand::fill(&mut *content_key)?;
    let mut initialisation_vector = [0; 16];
    rand::fill(&mut initialisation_vector)?;

    let mut encrypted_content = plaintext.to_vec();
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, &*content_key)?)?;
    let vector = EncryptionContext::Iv128(FixedLength::from(initialisation_vector));
    key.less_safe_encrypt(&mut encrypted_content, vector)?;
    let encrypted_key = wrap(public_key, &*content_key)?;
    Ok(EnvelopedData {
        key_identifier: key_identifier(public_key),
        encrypted_key,
        initialisation_vector,
        encrypted_content,
    })
}

/// Encrypts a content key to a recipient's.
///
/// # Errors
/// As [`seal`], and a content key that is too long.
pub fn wrap(public_key: &[u8], content_key: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(public_key)?)?;
    let mut encrypted_key = vec![0; key.ciphertext_size()];
    key.encrypt(&OAEP_SHA256_MGF1SHA256, content_key, &mut encrypted_key, None)?;
    Ok(encrypted_key)
}

/// The message's bytes.
#[must_use]
pub fn encode(message: &EnvelopedData, form: Form) -> Vec<u8> {
    let sha256 = element(Tag::SEQUENCE, &[identifier(SHA256), element(Tag::NULL, &[])]);
    let mask = element(Tag::SEQUENCE, &[identifier(MGF1), sha256.clone()]);
    let oaep = element(
        Tag::SEQUENCE,
        &[element(Tag::context(0).constructed(), &[sha256]), element(Tag::context(1).constructed(), &[mask])],
    );
    let recipient = element(
        Tag::SEQUENCE,
        &[
            element(Tag::INTEGER, &[vec![2]]),
            element(Tag::context(0), &[message.key_identifier.to_vec()]),
            element(Tag::SEQUENCE, &[identifier(RSAES_OAEP), oaep]),
            element(Tag::OCTET_STRING, std::slice::from_ref(&message.encrypted_key)),
        ],
    );
    let vector = element(Tag::OCTET_STRING, &[message.initialisation_vector.to_vec()]);
    let info = [
        identifier(DATA),
        element(Tag::SEQUENCE, &[identifier(AES_256_CBC), vector]),
        content(&message.encrypted_content, form),
    ];
    let outer = if form == Form::Definite { element } else { open_element };
    let enveloped_data =
        [element(Tag::INTEGER, &[vec![2]]), element(Tag::SET, &[recipient]), outer(Tag::SEQUENCE, &info)];
    let content = outer(Tag::context(0).constructed(), &[outer(Tag::SEQUENCE, &enveloped_data)]);
    outer(Tag::SEQUENCE, &[identifier(ENVELOPED_DATA), content])
}

fn content(bytes: &[u8], form: Form) -> Vec<u8> {
    let pieces = |size: usize| -> Vec<_> {
        bytes.chunks(size.max(1)).map(|piece| element(Tag::OCTET_STRING, &[piece.to_vec()])).collect()
    };
    match form {
        Form::Definite => element(Tag::context(0), &[bytes.to_vec()]),
        Form::Indefinite => open_element(Tag::context(0).constructed(), &pieces(bytes.len())),
        Form::Pieces(size) => open_element(Tag::context(0).constructed(), &pieces(size)),
    }
}

fn identifier(bytes: &[u8]) -> Vec<u8> {
    element(Tag::OBJECT_IDENTIFIER, &[bytes.to_vec()])
}

/// An element whose length is in front.
fn element(tag: Tag, parts: &[Vec<u8>]) -> Vec<u8> {
    let content = parts.concat();
    let mut bytes = vec![tag.0];
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    match significant[..] {
        [] => bytes.push(0),
        [short] if short < 0x80 => bytes.push(short),
        ref long => {
            bytes.push(0x80 | u8::try_from(long.len()).expect("a length has eight bytes at most"));
            bytes.extend(long);
        }
    }
    bytes.extend(content);
    bytes
}

/// An element of indefinite length, which ends with an end-of-contents marker.
fn open_element(tag: Tag, parts: &[Vec<u8>]) -> Vec<u8> {
    [vec![tag.0, 0x80], parts.concat(), vec![0, 0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_short_as_they_can_be() {
        for (len, header) in [
            (0, &[4, 0][..]),
            (127, &[4, 127]),
            (128, &[4, 0x81, 128]),
            (256, &[4, 0x82, 1, 0]),
            (65536, &[4, 0x83, 1, 0, 0]),
        ] {
            assert_eq!(element(Tag::OCTET_STRING, &[vec![0; len]])[..header.len()], *header, "{len}");
        }
    }
}
