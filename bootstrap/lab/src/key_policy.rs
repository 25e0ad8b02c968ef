//! The policy that the key of the lab's KMS has at first: `wallet` manages it, enclaves of one image decrypt.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::guest::{ENCLAVE_ROLE, WALLET_ROLE};

/// The policy for an image with these measurements, as JSON.
///
/// # Errors
/// A file that is not what `eif build` or nitro-cli writes.
pub(crate) fn for_measurements(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let measurements: Value = serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
    let image = measurements.get("PCR0").or_else(|| measurements.pointer("/Measurements/PCR0"));
    let image = image.and_then(Value::as_str).with_context(|| format!("{} has no PCR0", path.display()))?;
    Ok(for_image(image))
}

fn for_image(pcr0: &str) -> String {
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Manage",
                "Effect": "Allow",
                "Principal": {"AWS": WALLET_ROLE},
                "Action": ["kms:Describe*", "kms:Get*", "kms:List*", "kms:Put*"],
                "Resource": "*"
            },
            {
                "Sid": "Encrypt",
                "Effect": "Allow",
                // The enclave's too: keys that are born in it leave it encrypted.
                "Principal": {"AWS": [WALLET_ROLE, ENCLAVE_ROLE]},
                "Action": "kms:Encrypt",
                "Resource": "*"
            },
            {
                "Sid": "DecryptInTheEnclaveOnly",
                "Effect": "Allow",
                "Principal": {"AWS": ENCLAVE_ROLE},
                "Action": "kms:Decrypt",
                "Resource": "*",
                "Condition": {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": pcr0}}
            }
        ]
    });
    format!("{policy:#}\n")
}

#[cfg(test)]
mod tests {
    use kms_stand_in::Config;

    use super::*;
    use crate::guest::{AWS_SERVERS, KEY_POLICY_PATH};
    use crate::layout::Layout;
    use crate::project::Project;
    use crate::web_authority::WebAuthority;

    const PCR0: &str =
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f";

    #[test]
    fn only_the_image_that_was_measured_decrypts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("measurements.json");
        for text in [format!(r#"{{"PCR0": "{PCR0}"}}"#), format!(r#"{{"Measurements": {{"PCR0": "{PCR0}"}}}}"#)] {
            fs::write(&path, text).unwrap();
            let policy: Value = serde_json::from_str(&for_measurements(&path).unwrap()).unwrap();
            let statements = policy["Statement"].as_array().unwrap();
            let decrypting: Vec<_> =
                statements.iter().filter(|statement| statement["Action"].to_string().contains("Decrypt")).collect();
            assert_eq!(decrypting.len(), 1);
            assert_eq!(decrypting[0]["Principal"]["AWS"], ENCLAVE_ROLE);
            let condition = json!({"StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": PCR0}});
            assert_eq!(decrypting[0]["Condition"], condition);
        }
        fs::write(&path, "{}").unwrap();
        assert!(for_measurements(&path).unwrap_err().to_string().contains("has no PCR0"));
    }

    /// All that the payload brings for KMS, but for the paths, as the stand-in reads it.
    #[test]
    fn the_stand_in_takes_the_lab_s_configuration_with_policy_and_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(dir.path().join("lab"))).unwrap();
        layout.create().unwrap();
        let now = std::time::SystemTime::now();
        crate::authority::Authority::new(now).unwrap().save(&layout).unwrap();
        let text = fs::read_to_string(Project::find(None).unwrap().internet_dir().join("kms.toml")).unwrap();
        let root = layout.root_path();
        let text = text.replace("/etc/wg-server/lab-root.pem", root.to_str().unwrap());
        let put = |path: &str, text: &str| fs::write(dir.path().join(path.rsplit('/').next().unwrap()), text).unwrap();
        put(KEY_POLICY_PATH, &for_image(PCR0));
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
