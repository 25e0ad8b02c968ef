//! TLS 1.3 with a key that is generated at start and never leaves the process. An attestation document binds it
//! ([`binding::signer`]): that is why clients trust it, and not for its name.

use std::sync::Arc;

use anyhow::{Context, Result};
use binding::sha256;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, sign::any_ecdsa_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};
use webpki::EndEntityCert;
use zeroize::Zeroize;

use crate::permission::{Access, Caller};

/// This process's TLS key.
pub(crate) struct Identity {
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub(crate) digest: [u8; 32],
    pub(crate) config: Arc<ServerConfig>,
}

impl Identity {
    /// Generates the key and its self-signed certificate.
    pub(crate) fn generate(access: &Access) -> Result<Self> {
        let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("make the TLS key")?;
        let mut params = CertificateParams::new(vec!["signer".to_owned()]).context("TLS certificate")?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "signer, trust by attestation");
        let certificate = params.self_signed(&key).context("TLS certificate")?.der().clone();
        let digest = sha256(&key.subject_public_key_info());
        let mut der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing_key = any_ecdsa_type(&der);
        key.zeroize();
        der.zeroize();
        let certified = CertifiedKey::new(vec![certificate], signing_key.context("TLS key")?);
        Ok(Self { digest, config: Arc::new(server(access, certified)?) })
    }
}

fn server(access: &Access, certified: CertifiedKey) -> Result<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .context("TLS 1.3")?;
    let builder = match access {
        Access::Open => builder.with_no_client_auth(),
        Access::Clients { authorities, .. } => builder.with_client_cert_verifier(verifier(authorities, provider)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session would outlive the client's certificate.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn verifier(
    authorities: &[CertificateDer<'static>],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).context("client CA")?;
    }
    // A health check has no certificate. So the handshake requests one, and each other path requires it. An invalid
    // certificate ends the handshake.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated();
    verifier.build().context("client CA")
}

/// The caller, from the certificate of a finished handshake.
pub(crate) fn caller(access: &Access, certificates: Option<&[CertificateDer<'_>]>) -> Caller {
    let Some(certificate) = certificates.and_then(|certificates| certificates.first()) else {
        return access.anonymous();
    };
    // The handshake has verified it, so it parses. One that does not has no names.
    match EndEntityCert::try_from(certificate) {
        Ok(parsed) => access.caller(parsed.valid_dns_names()),
        Err(_) => access.caller(std::iter::empty()),
    }
}
