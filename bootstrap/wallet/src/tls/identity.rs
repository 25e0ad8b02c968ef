//! Who the client is, for an enclave that asks for certificates.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use zeroize::{Zeroize as _, Zeroizing};

/// A chain of certificates and a key are below 16 KiB.
const MAX_PEM_LEN: u64 = 64 << 10;

/// Who the client is, for an enclave that asks for certificates.
#[derive(Clone)]
pub struct ClientIdentity(pub(super) Arc<SingleCertAndKey>);

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
