//! An image of the lab's configuration with more tables, in the place of the lab's own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use parent_vm::paths::KEY_POLICY_PATH;

use super::{Enclave, Lab, Parent, Wallet};
use crate::EnclaveId;

const ALLOW_LIST: &str = "/etc/wg-server/dns-allow-list.txt";

/// What an image has more than the lab's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct More<'a> {
    /// Text at the end of `enclave.toml`.
    pub tables: &'a str,
    /// Names that its enclaves may look up.
    pub names: &'a [&'a str],
    /// Programs of services: the name in the configuration folder, and the file.
    pub programs: &'a [(&'a str, &'a Path)],
}

/// A lab whose wg-server and KMS accept another image than its own. The caller ends it with [`Variant::end`].
#[derive(Debug)]
pub struct Variant<'lab> {
    lab: &'lab Lab,
    parent: Parent,
    eif_path: PathBuf,
}

impl<'lab> Variant<'lab> {
    /// Builds the image. KMS then decrypts for this image only, and wg-server accepts no other.
    ///
    /// # Errors
    /// No lab is running, a configuration that the build refuses, or wg-server does not start.
    pub fn begin(lab: &'lab Lab, more: &More<'_>) -> Result<Self> {
        let variant = Self::build(lab, more, lab.layout.variant_dir())?;
        let keep = "cp \"$1\" \"$1.own\" && cp \"$2\" \"$2.own\" && shift && file=$1 && shift && printf '%s\\n' \"$@\" >>\"$file\"";
        let words = [&["sh", "-c", keep, "sh", KEY_POLICY_PATH, ALLOW_LIST][..], more.names].concat();
        variant.parent.output(&words).context("change the allow-list")?;
        variant.open_key(&[])?;
        variant.accept(&[])?;
        Ok(variant)
    }

    /// Builds the image that is to replace this one. KMS and wg-server do not accept it yet.
    ///
    /// # Errors
    /// A configuration that the build refuses.
    pub fn next(&self, more: &More<'_>) -> Result<Self> {
        Self::build(self.lab, more, self.lab.layout.variant_dir().join("next"))
    }

    /// Makes KMS decrypt for this image and `others` only.
    ///
    /// # Errors
    /// As [`Wallet::set_policy`].
    pub fn open_key(&self, others: &[&Self]) -> Result<()> {
        Wallet::trusting_any(self.parent.clone(), &self.with(others))?.set_policy().map(drop)
    }

    /// Makes wg-server accept enclaves of this image and `others` only.
    ///
    /// # Errors
    /// As [`Parent::trust_any`].
    pub fn accept(&self, others: &[&Self]) -> Result<()> {
        self.parent.trust_any(&self.with(others))
    }

    fn with<'a>(&'a self, others: &[&'a Self]) -> Vec<&'a Path> {
        [self].into_iter().chain(others.iter().copied()).map(Self::eif_path).collect()
    }

    fn build(lab: &'lab Lab, more: &More<'_>, dir: PathBuf) -> Result<Self> {
        let More { tables, programs, .. } = *more;
        let eif_path = lab.progress.phase("build an image with another configuration", |phase| {
            let from = lab.project.config_dir();
            let config = lab.project.measured_config(&from, &lab.layout, dir.join("config"), phase)?;
            config.edit(|text| Ok(format!("{text}\n{tables}")))?;
            programs.iter().try_for_each(|(name, program)| config.add_program(name, program))?;
            lab.project.image(&[], &config, &dir, phase)
        })?;
        Ok(Self { lab, parent: lab.parent()?, eif_path })
    }

    /// The one that is running.
    ///
    /// # Errors
    /// No lab is running.
    pub fn of(lab: &'lab Lab) -> Result<Self> {
        Ok(Self { lab, parent: lab.parent()?, eif_path: lab.layout.variant_dir().join("enclave.eif") })
    }

    /// Undoes everything. Stop enclaves of the variant first: wg-server accepts only the lab's own image again.
    ///
    /// # Errors
    /// No lab is running, or wg-server or KMS does not start.
    pub fn end(lab: &Lab) -> Result<()> {
        let parent = lab.parent()?;
        let policy = parent.shell(&format!("cat {KEY_POLICY_PATH}.own 2>/dev/null || true"))?;
        if !policy.is_empty() {
            parent.set_key_policy(&policy)?;
        }
        parent.shell(&format!(
            "rm -f {KEY_POLICY_PATH}.own; [ ! -e {ALLOW_LIST}.own ] || mv {ALLOW_LIST}.own {ALLOW_LIST}"
        ))?;
        parent.trust(&lab.eif_path()?)
    }

    /// The image, with its measurements in the same folder.
    pub fn eif_path(&self) -> &Path {
        &self.eif_path
    }

    /// The parent.
    pub fn parent(&self) -> &Parent {
        &self.parent
    }

    /// Replaces the enclave `id` with one of that image.
    ///
    /// # Errors
    /// The enclave does not boot.
    pub fn boot(&self, id: EnclaveId) -> Result<Enclave<'lab>> {
        let enclave = self.lab.enclave(id);
        enclave.stop()?;
        enclave.start(Some(&self.eif_path))?;
        Ok(enclave)
    }
}
