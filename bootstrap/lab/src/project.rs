//! The checkout that the lab belongs to, and its build scripts.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::layout::Layout;
use crate::measured_config::{MeasuredConfig, SELF_TEST_NAME};
use crate::progress::Phase;

/// The root of a checkout.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    root: PathBuf,
}

/// What the VMs boot from.
#[derive(Clone, Debug)]
pub(crate) struct Artefacts {
    /// Has `bin/qemu-system-x86_64` and `firmware/`.
    pub(crate) qemu_dir: PathBuf,
    /// Has `vmlinuz`, `initrd.img` and `rootfs.img`.
    pub(crate) parent_dir: PathBuf,
}

impl Project {
    /// The given folder, or the nearest checkout above this program, or the one that it was built in.
    ///
    /// # Errors
    /// No such folder.
    pub(crate) fn find(named: Option<PathBuf>) -> Result<Self> {
        if let Some(root) = named {
            ensure!(is_root(&root), "{} is not a checkout of this project", root.display());
            return Ok(Self { root: std::path::absolute(root)? });
        }
        let program = env::current_exe().context("find this program")?;
        let built_in = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = program.ancestors().chain(built_in.ancestors()).find(|dir| is_root(dir));
        let root = found.context("this program is not in a checkout of its project: give one with --project")?;
        Ok(Self { root: root.into() })
    }

    /// The checkout itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The lab's part of the checkout.
    pub(crate) fn lab_dir(&self) -> PathBuf {
        self.root.join("bootstrap/lab")
    }

    /// Builds, or finds in the cache, QEMU and the parent's system.
    ///
    /// # Errors
    /// A script that fails, with the end of its output.
    pub(crate) fn artefacts(&self, phase: &Phase) -> Result<Artefacts> {
        Ok(Artefacts {
            qemu_dir: self.built_by("bootstrap/lab/qemu/build.sh", phase)?,
            parent_dir: self.built_by("bootstrap/lab/parent/build.sh", phase)?,
        })
    }

    /// The measured configuration of the lab's enclaves, without the web authority of each lab.
    pub(crate) fn config_dir(&self) -> PathBuf {
        self.lab_dir().join("config/enclave")
    }

    /// Configuration of blind mode: the gateway's, the relay's, and in `enclave` the measured one.
    pub(crate) fn blind_dir(&self) -> PathBuf {
        self.lab_dir().join("config/blind")
    }

    /// The clients of the signer that are not ours.
    pub(crate) fn clients_dir(&self) -> PathBuf {
        self.root.join("bootstrap/clients")
    }

    /// The scripts and tests of `config/monitoring/`.
    pub(crate) fn monitoring_dir(&self) -> PathBuf {
        self.root.join("bootstrap/monitoring")
    }

    /// Prometheus's rules and Grafana's dashboard that ship.
    pub(crate) fn monitoring_config_dir(&self) -> PathBuf {
        self.root.join("config/monitoring")
    }

    /// The parent's configuration that ships.
    pub(crate) fn parent_config_dir(&self) -> PathBuf {
        self.root.join("config/parent")
    }

    /// What an instance of EC2 has.
    pub(crate) fn aws_dir(&self) -> PathBuf {
        self.root.join("bootstrap/aws")
    }

    /// The units that ship.
    pub(crate) fn systemd_dir(&self) -> PathBuf {
        self.aws_dir().join("systemd")
    }

    /// Stand-ins for programs of Amazon Linux at the first boot.
    pub(crate) fn ec2_dir(&self) -> PathBuf {
        self.lab_dir().join("ec2")
    }

    /// Scripts and configuration of the lab's internet.
    pub(crate) fn internet_dir(&self) -> PathBuf {
        self.lab_dir().join("internet")
    }

    /// Builds an enclave image and its measurements into `out_dir`; the image's path.
    ///
    /// # Errors
    /// A script that fails, with the end of its output.
    pub(crate) fn image(
        &self,
        flags: &[&str],
        config: &MeasuredConfig,
        out_dir: &Path,
        phase: &Phase,
    ) -> Result<PathBuf> {
        let mut script = Command::new(self.root.join("bootstrap/eif/image.sh"));
        script.args(flags).arg(config.dir()).arg(out_dir);
        last_line(&mut script, phase)?;
        let eif = out_dir.join("enclave.eif");
        ensure!(eif.is_file(), "bootstrap/eif/image.sh succeeded without writing {}", eif.display());
        Ok(eif)
    }

    /// Builds a program of the workspace as `/init` is built, static; its path.
    ///
    /// # Errors
    /// A script that goes wrong, with what it said.
    pub(crate) fn static_program(&self, name: &str, phase: &Phase) -> Result<PathBuf> {
        let mut script = Command::new(self.root.join("bootstrap/eif/image.sh"));
        let path = PathBuf::from(last_line(script.args(["--program", name]), phase)?);
        ensure!(path.is_file(), "bootstrap/eif/image.sh ended well, but made no {}", path.display());
        Ok(path)
    }

    /// Makes the folder that a lab's enclave is measured with, out of the checkout's folder `from`.
    ///
    /// # Errors
    /// A script that goes wrong, or a file that cannot be read or written.
    pub(crate) fn measured_config(
        &self,
        from: &Path,
        layout: &Layout,
        dir: PathBuf,
        phase: &Phase,
    ) -> Result<MeasuredConfig> {
        MeasuredConfig::write(from, &self.static_program(SELF_TEST_NAME, phase)?, layout, dir)
    }

    fn built_by(&self, script: &str, phase: &Phase) -> Result<PathBuf> {
        let path = self.root.join(script);
        let line = last_line(&mut Command::new(path), phase)?;
        let dir = PathBuf::from(line);
        ensure!(dir.is_dir(), "{script} printed {} as its result; expected a folder", dir.display());
        Ok(dir)
    }
}

fn is_root(dir: &Path) -> bool {
    dir.join("bootstrap/lab/parent/build.sh").is_file() && dir.join("Cargo.toml").is_file()
}

/// Runs a script, shows its stderr, and returns the last line of its stdout.
fn last_line(script: &mut Command, phase: &Phase) -> Result<String> {
    let name = script.get_program().to_string_lossy().into_owned();
    let mut child = script
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {name}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut said = Vec::new();
    let mut last = String::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for line in stderr.map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
                phase.note(&line);
                said.push(line);
            }
        });
        for line in stdout.map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
            last = line;
        }
    });
    let status = child.wait().with_context(|| format!("wait for {name}"))?;
    if !status.success() {
        bail!("{name}: {status}; the end of its output:\n{}", crate::process::last_lines(&said.join("\n"), 20));
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;

    fn sh(script: &str) -> Result<String> {
        Progress::default().phase("script", |phase| last_line(Command::new("sh").args(["-c", script]), phase))
    }

    #[test]
    fn the_result_of_a_script_is_its_last_line() {
        assert_eq!(sh("echo one; echo progress >&2; echo two").unwrap(), "two");
    }

    #[test]
    fn a_script_that_fails_is_quoted() {
        let error = sh("echo no such package >&2; exit 3").unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such package"), "{error}");
    }

    #[test]
    fn the_project_is_found_and_another_folder_is_refused() {
        assert!(Project::find(None).unwrap().lab_dir().join("parent/build.sh").is_file());
        assert!(Project::find(Some("/".into())).is_err());
    }
}
