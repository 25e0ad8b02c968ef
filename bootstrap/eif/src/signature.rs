//! The signature section of an image. The hypervisor measures its certificate as PCR8.
//!
//! CBOR, as AWS's tools write it: an array of one map, `{"signing_certificate": [BYTE, ...], "signature": [BYTE,
//! ...]}`. The certificate is PEM. Only the hypervisor verifies the signature: it does not start an image with a wrong
//! one.

use anyhow::{Context, Result, ensure};
use der::Document;
use minicbor::Decoder;
use minicbor::data::Type;

/// Certificates have a few hundred bytes; a longer one is a mistake.
const MAX_CERTIFICATE_LEN: u64 = 64 << 10;

/// The signer's certificate, in DER.
///
/// # Errors
/// If the section is not one signature with its certificate.
pub(crate) fn signing_certificate(section: &[u8]) -> Result<Vec<u8>> {
    let expected = "signature section: expected one certificate and signature, in CBOR as nitro-cli writes them";
    let pem = certificate_pem(section).context(expected)?;
    let pem = String::from_utf8(pem).context("signature section: signing_certificate: expected PEM")?;
    let (label, document) = Document::from_pem(&pem).context("signature section: signing_certificate: expected PEM")?;
    ensure!(label == "CERTIFICATE", "signature section: signing_certificate: PEM {label}, expected CERTIFICATE");
    Ok(document.as_bytes().to_vec())
}

fn certificate_pem(section: &[u8]) -> Result<Vec<u8>> {
    let mut decoder = Decoder::new(section);
    let count = decoder.array()?;
    ensure!(count == Some(1), "more or fewer than one signature");
    let entries = decoder.map()?.context("a map without a length")?;
    let mut certificate = None;
    for _ in 0..entries {
        match decoder.str()? {
            "signing_certificate" => certificate = Some(bytes(&mut decoder)?),
            _ => decoder.skip()?,
        }
    }
    ensure!(decoder.position() == section.len(), "trailing bytes");
    certificate.context("no signing_certificate")
}

/// A byte string, or an array of numbers, which is how serde encodes bytes.
fn bytes(decoder: &mut Decoder<'_>) -> Result<Vec<u8>> {
    if decoder.datatype()? == Type::Bytes {
        return Ok(decoder.bytes()?.to_vec());
    }
    let count = decoder.array()?.context("an array without a length")?;
    ensure!(count <= MAX_CERTIFICATE_LEN, "a certificate of {count} bytes");
    (0..count).map(|_| Ok(decoder.u8()?)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use minicbor::Encoder;

    use super::*;

    /// From config/signer.toml.
    pub(crate) fn certificate() -> String {
        let (_, rest) = include_str!("../../../config/signer.toml").split_once("-----BEGIN CERTIFICATE-----").unwrap();
        let (body, _) = rest.split_once("-----END CERTIFICATE-----").unwrap();
        format!("-----BEGIN CERTIFICATE-----{body}-----END CERTIFICATE-----\n")
    }

    /// As serde encodes it.
    pub(crate) fn section(certificate: &str) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new());
        encoder.array(1).unwrap().map(2).unwrap();
        for (key, value) in [("signing_certificate", certificate.as_bytes()), ("signature", &[0xd2, 0x84, 0x18][..])] {
            encoder.str(key).unwrap().array(value.len() as u64).unwrap();
            for byte in value {
                encoder.u8(*byte).unwrap();
            }
        }
        encoder.into_writer()
    }

    #[test]
    fn the_certificate_is_read_as_der() {
        let der = signing_certificate(&section(&certificate())).unwrap();
        assert_eq!(der[..4], [0x30, 0x82, 0x01, 0xb8]);
        assert_eq!(der.len(), 4 + 0x1b8);
    }

    #[test]
    fn anything_else_is_named() {
        let says = |section: &[u8]| format!("{:#}", signing_certificate(section).unwrap_err());
        for damaged in [&b""[..], b"signature", &[0x80], &[0x81, 0xa0], &[0x82, 0xa0, 0xa0]] {
            assert!(
                says(damaged).starts_with("signature section: expected one certificate and signature"),
                "{}",
                says(damaged)
            );
        }
        let mut long = section(&certificate());
        long.push(0);
        assert!(says(&long).ends_with("trailing bytes"), "{}", says(&long));
        assert!(says(&section("no PEM")).starts_with("signature section: signing_certificate: expected PEM"));
        let key = certificate().replace("CERTIFICATE", "PUBLIC KEY");
        assert!(says(&section(&key)).ends_with("expected CERTIFICATE"), "{}", says(&section(&key)));
    }

    #[test]
    fn a_section_that_claims_more_than_it_has_is_refused_before_it_is_read() {
        let huge = [&[0x81, 0xa1, 0x73][..], b"signing_certificate", &[0x9b], &[0xff; 8]].concat();
        assert!(signing_certificate(&huge).is_err());
    }
}
