//! Processes that outlive the command that started them. Each is identified by more than its pid.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// The switch's process.
pub(crate) const SWITCH: &str = "switch";
/// The parent's machine.
pub(crate) const PARENT: &str = "parent";
/// The ssh connection that all commands on the parent share.
pub(crate) const SSH: &str = "ssh";

const POLL: Duration = Duration::from_millis(20);

/// A process of a lab, as its file describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// `switch`, `parent`, `enclave-16`.
    pub(crate) name: String,
    /// Process id.
    pub(crate) pid: i32,
    /// Start time in clock ticks since the host's boot: the pid alone may belong to another process by now.
    start_ticks: u64,
    /// The host's boot that the pid and the start time belong to.
    boot_id: String,
    /// Its stdout and stderr.
    pub(crate) log_path: PathBuf,
}

impl Process {
    /// Starts `command` in a new session with its output in `log_path`, and describes it in a file in `dir`.
    ///
    /// # Errors
    /// A program that does not exist, or a file that cannot be written.
    pub(crate) fn start(dir: &Path, name: &str, command: &Command, log_path: &Path) -> Result<Self> {
        let log = File::create(log_path).with_context(|| format!("write {}", log_path.display()))?;
        // setsid(1) executes the program, so the pid stays the same.
        let mut detached = Command::new("setsid");
        detached.arg(command.get_program()).args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => detached.env(variable, value),
                None => detached.env_remove(variable),
            };
        }
        let child = detached
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {} for {name}", command.get_program().display()))?;
        let pid = i32::try_from(child.id())?;
        let process = Self {
            name: name.into(),
            pid,
            start_ticks: start_ticks(pid).context("the process ended immediately")?,
            boot_id: boot_id()?,
            log_path: log_path.into(),
        };
        let path = dir.join(format!("{name}.json"));
        fs::write(&path, serde_json::to_vec(&process)?).with_context(|| format!("write {}", path.display()))?;
        Ok(process)
    }

    /// The process of that name in `dir`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn find(dir: &Path, name: &str) -> Result<Option<Self>> {
        let path = dir.join(format!("{name}.json"));
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// True while exactly this process is running.
    pub(crate) fn is_running(&self) -> bool {
        // Reaps the process if it is our child. Otherwise this is ECHILD.
        match waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG)) {
            Ok(_) | Err(_) => {}
        }
        boot_id().is_ok_and(|id| id == self.boot_id) && start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// How long it has been running; `None` if it has ended.
    pub(crate) fn age(&self) -> Option<Duration> {
        if !self.is_running() {
            return None;
        }
        // proc(5): starttime is in ticks of sysconf(_SC_CLK_TCK), which is 100 on every Linux architecture of today.
        let started = Duration::from_millis(self.start_ticks * 10);
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let uptime = Duration::try_from_secs_f64(uptime.split(' ').next()?.parse().ok()?).ok()?;
        Some(uptime.saturating_sub(started))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.expect_running()?;
        kill(Pid::from_raw(self.pid), signal)
            .with_context(|| format!("send {signal} to {} (pid {})", self.name, self.pid))
    }

    /// Sends SIGTERM, after `grace` SIGKILL, and removes the file of the process.
    ///
    /// # Errors
    /// A process that survives both.
    pub(crate) fn stop(&self, dir: &Path, grace: Duration) -> Result<()> {
        for (signal, patience) in [(Signal::SIGTERM, grace), (Signal::SIGKILL, Duration::from_secs(10))] {
            if !self.is_running() {
                break;
            }
            match kill(Pid::from_raw(self.pid), signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error).with_context(|| format!("stop {} (pid {})", self.name, self.pid)),
            }
            let end = Instant::now() + patience;
            while self.is_running() && Instant::now() < end {
                sleep(POLL);
            }
        }
        if self.is_running() {
            bail!("{} (pid {}) does not stop", self.name, self.pid);
        }
        let path = dir.join(format!("{}.json", self.name));
        match fs::remove_file(&path) {
            // Another command stopped it at the same time.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("remove {}", path.display())),
        }
    }

    /// An error with the last lines of its log if it has ended.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn expect_running(&self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let log = fs::read_to_string(&self.log_path).unwrap_or_else(|error| error.to_string());
        bail!("{} has ended; the last lines of {}:\n{}", self.name, self.log_path.display(), last_lines(&log, 12))
    }
}

/// The last lines of a text, indented.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines.iter().skip(from).map(|line| format!("    {line}\n")).collect::<String>().trim_end().to_owned()
}

fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(path).with_context(|| format!("read {path}"))?.trim().to_owned())
}

/// Start time of a process that is there and not a zombie.
fn start_ticks(pid: i32) -> Option<u64> {
    parse_start_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc(5): `pid (comm) state ppid ... starttime ...`, starttime being the 22nd; comm may have spaces and brackets.
fn parse_start_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    match fields.next()? {
        "Z" | "X" | "x" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 200";
        assert_eq!(parse_start_ticks(stat), Some(98765));
        assert_eq!(parse_start_ticks(&stat.replace(" S ", " Z ")), None);
    }

    #[test]
    fn a_process_is_found_again_and_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("600");
        let process = Process::start(dir.path(), "sleeper", &command, &dir.path().join("log")).unwrap();
        let found = Process::find(dir.path(), "sleeper").unwrap().unwrap();
        assert_eq!(process, found);
        assert!(found.is_running() && found.age().is_some());
        found.stop(dir.path(), Duration::from_secs(5)).unwrap();
        assert!(!process.is_running());
        assert_eq!(Process::find(dir.path(), "sleeper").unwrap(), None);
        process.stop(dir.path(), Duration::ZERO).unwrap();
    }

    #[test]
    fn another_process_with_the_same_pid_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("600");
        let real = Process::start(dir.path(), "sleeper", &command, &dir.path().join("log")).unwrap();
        let stale = Process { start_ticks: real.start_ticks + 1, ..real.clone() };
        assert!(!stale.is_running());
        stale.stop(dir.path(), Duration::ZERO).unwrap();
        assert!(real.is_running());
        fs::write(dir.path().join("sleeper.json"), "").unwrap();
        real.stop(dir.path(), Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn one_that_ended_is_reported_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 0.2; echo out of luck"]);
        let process = Process::start(dir.path(), "x", &command, &dir.path().join("log")).unwrap();
        while process.is_running() {
            sleep(POLL);
        }
        assert!(process.expect_running().unwrap_err().to_string().contains("out of luck"));
    }
}
