//! Which secret: its name, or an ARN that has to be one that this enclave can ask for.

use thiserror::Error;

use crate::key_arn::{KeyArn, is_account, is_partition, is_region};

/// The longest name or ARN of a secret in bytes
/// (<https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>).
pub const MAX_SECRET_ID_LEN: usize = 2048;

/// Why no secret can be asked for by a text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SecretIdError {
    /// No secret has such a name.
    #[error("expected a secret's name or ARN, 1 to {MAX_SECRET_ID_LEN} printable characters")]
    Characters,
    /// It starts like an ARN, and this is not as in a secret's.
    #[error(
        "{0}, expected a secret's name, or an ARN such as arn:aws:secretsmanager:eu-central-1:111122223333:secret:NAME-AbCdEf"
    )]
    Arn(&'static str),
    /// AWS would be asked elsewhere, and say that there is no such secret.
    #[error(
        "the secret is in {found}, and this enclave asks Secrets Manager in {expected}, the region of kms.key_arn; \
         expected a secret of {expected}, such as a replica there"
    )]
    Region {
        /// The ARN's.
        found: String,
        /// The KMS key's.
        expected: String,
    },
    /// Another world: neither credentials nor names go from one to another.
    #[error(
        "the secret is in partition {found}, and the key of kms.key_arn in {expected}; expected a secret of {expected}"
    )]
    Partition {
        /// The ARN's.
        found: String,
        /// The KMS key's.
        expected: String,
    },
}

/// Where the secret of an ARN is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretPlace<'a> {
    /// Such as `aws`.
    pub partition: &'a str,
    /// Such as `eu-central-1`.
    pub region: &'a str,
}

/// Checks that `secret_id` is a name or an ARN of a secret, and says where the secret is. None: by its name, anywhere.
///
/// # Errors
/// [`SecretIdError::Characters`] and [`SecretIdError::Arn`].
pub fn secret_place(secret_id: &str) -> Result<Option<SecretPlace<'_>>, SecretIdError> {
    if !(1..=MAX_SECRET_ID_LEN).contains(&secret_id.len()) || !secret_id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(SecretIdError::Characters);
    }
    // No name has a colon.
    if !secret_id.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("arn:")) {
        return Ok(None);
    }
    let parts: Vec<&str> = secret_id.split(':').collect();
    let &["arn", partition, service, region, account, "secret", name] = parts.as_slice() else {
        return Err(SecretIdError::Arn("not the ARN of a secret"));
    };
    let is_name_character = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte);
    let checks = [
        (is_partition(partition), "an ARN without a partition"),
        (service == "secretsmanager", "an ARN of another service"),
        (is_region(region), "an ARN without a region"),
        (is_account(account), "an ARN whose account is not 12 digits"),
        (!name.is_empty() && name.bytes().all(is_name_character), "an ARN whose name no secret has"),
    ];
    match checks.into_iter().find(|(is_right, _)| !is_right) {
        Some((_, problem)) => Err(SecretIdError::Arn(problem)),
        None => Ok(Some(SecretPlace { partition, region })),
    }
}

/// Checks that `secret_id` is a name, or the ARN of a secret where `key` is. The account may be another: secrets can be shared.
///
/// # Errors
/// What is in [`SecretIdError`].
pub fn check_secret_id(secret_id: &str, key: &KeyArn) -> Result<(), SecretIdError> {
    let Some(SecretPlace { partition, region }) = secret_place(secret_id)? else { return Ok(()) };
    if partition != key.partition() {
        return Err(SecretIdError::Partition { found: partition.to_owned(), expected: key.partition().to_owned() });
    }
    if region != key.region() {
        return Err(SecretIdError::Region { found: region.to_owned(), expected: key.region().to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(secret_id: &str) -> Result<(), SecretIdError> {
        let key = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab".parse().unwrap();
        check_secret_id(secret_id, &key)
    }

    #[test]
    fn names_and_arns_of_the_keys_region_are_right_whatever_the_account() {
        for secret_id in [
            "prod/hot-wallet",
            "arnold",
            "arn:aws:secretsmanager:eu-central-1:111122223333:secret:prod/hot-wallet-AbCdEf",
            "arn:aws:secretsmanager:eu-central-1:444455556666:secret:shared-AbCdEf",
            "arn:aws:secretsmanager:eu-central-1:111122223333:secret:without-its-suffix",
        ] {
            assert_eq!(checked(secret_id), Ok(()), "{secret_id}");
        }
    }

    #[test]
    fn an_arn_of_another_region_or_partition_is_named() {
        let error = checked("arn:aws:secretsmanager:us-east-1:111122223333:secret:hot-wallet-AbCdEf").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the secret is in us-east-1, and this enclave asks Secrets Manager in eu-central-1, the region of kms.key_arn; \
             expected a secret of eu-central-1, such as a replica there"
        );
        let error = checked("arn:aws-cn:secretsmanager:cn-north-1:111122223333:secret:hot-wallet-AbCdEf").unwrap_err();
        assert!(matches!(error, SecretIdError::Partition { .. }), "{error}");
    }

    #[test]
    fn an_arn_of_no_secret_is_named() {
        let good = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:hot-wallet-AbCdEf";
        for (from, to, problem) in [
            (":secret:", ":", "not the ARN of a secret"),
            ("arn:", "ARN:", "not the ARN of a secret"),
            ("-AbCdEf", ":AbCdEf", "not the ARN of a secret"),
            (":aws:", "::", "an ARN without a partition"),
            (":secretsmanager:", ":ssm:", "an ARN of another service"),
            ("eu-central-1", "", "an ARN without a region"),
            ("111122223333", "1111", "an ARN whose account is not 12 digits"),
            ("hot-wallet-AbCdEf", "", "an ARN whose name no secret has"),
            ("hot-wallet", "hot*wallet", "an ARN whose name no secret has"),
        ] {
            let error = checked(&good.replacen(from, to, 1)).unwrap_err().to_string();
            let expected = "expected a secret's name, or an ARN such as arn:aws:secretsmanager:eu-central-1:";
            assert!(error.starts_with(&format!("{problem}, {expected}")), "{from} -> {to}: {error}");
        }
    }

    #[test]
    fn what_no_secret_is_called_is_refused() {
        for secret_id in ["", "with space", "line\nbreak", "größe", &"x".repeat(MAX_SECRET_ID_LEN + 1)] {
            assert_eq!(checked(secret_id), Err(SecretIdError::Characters), "{secret_id:?}");
        }
    }
}
