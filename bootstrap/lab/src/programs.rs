//! The programs that the parent runs: all of the workspace's, from one folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The programs that the parent runs.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// This program.
    pub(crate) lab: PathBuf,
    /// The parent's daemon.
    pub(crate) wg_server: PathBuf,
    /// What starts enclaves.
    pub(crate) nitro_cli: PathBuf,
    /// KMS of the lab's internet.
    pub(crate) kms_stand_in: PathBuf,
    /// The signer's client.
    pub(crate) wallet: PathBuf,
}

impl Programs {
    /// The programs beside `lab` (this program unless named).
    ///
    /// # Errors
    /// One of them is not there.
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
