//! Enclaves that the gateway must refuse, and their images.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::layout::Layout;
use crate::measured_config::MeasuredConfig;
use crate::progress::Phase;
use crate::project::Project;

/// An enclave that the gateway must refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Rogue {
    /// Run the image with one changed character in a comment of its configuration
    ChangedConfig,
    /// Replay the keys and the document that the enclave sent before
    Replay,
    /// Run another program, with a genuine document of its own
    OtherImage,
}

/// Builds the image; `recording` is the answer to replay.
///
/// # Errors
/// A script that fails, with the end of its output.
pub(crate) fn build(
    rogue: Rogue,
    recording: &[u8],
    project: &Project,
    layout: &Layout,
    phase: &Phase,
) -> Result<PathBuf> {
    let dir = layout.rogue_dir();
    let config_dir = dir.join("config");
    match rogue {
        Rogue::ChangedConfig => {
            let config = project.measured_config(&project.config_dir(), layout, config_dir, phase)?;
            config.edit(change)?;
            project.image(&[], &config, &dir, phase)
        }
        Rogue::Replay => {
            let config = MeasuredConfig::empty(config_dir)?;
            config.add("replay", recording)?;
            project.image(&["--impostor"], &config, &dir, phase)
        }
        Rogue::OtherImage => {
            let config = MeasuredConfig::empty(config_dir)?;
            config.add("honest", b"The impostor tells the truth.\n")?;
            project.image(&["--impostor"], &config, &dir, phase)
        }
    }
}

/// Changes one character of a comment.
fn change(text: &str) -> Result<String> {
    let mut bytes = text.as_bytes().to_vec();
    ensure!(change_comment(&mut bytes), "no comment to change");
    String::from_utf8(bytes).context("changing the case of an ASCII letter keeps UTF-8 valid")
}

/// Changes the case of the first letter in the first comment. False if there is none.
fn change_comment(text: &mut [u8]) -> bool {
    let mut comments = text.split_mut(|byte| *byte == b'\n').filter(|line| line.starts_with(b"#"));
    let letter = comments.find_map(|line| line.iter_mut().find(|byte| byte.is_ascii_alphabetic()));
    letter.map(|letter| *letter ^= 0x20).is_some()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn one_letter_of_the_lab_s_own_configuration_is_changed() {
        let path = Project::find(None).unwrap().config_dir().join("enclave.toml");
        let before = fs::read_to_string(path).unwrap();
        let after = change(&before).unwrap();
        assert_eq!(before.len(), after.len());
        assert_eq!(before.bytes().zip(after.bytes()).filter(|(before, after)| before != after).count(), 1);
    }

    #[test]
    fn what_is_no_comment_is_not_touched() {
        change("mtu = 1 # no\n# 1\n").unwrap_err();
        assert_eq!(change("mtu = 1 # no\n# 1\n# yes\n").unwrap(), "mtu = 1 # no\n# 1\n# Yes\n");
    }
}
