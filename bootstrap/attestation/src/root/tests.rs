use std::time::SystemTime;

use rcgen::{IsCa, Issuer, KeyUsagePurpose};

use super::*;
use crate::test_root::{Link, TestRoot, links};

/// A valid root, except for `change`.
fn changed(change: impl FnOnce(&mut Link)) -> Result<TrustRoot, RootError> {
    let mut root = links(SystemTime::UNIX_EPOCH).swap_remove(0);
    change(&mut root);
    TrustRoot::from_der(root.params.self_signed(&root.key).unwrap().der())
}

#[test]
fn a_root_of_one_s_own_is_read_from_pem_and_is_not_aws_s() {
    let own = TestRoot::new(SystemTime::UNIX_EPOCH);
    let root = TrustRoot::from_pem(&own.root_pem()).unwrap();
    assert_eq!(root, own.trust_root());
    assert_ne!(root, TrustRoot::aws());
    assert!(!root.is_aws());
    assert_eq!(root.to_string(), format!("NOT AWS's root but another, SHA-256 {}", root.fingerprint()));
}

#[test]
fn a_text_that_is_not_the_pem_of_one_certificate_is_not_a_root() {
    let pem = TestRoot::new(SystemTime::UNIX_EPOCH).root_pem();
    let key = pem.replace("CERTIFICATE", "PUBLIC KEY");
    assert!(matches!(TrustRoot::from_pem(&key), Err(RootError::Label(label)) if label == "PUBLIC KEY"));
    for text in ["", "PEM", &pem[..pem.len() / 2], &pem.replace("END CERT", "END ")] {
        assert!(matches!(TrustRoot::from_pem(text), Err(RootError::Pem(_))), "{text}");
    }
    let two = [pem.as_str(), &pem].concat();
    assert!(TrustRoot::from_pem(&two).is_err(), "two of them");
    assert!(matches!(TrustRoot::from_der(b"DER"), Err(RootError::Certificate(_))));
}

#[test]
fn a_root_is_a_certificate_authority_that_may_sign_certificates() {
    changed(|_| ()).unwrap();
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa] {
        assert!(matches!(changed(|root| root.params.is_ca = is_ca), Err(RootError::NotRoot)));
    }
    let usages = vec![KeyUsagePurpose::DigitalSignature];
    assert!(matches!(changed(|root| root.params.key_usages = usages), Err(RootError::NotRoot)));
}

#[test]
fn a_root_signed_itself() {
    let links = links(SystemTime::UNIX_EPOCH);
    let [root, intermediate, _] = links.as_slice() else { unreachable!("three links") };
    let issued = |name: &Link, key: &Link| {
        let issuer = Issuer::from_params(&name.params, &key.key);
        TrustRoot::from_der(intermediate.params.signed_by(&intermediate.key, &issuer).unwrap().der())
    };
    issued(intermediate, intermediate).unwrap();
    // Another's name, another's key.
    assert!(matches!(issued(root, intermediate), Err(RootError::NotRoot)));
    assert!(matches!(issued(intermediate, root), Err(RootError::NotRoot)));
}
