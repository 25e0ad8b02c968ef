//! Amazon resource names of KMS keys and of principals.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};
use serde::Deserialize;

/// Twelve digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccountId(String);

/// `arn:aws:kms:REGION:ACCOUNT:key/UUID`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct KeyArn {
    text: String,
    region: String,
    account: AccountId,
    id: KeyId,
}

/// A key's UUID, which a ciphertext contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyId(pub(crate) [u8; KeyId::LEN]);

/// `arn:aws:iam::ACCOUNT:` and then `root`, `user/NAME` or `role/NAME`. A session of a role has the role's ARN here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct PrincipalArn {
    text: String,
    account: AccountId,
}

impl FromStr for AccountId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_right = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
        ensure!(is_right, "{text:?}, expected the twelve digits of an account id");
        Ok(Self(text.to_owned()))
    }
}

impl KeyArn {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    pub(crate) fn account(&self) -> &AccountId {
        &self.account
    }

    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    /// The ARN of an alias (`alias/NAME`) in the key's account and region.
    pub(crate) fn of_alias(&self, alias: &str) -> String {
        format!("arn:aws:kms:{}:{}:{alias}", self.region, self.account)
    }
}

impl FromStr for KeyArn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<_> = text.split(':').collect();
        let ["arn", "aws", "kms", region, account, resource] = parts[..] else {
            anyhow::bail!("{text:?}, expected arn:aws:kms:REGION:ACCOUNT:key/UUID");
        };
        let is_region = !region.is_empty()
            && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        ensure!(is_region, "{text:?}: {region:?}, expected a region such as eu-central-1");
        let id = resource.strip_prefix("key/").with_context(|| format!("{text:?}, expected key/UUID at the end"))?;
        Ok(Self {
            text: text.to_owned(),
            region: region.to_owned(),
            account: account.parse().with_context(|| format!("{text:?}"))?,
            id: id.parse().with_context(|| format!("{text:?}"))?,
        })
    }
}

impl KeyId {
    pub(crate) const LEN: usize = 16;
    /// The number of hex digits in each of the five groups.
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
}

impl FromStr for KeyId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_right = text.split('-').map(str::len).eq(Self::GROUPS)
            && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        ensure!(is_right, "{text:?}, expected a UUID in lower case (multi-Region keys are not supported)");
        let number = u128::from_str_radix(&text.replace('-', ""), 16).context("a UUID is a number")?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", u128::from_be_bytes(self.0));
        let mut rest = digits.as_str();
        for (index, len) in Self::GROUPS.into_iter().enumerate() {
            let (group, after) = rest.split_at(len);
            rest = after;
            write!(f, "{}{group}", if index == 0 { "" } else { "-" })?;
        }
        Ok(())
    }
}

impl PrincipalArn {
    pub(crate) fn account(&self) -> &AccountId {
        &self.account
    }

    /// Whether a policy that names it means the whole account.
    pub(crate) fn is_root(&self) -> bool {
        self.text.ends_with(":root")
    }
}

impl FromStr for PrincipalArn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = || format!("{text:?}, expected arn:aws:iam::ACCOUNT:role/NAME, or user/NAME, or root");
        let rest = text.strip_prefix("arn:aws:iam::").with_context(expected)?;
        let (account, who) = rest.split_once(':').with_context(expected)?;
        let name = who.strip_prefix("role/").or_else(|| who.strip_prefix("user/"));
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&byte))
        };
        ensure!(who == "root" || name.is_some_and(is_name), expected());
        Ok(Self { text: text.to_owned(), account: account.parse().with_context(|| format!("{text:?}"))? })
    }
}

impl TryFrom<String> for KeyArn {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error: Error| format!("{error:#}"))
    }
}

impl TryFrom<String> for PrincipalArn {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error: Error| format!("{error:#}"))
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for PrincipalArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef";

    #[test]
    fn a_key_s_arn_says_where_it_is_and_which() {
        let arn: KeyArn = KEY.parse().unwrap();
        assert_eq!(arn.as_str(), KEY);
        assert_eq!((arn.region(), arn.account().to_string().as_str()), ("eu-central-1", "111122223333"));
        assert_eq!(arn.id().0[..4], [0x01, 0x23, 0x45, 0x67]);
        assert_eq!(arn.id().to_string(), "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(arn.of_alias("alias/wallet"), "arn:aws:kms:eu-central-1:111122223333:alias/wallet");
    }

    #[test]
    fn what_is_no_key_s_arn_is_refused() {
        for (right, wrong) in [
            ("arn:aws:kms", "arn:aws-cn:kms"),
            (":kms:", ":s3:"),
            ("eu-central-1", "EU_CENTRAL"),
            ("111122223333", "11112222333"),
            ("111122223333", "11112222333x"),
            ("key/", "alias/"),
            ("01234567-", "01234567"),
            ("-89ab-", "-89AB-"),
            ("key/", "key/mrk-"),
            ("abcdef", "abcdefg"),
        ] {
            let text = KEY.replacen(right, wrong, 1);
            assert_ne!(text, KEY);
            text.parse::<KeyArn>().unwrap_err();
        }
    }

    #[test]
    fn a_principal_is_a_role_a_user_or_an_account() {
        for (who, is_root) in [("role/enclave", false), ("user/path/alice@example.com", false), ("root", true)] {
            let arn: PrincipalArn = format!("arn:aws:iam::111122223333:{who}").parse().unwrap();
            assert_eq!(arn.is_root(), is_root, "{who}");
        }
        for text in [
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:role/*",
            "arn:aws:iam::111122223333:group/g",
            "arn:aws:sts::111122223333:assumed-role/enclave/session",
            "arn:aws:iam::1:root",
        ] {
            text.parse::<PrincipalArn>().unwrap_err();
        }
    }
}
