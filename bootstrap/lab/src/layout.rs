//! The folder of a lab, which `lab down` removes.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tunnel::port::Cid;

/// Marks a folder as a lab's, which may be removed.
const MARKER: &str = ".enclave-wireguard-lab";
/// Length of `sun_path` in Linux's `sockaddr_un`, without the final zero.
const MAX_SOCKET_PATH: usize = 107;
/// The web authority's certificate, in the lab's folder and in the enclaves' measured configuration.
pub(crate) const WEB_CA_NAME: &str = "web-ca.pem";

/// The folder of one lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The given folder, or the user's default (see [`default_dir`]).
    ///
    /// # Errors
    /// A path that is too long for the sockets in it.
    pub(crate) fn new(dir: Option<PathBuf>) -> Result<Self> {
        let dir = match dir {
            Some(dir) => std::path::absolute(dir)?,
            None => default_dir(|name| std::env::var_os(name))?,
        };
        let layout = Self { dir };
        let longest = layout.guest_socket_path(Cid(u32::from(u16::MAX)));
        ensure!(
            longest.as_os_str().len() <= MAX_SOCKET_PATH,
            "{} is too long for a Unix socket; expected at most {MAX_SOCKET_PATH} bytes: choose a shorter folder with --dir",
            longest.display()
        );
        Ok(layout)
    }

    /// The folder itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Creates the folder for a new lab.
    ///
    /// # Errors
    /// A folder with other files.
    pub(crate) fn create(&self) -> Result<()> {
        let dir = &self.dir;
        if dir.exists() && !self.exists() && fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!("{} has files that are not a lab's; expected an empty folder: choose one with --dir", dir.display());
        }
        for dir in [dir, &self.process_dir(), &self.log_dir(), &self.socket_dir(), &self.ssh_dir()] {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let marker = dir.join(MARKER);
        fs::write(&marker, "Made by `lab up`; `lab down` removes this folder.\n")
            .with_context(|| format!("write {}", marker.display()))
    }

    /// True if this is a lab's folder.
    pub(crate) fn exists(&self) -> bool {
        self.dir.join(MARKER).is_file()
    }

    /// Removes the folder with its content. Does nothing if it is not a lab's.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub(crate) fn remove(&self) -> Result<()> {
        if !self.exists() {
            return Ok(());
        }
        fs::remove_dir_all(&self.dir).with_context(|| format!("remove {}", self.dir.display()))
    }

    /// The lock file, beside the folder, so that `lab down` can hold it to the end.
    pub(crate) fn lock_path(&self) -> PathBuf {
        let mut path = OsString::from(&self.dir);
        path.push(".lock");
        path.into()
    }

    /// The [`Plan`](crate::plan::Plan).
    pub(crate) fn plan_path(&self) -> PathBuf {
        self.dir.join("lab.json")
    }

    /// One file for each process of the lab.
    pub(crate) fn process_dir(&self) -> PathBuf {
        self.dir.join("processes")
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// stdout and stderr of a process.
    pub(crate) fn log_path(&self, process: &str) -> PathBuf {
        self.log_dir().join(format!("{process}.log"))
    }

    /// The serial console of a VM.
    pub(crate) fn console_path(&self, machine: &str) -> PathBuf {
        self.log_dir().join(format!("{machine}.console"))
    }

    /// The image of an enclave, as nitro-cli sent it.
    pub(crate) fn image_path(&self, enclave: &str) -> PathBuf {
        self.dir.join(format!("{enclave}.eif"))
    }

    pub(crate) fn socket_dir(&self) -> PathBuf {
        self.dir.join("s")
    }

    /// The switch's vhost-user socket for one guest.
    pub(crate) fn guest_socket_path(&self, cid: Cid) -> PathBuf {
        vsock_switch::guest_socket_path(&self.socket_dir(), cid)
    }

    /// The switch's control socket.
    pub(crate) fn control_socket_path(&self) -> PathBuf {
        vsock_switch::control_socket_path(&self.socket_dir())
    }

    pub(crate) fn ssh_dir(&self) -> PathBuf {
        self.dir.join("ssh")
    }

    /// Short: OpenSSH appends 17 characters while it connects.
    pub(crate) fn ssh_socket_path(&self) -> PathBuf {
        self.socket_dir().join("m")
    }

    pub(crate) fn payload_path(&self) -> PathBuf {
        self.dir.join("payload.tar")
    }

    pub(crate) fn eif_dir(&self) -> PathBuf {
        self.dir.join("eif")
    }

    /// The measured configuration of the enclaves' image.
    pub(crate) fn config_dir(&self) -> PathBuf {
        self.eif_dir().join("config")
    }

    /// The image of an enclave that the gateway must refuse.
    pub(crate) fn rogue_dir(&self) -> PathBuf {
        self.dir.join("rogue")
    }

    /// The image of an enclave in blind mode.
    pub(crate) fn blind_dir(&self) -> PathBuf {
        self.dir.join("blind")
    }

    /// The image with another configuration than the lab's.
    pub(crate) fn variant_dir(&self) -> PathBuf {
        self.dir.join("variant")
    }

    /// The key and the certificates of the enclaves' security modules.
    pub(crate) fn signer_dir(&self) -> PathBuf {
        self.dir.join("signer")
    }

    /// The root of this lab's attestation documents.
    pub(crate) fn root_path(&self) -> PathBuf {
        self.dir.join("lab-root.pem")
    }

    /// The root of AWS's servers in the lab's internet.
    pub(crate) fn web_ca_path(&self) -> PathBuf {
        self.dir.join(WEB_CA_NAME)
    }
}

