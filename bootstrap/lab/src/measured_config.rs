//! The measured configuration of one lab's enclaves: the checkout's, with the self-test agent and this lab's web
//! authority.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::layout::{Layout, WEB_CA_NAME};

/// The enclave's configuration file.
const MAIN_NAME: &str = "enclave.toml";
/// The program that `enclave.toml` runs as a service, and the package that it is built from.
pub(crate) const SELF_TEST_NAME: &str = "self-test";

/// A folder with the configuration for an image.
#[derive(Debug)]
pub(crate) struct MeasuredConfig {
    dir: PathBuf,
}

impl MeasuredConfig {
    /// Copies the checkout's folder `from` to `dir`, and adds the program `self_test` and the certificate of this lab's
    /// web authority. Removes the previous content of `dir`.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub(crate) fn write(from: &Path, self_test: &Path, layout: &Layout, dir: PathBuf) -> Result<Self> {
        let config = Self::empty(dir)?;
        for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
            let entry = entry.with_context(|| format!("list {}", from.display()))?;
            let bytes = fs::read(entry.path()).with_context(|| format!("read {}", entry.path().display()))?;
            config.add(entry.file_name(), &bytes)?;
        }
        let web_ca_path = layout.web_ca_path();
        let web_ca = fs::read(&web_ca_path).with_context(|| format!("read {}", web_ca_path.display()))?;
        config.add(WEB_CA_NAME, &web_ca)?;
        config.add_program(SELF_TEST_NAME, self_test)?;
        Ok(config)
    }

    /// An empty folder. Removes the previous content of `dir`.
    ///
    /// # Errors
    /// A folder that cannot be created.
    pub(crate) fn empty(dir: PathBuf) -> Result<Self> {
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", dir.display()))?;
            }
            Ok(()) | Err(_) => {}
        }
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// Writes or replaces a file.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn add(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))
    }

    /// Adds an executable program.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub(crate) fn add_program(&self, name: &str, program: &Path) -> Result<()> {
        let bytes = fs::read(program).with_context(|| format!("read {}", program.display()))?;
        self.add(name, &bytes)?;
        let path = self.dir.join(name);
        let executable = fs::set_permissions(&path, Permissions::from_mode(0o755));
        executable.with_context(|| format!("make {} executable", path.display()))
    }

    /// Changes the enclave's configuration file.
    ///
    /// # Errors
    /// A file that cannot be read or written, or those of `change`.
    pub(crate) fn edit(&self, change: impl FnOnce(&str) -> Result<String>) -> Result<()> {
        let path = self.dir.join(MAIN_NAME);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        self.add(MAIN_NAME, change(&text).with_context(|| path.display().to_string())?.as_bytes())
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Project;

    fn read(config: &MeasuredConfig, name: &str) -> String {
        fs::read_to_string(config.dir().join(name)).unwrap()
    }

    #[test]
    fn a_lab_s_configuration_is_the_checkout_s_with_the_lab_s_own_web_ca() {
        let scratch = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(scratch.path().into())).unwrap();
        fs::write(layout.web_ca_path(), "this lab's").unwrap();
        let dir = scratch.path().join("config");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("left over"), "").unwrap();
        let project = Project::find(None).unwrap();
        let program = scratch.path().join("program");
        fs::write(&program, "an agent").unwrap();
        for from in [project.config_dir(), project.blind_dir().join("enclave")] {
            let config = MeasuredConfig::write(&from, &program, &layout, dir.clone()).unwrap();
            assert_eq!(read(&config, SELF_TEST_NAME), "an agent");
            assert_eq!(fs::metadata(dir.join(SELF_TEST_NAME)).unwrap().permissions().mode() & 0o777, 0o755);
            assert_eq!(read(&config, WEB_CA_NAME), "this lab's");
            assert_eq!(read(&config, MAIN_NAME), fs::read_to_string(from.join(MAIN_NAME)).unwrap());
            assert!(!dir.join("left over").exists());
        }
    }

    #[test]
    fn without_a_web_ca_there_is_no_configuration() {
        let scratch = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(scratch.path().into())).unwrap();
        let from = Project::find(None).unwrap().config_dir();
        let error = MeasuredConfig::write(&from, &from, &layout, scratch.path().join("config")).unwrap_err();
        assert!(format!("{error:#}").contains(WEB_CA_NAME), "{error:#}");
    }

    #[test]
    fn what_the_enclave_reads_can_be_changed() {
        let scratch = tempfile::tempdir().unwrap();
        let config = MeasuredConfig::empty(scratch.path().join("config")).unwrap();
        config.add(MAIN_NAME, b"mtu = 1").unwrap();
        config.edit(|text| Ok(text.replace('1', "2"))).unwrap();
        assert_eq!(read(&config, MAIN_NAME), "mtu = 2");
        let error = config.edit(|_| anyhow::bail!("no key to replace")).unwrap_err();
        assert!(format!("{error:#}").contains("enclave.toml: no key to replace"), "{error:#}");
    }
}
