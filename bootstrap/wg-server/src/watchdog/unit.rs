//! The enclave's unit, through systemctl(1), always with a deadline.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio::time::timeout;

use super::judge::Excuse;

/// systemd answers within milliseconds; a host without CPU for it is no reason to wait for ever.
const DEADLINE: Duration = Duration::from_secs(10);
const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,Job,InvocationID,NRestarts";

/// A unit by its name.
#[derive(Clone, Debug)]
pub(super) struct Unit(pub(super) String);

/// A running unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) life: String,
    pub(super) ends: u32,
}

impl Unit {
    /// Whether it runs, or why it is not to be judged.
    pub(super) async fn state(&self) -> Result<Result<Running, Excuse>> {
        let shown = systemctl(&["show", PROPERTIES, &self.0]).await?;
        state_in(&shown).with_context(|| format!("systemctl show {}", self.0))
    }

    /// Restarts it if it still runs. Never starts a unit that was stopped, and takes the place of no other job.
    pub(super) async fn restart(&self) -> Result<()> {
        systemctl(&["try-restart", "--no-block", "--job-mode=fail", &self.0]).await.map(drop)
    }

    /// Starts it, and waits for nothing.
    pub(super) async fn start(&self) -> Result<()> {
        systemctl(&["start", "--no-block", &self.0]).await.map(drop)
    }
}

async fn systemctl(arguments: &[&str]) -> Result<String> {
    let doing = || format!("systemctl {}", arguments.join(" "));
    let mut command = Command::new("systemctl");
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let ended = timeout(DEADLINE, command.output()).await;
    let output = ended.with_context(|| format!("{}: no answer within {DEADLINE:?}", doing()))?.with_context(doing)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", doing(), said.lines().next().unwrap_or("no reason given"));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn state_in(shown: &str) -> Result<Result<Running, Excuse>> {
    let properties: BTreeMap<&str, &str> = shown.lines().filter_map(|line| line.split_once('=')).collect();
    let property = |name: &str| properties.get(name).copied().with_context(|| format!("no {name} in {shown:?}"));
    let (active, sub) = (property("ActiveState")?, property("SubState")?);
    ensure!(
        property("LoadState")? != "not-found",
        "there is no such unit; expected the enclave's, like enclave.service"
    );
    let ends: u32 = property("NRestarts")?.parse().context("NRestarts")?;
    // Without a job systemd prints 0, or nothing.
    let has_job = properties.get("Job").is_some_and(|job| !matches!(*job, "" | "0"));
    Ok(match (active, sub, has_job) {
        ("active", "running", false) => Ok(Running { life: property("InvocationID")?.to_owned(), ends }),
        ("activating", "auto-restart", _) => Err(Excuse::Restarting(ends)),
        ("activating", ..) if ends > 0 => Err(Excuse::Restarting(ends)),
        (_, _, true) => Err(Excuse::Stopped(format!("{active}, and systemd has a job for it"))),
        (_, _, false) => Err(Excuse::Stopped(active.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(active: &str, sub: &str, job: &str, ends: u32) -> String {
        format!(
            "Job={job}\nNRestarts={ends}\nLoadState=loaded\nActiveState={active}\nSubState={sub}\nInvocationID=ab12\n"
        )
    }

    #[test]
    fn only_a_unit_that_runs_and_that_nobody_stops_is_judged() {
        let state = |active, sub, job, ends| state_in(&shown(active, sub, job, ends)).unwrap();
        let running = Running { life: "ab12".to_owned(), ends: 3 };
        assert_eq!(state("active", "running", "0", 3), Ok(running.clone()));
        assert_eq!(state("active", "running", "", 3), Ok(running));
        let stopped = |text: &str| Err(Excuse::Stopped(text.to_owned()));
        assert_eq!(state("active", "running", "71", 0), stopped("active, and systemd has a job for it"));
        assert_eq!(
            state("deactivating", "stop-sigterm", "71", 0),
            stopped("deactivating, and systemd has a job for it")
        );
        assert_eq!(state("inactive", "dead", "0", 0), stopped("inactive"));
        assert_eq!(state("failed", "failed", "", 0), stopped("failed"));
        assert_eq!(state("activating", "start", "71", 0), stopped("activating, and systemd has a job for it"));
        assert_eq!(state("activating", "auto-restart", "0", 0), Err(Excuse::Restarting(0)));
        assert_eq!(state("activating", "start", "71", 2), Err(Excuse::Restarting(2)));
    }

    #[test]
    fn a_unit_that_does_not_exist_and_an_answer_without_a_state_are_errors() {
        let missing = shown("inactive", "dead", "0", 0).replace("=loaded", "=not-found");
        let error = state_in(&missing).unwrap_err().to_string();
        assert_eq!(error, "there is no such unit; expected the enclave's, like enclave.service");
        assert!(state_in("").unwrap_err().to_string().starts_with("no ActiveState"));
    }
}