/// `$ENCLAVE_LAB_DIR`, or `enclave-wireguard/lab` in `$XDG_STATE_HOME` [default: `~/.local/state`].
///
/// # Errors
/// Neither these variables nor `$HOME` is set.
fn default_dir(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = set("ENCLAVE_LAB_DIR") {
        return Ok(std::path::absolute(dir)?);
    }
    let state = match set("XDG_STATE_HOME") {
        Some(dir) => dir,
        None => set("HOME")
            .context("neither $ENCLAVE_LAB_DIR, $XDG_STATE_HOME nor $HOME is set: use --dir")?
            .join(".local/state"),
    };
    Ok(state.join("enclave-wireguard/lab"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &'static [(&str, &str)]) -> Option<PathBuf> {
        default_dir(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into())).ok()
    }

    #[test]
    fn the_folder_is_the_lab_s_own_variable_then_xdg_then_home() {
        assert_eq!(with(&[("ENCLAVE_LAB_DIR", "/a"), ("XDG_STATE_HOME", "/b")]), Some("/a".into()));
        assert_eq!(with(&[("XDG_STATE_HOME", "/b"), ("HOME", "/c")]), Some("/b/enclave-wireguard/lab".into()));
        assert_eq!(
            with(&[("XDG_STATE_HOME", ""), ("HOME", "/c")]),
            Some("/c/.local/state/enclave-wireguard/lab".into())
        );
        assert_eq!(with(&[]), None);
    }

    #[test]
    fn a_folder_too_deep_for_sockets_is_refused_with_a_way_out() {
        let error = Layout::new(Some("/x".repeat(60).into())).unwrap_err();
        assert!(error.to_string().contains("choose a shorter folder with --dir"));
    }

    #[test]
    fn only_a_lab_s_folder_is_removed_or_taken() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("precious"), "").unwrap();
        let layout = Layout::new(Some(scratch.path().into())).unwrap();
        layout.remove().unwrap();
        assert!(scratch.path().join("precious").exists());
        assert!(layout.create().unwrap_err().to_string().contains("not a lab's"));

        let layout = Layout::new(Some(scratch.path().join("lab"))).unwrap();
        layout.create().unwrap();
        layout.create().unwrap();
        layout.remove().unwrap();
        assert!(!layout.dir().exists());
    }
}
