//! Supervises named: starts it, probes it, restarts it with a growing pause, and stops it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tunnel::backoff::Backoff;

use super::child::Child;
use super::probe::{self, Found, Transport};
use super::starter::Life;
use super::statistics::{self, Counts};
use super::{Prepared, command, holder, resolution};
use crate::connections;
use crate::firewall::Gate;
use crate::health::{Health, Kind};

/// From start to the first answer.
const STARTS_WITHIN: Duration = Duration::from_secs(15);
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_DEADLINE: Duration = Duration::from_secs(1);
/// One lost probe means load, three mean that named hangs. This is noticed within 5 s.
const PROBES_LOST: u32 = 3;
/// Between a lost probe and the next.
const PROBE_AGAIN: Duration = Duration::from_millis(200);
/// A failed lookup is repeated after this time.
const RESOLVE_EVERY: Duration = Duration::from_mins(1);

/// What named is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Started, has not answered yet.
    Starting,
    /// Answers.
    Running,
    /// Ended or hung; the next start is due.
    Restarting,
    /// Ended with wg-server.
    Stopped,
}

/// How named is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// What the operator should fix.
    pub(crate) problem: Option<String>,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.phase {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Restarting => "restarting",
            Phase::Stopped => "stopped",
        })?;
        self.problem.iter().try_for_each(|problem| write!(f, "; {problem}"))
    }
}

/// The supervisor.
#[derive(Debug)]
pub(crate) struct Named<'a> {
    named_path: PathBuf,
    prepared: Prepared,
    servers: Vec<IpAddr>,
    gate: Gate,
    is_validating: bool,
    state: watch::Sender<State>,
    /// The present problem ends with the next answer from named.
    is_transient: AtomicBool,
    health: &'a Health,
}

/// Why one named ended.
enum End {
    Exited(ExitStatus),
    Silent,
    Unverified(IpAddr, Transport),
    Told,
}

impl<'a> Named<'a> {
    /// Supervises a named at the gateway's addresses. Each start after the first is a repair.
    pub(crate) fn new(config: &crate::config::Config, prepared: Prepared, gate: Gate, health: &'a Health) -> Self {
        Self {
            named_path: config.dns.named_path.clone(),
            prepared,
            servers: config.wireguard.gateways().collect(),
            gate,
            is_validating: config.dns.dnssec,
            state: watch::Sender::new(State { phase: Phase::Starting, problem: None }),
            is_transient: AtomicBool::new(false),
            health,
        }
    }

    /// The present state. By value, because a `watch::Ref` that is held across an await blocks the sender.
    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// What named has counted since its last start. `None`: it does not say.
    pub(crate) async fn counts(&self) -> Option<Counts> {
        let counts = statistics::read(self.prepared.statistics).await;
        counts.inspect_err(|error| tracing::debug!("{error:#}")).ok()
    }

    /// Waits until named answers.
    pub(crate) async fn wait_running(&self) {
        // An error would mean that the sender is gone, but `self` has it.
        drop(self.state.subscribe().wait_for(|state| state.phase == Phase::Running).await);
    }

