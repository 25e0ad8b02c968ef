//! `lab status`.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use parent_vm::{ENCLAVE_CIDS, EnclaveId};
use serde::Serialize;

use super::Lab;
use crate::evidence;
use crate::plan::Plan;
use crate::process::{PARENT, Process, SWITCH};

/// The state of a lab.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The lab's folder.
    pub dir: std::path::PathBuf,
    /// Whether there is a lab in it.
    pub exists: bool,
    /// The host's port that is forwarded to the parent's sshd.
    pub ssh_port: Option<u16>,
    /// The switch, the parent, and the enclaves.
    pub pieces: Vec<Piece>,
    /// `wg show wg0` on the parent; absent if there is no wg0.
    pub wg_show: Option<String>,
}

/// One process of the lab.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Piece {
    /// `switch`, `parent`, `enclave-16`.
    pub name: String,
    /// Its process id while it is running.
    pub pid: Option<i32>,
    /// Seconds since its start; absent if it has ended.
    pub age_seconds: Option<u64>,
    /// For enclaves: seconds from the start of the kernel to the first handshake; absent before it.
    pub first_handshake_seconds: Option<f64>,
}

impl Lab {
    /// The running processes, their age, and the state of the tunnels.
    ///
    /// # Errors
    /// A state file that cannot be read.
    pub fn status(&self) -> Result<Status> {
        let exists = self.layout.exists();
        let mut status = Status { dir: self.dir().into(), exists, ssh_port: None, pieces: Vec::new(), wg_show: None };
        if !exists {
            return Ok(status);
        }
        for name in [SWITCH, PARENT] {
            status.pieces.extend(self.process(name)?.map(|process| piece(&process, None)));
        }
        for id in EnclaveId::first(ENCLAVE_CIDS.count()) {
            if let Some(process) = self.process(&id.name())? {
                let handshake = evidence::first_handshake(&self.enclave(id).console().text()?);
                status.pieces.push(piece(&process, handshake));
            }
        }
        if let Ok(plan) = Plan::load(&self.layout) {
            status.ssh_port = Some(plan.ssh_port);
        }
        if self.process(PARENT)?.is_some_and(|process| process.is_running()) {
            status.wg_show = self.parent().and_then(|parent| parent.wg_show()).ok();
        }
        Ok(status)
    }
}

impl Status {
    /// True if there is a lab and all its processes are running.
    pub fn is_healthy(&self) -> bool {
        self.exists && !self.pieces.is_empty() && self.pieces.iter().all(|piece| piece.pid.is_some())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.exists {
            return writeln!(f, "no lab in {}", self.dir.display());
        }
        writeln!(f, "lab in {}", self.dir.display())?;
        for piece in &self.pieces {
            write!(f, "  {:<12}", piece.name)?;
            match (piece.pid, piece.age_seconds) {
                (Some(pid), Some(age)) => write!(f, "running for {age} s (pid {pid})")?,
                _ => write!(f, "HAS ENDED: see {}/log", self.dir.display())?,
            }
            if let Some(seconds) = piece.first_handshake_seconds {
                write!(f, ", first handshake {seconds:.2} s after its kernel started")?;
            } else if piece.name.starts_with("enclave-") {
                write!(f, ", no handshake yet")?;
            }
            writeln!(f)?;
        }
        match &self.wg_show {
            Some(text) => write!(f, "\n{text}"),
            None => writeln!(f, "\nthe parent has no wg0"),
        }
    }
}

fn piece(process: &Process, handshake: Option<Duration>) -> Piece {
    let age = process.age();
    Piece {
        name: process.name.clone(),
        pid: age.map(|_| process.pid),
        age_seconds: age.map(|age| age.as_secs()),
        first_handshake_seconds: handshake.map(|time| time.as_secs_f64()),
    }
}
