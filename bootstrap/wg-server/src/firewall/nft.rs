//! The program `nft`, always with a deadline.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::ruleset::TABLE;

/// A run takes some 10 ms, or seconds on a host with thousands of rules or an overloaded CPU.
const DEADLINE: Duration = Duration::from_secs(10);

/// The path of `nft`.
#[derive(Clone, Debug)]
pub(super) struct Nft {
    path: PathBuf,
}

impl Nft {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Performs a transaction in nft's JSON, completely or not at all.
    pub(super) async fn apply(&self, transaction: &str) -> Result<()> {
        let output = self.run(&["-j", "-f", "-"], transaction).await?;
        self.succeeded(&output)
    }

    /// Has the kernel check a transaction, and changes nothing.
    pub(super) async fn check(&self, transaction: &str) -> Result<()> {
        let output = self.run(&["-c", "-j", "-f", "-"], transaction).await?;
        self.succeeded(&output)
    }

    /// One of our tables as the kernel has it. `None` if it does not exist.
    pub(super) async fn table(&self, name: &str) -> Result<Option<Value>> {
        let output = self.run(&["-j", "list", "table", "inet", name], "").await?;
        if !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("No such file or directory") {
            return Ok(None);
        }
        self.listing(&output).map(Some)
    }

    /// One of our counters.
    pub(super) async fn counter(&self, name: &str) -> Result<Value> {
        let output = self.run(&["-j", "list", "counter", "inet", TABLE, name], "").await?;
        self.listing(&output)
    }

    /// All tables, including those of others.
    pub(super) async fn ruleset(&self) -> Result<Value> {
        let output = self.run(&["-j", "list", "ruleset"], "").await?;
        self.listing(&output)
    }

    fn listing(&self, output: &Output) -> Result<Value> {
        self.succeeded(output)?;
        serde_json::from_slice(&output.stdout).with_context(|| format!("{}: read its JSON", self.path.display()))
    }

    fn succeeded(&self, output: &Output) -> Result<()> {
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", self.path.display(), said.lines().next().unwrap_or("no reason given"))
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let doing = || format!("run {}", self.path.display());
        let mut command = Command::new(&self.path);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(doing)?;
        let stdin = child.stdin.take();
        let run = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read its input says why on stderr.
                drop(stdin.write_all(input.as_bytes()).await);
            }
            child.wait_with_output().await
        };
        let ended = timeout(DEADLINE, run).await;
        ended
            .with_context(|| format!("{}: still running after {DEADLINE:?}, killed", self.path.display()))?
            .with_context(doing)
    }
}

/// A table's listing without handles, which the kernel assigns, and without counts and elements, which change.
pub(super) fn normalised(mut table: Value) -> Value {
    strip(&mut table);
    table
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("handle");
            fields.remove("metainfo");
            if let Some(Value::Object(counter)) = fields.get_mut("counter") {
                counter.remove("packets");
                counter.remove("bytes");
            }
            // The set of an expression is an array.
            if let Some(Value::Object(set)) = fields.get_mut("set") {
                set.remove("elem");
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_listings_of_one_table_are_the_same_whatever_was_counted_meanwhile() {
        let listing = |handle: u32, packets: u32, verdict: &str| {
            normalised(serde_json::json!({"nftables": [{"metainfo": {"version": "1"}}, {"rule": {"handle": handle,
                "expr": [{"counter": {"packets": packets, "bytes": packets}}, {verdict: null}]}}]}))
        };
        assert_eq!(listing(1, 0, "drop"), listing(7, 9, "drop"));
        assert_ne!(listing(1, 0, "drop"), listing(1, 0, "accept"));
    }

    #[tokio::test]
    async fn a_program_that_fails_is_quoted_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nft");
        crate::namespace::sh(&format!(
            "printf '#!/bin/sh\\necho one >&2; echo two >&2; exit 1\\n' > {0}; chmod +x {0}",
            path.display()
        ));
        let error = format!("{:#}", Nft::new(path.clone()).apply("{}").await.unwrap_err());
        assert_eq!(error, format!("{}: one", path.display()));
    }
}
