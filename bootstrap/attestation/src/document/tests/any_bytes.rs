//! Arbitrary bytes are refused, and never cause a panic.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::certificate::Certificate;

static DOCUMENT: LazyLock<Vec<u8>> = LazyLock::new(|| NSM.sign(&fields()));

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused(bytes in vec(any::<u8>(), 0..2048)) {
        prop_assert!(verdict(&TRUSTED, &bytes).is_err());
        prop_assert!(verify(&bytes, &TRUSTED, At::Document).is_err());
    }

    #[test]
    fn an_arbitrary_payload_or_certificate_is_refused(bytes in vec(any::<u8>(), 0..1024)) {
        prop_assert!(verdict(&TRUSTED, &NSM.sign_payload(&bytes)).is_err());
        prop_assert!(Certificate::parse(&bytes).is_err());
        let bundle = array([NSM.cabundle[0].as_slice(), &bytes].into_iter());
        prop_assert!(verdict_of(&entries_with("cabundle", &bundle)).is_err());
    }

    #[test]
    fn a_document_with_one_byte_changed_is_refused(at in any::<Index>(), difference in 1..=u8::MAX) {
        let mut document = DOCUMENT.clone();
        let at = at.index(document.len());
        document[at] ^= difference;
        prop_assert!(verdict(&TRUSTED, &document).is_err(), "byte {at} xor {difference:02x}");
    }

    #[test]
    fn a_document_with_a_byte_more_or_less_is_refused(at in any::<Index>(), byte in any::<u8>()) {
        let (mut more, mut less) = (DOCUMENT.clone(), DOCUMENT.clone());
        more.insert(at.index(DOCUMENT.len()), byte);
        less.remove(at.index(DOCUMENT.len()));
        prop_assert!(verdict(&TRUSTED, &more).is_err());
        prop_assert!(verdict(&TRUSTED, &less).is_err());
    }

    /// Correctly signed, so only the parser prevents a panic.
    #[test]
    fn a_rightly_signed_document_with_changed_certificates_never_panics(at in any::<Index>(), difference in 1..=u8::MAX) {
        let mut certificate = NSM.certificate.clone();
        let at = at.index(certificate.len());
        certificate[at] ^= difference;
        let entries = entries_with("certificate", &crate::test_root::bytes(&certificate));
        prop_assert!(verdict_of(&entries).is_err(), "byte {at} xor {difference:02x}");
    }
}
