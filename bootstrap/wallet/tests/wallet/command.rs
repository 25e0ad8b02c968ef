//! The programs as people and Lambda call them.

use std::path::Path;
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use crate::cloud::{ACCESS_KEY_ID, Cloud, SECRET_ACCESS_KEY};
use crate::enclave::{Enclave, measurements_json};
use crate::program::PATIENCE;

/// A folder with the files that the program reads, and what it wrote.
pub(crate) struct Host {
    dir: tempfile::TempDir,
}

/// What the program said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) is_success: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Host {
    pub(crate) fn new() -> Self {
        let host = Self { dir: tempfile::tempdir().unwrap() };
        host.write("right.json", &measurements_json());
        host
    }

    /// With the enclave's root as `root.pem`.
    pub(crate) fn of(enclave: &Enclave) -> Self {
        let host = Self::new();
        host.write("root.pem", &enclave.root.root_pem());
        host
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// In the folder, with credentials.
    pub(crate) async fn wallet(&self, arguments: &[&str]) -> Said {
        self.wallet_with(
            arguments,
            "",
            &[("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)],
        )
        .await
    }

    /// With no other environment.
    pub(crate) async fn wallet_with(&self, arguments: &[&str], input: &str, variables: &[(&str, &str)]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wallet"));
        command.args(arguments).current_dir(self.path()).env_clear().envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        // A program that reads nothing may be gone already.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()).await);
        let Output { status, stdout, stderr } = child.wait_with_output().await.unwrap();
        let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        Said { is_success: status.success(), out, err }
    }
}

/// A program that runs, its folder, and what it writes.
pub(crate) struct Program {
    pub(crate) host: Host,
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Program {
    /// The wallet in the folder, with no environment.
    pub(crate) fn start(host: Host, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wallet"));
        command.args(arguments).current_dir(host.path()).env_clear().stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { host, child, lines }
    }

    /// The next line with this in it.
    pub(crate) async fn says(&mut self, expected: &str) -> String {
        let saying = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("it has ended");
                if line.contains(expected) {
                    break line;
                }
            }
        };
        timeout(PATIENCE, saying).await.unwrap_or_else(|_elapsed| panic!("no line with {expected:?}"))
    }

    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([format!("-{name}"), id]).status().await.unwrap().success());
    }
}

impl Said {
    pub(crate) fn json(&self) -> serde_json::Value {
        assert!(self.is_success, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }

    /// The error, of a program that printed nothing else.
    pub(crate) fn error(&self) -> &str {
        assert!(!self.is_success && self.out.is_empty(), "{self:?}");
        self.err.trim_end()
    }
}

/// Flags that lead to a cloud's Secrets Manager.
pub(crate) fn secrets_flags(cloud: &Cloud) -> [String; 4] {
    let ca_path = cloud.ca_path().display().to_string();
    ["--secrets-endpoint".to_owned(), cloud.endpoint(), "--aws-ca".to_owned(), ca_path]
}

/// Flags that lead to a cloud's KMS, too.
pub(crate) fn aws_flags(cloud: &Cloud) -> Vec<String> {
    [secrets_flags(cloud).as_slice(), &["--kms-endpoint".to_owned(), cloud.endpoint()]].concat()
}

/// Flags that lead to an enclave and believe in it.
pub(crate) fn enclave_flags(enclave: &Enclave) -> [String; 6] {
    ["--url", &enclave.url_text(), "--measurements", "right.json", "--root", "root.pem"].map(str::to_owned)
}

/// Words and flags as a command line.
pub(crate) fn line<'a>(words: &[&'a str], flags: &'a [String]) -> Vec<&'a str> {
    words.iter().copied().chain(flags.iter().map(String::as_str)).collect()
}
