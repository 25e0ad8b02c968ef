//! Which server is the right one: by a certificate authority, or by its key. For hubs and for upstreams.

use std::sync::Arc;

use anyhow::{Context, Result};
use binding::sha256;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use webpki_roots::TLS_SERVER_ROOTS;

use crate::home::HubIdentity;

/// A client that trusts this server only; None: any with a certificate of a public authority. Each connection has a full
/// handshake, which checks the certificate again.
pub(super) fn config(identity: Option<&HubIdentity>, protocol: &[u8]) -> Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let by_roots = |roots: RootCertStore| {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        verifier.build().context("the CA")
    };
    let verifier: Arc<dyn ServerCertVerifier> = match identity {
        None => by_roots(TLS_SERVER_ROOTS.iter().cloned().collect())?,
        Some(HubIdentity::Authorities(authorities)) => {
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                roots.add(authority.clone()).context("the CA")?;
            }
            by_roots(roots)?
        }
        Some(HubIdentity::Key(expected)) => {
            Arc::new(OneKey { expected: *expected, algorithms: provider.signature_verification_algorithms })
        }
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .context("TLS 1.3")?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Accepts the server that holds one key, whatever its certificate says beside it.
#[derive(Debug)]
struct OneKey {
    expected: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for OneKey {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = ParsedCertificate::try_from(certificate)?;
        match sha256(&key.subject_public_key_info()) == self.expected {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::General("the server has another key, expected that of key_sha256".to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Never called: TLS 1.2 is not offered.
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
