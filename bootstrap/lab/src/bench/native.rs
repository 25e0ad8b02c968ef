//! The benchmarks of the relay, the signer, its proxy and the egress rules, which run on the host without VMs.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

use super::results::{Egress, Native, Proxy, Relay, Signer};
use crate::progress::{Phase, Progress};
use crate::project::Project;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub(super) repetitions: u32,
    /// Per sample.
    pub(super) seconds: u32,
}

/// Builds and runs them all, one after the other.
///
/// # Errors
/// cargo is missing, a build or a run fails, or its output has another form.
pub(super) fn measure(project: &Project, effort: Effort, progress: &Progress) -> Result<Native> {
    let seconds = effort.seconds.to_string();
    let relay: Vec<Relay> = progress.phase("the relay on the host, without VMs", |phase| {
        parse(&run(project, "relay", effort, &["--seconds", &seconds], phase)?)
    })?;
    ensure!(!relay.is_empty(), "the relay's benchmark measured nothing");
    let signer: Signer = progress.phase("the signer on the host, without VMs", |phase| {
        parse(&run(project, "sign", effort, &["--seconds", &seconds], phase)?)
    })?;
    let proxy: Proxy = progress
        .phase("wallet proxy on the host, without VMs", |phase| parse(&run(project, "proxy", effort, &[], phase)?))?;
    let egress = progress.phase("the egress rules on the host, without VMs", |phase| egress(project, phase))?;
    Ok(Native { relay, signer, proxy, egress })
}

/// That of the parent's egress rules is among wg-server's tests.
fn egress(project: &Project, phase: &Phase) -> Result<Egress> {
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

fn run(project: &Project, bench: &str, effort: Effort, options: &[&str], phase: &Phase) -> Result<String> {
    phase.note(&format!("cargo bench --bench {bench}"));
    let output = Command::new("cargo")
        .args(["bench", "--locked", "--quiet", "--workspace", "--bench", bench, "--", "--json"])
        .args(["--repetitions", &effort.repetitions.to_string()])
        .args(options)
        .current_dir(project.root())
        .stdin(Stdio::null())
        .output()
        .context("run cargo")?;
    ensure!(
        output.status.success(),
        "the benchmark {bench}: {}; the end of its output:\n{}",
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
    fn the_lines_of_the_signer_and_its_proxy_are_understood() {
        let line = r#"{"repetitions":5,"connections":16,"threads":2,"requests_per_second":3000,"rpc_requests_per_second":3000,
            "bare_signatures_per_second":20000,"checked_signatures_per_second":4000,"ratio_to_bare":0.150,"ratio_to_checked":0.750,
            "own_us":110.0,"rpc_us":105.0,"alone_us":130.0,"inside_us":100.0}"#;
        let signer: Signer = parse(line).unwrap();
        assert_eq!((signer.connections, signer.ratio_to_checked), (16, 0.75));
        assert!(parse::<Signer>("{}").is_err());
        let line = r#"{"repetitions":5,"requests":20000,"connections":8,"direct_us":100.0,"proxied_us":120.0,"proxy_us":15.0,"added":0.200}"#;
        assert_eq!(parse::<Proxy>(line).unwrap().added, 0.2);
    }
}
