//! The relay's own benchmark, on the host itself.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::results::Relay;
use crate::progress::Phase;
use crate::project::Project;

/// Builds it if need be, and runs it.
///
/// # Errors
/// No cargo, a build or a run that goes wrong, or other output than this version understands.
pub(super) fn measure(project: &Project, repetitions: u32, seconds: u32, phase: &Phase) -> Result<Vec<Relay>> {
    phase.note("cargo bench -p tunnel --bench relay");
    let [repetitions, seconds] = [repetitions, seconds].map(|number| number.to_string());
    let output = Command::new("cargo")
        .args(["bench", "--locked", "--quiet", "-p", "tunnel", "--bench", "relay", "--", "--json"])
        .args(["--repetitions", &repetitions, "--seconds", &seconds])
        .current_dir(project.root())
        .stdin(Stdio::null())
        .output()
        .context("run cargo")?;
    ensure!(
        output.status.success(),
        "the relay's benchmark ended with {}; it said last:\n{}",
        output.status,
        crate::process::last_lines(&String::from_utf8_lossy(&output.stderr), 20)
    );
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> Result<Vec<Relay>> {
    let relay: Vec<Relay> = serde_json::from_str(text.trim()).with_context(|| format!("read {text:?}"))?;
    ensure!(!relay.is_empty(), "the relay's benchmark measured nothing");
    Ok(relay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_benchmark_s_line_is_understood() {
        let line = r#"[{"bytes":1452,"repetitions":5,"cpu_seconds_per_gb":1.5,"datagrams_per_second":250000,
            "plain_cpu_seconds_per_gb":3.0,"plain_datagrams_per_second":200000,"cpu_ratio":0.500,"rate_ratio":1.250}]"#;
        let relay = parse(line).unwrap();
        assert_eq!(relay[0].bytes, 1452);
        assert!(parse("[]").is_err());
        assert!(parse("bytes 1452").is_err());
    }
}
