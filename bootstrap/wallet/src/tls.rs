//! TLS 1.3 to a server that nobody has vouched for yet. What comes out of the handshake is which key the other end holds, proven
//! by its signature; whose key that is, a document has to say ([`crate::enclave`]).

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use signer::binding::sha256;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::{Zeroize as _, Zeroizing};

/// A chain of certificates and a key are below 16 KiB.
const MAX_PEM_LEN: u64 = 64 << 10;

/// Who the client is, for an enclave that asks for certificates.
#[derive(Clone)]
pub struct ClientIdentity(Arc<SingleCertAndKey>);

impl ClientIdentity {
    /// Reads a certificate, followed by those between it and its root, and its private key; all in PEM.
    ///
    /// # Errors
    /// Files that cannot be read, a key that others may read, and a key of another certificate.
    pub fn load(certificate_path: &Path, key_path: &Path) -> Result<Self> {
        let doing = || format!("read the client certificate {}", certificate_path.display());
        let pem = read(certificate_path, false).with_context(doing)?;
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().context("not PEM").with_context(doing)?;
        ensure!(!chain.is_empty(), "{}: no CERTIFICATE in it, expected PEM", doing());
        let doing = || format!("read the client's private key {}", key_path.display());
        let pem = read(key_path, true).with_context(doing)?;
        // The library's error would not show the key, nor would it say more.
        let mut der = PrivateKeyDer::from_pem_slice(&pem)
            .ok()
            .context("no private key in it, expected PEM as openssl writes it")
            .with_context(doing)?;
        let key = any_supported_type(&der);
        der.zeroize();
        let certified = CertifiedKey::new(chain, key.with_context(doing)?);
        certified
            .keys_match()
            .with_context(|| format!("{} is not the key of {}", key_path.display(), certificate_path.display()))?;
        Ok(Self(Arc::new(SingleCertAndKey::from(certified))))
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity(..)")
    }
}

/// Shakes hands. The digest is that of the SubjectPublicKeyInfo whose key signed this very handshake.
pub(crate) async fn connect(
    stream: TcpStream,
    name: ServerName<'static>,
    identity: Option<&ClientIdentity>,
) -> io::Result<(TlsStream<TcpStream>, [u8; 32])> {
    let config = config(identity).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = certificates.first().ok_or_else(|| io::Error::other("the server has no certificate"))?;
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
    // Every connection shows its key.
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Takes any certificate, and only from who holds its key.
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
        // Never asked: TLS 1.2 is not offered.
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

fn read(path: &Path, is_secret: bool) -> Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mode = metadata.mode() & 0o7777;
    ensure!(
        !is_secret || !metadata.is_file() || mode & 0o077 == 0,
        "mode {mode:04o} lets others use it, expected 0600: chmod 600 {}",
        path.display()
    );
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len().min(MAX_PEM_LEN) + 1)?));
    file.take(MAX_PEM_LEN + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= MAX_PEM_LEN, "more than {MAX_PEM_LEN} bytes, which is not what is expected here");
    Ok(bytes)
}
