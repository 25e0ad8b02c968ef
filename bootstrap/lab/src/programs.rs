//! The workspace's programs that the parent runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The programs that the parent runs.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// This program.
    pub(crate) lab: PathBuf,
    /// The parent's daemon.
    pub(crate) wg_server: PathBuf,
    /// The stand-in for nitro-cli.
    pub(crate) nitro_cli: PathBuf,
    /// The stand-in for KMS.
    pub(crate) kms_stand_in: PathBuf,
    /// The signer's client.
    pub(crate) wallet: PathBuf,
}

impl Programs {
    /// The programs in the folder of `lab` [default: this program].
    ///
    /// # Errors
    /// One of them does not exist.
    pub(crate) fn beside(lab: Option<&Path>) -> Result<Self> {
        let lab = match lab {
            Some(lab) => lab.to_owned(),
            None => std::env::current_exe().context("find this program")?,
        };
        let find = |name: &str| {
            let path = lab.with_file_name(name);
            ensure!(path.is_file(), "there is no {}: run `make lab`", path.display());
            Ok(path)
        };
        Ok(Self {
            wg_server: find("wg-server")?,
            nitro_cli: find("nitro-cli")?,
            kms_stand_in: find("kms-stand-in")?,
            wallet: find("wallet")?,
            lab,
        })
    }
}
