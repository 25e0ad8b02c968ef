//! The certificate authority in the place of AWS's: its root is what wg-server in the lab trusts, and its leaf signs
//! the documents of the lab's enclaves.
//!
//! ```text
//! root (key dropped) -> intermediate (key dropped) -> module: signs documents, inside QEMU
//! ```
//!
//! Every lab makes its own. Only the module's key is kept, until `lab down`.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384,
};

use crate::layout::Layout;

/// AWS's certificates are valid for three hours, and the hypervisor renews them. Nothing renews a lab's, and a lab
/// that runs over a weekend should still work.
const LEAF_LIFETIME: Duration = Duration::from_hours(7 * 24);
/// The parent's clock may be behind this machine's.
const SKEW: Duration = Duration::from_mins(5);
/// In the subject of every certificate.
const ORGANISATION: &str = "TEST ONLY enclave-wireguard lab";

/// The key that signs documents, and its certificate chain.
#[derive(Debug)]
pub(crate) struct Authority {
    root: Certificate,
    intermediate: Certificate,
    leaf: Certificate,
    leaf_key: KeyPair,
}

impl Authority {
    /// Makes three new keys and their certificates, valid from `now`.
    ///
    /// # Errors
    /// Those of the cryptography library.
    pub(crate) fn new(now: SystemTime) -> Result<Self> {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).context("make a P-384 key");
        let ca = |name, constraint| {
            let mut params = params(name, now)?;
            params.is_ca = IsCa::Ca(constraint);
            params.key_usages =
                vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            anyhow::Ok(params)
        };
        let root = CertifiedIssuer::self_signed(ca("root", BasicConstraints::Unconstrained)?, key()?)
            .context("sign the root")?;
        let intermediate =
            CertifiedIssuer::signed_by(ca("intermediate", BasicConstraints::Constrained(0))?, key()?, &root)
                .context("sign the intermediate")?;
        let mut leaf = params("module", now)?;
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let leaf_key = key()?;
        let leaf = leaf.signed_by(&leaf_key, &intermediate).context("sign the module's certificate")?;
        Ok(Self { root: root.as_ref().clone(), intermediate: intermediate.as_ref().clone(), leaf, leaf_key })
    }

    /// Writes the files for QEMU's module, and the root for the parent.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn save(&self, layout: &Layout) -> Result<()> {
        let dir = layout.signer_dir();
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&dir)
            .with_context(|| format!("make {}", dir.display()))?;
        write_private(&dir.join("key.pem"), self.leaf_key.serialize_pem().as_bytes())?;
        write(&dir.join("certificate.der"), self.leaf.der())?;
        // The order of AWS's documents.
        write(&dir.join("cabundle-0.der"), self.root.der())?;
        write(&dir.join("cabundle-1.der"), self.intermediate.der())?;
        write(&layout.root_path(), self.root.pem().as_bytes())
    }
}

