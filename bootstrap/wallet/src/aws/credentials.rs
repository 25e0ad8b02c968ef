//! AWS credentials: from the environment, as a shell, CI and Lambda set them; otherwise from the instance's role.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use kms::config::ImdsSettings;
use kms::{Imds, http_address};

/// How the environment names them; AWS's own tools read the same.
const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
const NO_METADATA: &str = "AWS_EC2_METADATA_DISABLED";
const METADATA_ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
/// The AWS CLI handles profiles and single sign-on, and has a command that exports them as variables.
const HINT: &str = "`aws configure export-credentials --format env` prints a profile's";

/// The environment's credentials if there are any; otherwise those of the instance's role, requested when they are needed.
pub(super) fn provider(variable: impl Fn(&str) -> Option<String>) -> Result<SharedCredentialsProvider> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    match (variable(ACCESS_KEY_ID), variable(SECRET_ACCESS_KEY)) {
        (Some(id), Some(secret)) => {
            let credentials = Credentials::new(id, secret, variable(SESSION_TOKEN), None, "environment");
            Ok(SharedCredentialsProvider::new(credentials))
        }
        (Some(_), None) => bail!("{ACCESS_KEY_ID} is set and {SECRET_ACCESS_KEY} is not: set both, {HINT}"),
        (None, Some(_)) => bail!("{SECRET_ACCESS_KEY} is set and {ACCESS_KEY_ID} is not: set both, {HINT}"),
        (None, None) if variable(NO_METADATA).is_some_and(|value| value.eq_ignore_ascii_case("true")) => {
            bail!("no AWS credentials: set {ACCESS_KEY_ID} and {SECRET_ACCESS_KEY}, {HINT}")
        }
        (None, None) => {
            let mut settings = ImdsSettings::default();
            if let Some(endpoint) = variable(METADATA_ENDPOINT) {
                let doing =
                    || format!("{METADATA_ENDPOINT} {endpoint:?}, expected http://ADDRESS or http://ADDRESS:PORT");
                settings.endpoint = http_address(&endpoint).with_context(doing)?;
            }
            Ok(SharedCredentialsProvider::new(Role(Imds::new(settings))))
        }
    }
}

struct Role(Imds);

impl ProvideCredentials for Role {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let message = format!("no AWS credentials in the environment, {HINT}; nor from the instance's role");
            let credentials = self.0.credentials().await.context(message).map_err(CredentialsError::provider_error)?;
            Ok(credentials.expose())
        })
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Role(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(variables: &[(&str, &str)]) -> String {
        let variable =
            |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        format!("{:#}", provider(variable).unwrap_err())
    }

    #[test]
    fn half_of_the_credentials_are_none() {
        let id = (ACCESS_KEY_ID, "AKIDEXAMPLE");
        let secret = (SECRET_ACCESS_KEY, "not-a-secret");
        assert!(error(&[id]).starts_with("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not: set both"));
        assert!(error(&[id, (SECRET_ACCESS_KEY, "")]).contains("AWS_SECRET_ACCESS_KEY is not"));
        let only_secret = error(&[secret]);
        assert!(only_secret.starts_with("AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not"), "{only_secret}");
        assert!(!only_secret.contains("not-a-secret"));
        assert!(error(&[(NO_METADATA, "true")]).starts_with("no AWS credentials: set AWS_ACCESS_KEY_ID"));
    }

    #[test]
    fn the_metadata_service_speaks_http_at_an_address() {
        assert!(provider(|name| (name == METADATA_ENDPOINT).then(|| "http://[fd00:ec2::254]:81".to_owned())).is_ok());
        for wrong in ["https://192.0.2.1", "http://metadata.example", "http://192.0.2.1:65536"] {
            let error = error(&[(METADATA_ENDPOINT, wrong)]);
            let right = "expected http://ADDRESS or http://ADDRESS:PORT: ";
            assert!(error.starts_with(&format!("AWS_EC2_METADATA_SERVICE_ENDPOINT {wrong:?}, {right}")), "{error}");
        }
    }
}
