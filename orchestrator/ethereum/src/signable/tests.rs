use super::*;
use crate::address::Address;

fn key() -> SecretKey {
    SecretKey::parse(b"0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318").unwrap()
}

fn authorization() -> Authorization {
    Authorization { chain_id: 1, contract: Address([7; 20]), nonce: 5 }
}

#[test]
fn a_signature_of_another_hash_or_key_and_one_with_a_bit_flipped_do_not_leave() {
    let key = key();
    for v in [0, V] {
        let digest = Digest { hash: authorization().hash(), again: authorization().hash() };
        let signature = digest.sign(&key, v).unwrap();
        assert_eq!(digest.check(&signature.bytes, &key, v), Ok(()));
        for at in 0..8 * Signature::LEN {
            let mut flipped = signature.bytes;
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(digest.check(&flipped, &key, v).is_err(), "bit {at}");
        }
        let other = SecretKey::generate().unwrap();
        let expected = other.address();
        let recovery = SignError::Recovery { recovered: Some(key.address()), expected };
        assert_eq!(digest.check(&signature.bytes, &other, v), Err(recovery));
    }
}

#[test]
fn nothing_leaves_when_two_libraries_differ() {
    let hash = authorization().hash();
    assert_eq!(Digest { hash, again: [0; 32] }.sign(&key(), 0), Err(SignError::Different));
    assert!(Digest { hash, again: hash }.sign(&key(), 0).is_ok());
}
