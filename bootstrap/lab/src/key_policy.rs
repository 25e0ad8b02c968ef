//! The first policy of the key in the lab's KMS, as `wallet policy` writes it: only enclaves of one image decrypt.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use attestation::Measurements;
use parent_vm::{ENCLAVE_ROLE, WALLET_ROLE};
use serde_json::json;
use wallet::key_policy::{Enclave, KeyPolicy};

/// The role that manages the key. Nothing in the lab assumes it.
pub(crate) const ADMIN_ROLE: &str = "arn:aws:iam::111122223333:role/admin";

/// The policy for an image with these measurements, as JSON.
///
/// # Errors
/// A file that `eif build` or nitro-cli did not write, or measurements of zeros.
pub(crate) fn for_measurements(path: &Path) -> Result<String> {
    let reading = || format!("read {}", path.display());
    let measurements = Measurements::parse(&fs::read_to_string(path).with_context(reading)?).with_context(reading)?;
    let policy = KeyPolicy {
        admins: vec![ADMIN_ROLE.parse()?],
        encryptors: vec![WALLET_ROLE.parse()?],
        role: ENCLAVE_ROLE.parse()?,
        is_generating: true,
        enclave: Enclave::new(&measurements, []).with_context(reading)?,
        context: None,
        adopters: Vec::new(),
    };
    Ok(policy.to_json())
}

/// The policy of a key that no enclave may use yet.
///
/// # Errors
/// None: the role is a constant.
pub(crate) fn for_nobody() -> Result<String> {
    Ok(serde_json::to_string_pretty(&json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "Manage",
            "Effect": "Allow",
            "Principal": {"AWS": ADMIN_ROLE},
            "Action": ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:PutKeyPolicy"],
            "Resource": "*",
        }],
    }))?)
}

#[cfg(test)]
mod tests {
    use kms_stand_in::Config;
    use parent_vm::AWS_SERVERS;
    use parent_vm::paths::{KEY_POLICY_PATH, ROOT_PATH};

    use super::*;
    use crate::layout::Layout;
    use crate::project::Project;
    use crate::web_authority::WebAuthority;

    const PCR0: &str =
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f";

    fn measurements(pcr0: &str) -> String {
        format!(r#"{{"PCR0": "{pcr0}", "PCR1": "{PCR0}", "PCR2": "{PCR0}"}}"#)
    }

    #[test]
    fn the_image_that_was_measured_decrypts_and_one_of_zeros_never() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("measurements.json");
        fs::write(&path, measurements(PCR0)).unwrap();
        let policy = for_measurements(&path).unwrap();
        assert!(policy.contains(&format!("\"kms:RecipientAttestation:ImageSha384\": \"{PCR0}\"")), "{policy}");
        for (text, expected) in [(measurements(&"0".repeat(96)), "PCR0 is zero"), ("{}".to_owned(), "PCR0")] {
            fs::write(&path, text).unwrap();
            let error = format!("{:#}", for_measurements(&path).unwrap_err());
            assert!(error.contains("measurements.json") && error.contains(expected), "{error}");
        }
    }

    /// The payload's files for KMS, except for their paths, as the stand-in reads them.
    #[test]
    fn the_stand_in_takes_the_lab_s_configuration_with_policy_and_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(dir.path().join("lab"))).unwrap();
        layout.create().unwrap();
        let now = std::time::SystemTime::now();
        crate::authority::Authority::new(now).unwrap().save(&layout).unwrap();
        let text = fs::read_to_string(Project::find(None).unwrap().internet_dir().join("kms.toml")).unwrap();
        let root = layout.root_path();
        let text = text.replace(ROOT_PATH, root.to_str().unwrap());
        let put = |path: &str, text: &str| fs::write(dir.path().join(path.rsplit('/').next().unwrap()), text).unwrap();
        let measurements_path = dir.path().join("measurements.json");
        fs::write(&measurements_path, measurements(PCR0)).unwrap();
        put(KEY_POLICY_PATH, &for_measurements(&measurements_path).unwrap());
        let web = WebAuthority::new(now).unwrap();
        let [kms, aws] = AWS_SERVERS;
        for server in [kms, aws] {
            let identity = web.issue(server.names).unwrap();
            put(&server.certificate_path(), &identity.certificate);
            put(&server.key_path(), &identity.key);
        }

        let config = Config::parse(&text, dir.path()).unwrap();
        assert_eq!(config.listen().unwrap(), [format!("{}:443", AWS_SERVERS[0].address).parse().unwrap()]);
        config.tls().unwrap().server_config().unwrap();
        let shown = config.to_string();
        for part in [ENCLAVE_ROLE, WALLET_ROLE, "NOT AWS's root"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
