//! How a lab was started, for later verbs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::qemu::{Accelerator, Qemu};

/// The content of `lab.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The port of the parent's sshd on the host's loopback.
    pub(crate) ssh_port: u16,
    pub(crate) qemu_dir: PathBuf,
    pub(crate) is_kvm: bool,
    /// The image that enclaves boot by default.
    pub(crate) eif_path: PathBuf,
}

impl Plan {
    pub(crate) fn save(&self, layout: &Layout) -> Result<()> {
        let path = layout.plan_path();
        fs::write(&path, serde_json::to_vec_pretty(self)?).with_context(|| format!("write {}", path.display()))
    }

    /// The plan of a lab.
    ///
    /// # Errors
    /// No lab, or one that did not start completely.
    pub(crate) fn load(layout: &Layout) -> Result<Self> {
        let path = layout.plan_path();
        let bytes = fs::read(&path)
            .with_context(|| format!("no lab in {}: start one with `lab up`", layout.dir().display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))
    }

    pub(crate) fn qemu(&self) -> Qemu {
        let accelerator = if self.is_kvm { Accelerator::Kvm } else { Accelerator::Tcg };
        Qemu { dir: self.qemu_dir.clone(), accelerator }
    }
}
