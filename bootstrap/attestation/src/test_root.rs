//! A root for tests, and documents signed under it as an NSM would. For tests only.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use minicbor::Encoder;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384,
    date_time_ymd,
};

use crate::envelope::signed_bytes;
use crate::pcr::Pcr;
use crate::root::TrustRoot;

/// `{1: -35}`: ES384.
pub(crate) const PROTECTED: [u8; 4] = [0xa1, 0x01, 0x38, 0x22];
/// Like AWS's leaves.
const LIFETIME: Duration = Duration::from_hours(3);
/// How long the certificates have been valid.
const AGE: Duration = Duration::from_hours(1);
const PROOF: &str = "the library supports these keys and certificates";

/// A root, one intermediate and a leaf, with the leaf's key.
#[derive(Debug)]
pub struct TestRoot {
    /// The root first, as in a `cabundle`.
    pub(crate) cabundle: Vec<Vec<u8>>,
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: KeyPair,
}

/// A document's fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// See [`Claims`](crate::Claims).
    pub module_id: String,
    /// Whole milliseconds since 1970.
    pub timestamp: SystemTime,
    /// By index.
    pub pcrs: BTreeMap<u8, Pcr>,
    /// See [`Claims`](crate::Claims).
    pub public_key: Option<Vec<u8>>,
    /// See [`Claims`](crate::Claims).
    pub user_data: Option<Vec<u8>>,
    /// See [`Claims`](crate::Claims).
    pub nonce: Option<Vec<u8>>,
}

impl TestRoot {
    /// New keys, and certificates that are valid from one hour before `now` to two hours after.
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        Self::of(links(now))
    }

    /// The root under which these documents are genuine.
    #[must_use]
    pub fn trust_root(&self) -> TrustRoot {
        TrustRoot::from_der(self.cabundle.first().expect("a chain has a root")).expect("a test's root is one")
    }

    /// The root in PEM, for a configuration's `root_path`.
    #[must_use]
    pub fn root_pem(&self) -> String {
        let pem = der::Document::try_from(self.cabundle.first().expect("a chain has a root").as_slice());
        pem.and_then(|document| document.to_pem("CERTIFICATE", der::pem::LineEnding::LF)).expect("DER has a PEM")
    }

    /// A document with `fields`.
    #[must_use]
    pub fn sign(&self, fields: &Fields) -> Vec<u8> {
        self.sign_payload(&map(&self.entries(fields)))
    }

    /// Certificates for `links`, each signed by the one before it, the first by itself.
    pub(crate) fn of(links: Vec<Link>) -> Self {
        let mut ders = Vec::new();
        let mut issuer: Option<&Link> = None;
        for link in &links {
            let made = match issuer {
                None => link.params.self_signed(&link.key),
                Some(by) => link.params.signed_by(&link.key, &Issuer::from_params(&by.params, &by.key)),
            };
            ders.push(made.expect(PROOF).der().to_vec());
            issuer = Some(link);
        }
        let certificate = ders.pop().expect("a chain has a leaf");
        let key = links.into_iter().next_back().expect("a chain has a leaf").key;
        Self { cabundle: ders, certificate, key }
    }

    /// A payload's keys, each with its value in CBOR.
    pub(crate) fn entries(&self, fields: &Fields) -> Vec<(&'static str, Vec<u8>)> {
        let since_1970 = fields.timestamp.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let timestamp = u64::try_from(since_1970.as_millis()).expect("584 million years after 1970");
        vec![
            ("module_id", cbor(&fields.module_id)),
            ("digest", cbor("SHA384")),
            ("timestamp", cbor(timestamp)),
            ("pcrs", pcrs(fields.pcrs.iter().map(|(index, pcr)| (u64::from(*index), pcr.0.as_slice())))),
            ("certificate", bytes(&self.certificate)),
            ("cabundle", array(self.cabundle.iter().map(Vec::as_slice))),
            ("public_key", optional(fields.public_key.as_deref())),
            ("user_data", optional(fields.user_data.as_deref())),
            ("nonce", optional(fields.nonce.as_deref())),
        ]
    }

    pub(crate) fn sign_payload(&self, payload: &[u8]) -> Vec<u8> {
        envelope(&PROTECTED, payload, &self.signature(&PROTECTED, payload))
    }

    pub(crate) fn signature(&self, protected: &[u8], payload: &[u8]) -> Vec<u8> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, self.key.serialized_der()).expect(PROOF);
        key.sign(&SystemRandom::new(), &signed_bytes(protected, payload)).expect(PROOF).as_ref().to_vec()
    }
}

