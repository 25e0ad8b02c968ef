//! Which KMS key, beyond doubt.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The ARN of a key, never of an alias, which can be pointed at another key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyArn {
    text: String,
    region: String,
}

/// Why a text is no [`KeyArn`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not the ARN of a KMS key, expected arn:aws:kms:REGION:ACCOUNT:key/ID as `aws kms describe-key` shows it"
)]
pub struct KeyArnError(String);

impl KeyArn {
    /// Where the key is.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// As AWS writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for KeyArn {
    type Err = KeyArnError;

    fn from_str(text: &str) -> Result<Self, KeyArnError> {
        let parts: Vec<&str> = text.split(':').collect();
        let is_label =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        match parts.as_slice() {
            &["arn", partition, "kms", region, account, resource]
                if partition.starts_with("aws")
                    && is_label(partition)
                    && region.contains('-')
                    && is_label(region)
                    && account.len() == 12
                    && account.bytes().all(|byte| byte.is_ascii_digit())
                    && resource.strip_prefix("key/").is_some_and(|id| !id.is_empty() && is_label(id)) =>
            {
                Ok(Self { text: text.to_owned(), region: region.to_owned() })
            }
            _ => Err(KeyArnError(text.to_owned())),
        }
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    #[test]
    fn a_keys_arn_says_where_it_is() {
        for text in [KEY, &KEY.replace("aws:", "aws-cn:"), &KEY.replace("1234abcd-", "mrk-")] {
            let arn: KeyArn = text.parse().unwrap();
            assert_eq!((arn.region(), arn.as_str()), ("eu-central-1", text));
        }
    }

    #[test]
    fn aliases_and_bare_ids_are_refused() {
        let alias = KEY.replace("key/", "alias/");
        let wrong = [
            "",
            "alias/wallet",
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            &alias,
            &KEY.replace("kms", "s3"),
            &KEY.replace("111122223333", "1"),
            &KEY.replace("eu-central-1", ""),
            &KEY.replace("eu-central-1", "evil.example/-"),
            &format!("{KEY}:x"),
            &KEY[..42],
        ]
        .map(str::to_owned);
        for text in wrong {
            assert_eq!(text.parse::<KeyArn>(), Err(KeyArnError(text.clone())), "{text}");
        }
    }
}
