//! The measured configuration: the regular files of one folder, sorted by name.
//!
//! A file is data unless `enclave.toml` names it as the program of a service.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::input;
use crate::private_key::sign_of_secret;

/// Configuration is small; a larger file is there by mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_PROGRAM_BYTES: u64 = 256 << 20;
const MAX_FILES: usize = 64;
/// The file that the orchestrator reads first.
const MAIN_NAME: &str = "enclave.toml";

/// By name, so that the file system's order does not matter.
pub(crate) type Files = BTreeMap<String, File>;

/// One file of the folder.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    /// A service runs it.
    pub(crate) is_program: bool,
}

/// Reads every file in `dir`. Refuses files that must not be in an image, and names them.
pub(crate) fn read(dir: &Path) -> anyhow::Result<Files> {
    read_dir(dir).with_context(|| format!("--config {}", dir.display()))
}

fn read_dir(dir: &Path) -> anyhow::Result<Files> {
    let programs = programs(dir)?;
    let mut files = Files::new();
    for entry in std::fs::read_dir(dir).context("list the folder")? {
        let entry = entry.context("list the folder")?;
        let Ok(name) = entry.file_name().into_string() else {
            bail!("{:?}: expected a UTF-8 file name", entry.file_name());
        };
        check_name(&name)?;
        let kind = entry.file_type().with_context(|| format!("{name}: file type"))?;
        ensure!(kind.is_file(), "{name}: {}, expected a regular file", input::name_of(kind));
        let mode = entry.metadata().with_context(|| format!("{name}: permissions"))?.permissions().mode();
        let is_program = programs.contains(&name);
        let bytes = if is_program { read_program(&entry.path(), mode) } else { read_data(&name, &entry.path(), mode) };
        files.insert(name.clone(), File { bytes: bytes.context(name)?, is_program });
        ensure!(
            files.len() <= MAX_FILES,
            "more than {MAX_FILES} files, expected a folder with {MAIN_NAME} and a few others"
        );
    }
    ensure!(!files.is_empty(), "the folder is empty, expected {MAIN_NAME}: the enclave reads /config/{MAIN_NAME}");
    for program in programs {
        ensure!(
            files.contains_key(&program),
            "{program}: no such file, expected the program of a service in {MAIN_NAME}"
        );
    }
    Ok(files)
}

/// The files that services run. The orchestrator checks the rest of `enclave.toml`.
fn programs(dir: &Path) -> anyhow::Result<BTreeSet<String>> {
    let path = dir.join(MAIN_NAME);
    if !path.is_file() {
        return Ok(BTreeSet::new());
    }
    let text = String::from_utf8(input::read("file", &path, MAX_FILE_BYTES)?).context(MAIN_NAME)?;
    Ok(service::programs(&text).context(MAIN_NAME)?.into_iter().collect())
}

fn read_program(path: &Path, mode: u32) -> anyhow::Result<Vec<u8>> {
    ensure!(
        mode & 0o111 != 0,
        "not executable (mode {:04o}), and a service in {MAIN_NAME} runs it; expected mode 0755",
        mode & 0o7777
    );
    let bytes = input::read("file", path, MAX_PROGRAM_BYTES)?;
    service::check_program(&bytes)?;
    Ok(bytes)
}

fn read_data(name: &str, path: &Path, mode: u32) -> anyhow::Result<Vec<u8>> {
    ensure!(
        mode & 0o111 == 0,
        "executable (mode {:04o}), but no service in {MAIN_NAME} runs it; expected mode 0644",
        mode & 0o7777
    );
    let bytes = input::read("file", path, MAX_FILE_BYTES)?;
    if let Some(sign) = sign_of_secret(name, &bytes) {
        bail!("{sign}; expected no private keys: an image is public");
    }
    Ok(bytes)
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    ensure!(
        is_plain && !name.starts_with('.') && name.len() <= 100,
        "{name:?}: expected at most 100 letters, digits, '.', '_' and '-', not starting with '.'"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir_with(name: &str, bytes: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("enclave.toml"), "mtu = 1420\n").unwrap();
        std::fs::write(dir.path().join(name), bytes).unwrap();
        dir
    }

    fn refusal(dir: &tempfile::TempDir) -> String {
        format!("{:#}", read(dir.path()).unwrap_err())
    }

    #[test]
    fn files_come_in_the_order_of_their_names() {
        let dir = dir_with("b", b"2");
        std::fs::write(dir.path().join("a"), "1").unwrap();
        let names: Vec<String> = read(dir.path()).unwrap().into_keys().collect();
        assert_eq!(names, ["a", "b", "enclave.toml"]);
    }

    #[test]
    fn a_symlink_is_refused_by_name() {
        let dir = dir_with("a", b"1");
        std::os::unix::fs::symlink("enclave.toml", dir.path().join("link")).unwrap();
        assert!(refusal(&dir).contains("link: a symlink, expected a regular file"), "{}", refusal(&dir));
    }

    #[test]
    fn a_subfolder_is_refused_by_name() {
        let dir = dir_with("a", b"1");
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        assert!(refusal(&dir).contains("sub: a directory, expected a regular file"));
    }

    #[test]
    fn an_executable_is_refused_by_name() {
        let dir = dir_with("run", b"1");
        let path = dir.path().join("run");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(refusal(&dir).contains("run: executable (mode 0755)"));
    }

    #[test]
    fn the_program_of_a_service_must_be_there_be_executable_and_run_alone() {
        let dir = dir_with("other", b"1");
        let main = "[[services]]\nname = \"hello\"\nprogram = \"hello\"\n";
        std::fs::write(dir.path().join(MAIN_NAME), main).unwrap();
        assert!(refusal(&dir).contains("hello: no such file"), "{}", refusal(&dir));
        let path = dir.path().join("hello");
        std::fs::write(&path, service::sample_program(false)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(refusal(&dir).contains("hello: not executable (mode 0644), and a service in enclave.toml runs it"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let files = read(dir.path()).unwrap();
        assert!(files["hello"].is_program && !files["other"].is_program);
        std::fs::write(&path, service::sample_program(true)).unwrap();
        assert!(refusal(&dir).contains("hello: the program asks for a dynamic loader"), "{}", refusal(&dir));
    }

    #[test]
    fn a_configuration_that_is_not_toml_is_refused() {
        let dir = dir_with("a", b"1");
        std::fs::write(dir.path().join(MAIN_NAME), "[[services\n").unwrap();
        assert!(refusal(&dir).contains("enclave.toml: TOML parse error"), "{}", refusal(&dir));
    }

    #[test]
    fn a_private_key_is_refused_by_name() {
        let dir = dir_with("peer", format!("-----BEGIN PRIVATE {}-----\n", "KEY").as_bytes());
        let text = refusal(&dir);
        assert!(text.contains("peer: it holds a private key"), "{text}");
    }

    #[test]
    fn a_hidden_or_odd_name_is_refused() {
        assert!(refusal(&dir_with(".hidden", b"1")).contains("\".hidden\""));
        assert!(refusal(&dir_with("a b", b"1")).contains("\"a b\""));
    }

    #[test]
    fn an_empty_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(refusal(&dir).contains("/config/enclave.toml"));
    }
}
