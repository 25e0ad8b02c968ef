//! Certificates and their keys in files: the client's, for an enclave that requires one, and the hub's.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use binding::sha256;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use zeroize::Zeroizing;

/// A chain of certificates and a key are below 16 KiB.
const MAX_PEM_LEN: u64 = 64 << 10;

/// A client certificate with its private key.
#[derive(Clone)]
pub struct ClientIdentity(pub(super) Arc<SingleCertAndKey>);

impl ClientIdentity {
    /// Reads a certificate, its intermediates, and its private key; all in PEM.
    ///
    /// # Errors
    /// Files that cannot be read, a key that others may read, and a key of another certificate.
    pub fn load(certificate_path: &Path, key_path: &Path) -> Result<Self> {
        let certified = load(["client certificate", "client's private key"], certificate_path, key_path)?;
        Ok(Self(Arc::new(SingleCertAndKey::from(certified))))
    }

    /// The same from one text, in any order.
    ///
    /// # Errors
    /// What is missing, and a key of another certificate; none of the text is shown.
    pub fn from_pem(pem: &[u8]) -> Result<Self> {
        let sections = Sections::parse(pem)?;
        let key = sections.key()?;
        let certified = certified(sections.chain()?, key);
        let certified = certified.context("its private key belongs to none of its certificates")?;
        Ok(Self(Arc::new(SingleCertAndKey::from(certified))))
    }
}

/// A hub's certificate with its private key.
#[derive(Clone)]
pub struct HubIdentity {
    pub(crate) resolver: Arc<SingleCertAndKey>,
    key: [u8; 32],
}

impl HubIdentity {
    /// As [`ClientIdentity::load`].
    ///
    /// # Errors
    /// As there.
    pub fn load(certificate_path: &Path, key_path: &Path) -> Result<Self> {
        let certified = load(["hub's certificate", "hub's private key"], certificate_path, key_path)?;
        let own = certified.cert.first().context("a chain without a certificate")?;
        let parsed = ParsedCertificate::try_from(own).context("the hub's certificate")?;
        let key = sha256(&parsed.subject_public_key_info());
        Ok(Self { resolver: Arc::new(SingleCertAndKey::from(certified)), key })
    }

    /// SHA-256 of the SubjectPublicKeyInfo: `key_sha256` of an enclave's `[[home]]`.
    #[must_use]
    pub fn key_sha256(&self) -> String {
        const_hex::encode(self.key)
    }
}

/// `names` are those of the certificate and of the key.
fn load(names: [&str; 2], certificate_path: &Path, key_path: &Path) -> Result<CertifiedKey> {
    let [certificate, private_key] = names;
    let doing = || format!("read the {certificate} {}", certificate_path.display());
    let parse = |path, is_secret| read(path, is_secret).and_then(|pem| Sections::parse(&pem));
    let chain = parse(certificate_path, false).and_then(Sections::chain).with_context(doing)?;
    let doing = || format!("read the {private_key} {}", key_path.display());
    let key = parse(key_path, true).and_then(|sections| sections.key()).with_context(doing)?;
    certified(chain, key)
        .with_context(|| format!("{} is not the key of {}", key_path.display(), certificate_path.display()))
}

fn certified(chain: Vec<CertificateDer<'static>>, key: Arc<dyn SigningKey>) -> Result<CertifiedKey> {
    let mut certified = CertifiedKey::new(chain, key);
    let is_own = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], Arc::clone(&certified.key)).keys_match().is_ok()
    };
    // TLS requires the client's own first, and the others in any order (RFC 8446, 4.4.2).
    if let Some(own) = certified.cert.iter().position(is_own) {
        certified.cert.swap(0, own);
    }
    certified.keys_match()?;
    Ok(certified)
}

/// The parts of an identity in a PEM text.
struct Sections {
    certificates: Vec<CertificateDer<'static>>,
    keys: Zeroizing<Vec<PrivateKeyDer<'static>>>,
}

impl Sections {
    fn parse(pem: &[u8]) -> Result<Self> {
        let mut sections = Self { certificates: Vec::new(), keys: Zeroizing::default() };
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            // The library's error quotes the text.
            let (kind, der) = section.ok().context("not PEM: a BEGIN without its END, or no base64 between them")?;
            if kind == SectionKind::Certificate {
                sections.certificates.push(der.into());
            } else {
                sections.keys.extend(PrivateKeyDer::from_pem(kind, der));
            }
        }
        Ok(sections)
    }

    fn chain(self) -> Result<Vec<CertificateDer<'static>>> {
        ensure!(!self.certificates.is_empty(), "no CERTIFICATE in it, expected PEM");
        Ok(self.certificates)
    }

    fn key(&self) -> Result<Arc<dyn SigningKey>> {
        match self.keys.as_slice() {
            [] => bail!("no private key in it, expected PEM without a passphrase, as `openssl genpkey` writes it"),
            [der] => any_supported_type(der).context("a private key that TLS does not support"),
            [_, _, ..] => bail!("more than one private key in it, expected one"),
        }
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity(..)")
    }
}

impl fmt::Debug for HubIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubIdentity(..)")
    }
}

/// Whether systemd has put it there for this service alone (`LoadCredential=`). The service reads it by an access control
/// list, and what that allows shows as the group's.
fn is_credential(path: &Path) -> bool {
    std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|dir| path.starts_with(dir))
}

fn read(path: &Path, is_secret: bool) -> Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mode = metadata.mode() & 0o7777;
    let of_others = if is_credential(path) { 0o037 } else { 0o077 };
    ensure!(
        !is_secret || !metadata.is_file() || mode & of_others == 0,
        "mode {mode:04o} lets others use it, expected 0600: chmod 600 {}",
        path.display()
    );
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len().min(MAX_PEM_LEN) + 1)?));
    file.take(MAX_PEM_LEN + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= MAX_PEM_LEN, "expected at most {MAX_PEM_LEN} bytes");
    Ok(bytes)
}
