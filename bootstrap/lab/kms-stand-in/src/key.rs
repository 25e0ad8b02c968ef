//! A KMS key: its ARN, aliases, state, policy and material.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::rand::fill;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::arn::KeyArn;
use crate::failure::{Failure, Kind};
use crate::policy::Policy;

/// A key of the configuration.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) arn: KeyArn,
    /// `alias/NAME`.
    pub(crate) aliases: Vec<String>,
    pub(crate) state: KeyState,
    pub(crate) policy: Policy,
    pub(crate) material: Material,
}

/// A key's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeyState {
    #[default]
    Enabled,
    Disabled,
    PendingDeletion,
}

/// The secret key.
pub(crate) struct Material(Zeroizing<[u8; 32]>);

impl Key {
    /// Whether a request's `KeyId` names it by its ARN, its UUID, an alias or an alias's ARN.
    pub(crate) fn answers_to(&self, name: &str) -> bool {
        name == self.arn.as_str()
            || name == self.arn.id().to_string()
            || self.aliases.iter().any(|alias| name == alias || name == self.arn.of_alias(alias))
    }

    /// Fails unless the key is enabled.
    pub(crate) fn check_state(&self) -> Result<(), Failure> {
        let arn = &self.arn;
        match self.state {
            KeyState::Enabled => Ok(()),
            KeyState::Disabled => Err(Failure::new(Kind::Disabled, format!("{arn} is disabled."))),
            KeyState::PendingDeletion => Err(Failure::new(Kind::InvalidState, format!("{arn} is pending deletion."))),
        }
    }
}

impl KeyState {
    /// The name in DescribeKey's answer.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
            Self::PendingDeletion => "PendingDeletion",
        }
    }
}

impl Material {
    pub(crate) fn random() -> Result<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        fill(bytes.as_mut_slice()).context("generate key material")?;
        Ok(Self(bytes))
    }

    /// Reads the file, or creates it. Ciphertexts survive a restart.
    pub(crate) fn keep_in(path: &Path) -> Result<Self> {
        match fs::read(path).map(Zeroizing::new) {
            Ok(bytes) => {
                let is_right = bytes.len() == 32;
                ensure!(is_right, "{}: {} bytes, expected 32 random ones", path.display(), bytes.len());
                let mut material = Zeroizing::new([0; 32]);
                material.copy_from_slice(&bytes);
                Ok(Self(material))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let material = Self::random()?;
                let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
                file.and_then(|mut file| file.write_all(material.0.as_slice()))
                    .with_context(|| format!("write {}", path.display()))?;
                Ok(material)
            }
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn material_in_a_file_outlives_the_program_and_is_the_owner_s_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("material");
        let first = Material::keep_in(&path).unwrap();
        assert_eq!(Material::keep_in(&path).unwrap().expose(), first.expose());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(Material::random().unwrap().expose(), first.expose());
    }

    #[test]
    fn a_file_of_another_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("material");
        fs::write(&path, [0; 31]).unwrap();
        assert!(Material::keep_in(&path).unwrap_err().to_string().contains(": 31 bytes, expected 32 random ones"));
    }
}
