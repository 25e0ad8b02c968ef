//! What PID 1 does for the rest of its life: starts processes, reaps them, starts them again, and watches wg0.

mod policy;
mod reaper;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, sleep_until, timeout};

use crate::boot::{Booted, Clock};
use crate::console;
use crate::gateway::Gateway;
use crate::link::{self, FromSigner, Link, State, ToInit, ToSigner};
use crate::network::Network;
use crate::role::Role;
use crate::watch::{News, Watch};
use policy::{RestartPolicy, Verdict};
use reaper::Ended;

/// How long processes have to end when the machine goes down.
const GRACE: Duration = Duration::from_secs(2);

/// The signer makes its TLS key and enters its sandbox, which takes milliseconds.
const SIGNER_DEADLINE: Duration = Duration::from_secs(10);

/// Messages from the relay that are served in a second: it speaks for the parent, who may flood.
const MESSAGES_PER_SECOND: u32 = 20;

/// PID 1's processes and what they work on.
pub(crate) struct Supervisor {
    network: Network,
    gateway: Gateway,
    clock: Clock,
    has_self_test: bool,
    has_signer: bool,
    watch: Watch,
    link: Option<Link>,
    signer: Option<Link>,
    running: HashMap<Pid, Role>,
    policies: HashMap<Role, RestartPolicy>,
    /// Ended, and to be started again at that time.
    due: Vec<(Instant, Role)>,
    budget: Budget,
}

impl Supervisor {
    pub(crate) fn new(booted: Booted, network: Network) -> Self {
        let Booted { config, clock, nsm, cid } = booted;
        Self {
            network,
            has_self_test: config.self_test.is_some(),
            has_signer: config.signing.is_some(),
            gateway: Gateway::new(config, nsm, cid),
            clock,
            watch: Watch::default(),
            link: None,
            signer: None,
            running: HashMap::new(),
            policies: HashMap::new(),
            due: Vec::new(),
            budget: Budget::default(),
        }
    }

    /// Runs until a signal asks for the end; then ends every process within one grace period, and wg0.
    ///
    /// # Errors
    /// A process that ended too often, or one that could not be started: the machine has to go down.
    pub(crate) async fn run(mut self) -> Result<&'static str> {
        // Before the first process, so that no end is missed.
        let mut children = signal(SignalKind::child()).context("watch SIGCHLD")?;
        let mut terminate = signal(SignalKind::terminate()).context("watch SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("watch SIGINT")?;
        if self.has_signer {
            self.start_signer()?;
        }
        self.start(Role::Relay).await?;
        if self.has_signer {
            // Before the relay's first message is served, so that no document goes out that does not bind its TLS key.
            self.signer_is_ready().await?;
        }
        let mut correct_clock = interval(Clock::INTERVAL);
        let mut next_look = Instant::now();
        let reason = loop {
            let next_start = self.due.iter().map(|(at, _)| *at).min();
            tokio::select! {
                // In this order: ends first, floods last.
                biased;
                _ = children.recv() => self.reap()?,
                _ = terminate.recv() => break "SIGTERM",
                _ = interrupt.recv() => break "SIGINT (ctrl-alt-del)",
                () = at(next_start) => self.start_due().await?,
                () = at(Some(next_look)) => {
                    self.look().await?;
                    next_look = Instant::now() + self.watch.interval();
                }
                _ = correct_clock.tick() => self.clock.correct(),
                message = next(self.link.as_ref(), self.budget.open_at()) => self.serve(message).await?,
            }
        };
        tracing::info!("supervise: {reason}: ending all processes");
        self.end_all(&mut children).await;
        if let Err(error) = self.network.device.delete() {
            tracing::warn!("supervise: remove wg0: {error}");
        }
        Ok(reason)
    }

    async fn start(&mut self, role: Role) -> Result<()> {
        match role {
            Role::Relay => {
                let (ours, theirs) = link::pair().context("the link to the relay")?;
                let descriptors = [theirs.as_fd(), self.network.relay_socket.as_fd()];
                self.enlist(role, role.start(Some(self.network.relay_namespace.as_fd()), &descriptors)?);
                self.link = Some(Link::new(ours).context("the link to the relay")?);
            }
            Role::Signer => {
                self.start_signer()?;
                self.signer_is_ready().await?;
            }
            Role::Probe | Role::SelfTest => self.enlist(role, role.start(None, &[])?),
        }
        Ok(())
    }

    fn enlist(&mut self, role: Role, pid: Pid) {
        self.running.insert(pid, role);
        tracing::info!(pid = pid.as_raw(), user = role.user(), "supervise: started the {role}");
    }

    fn start_signer(&mut self) -> Result<()> {
        let (ours, theirs) = link::pair().context("the link to the signer")?;
        let pid = Role::Signer.start(None, &[self.gateway.nsm().device(), theirs.as_fd()])?;
        self.enlist(Role::Signer, pid);
        self.signer = Some(Link::new(ours).context("the link to the signer")?);
        Ok(())
    }

    /// Waits until the signer has said which TLS key it has: then nothing is left that could keep it from serving.
    async fn signer_is_ready(&mut self) -> Result<()> {
        let Some(link) = &self.signer else { return Ok(()) };
        let said = timeout(SIGNER_DEADLINE, link.receive::<FromSigner>());
        let said = said.await.context("the signer: wait until it is ready")?.context("the signer: hear from it")?;
        let FromSigner { tls_key } = said.context("the signer: it ended before it was ready")?;
        tracing::info!("supervise: the signer is ready");
        self.gateway.vouch_for(tls_key);
        if self.watch.had_handshake() {
            self.let_the_signer_serve().await;
        }
        Ok(())
    }

