//! The function's environment variables.
//!
//! | variable | meaning |
//! |---|---|
//! | `SECRET_ID` | the secret that holds the encrypted key; name or ARN |
//! | `KEY_ARN` | the KMS key that encrypts it |
//! | `ENCRYPTION_CONTEXT` | JSON, the same as the enclave's `kms.encryption_context` |
//! | `ENCLAVE_URL` | the signer's URL, `https://HOST` |
//! | `MEASUREMENTS` | the text of the image's `measurements.json`, or a JSON list of several during an upgrade |
//! | `PCR3` | optional: the required value of PCR3 |
//! | `ATTESTATION_ROOT` | optional: a trust root in place of AWS's, in PEM; for labs |
//! | `SET_KEY` | optional: `true` allows `set_key`; default: it is refused |
//! | `CLIENT_SECRET_ID` | optional: the secret with the client's certificate and key, for an enclave that requires one |
//! | `AWS_ENDPOINT_URL_KMS`, `AWS_ENDPOINT_URL_SECRETS_MANAGER`, `AWS_CA_BUNDLE` | optional: as AWS's own tools read them |

use anyhow::{Context as _, Result, bail, ensure};
use attestation::{Measurements, Pcr, TrustRoot};
use kms::KeyArn;
use serde_json::value::RawValue;

use super::client::ClientSecret;
use crate::aws::{Aws, EncryptionContext, Settings};
use crate::enclave::EnclaveUrl;
use crate::trust::Trust;

/// What the operations need, and what they have fetched.
pub struct Environment {
    pub(super) aws: Aws,
    pub(super) secret_id: String,
    pub(super) key_arn: KeyArn,
    pub(super) context: EncryptionContext,
    pub(super) url: EnclaveUrl,
    pub(super) trust: Trust,
    pub(super) client: Option<ClientSecret>,
    pub(super) may_set_key: bool,
}

impl Environment {
    /// Reads and checks the variables.
    ///
    /// # Errors
    /// The first variable that is missing or wrong, and what is expected.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let optional = |name: &str| variable(name).filter(|value| !value.is_empty());
        let required =
            |name: &str, what: &str| optional(name).with_context(|| format!("{name} is not set, expected {what}"));
        let key_secret_id = required("SECRET_ID", "a secret's name or ARN")?;
        let key_arn = required("KEY_ARN", "a KMS key's ARN")?;
        let key_arn: KeyArn = key_arn.parse().with_context(|| format!("KEY_ARN {key_arn:?}"))?;
        let context = required("ENCRYPTION_CONTEXT", "JSON such as {\"purpose\": \"ethereum-signer\"}")?;
        let context = EncryptionContext::from_json(&context).context("ENCRYPTION_CONTEXT")?;
        let url = required("ENCLAVE_URL", "https://HOST")?.parse().context("ENCLAVE_URL")?;
        let measurements = required("MEASUREMENTS", "the text of measurements.json")?;
        let images = images(&measurements).context("MEASUREMENTS")?;
        let pcr3: Option<Pcr> = optional("PCR3").map(|text| text.parse()).transpose().context("PCR3")?;
        let root = optional("ATTESTATION_ROOT").map(|pem| TrustRoot::from_pem(&pem)).transpose();
        let root = root.context("ATTESTATION_ROOT")?.unwrap_or_else(TrustRoot::aws);
        let trust = Trust::new(root, images, pcr3.map(|pcr| (3, pcr)))?;
        let client_secret_id = optional("CLIENT_SECRET_ID");
        let may_set_key = match optional("SET_KEY").as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => bail!("SET_KEY is {other:?}, expected true, or nothing"),
        };
        let settings = Settings {
            region: key_arn.region().to_owned(),
            kms_endpoint: optional("AWS_ENDPOINT_URL_KMS"),
            secrets_endpoint: optional("AWS_ENDPOINT_URL_SECRETS_MANAGER"),
            ca_path: optional("AWS_CA_BUNDLE").map(Into::into),
        };
        let aws = Aws::new(settings, &variable)?;
        for (name, id) in [("SECRET_ID", Some(&key_secret_id)), ("CLIENT_SECRET_ID", client_secret_id.as_ref())] {
            id.map(|id| aws.check_id(id)).transpose().context(name)?;
        }
        let client = client_secret_id.map(ClientSecret::new);
        Ok(Self { aws, secret_id: key_secret_id, key_arn, context, url, trust, client, may_set_key })
    }

    /// The trust root and the allowed enclaves.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.trust
    }
}

