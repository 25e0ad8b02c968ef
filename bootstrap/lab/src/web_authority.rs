//! The certificate authority in the place of Amazon's, for AWS's servers in the lab's internet.
//!
//! Every lab makes its own. The key is never written to a file, and is dropped when `lab up` ends.

use std::fs;
use std::time::SystemTime;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SanType,
};

use crate::authority;
use crate::layout::Layout;

/// The authority with its key.
#[derive(Debug)]
pub(crate) struct WebAuthority {
    root: CertifiedIssuer<'static, KeyPair>,
    now: SystemTime,
}

/// One server's certificate and key, as PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    /// Secret.
    pub(crate) key: String,
}

impl WebAuthority {
    /// Makes a new key; all certificates are valid from `now`.
    ///
    /// # Errors
    /// Those of the cryptography library.
    pub(crate) fn new(now: SystemTime) -> Result<Self> {
        let mut root = authority::params("web root", now)?;
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        root.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
        let root = CertifiedIssuer::self_signed(root, key()?).context("sign the web root")?;
        Ok(Self { root, now })
    }

    /// Writes the authority's certificate, for the enclaves and for other clients of AWS in the lab.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn save(&self, layout: &Layout) -> Result<()> {
        let path = layout.web_ca_path();
        fs::write(&path, self.root.pem()).with_context(|| format!("write {}", path.display()))
    }

    /// A new key for a server with these names, and its certificate.
    ///
    /// # Errors
    /// Those of the cryptography library, or an invalid name.
    pub(crate) fn issue(&self, names: &[&str]) -> Result<Identity> {
        let mut leaf = authority::params(names.first().context("a server without a name")?, self.now)?;
        for name in names {
            let dns = name.to_owned().try_into().with_context(|| format!("the name {name}"))?;
            leaf.subject_alt_names.push(SanType::DnsName(dns));
        }
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = key()?;
        let certificate = leaf.signed_by(&key, &self.root).with_context(|| format!("sign {}", names.join(" ")))?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("make a P-256 key")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, UnixTime};

    use super::*;

    fn saved(now: SystemTime) -> (tempfile::TempDir, WebAuthority, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(dir.path().join("lab"))).unwrap();
        layout.create().unwrap();
        let authority = WebAuthority::new(now).unwrap();
        authority.save(&layout).unwrap();
        (dir, authority, layout.web_ca_path())
    }

    /// Verifies as a client that trusts `root`.
    fn verify(root: &str, identity: &Identity, name: &str, time: SystemTime) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider())).build().unwrap();
        let leaf = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        let time = UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap());
        verifier.verify_server_cert(&leaf, &[], &name.to_owned().try_into().unwrap(), &[], time).map(drop)
    }

    #[test]
    fn a_server_proves_its_names_to_who_trusts_this_lab_s_authority_and_no_others() {
        let now = SystemTime::now();
        let (_dir, authority, path) = saved(now);
        let (_other_dir, _, other_path) = saved(now);
        let identity = authority.issue(&["secretsmanager.example", "sts.example"]).unwrap();
        let [root, other] = [path, other_path].map(|path| fs::read_to_string(path).unwrap());
        for name in ["secretsmanager.example", "sts.example"] {
            verify(&root, &identity, name, now).unwrap();
            verify(&other, &identity, name, now).unwrap_err();
        }
        verify(&root, &identity, "kms.example", now).unwrap_err();
        verify(&root, &identity, "sts.example", now + Duration::from_hours(8 * 24)).unwrap_err();
    }

    #[test]
    fn the_key_of_the_authority_is_nowhere() {
        let (dir, _authority, path) = saved(SystemTime::now());
        let text = fs::read_to_string(path).unwrap();
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----") && text.matches("BEGIN").count() == 1, "{text}");
        let files = fs::read_dir(dir.path().join("lab")).unwrap().map(|entry| entry.unwrap());
        let files = files.filter(|entry| entry.file_type().unwrap().is_file()).map(|entry| entry.file_name());
        let mut names: Vec<_> = files.collect();
        names.sort();
        assert_eq!(names, [".enclave-wireguard-lab", "web-ca.pem"]);
    }

    #[test]
    fn a_name_that_no_server_can_have_is_refused() {
        let (_dir, authority, _) = saved(SystemTime::now());
        assert!(authority.issue(&[]).is_err());
        assert!(authority.issue(&["n\u{e4}me"]).is_err());
    }
}
