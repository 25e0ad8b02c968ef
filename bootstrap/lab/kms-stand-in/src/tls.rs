//! TLS for the server: one certificate, explicit settings.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A server configuration for TLS 1.2 and 1.3 and HTTP/1.1. The server's own certificate comes first.
///
/// # Errors
/// If a PEM cannot be parsed, or the key is not the certificate's.
pub fn server_config(certificates_pem: &str, key_pem: &str) -> Result<Arc<ServerConfig>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(certificates_pem.as_bytes())
        .collect::<Result<_, _>>()
        .context("certificates")?;
    ensure!(!certificates.is_empty(), "no certificate, expected at least one in PEM");
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).context("private key")?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .context("TLS versions")?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .context("certificate and private key")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_goes_with_its_own_key() {
        let [one, other] = [(); 2].map(|()| rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap());
        let config = server_config(&one.cert.pem(), &one.signing_key.serialize_pem()).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);
        let error = server_config("", &one.signing_key.serialize_pem()).unwrap_err();
        assert!(error.to_string().contains("no certificate"), "{error}");
        for (certificates, key) in
            [(one.cert.pem(), other.signing_key.serialize_pem()), (one.cert.pem(), one.cert.pem())]
        {
            server_config(&certificates, &key).unwrap_err();
        }
    }
}