    /// Nobody could reach it before, and the work that it does first would only keep the tunnel from coming up.
    async fn let_the_signer_serve(&self) {
        let Some(link) = &self.signer else { return };
        // It has ended: its end is the reaper's.
        if let Err(error) = link.send(&ToSigner::Serve).await {
            tracing::warn!("supervise: tell the signer to serve: {error}");
        }
    }

    async fn start_due(&mut self) -> Result<()> {
        let now = Instant::now();
        let (ready, later) = self.due.drain(..).partition(|(at, _)| *at <= now);
        self.due = later;
        let ready: Vec<(Instant, Role)> = ready;
        for (_, role) in ready {
            self.start(role).await?;
        }
        Ok(())
    }

    /// The machine's only reaper: also of orphans, which end up here.
    fn reap(&mut self) -> Result<()> {
        for Ended { pid, how } in reaper::ended() {
            let Some(role) = self.running.remove(&pid) else {
                tracing::info!(pid = pid.as_raw(), "supervise: reaped an orphan: {how}");
                continue;
            };
            match self.policies.entry(role).or_default().ended(Instant::now()) {
                Verdict::RestartAfter(wait) => {
                    tracing::error!(pid = pid.as_raw(), ?wait, "supervise: the {role} {how}; starting it again");
                    self.due.push((Instant::now() + wait, role));
                }
                Verdict::GiveUp { ends, within } => {
                    bail!("supervise: the {role} {how}, its end number {ends} within {within:?}")
                }
            }
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<()> {
        let interface = self.network.device.snapshot().context("watch")?;
        let now = SystemTime::now();
        let news = self.watch.look(&interface, now);
        if news != News::Nothing {
            console::print(&format!("\n{}\n", interface.show(now)));
        }
        if news == News::FirstHandshake {
            let seconds = console::since_boot().as_secs_f64();
            tracing::info!("tunnel: first handshake {seconds:.2} s after power-on");
            self.let_the_signer_serve().await;
            self.start(Role::Probe).await?;
            if self.has_self_test {
                self.start(Role::SelfTest).await?;
            }
        }
        Ok(())
    }

    async fn serve(&mut self, message: std::io::Result<Option<ToInit>>) -> Result<()> {
        self.budget.spend(Instant::now());
        let Some(link) = &self.link else { return Ok(()) };
        match message {
            Ok(Some(ToInit::Offer(offer))) => {
                let reply = self.gateway.offered(offer).await;
                if let Err(error) = link.send(&reply).await {
                    tracing::warn!("supervise: answer the relay: {error}");
                }
            }
            Ok(Some(ToInit::Accepted(ciphertext))) => {
                let Network { links, device, .. } = &self.network;
                self.gateway.accepted(&ciphertext, links, device).await.context("tunnel")?;
            }
            Ok(Some(ToInit::Refused)) => self.gateway.refused(),
            Ok(Some(ToInit::Stream(stream, state))) => {
                tracing::debug!(?stream, up = (state == State::Up), "tunnel: a stream of the relay");
            }
            // The relay is ending: its end is the reaper's.
            Ok(None) => self.link = None,
            Err(error) => {
                tracing::error!("supervise: the relay's message: {error}; ending the relay");
                self.link = None;
                self.signal_all(Signal::SIGKILL, |role| role == Role::Relay);
            }
        }
        Ok(())
    }

    async fn end_all(&mut self, children: &mut tokio::signal::unix::Signal) {
        self.signal_all(Signal::SIGTERM, |_| true);
        let deadline = tokio::time::Instant::now() + GRACE;
        while !self.running.is_empty() {
            for Ended { pid, .. } in reaper::ended() {
                self.running.remove(&pid);
            }
            tokio::select! {
                _ = children.recv(), if !self.running.is_empty() => {}
                () = sleep_until(deadline) => {
                    tracing::warn!("supervise: {} processes outlived the grace period", self.running.len());
                    self.signal_all(Signal::SIGKILL, |_| true);
                    break;
                }
            }
        }
    }

    fn signal_all(&self, signal: Signal, is_meant: impl Fn(Role) -> bool) {
        for (pid, role) in self.running.iter().filter(|(_, role)| is_meant(**role)) {
            // ESRCH: it has ended meanwhile.
            if let Err(error) = kill(*pid, signal) {
                tracing::debug!("supervise: {signal} to the {role}: {error}");
            }
        }
    }
}

/// At a time, or never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// The relay's next message, not before `open`.
async fn next(link: Option<&Link>, open: Option<Instant>) -> std::io::Result<Option<ToInit>> {
    let Some(link) = link else { return std::future::pending().await };
    if open.is_some() {
        at(open).await;
    }
    link.receive().await
}

/// How many messages may still be served in this second.
#[derive(Debug, Default)]
struct Budget {
    second: Option<Instant>,
    spent: u32,
}

impl Budget {
    fn spend(&mut self, now: Instant) {
        match self.second {
            Some(start) if now.saturating_duration_since(start) < Duration::from_secs(1) => self.spent += 1,
            _ => (self.second, self.spent) = (Some(now), 1),
        }
    }

    /// When the next may be served; none: at once.
    fn open_at(&self) -> Option<Instant> {
        self.second.filter(|_| self.spent >= MESSAGES_PER_SECOND).map(|start| start + Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_waits_for_the_next_second() {
        let mut budget = Budget::default();
        let start = Instant::now();
        for _ in 0..MESSAGES_PER_SECOND {
            assert_eq!(budget.open_at(), None);
            budget.spend(start);
        }
        assert_eq!(budget.open_at(), Some(start + Duration::from_secs(1)));
        budget.spend(start + Duration::from_secs(1));
        assert_eq!(budget.open_at(), None);
    }
}
