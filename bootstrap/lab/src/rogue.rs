//! Enclaves that the gateway must refuse, and their images.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::layout::Layout;
use crate::progress::Phase;
use crate::project::Project;

/// What is wrong with an enclave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Rogue {
    /// The very image, but for one character in a comment of its configuration
    ChangedConfig,
    /// Answers with what the enclave in its place once answered, keys and document
    Replay,
    /// Another program: its document is good and fresh, and says what it is
    OtherImage,
}

/// Builds the image; `recording` is what a replay answers.
///
/// # Errors
/// A script that goes wrong, with what it said.
pub(crate) fn build(
    rogue: Rogue,
    recording: &[u8],
    project: &Project,
    layout: &Layout,
    phase: &Phase,
) -> Result<PathBuf> {
    let dir = layout.rogue_dir();
    let config_dir = dir.join("config");
    if config_dir.exists() {
        fs::remove_dir_all(&config_dir).with_context(|| format!("remove {}", config_dir.display()))?;
    }
    fs::create_dir_all(&config_dir).with_context(|| format!("make {}", config_dir.display()))?;
    match rogue {
        Rogue::ChangedConfig => {
            change(&project.config_dir(), &config_dir)?;
            project.image(&[], &config_dir, &dir, phase)
        }
        Rogue::Replay => {
            write(&config_dir.join("replay"), recording)?;
            project.image(&["--impostor"], &config_dir, &dir, phase)
        }
        Rogue::OtherImage => {
            write(&config_dir.join("honest"), b"The impostor tells the truth.\n")?;
            project.image(&["--impostor"], &config_dir, &dir, phase)
        }
    }
}

/// Copies a configuration, with one character of `enclave.toml` changed.
fn change(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let path = entry.with_context(|| format!("list {}", from.display()))?.path();
        let Some(name) = path.file_name() else { continue };
        let mut bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        if name == "enclave.toml" && !change_comment(&mut bytes) {
            bail!("{} has no comment to change", path.display());
        }
        write(&to.join(name), &bytes)?;
    }
    Ok(())
}

/// Changes the first letter of the first comment into the other case; false if there is none.
fn change_comment(text: &mut [u8]) -> bool {
    let mut comments = text.split_mut(|byte| *byte == b'\n').filter(|line| line.starts_with(b"#"));
    let letter = comments.find_map(|line| line.iter_mut().find(|byte| byte.is_ascii_alphabetic()));
    letter.map(|letter| *letter ^= 0x20).is_some()
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_letter_of_the_lab_s_own_configuration_is_changed() {
        let project = Project::find(None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        change(&project.config_dir(), dir.path()).unwrap();
        let [before, after] =
            [&project.config_dir(), dir.path()].map(|dir: &Path| fs::read(dir.join("enclave.toml")).unwrap());
        assert_eq!(before.len(), after.len());
        assert_eq!(before.iter().zip(&after).filter(|(before, after)| before != after).count(), 1);
    }

    #[test]
    fn what_is_no_comment_is_not_touched() {
        let mut text = b"mtu = 1 # no\n# 1\n# yes\n".to_vec();
        assert!(!change_comment(&mut text[..17]));
        assert!(change_comment(&mut text));
        assert_eq!(text, b"mtu = 1 # no\n# 1\n# Yes\n");
    }
}
