//! The access keys with which clients sign their requests.

use std::fmt;
use std::time::SystemTime;

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::arn::PrincipalArn;
use crate::policy::{ActionPattern, Caller};

/// An access key and its principal.
#[derive(Debug)]
pub(crate) struct AccessKey {
    /// `AKIA...` or `ASIA...`; not secret.
    pub(crate) id: String,
    pub(crate) secret: Secret,
    /// Only temporary credentials from STS have one.
    pub(crate) session_token: Option<Secret>,
    /// `None`: does not expire.
    pub(crate) expires: Option<SystemTime>,
    pub(crate) caller: Caller,
}

/// Redacted in output, zeroed when dropped.
#[derive(Deserialize)]
#[serde(from = "String")]
pub(crate) struct Secret(Zeroizing<String>);

/// An entry of the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    id: String,
    secret: Secret,
    session_token: Option<Secret>,
    #[serde(default, with = "humantime_serde")]
    expires: Option<SystemTime>,
    principal: PrincipalArn,
    #[serde(default)]
    iam_actions: Vec<ActionPattern>,
}

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<Entry> for AccessKey {
    fn from(Entry { id, secret, session_token, expires, principal, iam_actions }: Entry) -> Self {
        Self { id, secret, session_token, expires, caller: Caller { arn: principal, iam_actions } }
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}
