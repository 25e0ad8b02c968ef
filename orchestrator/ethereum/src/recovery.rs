//! Whether a signature recovers to a key that is known, without recovering one.
//!
//! Recovery takes the point `R` whose `x` is `r` and whose `y` has the parity of `v`, and finds the key
//! `Q = (s·R - z·G) / r`. Solved for `R`, that is `R = (z·G + r·Q) / s`: the point that verification computes from a key.
//! Where it has this very `x` and this parity, recovery finds `Q`, and nowhere else. What is saved is the square root that
//! finds `R`, and that the library verifies what it recovered once more.

use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};
use k256::elliptic_curve::PrimeField as _;
use k256::elliptic_curve::ops::{Invert as _, LinearCombination as _, Reduce};
use k256::elliptic_curve::point::AffineCoordinates as _;
use k256::elliptic_curve::scalar::IsHigh as _;
use k256::{ProjectivePoint, Scalar, U256};

use crate::address::Address;
use crate::key::address_of_key;

/// As a node does it: a high `s` is nobody's (EIP-2), nor is an `x` above the curve's order, which no `v` of Ethereum's can say.
pub(crate) fn recovers_to(key: &VerifyingKey, hash: &[u8; 32], signature: &Signature, is_y_odd: bool) -> bool {
    let (r, s) = signature.split_scalars();
    if s.is_high().into() {
        return false;
    }
    let z = <Scalar as Reduce<U256>>::reduce_bytes(&(*hash).into());
    // Not in constant time: all of this is public, or about to be.
    let s_inverse = *s.invert_vartime();
    let (of_generator, of_key) = (z * s_inverse, *r * s_inverse);
    let key = ProjectivePoint::from(*key.as_affine());
    // Not with the generator's tables, which signing uses: a fault in them would be on both sides.
    let point = ProjectivePoint::lincomb(&ProjectivePoint::GENERATOR, &of_generator, &key, &of_key).to_affine();
    point.x() == r.to_repr() && bool::from(point.y_is_odd()) == is_y_odd
}

/// The account that signed `hash` with this `r`, `s` and parity. A high `s` is nobody's.
pub(crate) fn recovered(hash: &[u8; 32], (r, s, is_y_odd): ([u8; 32], [u8; 32], bool)) -> Option<Address> {
    let signature = Signature::from_scalars(r, s).ok()?;
    if signature.normalize_s().is_some() {
        return None;
    }
    let key = VerifyingKey::recover_from_prehash(hash, &signature, RecoveryId::new(is_y_odd, false)).ok()?;
    Some(address_of_key(&key))
}

#[cfg(test)]
mod tests {
    use k256::ecdsa::SigningKey;
    use proptest::prelude::*;

    use super::*;

    fn any_key() -> impl Strategy<Value = SigningKey> {
        any::<[u8; 32]>().prop_filter_map("no key", |bytes| SigningKey::from_bytes(&bytes.into()).ok())
    }

    /// What the library recovers.
    fn recovered_key(hash: &[u8; 32], signature: &Signature, is_y_odd: bool) -> Option<VerifyingKey> {
        VerifyingKey::recover_from_prehash(hash, signature, RecoveryId::new(is_y_odd, false)).ok()
    }

    proptest! {
        // Curves are slow without optimisation; PROPTEST_CASES asks for more.
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 32, ..ProptestConfig::default() })]

        #[test]
        fn the_verdict_is_that_of_the_librarys_recovery(
            (key, other, hash, bit) in (any_key(), any_key(), any::<[u8; 32]>(), 0..256_usize),
        ) {
            let (signature, id) = key.sign_prehash_recoverable(&hash).unwrap();
            let (r, s) = signature.split_scalars();
            let mut other_hash = hash;
            other_hash[bit / 8] ^= 1 << (bit % 8);
            let flipped = |scalar: Scalar| {
                let mut bytes = scalar.to_repr();
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            };
            let changed = [
                Some(signature),
                Signature::from_scalars(*r, -*s).ok(),
                Signature::from_scalars(flipped(*r), *s).ok(),
                Signature::from_scalars(*r, flipped(*s)).ok(),
                Signature::from_scalars(*s, *r).ok(),
            ];
            prop_assert!(recovers_to(key.verifying_key(), &hash, &signature, id.is_y_odd()));
            let mut right = 0;
            for signature in changed.into_iter().flatten() {
                for (hash, is_y_odd) in [(hash, false), (hash, true), (other_hash, false), (other_hash, true)] {
                    let recovered = recovered_key(&hash, &signature, is_y_odd);
                    for key in [key.verifying_key(), other.verifying_key()] {
                        let verdict = recovers_to(key, &hash, &signature, is_y_odd);
                        prop_assert_eq!(verdict, recovered.as_ref() == Some(key));
                        right += usize::from(verdict);
                    }
                    // Another key's, and the verdict says so of that key.
                    if let Some(recovered) = recovered {
                        prop_assert!(recovers_to(&recovered, &hash, &signature, is_y_odd));
                    }
                }
            }
            prop_assert_eq!(right, 1, "the one that was made");
        }
    }
}
