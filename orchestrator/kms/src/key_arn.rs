//! The ARN of a KMS key.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The ARN of a key, never of an alias, which can be moved to another key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyArn {
    text: String,
    partition: String,
    region: String,
}

/// Why a text is not a key's ARN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyArnError {
    /// Other than six parts.
    #[error("not of the form arn:PARTITION:kms:REGION:ACCOUNT:key/ID")]
    Form,
    /// Not `aws` or `aws-...`.
    #[error("the partition is not \"aws\" or one such as \"aws-cn\"")]
    Partition,
    /// Another service.
    #[error("the service is not \"kms\"")]
    Service,
    /// No region.
    #[error("the region is not one such as \"eu-central-1\"")]
    Region,
    /// No account.
    #[error("the account is not 12 digits")]
    Account,
    /// An alias, which can be moved to another key.
    #[error("it names an alias, not a key")]
    Alias,
    /// Neither a UUID nor the identifier of a multi-region key.
    #[error("the key is not a UUID or \"mrk-\" with 32 hex digits")]
    Key,
}

impl KeyArn {
    /// The key's region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The partition: `aws`, `aws-cn` and others.
    #[must_use]
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// As KMS writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for KeyArn {
    type Err = KeyArnError;

    fn from_str(text: &str) -> Result<Self, KeyArnError> {
        let parts: Vec<&str> = text.split(':').collect();
        let &["arn", partition, service, region, account, resource] = parts.as_slice() else {
            return Err(KeyArnError::Form);
        };
        let key = resource.strip_prefix("key/");
        let checks = [
            (is_partition(partition), KeyArnError::Partition),
            (service == "kms", KeyArnError::Service),
            (is_region(region), KeyArnError::Region),
            (is_account(account), KeyArnError::Account),
            (!resource.starts_with("alias/"), KeyArnError::Alias),
            (key.is_some_and(|key| is_uuid(key) || is_multi_region(key)), KeyArnError::Key),
        ];
        match checks.into_iter().find(|(is_right, _)| !is_right) {
            Some((_, error)) => Err(error),
            None => Ok(Self { text: text.to_owned(), partition: partition.to_owned(), region: region.to_owned() }),
        }
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub(crate) fn is_partition(text: &str) -> bool {
    text == "aws" || (text.starts_with("aws-") && is_label(text))
}

pub(crate) fn is_region(text: &str) -> bool {
    text.contains('-') && is_label(text)
}

pub(crate) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// It becomes part of a host name.
fn is_label(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(is_allowed) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(|group| is_hex(group))
}

fn is_multi_region(text: &str) -> bool {
    text.strip_prefix("mrk-").is_some_and(|id| id.len() == 32 && is_hex(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

    #[test]
    fn keys_of_all_partitions_are_read() {
        let multi_region = "mrk-1234abcd12ab34cd56ef1234567890ab";
        for (partition, region, key) in [
            ("aws", "eu-central-1", UUID),
            ("aws-us-gov", "us-gov-west-1", UUID),
            ("aws-cn", "cn-north-1", multi_region),
        ] {
            let text = format!("arn:{partition}:kms:{region}:111122223333:key/{key}");
            let arn: KeyArn = text.parse().unwrap();
            assert_eq!((arn.region(), arn.as_str()), (region, text.as_str()));
        }
    }

    #[test]
    fn each_part_that_is_wrong_is_named() {
        let good = format!("arn:aws:kms:eu-central-1:111122223333:key/{UUID}");
        for (from, to, error) in [
            ("arn:", "urn:", KeyArnError::Form),
            (":key/", ":key:", KeyArnError::Form),
            (":aws:", ":AWS:", KeyArnError::Partition),
            (":kms:", ":s3:", KeyArnError::Service),
            ("eu-central-1", "", KeyArnError::Region),
            ("eu-central-1", "eu-central-1.evil", KeyArnError::Region),
            ("eu-central-1", "-central-1", KeyArnError::Region),
            ("eu-central-1", "eu-central-", KeyArnError::Region),
            ("eu-central-1", "localhost", KeyArnError::Region),
            ("eu-central-1", "eu-central-1-and-one-letter-too-ma", KeyArnError::Region),
            ("111122223333", "11112222333", KeyArnError::Account),
            ("key/1234abcd-", "alias/1234abcd-", KeyArnError::Alias),
            ("1234abcd-", "1234ABCD-", KeyArnError::Key),
            ("1234abcd-", "", KeyArnError::Key),
        ] {
            assert_eq!(good.replacen(from, to, 1).parse::<KeyArn>(), Err(error), "{from} -> {to}");
        }
    }
}