/// Parameters of a certificate that is valid from `now`. Its subject says that it is for tests only.
pub(crate) fn params(name: &str, now: SystemTime) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).context("certificate parameters")?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::OrganizationName, ORGANISATION);
    params.distinguished_name.push(DnType::CommonName, format!("TEST ONLY {name}"));
    params.not_before = (now - SKEW).into();
    params.not_after = (now + LEAF_LIFETIME).into();
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let open = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    open.and_then(|mut file| file.write_all(bytes)).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::UNIX_EPOCH;

    use attestation::{At, TrustRoot, verify};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
    use minicbor::Encoder;

    use super::*;

    /// A lab's folder with what a new authority saves.
    fn saved(now: SystemTime) -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(dir.path().join("lab"))).unwrap();
        layout.create().unwrap();
        Authority::new(now).unwrap().save(&layout).unwrap();
        (dir, layout)
    }

    /// A document as QEMU's module signs it with these files.
    fn document(layout: &Layout, time: SystemTime) -> Vec<u8> {
        let read = |name: &str| fs::read(layout.signer_dir().join(name)).unwrap();
        let mut payload = Encoder::new(Vec::new());
        payload.map(9).unwrap();
        payload.str("module_id").unwrap().str("lab-16").unwrap().str("digest").unwrap().str("SHA384").unwrap();
        let millis = u64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        payload.str("timestamp").unwrap().u64(millis).unwrap().str("pcrs").unwrap().map(16).unwrap();
        for index in 0..16 {
            payload.u8(index).unwrap().bytes(&[index; 48]).unwrap();
        }
        payload.str("certificate").unwrap().bytes(&read("certificate.der")).unwrap();
        payload.str("cabundle").unwrap().array(2).unwrap();
        payload.bytes(&read("cabundle-0.der")).unwrap().bytes(&read("cabundle-1.der")).unwrap();
        for name in ["public_key", "user_data", "nonce"] {
            payload.str(name).unwrap().null().unwrap();
        }
        let (payload, header) = (payload.into_writer(), [0xa1, 0x01, 0x38, 0x22]);
        let mut to_sign = Encoder::new(Vec::new());
        to_sign.array(4).unwrap().str("Signature1").unwrap().bytes(&header).unwrap();
        to_sign.bytes(&[]).unwrap().bytes(&payload).unwrap();
        let pem = KeyPair::from_pem(&String::from_utf8(read("key.pem")).unwrap()).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pem.serialized_der()).unwrap();
        let signature = key.sign(&SystemRandom::new(), to_sign.writer()).unwrap();
        let mut document = Encoder::new(Vec::new());
        document.array(4).unwrap().bytes(&header).unwrap().map(0).unwrap();
        document.bytes(&payload).unwrap().bytes(signature.as_ref()).unwrap();
        document.into_writer()
    }

    fn root(layout: &Layout) -> TrustRoot {
        TrustRoot::from_pem(&fs::read_to_string(layout.root_path()).unwrap()).unwrap()
    }

    #[test]
    fn its_documents_satisfy_the_verifier_for_this_lab_and_for_no_other() {
        let now = SystemTime::now();
        let (_dir, layout) = saved(now);
        let document = document(&layout, now);
        for at in [At::Document, At::Time(now)] {
            assert_eq!(verify(&document, &root(&layout), at).unwrap().module_id, "lab-16");
        }
        let (_other_dir, other) = saved(now);
        verify(&document, &root(&other), At::Document).unwrap_err();
        verify(&document, &TrustRoot::aws(), At::Document).unwrap_err();
    }

    #[test]
    fn its_documents_are_good_for_a_week_and_no_longer() {
        let now = SystemTime::now();
        let (_dir, layout) = saved(now);
        let day = Duration::from_hours(24);
        for (time, is_good) in [(now - day, false), (now + 6 * day, true), (now + 8 * day, false)] {
            assert_eq!(verify(&document(&layout, time), &root(&layout), At::Document).is_ok(), is_good, "{time:?}");
        }
    }

    #[test]
    fn its_root_says_that_it_is_not_aws_s() {
        let (_dir, layout) = saved(SystemTime::now());
        let root = root(&layout);
        assert!(!root.is_aws());
        assert!(root.to_string().contains("NOT AWS"), "{root}");
        for (name, subject) in [
            ("certificate.der", "TEST ONLY module"),
            ("cabundle-0.der", "TEST ONLY root"),
            ("cabundle-1.der", "TEST ONLY intermediate"),
        ] {
            let der = fs::read(layout.signer_dir().join(name)).unwrap();
            assert!(String::from_utf8_lossy(&der).contains(subject), "{name}");
        }
    }

    #[test]
    fn only_the_module_s_key_is_kept_and_for_the_owner_alone() {
        let (_dir, layout) = saved(SystemTime::now());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&layout.signer_dir()), 0o700);
        assert_eq!(mode(&layout.signer_dir().join("key.pem")), 0o600);
        let mut names: Vec<_> =
            fs::read_dir(layout.signer_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["cabundle-0.der", "cabundle-1.der", "certificate.der", "key.pem"]);
    }
}