impl Fields {
    /// An enclave that is not in debug mode: every byte of PCR0-2 is 0x10, 0x11 or 0x12, the other thirteen PCRs are
    /// zero, and the optional fields absent.
    #[must_use]
    pub fn new(timestamp: SystemTime) -> Self {
        let value = |index| if index < 3 { 0x10 + index } else { 0 };
        Self {
            module_id: "i-0123456789abcdef0-enc0123456789abcdef".to_owned(),
            timestamp,
            pcrs: (0..16).map(|index| (index, Pcr([value(index); Pcr::LEN]))).collect(),
            public_key: None,
            user_data: None,
            nonce: None,
        }
    }
}

/// A certificate to create.
pub(crate) struct Link {
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
}

/// A valid chain.
pub(crate) fn links(now: SystemTime) -> Vec<Link> {
    vec![
        link("root", IsCa::Ca(BasicConstraints::Unconstrained), KeyUsagePurpose::KeyCertSign, now),
        link("intermediate", IsCa::Ca(BasicConstraints::Constrained(0)), KeyUsagePurpose::KeyCertSign, now),
        link("leaf", IsCa::ExplicitNoCa, KeyUsagePurpose::DigitalSignature, now),
    ]
}

pub(crate) fn link(name: &str, is_ca: IsCa, usage: KeyUsagePurpose, now: SystemTime) -> Link {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("TEST ONLY {name}"));
    params.is_ca = is_ca;
    params.key_usages = vec![usage];
    let not_before = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(AGE);
    params.not_before = date_time_ymd(1970, 1, 1) + not_before;
    params.not_after = params.not_before + LIFETIME;
    Link { params, key: KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect(PROOF) }
}

/// A COSE_Sign1 without its tag.
pub(crate) fn envelope(protected: &[u8], payload: &[u8], signature: &[u8]) -> Vec<u8> {
    [vec![0x84], bytes(protected), vec![0xa0], bytes(payload), bytes(signature)].concat()
}

/// A map of definite length.
pub(crate) fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = Encoder::new(Vec::new());
    out.map(entries.len() as u64).expect("a Vec takes every byte");
    entries.iter().fold(out.into_writer(), |out, (key, value)| [out, cbor(key), value.clone()].concat())
}

pub(crate) fn pcrs<'a>(pcrs: impl Iterator<Item = (u64, &'a [u8])>) -> Vec<u8> {
    let entries: Vec<_> = pcrs.collect();
    let mut out = Encoder::new(Vec::new());
    out.map(entries.len() as u64).expect("a Vec takes every byte");
    entries.into_iter().fold(out.into_writer(), |out, (index, value)| [out, cbor(index), bytes(value)].concat())
}

pub(crate) fn array<'a>(items: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Encoder::new(Vec::new());
    out.array(items.len() as u64).expect("a Vec takes every byte");
    items.fold(out.into_writer(), |out, item| [out, bytes(item)].concat())
}

pub(crate) fn bytes(bytes: &[u8]) -> Vec<u8> {
    cbor(minicbor::bytes::ByteVec::from(bytes.to_vec()))
}

pub(crate) fn cbor(value: impl minicbor::Encode<()>) -> Vec<u8> {
    minicbor::to_vec(value).expect("a Vec takes every byte")
}

/// The value of an optional key without a value.
pub(crate) fn null() -> Vec<u8> {
    cbor(None::<u64>)
}

fn optional(value: Option<&[u8]>) -> Vec<u8> {
    value.map_or_else(null, bytes)
}
