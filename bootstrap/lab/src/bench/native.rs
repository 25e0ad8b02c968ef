//! The benchmarks of the relay and the signer, which run on the host without VMs.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

use super::results::{Egress, Relay, Signer};
use crate::progress::Phase;
use crate::project::Project;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub(super) repetitions: u32,
    /// Per sample.
    pub(super) seconds: u32,
}

/// Builds and runs the relay's benchmark.
///
/// # Errors
/// cargo is missing, the build or the run fails, or the output has another form.
pub(super) fn relay(project: &Project, effort: Effort, phase: &Phase) -> Result<Vec<Relay>> {
    let relay: Vec<Relay> = parse(&run(project, ["tunnel", "relay"], effort, phase)?)?;
    ensure!(!relay.is_empty(), "the relay's benchmark measured nothing");
    Ok(relay)
}

/// Builds and runs the signer's benchmark.
///
/// # Errors
/// As [`relay`].
pub(super) fn signer(project: &Project, effort: Effort, phase: &Phase) -> Result<Signer> {
    parse(&run(project, ["signer", "sign"], effort, phase)?)
}

/// Builds and runs the benchmark of the parent's egress rules, among wg-server's tests.
///
/// # Errors
/// As [`relay`].
pub(super) fn egress(project: &Project, phase: &Phase) -> Result<Egress> {
    const NAME: &str = "firewall::tests::cost::bench";
    phase.note(&format!("cargo test --bin wg-server {NAME}"));
    let out = tempfile::NamedTempFile::new().context("make a temporary file")?;
    let output = Command::new("cargo")
        .args(["test", "--locked", "--quiet", "--release", "--workspace", "--bin", "wg-server", "--"])
        .args(["--exact", "--ignored", NAME])
        .env("WG_SERVER_COST_OUT", out.path())
        .current_dir(project.root())
        .stdin(Stdio::null())
        .output()
        .context("run cargo")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "the benchmark {NAME}: {}; the end of its output:\n{}",
        output.status,
        crate::process::last_lines(&said, 20)
    );
    parse(&std::fs::read_to_string(out.path()).context("read its results")?)
}

fn run(project: &Project, [package, bench]: [&str; 2], effort: Effort, phase: &Phase) -> Result<String> {
    phase.note(&format!("cargo bench -p {package} --bench {bench}"));
    let [repetitions, seconds] = [effort.repetitions, effort.seconds].map(|number| number.to_string());
    let output = Command::new("cargo")
        .args(["bench", "--locked", "--quiet", "-p", package, "--bench", bench, "--", "--json"])
        .args(["--repetitions", &repetitions, "--seconds", &seconds])
        .current_dir(project.root())
        .stdin(Stdio::null())
        .output()
        .context("run cargo")?;
    ensure!(
        output.status.success(),
        "the benchmark {bench} of {package}: {}; the end of its output:\n{}",
        output.status,
        crate::process::last_lines(&String::from_utf8_lossy(&output.stderr), 20)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text.trim()).with_context(|| format!("read {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_s_line_is_understood() {
        let line = r#"[{"bytes":1452,"repetitions":5,"cpu_seconds_per_gb":1.5,"datagrams_per_second":250000,
            "plain_cpu_seconds_per_gb":3.0,"plain_datagrams_per_second":200000,"cpu_ratio":0.500,"rate_ratio":1.250}]"#;
        let relay: Vec<Relay> = parse(line).unwrap();
        assert_eq!(relay[0].bytes, 1452);
        assert!(parse::<Vec<Relay>>("bytes 1452").is_err());
    }

    #[test]
    fn the_results_of_the_egress_rules_are_understood() {
        let pair = r#"{"sets_ms":1.5,"listed_ms":1.25}"#;
        let text = format!(
            r#"{{"names":199,"first_connection":{pair},"cached_lookup":{pair},"transfer":{pair},"transfer_bytes":268435456}}"#
        );
        assert_eq!(parse::<Egress>(&text).unwrap().transfer.listed_ms, 1.25);
        assert!(parse::<Egress>("").is_err());
    }

    #[test]
    fn the_signer_s_line_is_understood() {
        let line = r#"{"repetitions":5,"connections":16,"threads":2,"requests_per_second":3000,
            "bare_signatures_per_second":20000,"checked_signatures_per_second":4000,"ratio_to_bare":0.150,"ratio_to_checked":0.750}"#;
        let signer: Signer = parse(line).unwrap();
        assert_eq!((signer.connections, signer.ratio_to_checked), (16, 0.75));
        assert!(parse::<Signer>("{}").is_err());
    }
}