    #[cfg(test)]
    pub(super) fn states(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Keeps named running until `stop`, and then stops it. Enclaves can ask only while our own named answers.
    ///
    /// Poll it on the main thread only: named gets SIGTERM when the *thread* that started it ends (prctl(2), PR_SET_PDEATHSIG),
    /// which must mean the end of wg-server.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut backoff = Backoff::new();
        let mut former = None;
        while !stop.is_cancelled() {
            let started = Instant::now();
            let ended = self.live(&stop, former.as_deref()).await;
            let problem = match ended {
                Ok(End::Told) => break,
                Ok(End::Exited(status)) => {
                    let said = if self.state().phase == Phase::Starting { self.prepared.last_words() } else { None };
                    format!("named ended, {status}{}", said.map_or_else(String::new, |said| format!(": {said}")))
                }
                Ok(End::Silent) => "named did not answer and was ended".to_owned(),
                Ok(End::Unverified(address, transport)) => format!(
                    "another name server answers in named's place, so enclaves get no answers: {}",
                    holder::taken(address, transport)
                ),
                Err(error) => format!("{error:#}"),
            };
            self.now(Phase::Restarting, Some(problem.clone()));
            former = Some(problem);
            backoff.ended(started.elapsed());
            let pause = backoff.next(rand::random());
            tracing::info!(?pause, "named restarts");
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(pause) => {}
            }
        }
        self.now(Phase::Stopped, None);
        if let Err(error) = self.gate.open().await {
            tracing::warn!("{error:#}");
        }
    }

    /// Logs a problem when it appears or changes.
    fn now(&self, phase: Phase, problem: Option<String>) {
        if let Some(problem) = &problem
            && self.state.borrow().problem.as_ref() != Some(problem)
        {
            tracing::warn!("{problem}");
        }
        self.state.send_replace(State { phase, problem });
    }

    /// `former` is why the previous named ended.
    async fn live(&self, stop: &CancellationToken, former: Option<&str>) -> Result<End> {
        self.gate.close().await?;
        holder::ensure_free(&self.servers).await?;
        // The last problem remains until named answers.
        self.now(Phase::Starting, self.state().problem);
        let mut child = self.spawn().await?;
        tracing::info!(pid = child.id(), user = self.prepared.account.name, "named started");
        let end = tokio::select! {
            status = child.wait() => End::Exited(status?),
            end = self.watch(former) => end?,
            () = stop.cancelled() => End::Told,
        };
        if !matches!(end, End::Told) {
            self.gate.close().await?;
        }
        match end {
            End::Exited(_) => {}
            // A hanging process ignores SIGTERM, and enclaves are waiting.
            End::Silent => child.kill().await?,
            End::Unverified(..) | End::Told => child.terminate().await?,
        }
        Ok(end)
    }

    async fn spawn(&self) -> Result<Child> {
        let Prepared { account, socket_path, files, .. } = &self.prepared;
        if let Some(socket_path) = socket_path {
            return Life::begin(socket_path, account.uid).await.map(Child::Started);
        }
        files.forget_last_words()?;
        let mut command = command(&self.named_path, files);
        account.confine(&mut command);
        let child = command.spawn();
        child
            .map(Child::Own)
            .with_context(|| format!("start {} as the user {}", self.named_path.display(), account.name))
    }

    /// Returns when another server answers, or none.
    async fn watch(&self, former: Option<&str>) -> Result<End> {
        let started = Instant::now();
        loop {
            match self.who_answers().await {
                Found::Ours => break,
                Found::Unverified(address, transport) => return Ok(End::Unverified(address, transport)),
                Found::Missing => sleep(PROBE_EVERY).await,
                _ if self.is_not_at_fault() => sleep(PROBE_EVERY).await,
                _ if started.elapsed() > STARTS_WITHIN => return Ok(End::Silent),
                Found::Silence | Found::SilentTcp(_) => sleep(Duration::from_millis(100)).await,
            }
        }
        self.gate.open().await?;
        self.now(Phase::Running, None);
        if let Some(former) = former {
            self.health.repaired(Kind::Named, former, "started named again");
        }
        tracing::info!(servers = ?self.servers, after = ?started.elapsed(), "named answers");
        tokio::select! {
            end = self.until_lost() => Ok(end),
            never = self.watch_resolution() => match never {},
        }
    }

    async fn until_lost(&self) -> End {
        let mut lost = 0;
        loop {
            sleep(if lost == 0 { PROBE_EVERY } else { PROBE_AGAIN }).await;
            let asked = Instant::now();
            lost = match self.who_answers().await {
                Found::Ours => {
                    self.recovered();
                    0
                }
                Found::Unverified(address, transport) => return End::Unverified(address, transport),
                // The controller restores the addresses, and reports it.
                Found::Missing => 0,
                Found::SilentTcp(address) => {
                    self.report_transient(format!(
                        "named answers at {address} over UDP but not over TCP, which long answers need: a client occupies its TCP \
                         connections; see `ss -tn sport = :53`"
                    ));
                    0
                }
                // A new named would not answer either.
                Found::Silence if self.is_not_at_fault() => 0,
                Found::Silence => {
                    // Connections are refused at once, and named takes a moment to listen on an address that is back.
                    sleep(PROBE_DEADLINE.saturating_sub(asked.elapsed())).await;
                    lost + 1
                }
            };
            if lost == PROBES_LOST {
                return End::Silent;
            }
        }
    }

    /// Whether questions are lost before they reach named. Reports it.
    fn is_not_at_fault(&self) -> bool {
        let Some(objection) = connections::problem() else { return false };
        self.report_transient(objection);
        true
    }

    fn report_transient(&self, problem: String) {
        self.is_transient.store(true, Ordering::Relaxed);
        self.now(self.state().phase, Some(problem));
    }

    fn recovered(&self) {
        if self.is_transient.swap(false, Ordering::Relaxed) {
            tracing::info!("named answers again");
            self.now(Phase::Running, None);
        }
    }

    async fn who_answers(&self) -> Found {
        probe::who_answers(&self.servers, &self.prepared.secret, PROBE_DEADLINE).await
    }

    /// Looks up one name of the list at the start, and repeats that while it fails.
    async fn watch_resolution(&self) -> std::convert::Infallible {
        if let (Some(server), Some(name)) = (self.servers.first(), &self.prepared.sample) {
            while let Some(fault) = resolution::fault(*server, name, self.is_validating).await {
                self.now(Phase::Running, Some(format!("{name}: {fault}")));
                sleep(RESOLVE_EVERY).await;
            }
            if self.state().problem.is_some() {
                tracing::info!(name, "can be looked up again");
            }
            self.now(Phase::Running, None);
        }
        std::future::pending().await
    }
}
