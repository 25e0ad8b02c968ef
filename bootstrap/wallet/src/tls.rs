//! TLS 1.3 to a server that is not verified yet. The handshake proves which key the server holds. An attestation document then
//! proves whose key it is ([`crate::enclave`]).

mod identity;

use std::io;
use std::sync::Arc;

use binding::sha256;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use identity::{ClientIdentity, HubIdentity};

/// The TLS handshake. The digest is that of the SubjectPublicKeyInfo whose key signed this handshake.
pub(crate) async fn connect(
    stream: TcpStream,
    name: ServerName<'static>,
    identity: Option<&ClientIdentity>,
) -> io::Result<(TlsStream<TcpStream>, [u8; 32])> {
    let config = config(identity).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.ok_or_else(|| io::Error::other("the server has no certificate"))?;
    let parsed = ParsedCertificate::try_from(certificate).map_err(io::Error::other)?;
    let tls_key = sha256(&parsed.subject_public_key_info());
    Ok((stream, tls_key))
}

fn config(identity: Option<&ClientIdentity>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(ProofOfPossession(provider.signature_verification_algorithms));
    let builder = ClientConfig::builder_with_provider(Arc::<CryptoProvider>::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(ClientIdentity(resolver)) => builder.with_client_cert_resolver(Arc::<SingleCertAndKey>::clone(resolver)),
    };
    // Every connection proves its key.
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Accepts any certificate, but only with proof of its private key.
#[derive(Debug)]
struct ProofOfPossession(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for ProofOfPossession {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        ParsedCertificate::try_from(certificate)?;
        Ok(ServerCertVerified::assertion())
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
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