/// Each with its name in errors.
fn images(text: &str) -> Result<Vec<(String, Measurements)>> {
    let list: Vec<Box<RawValue>> = match serde_json::from_str(text) {
        Ok(list) => list,
        // One object, or what is wrong with it.
        Err(_) => return Ok(vec![("MEASUREMENTS".to_owned(), Measurements::parse(text)?)]),
    };
    ensure!(!list.is_empty(), "an empty list, expected the text of measurements.json, or several in a list");
    let image = |(number, text): (usize, Box<RawValue>)| {
        let name = format!("MEASUREMENTS[{number}]");
        let image = Measurements::parse(text.get()).with_context(|| format!("number {number}"))?;
        Ok((name, image))
    };
    list.into_iter().enumerate().map(image).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn variables() -> BTreeMap<&'static str, String> {
        let [pcr0, pcr1, pcr2] = ["0a", "0b", "0c"].map(|byte| byte.repeat(48));
        [
            ("SECRET_ID", "hot-wallet".to_owned()),
            ("KEY_ARN", "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab".to_owned()),
            ("ENCRYPTION_CONTEXT", r#"{"purpose": "ethereum-signer"}"#.to_owned()),
            ("ENCLAVE_URL", "https://10.0.0.2".to_owned()),
            ("MEASUREMENTS", format!(r#"{{"PCR0": "{pcr0}", "PCR1": "{pcr1}", "PCR2": "{pcr2}"}}"#)),
            ("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "not-a-secret".to_owned()),
        ]
        .into()
    }

    fn error(variables: &BTreeMap<&'static str, String>) -> String {
        match Environment::read(|name| variables.get(name).cloned()) {
            Ok(_) => panic!("read"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let right = variables();
        let environment = Environment::read(|name| right.get(name).cloned()).unwrap();
        assert!(environment.trust().root().is_aws());
        for name in ["SECRET_ID", "KEY_ARN", "ENCRYPTION_CONTEXT", "ENCLAVE_URL", "MEASUREMENTS"] {
            for value in [None, Some(String::new())] {
                let mut variables = variables();
                variables.remove(name);
                variables.extend(value.map(|value| (name, value)));
                let error = error(&variables);
                assert!(error.starts_with(&format!("{name} is not set, expected ")), "{error}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for name in [
            "SECRET_ID",
            "KEY_ARN",
            "ENCRYPTION_CONTEXT",
            "ENCLAVE_URL",
            "MEASUREMENTS",
            "PCR3",
            "ATTESTATION_ROOT",
            "CLIENT_SECRET_ID",
            "SET_KEY",
        ] {
            let mut variables = variables();
            variables.insert(name, "no such thing".to_owned());
            let error = error(&variables);
            assert!(error.starts_with(name), "{name}: {error}");
        }
    }

    #[test]
    fn during_an_upgrade_several_images_are_right() {
        let mut variables = variables();
        let former = variables["MEASUREMENTS"].replace("0a", "1a");
        let both = format!("[{}, {former}]", variables["MEASUREMENTS"]);
        variables.insert("MEASUREMENTS", both);
        assert!(Environment::read(|name| variables.get(name).cloned()).is_ok());
        for (wrong, expected) in [("[]".to_owned(), "an empty list"), (format!("[{former}, {{}}]"), "number 1: ")] {
            variables.insert("MEASUREMENTS", wrong);
            let error = error(&variables);
            assert!(error.starts_with("MEASUREMENTS: ") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_secret_of_another_region_is_named_before_anybody_is_asked() {
        for name in ["SECRET_ID", "CLIENT_SECRET_ID"] {
            let mut variables = variables();
            variables.insert(name, "arn:aws:secretsmanager:us-east-1:111122223333:secret:hot-wallet-AbCdEf".to_owned());
            let error = error(&variables);
            assert!(error.starts_with(&format!("{name}: it is in us-east-1, and eu-central-1 is asked")), "{error}");
        }
    }

    #[test]
    fn keys_are_stored_only_where_the_variable_says_so() {
        let mut variables = variables();
        for (value, expected) in [("", false), ("false", false), ("true", true)] {
            variables.insert("SET_KEY", value.to_owned());
            assert_eq!(
                Environment::read(|name| variables.get(name).cloned()).unwrap().may_set_key,
                expected,
                "{value}"
            );
        }
    }
}
