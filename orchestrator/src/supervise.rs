//! PID 1 after the boot: starts its child processes, reaps and restarts them, and watches wg0.

mod child;
mod child_link;
mod policy;
mod reaper;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use egress::{Refusal, Refusals};
use futures_util::FutureExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use service::Service;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, sleep_until, timeout_at};
use tunnel::control::ToEnclave;
use tunnel::internal::{FromSigner, ToSigner};

use crate::boot::{Booted, Clock};
use crate::budget::Budget;
use crate::console;
use crate::key_exchange::KeyExchange;
use crate::link;
use crate::network::Network;
use crate::role::Role;
use crate::services::{self, Output, OutputLine};
use crate::watch::{News, Watch};
use child::Child;
use child_link::ChildLink;
use policy::{RestartPolicy, Verdict};
use reaper::Ended;

/// How long processes have to exit after SIGTERM, or after they have closed their link.
const GRACE: Duration = Duration::from_secs(2);

/// The relay's messages are limited, because it forwards the parent's, which may flood.
const MESSAGES_PER_SECOND: u32 = 20;

/// The services' lines are limited, because PID 1 writes them to the console, which is slow.
const LINES_PER_SECOND: u32 = 50;

/// Refused packets are gathered for this long: a process may send many.
const REFUSALS_INTERVAL: Duration = Duration::from_secs(1);

/// The different refused packets that are logged at a time.
const MAX_REFUSALS: usize = 5;

/// For the signer to make its TLS key and enter its sandbox, which takes milliseconds.
const SIGNER_DEADLINE: Duration = Duration::from_secs(10);

/// PID 1's child processes and the state that they share.
pub(crate) struct Supervisor {
    network: Network,
    key_exchange: KeyExchange,
    clock: Clock,
    services: &'static [Service],
    has_signer: bool,
    /// The relay's end of the log, which outlives each relay.
    log: Option<OwnedFd>,
    watch: Watch,
    relay: Option<ChildLink>,
    signer: Option<ChildLink>,
    /// The signer's deadline, until it is ready. PID 1 does not serve the relay before, so that every document binds the
    /// signer's TLS key.
    signer_due: Option<Instant>,
    running: HashMap<Pid, Child>,
    policies: HashMap<Child, RestartPolicy>,
    /// Children that have ended, with the time of their restart.
    due: Vec<(Instant, Child)>,
    messages: Budget,
    outputs: Vec<Output>,
    lines: Budget,
    next_refusals: Instant,
}

impl Supervisor {
    pub(crate) fn new(booted: Booted, network: Network) -> Self {
        let Booted { config, clock, nsm, cid, log } = booted;
        Self {
            network,
            services: config.services,
            has_signer: config.signing.is_some(),
            key_exchange: KeyExchange::new(config, nsm, cid),
            clock,
            log,
            watch: Watch::default(),
            relay: None,
            signer: None,
            signer_due: None,
            running: HashMap::new(),
            policies: HashMap::new(),
            due: Vec::new(),
            messages: Budget::new(MESSAGES_PER_SECOND),
            outputs: Vec::new(),
            lines: Budget::new(LINES_PER_SECOND),
            next_refusals: Instant::now(),
        }
    }

    /// Runs until SIGTERM or SIGINT, then ends every process within one grace period and removes wg0.
    ///
    /// # Errors
    /// A process that ended too often, or that could not be started. The caller must then reboot the machine.
    pub(crate) async fn run(mut self) -> Result<&'static str> {
        // Before the first process, so that no SIGCHLD is missed.
        let mut children = signal(SignalKind::child()).context("watch SIGCHLD")?;
        let mut terminate = signal(SignalKind::terminate()).context("watch SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("watch SIGINT")?;
        if self.has_signer {
            self.start_signer()?;
        }
        self.start(Child::Role(Role::Relay))?;
        let mut correct_clock = interval(Clock::INTERVAL);
        let mut next_look = Instant::now();
        let reason = loop {
            let next_start = self.due.iter().map(|(at, _)| *at).min();
            tokio::select! {
                // In this order, so that a flood cannot delay an exit.
                biased;
                _ = children.recv() => self.reap()?,
                _ = terminate.recv() => break "SIGTERM",
                _ = interrupt.recv() => break "SIGINT (ctrl-alt-del)",
                () = at(next_start) => self.start_due()?,
                () = at(self.next_overdue()) => self.kill_overdue(),
                () = at(Some(next_look)) => {
                    self.look()?;
                    next_look = Instant::now() + self.watch.interval();
                }
                _ = correct_clock.tick() => self.clock.correct(),
                ready = signer_ready(self.signer.as_ref(), self.signer_due) => self.handle_signer(ready),
                message = relay_message(self.relay.as_ref(), self.signer_due, self.messages.open_at()) => {
                    self.serve(message).await?;
                }
                line = next_line(&mut self.outputs, self.lines.open_at()) => self.print(&line),
                refused = next_refusals(&mut self.network.refusals, self.next_refusals) => self.log_refusals(refused),
            }
        };
        tracing::info!("supervise: {reason}: ending all processes");
        self.end_all(&mut children).await;
        // The lines that they wrote meanwhile.
        while let Some(line) = next_line(&mut self.outputs, self.lines.open_at()).now_or_never() {
            self.print(&line);
        }
        if let Err(error) = self.network.device.delete() {
            tracing::warn!("supervise: remove wg0: {error}");
        }
        Ok(reason)
    }

    fn start(&mut self, child: Child) -> Result<()> {
        match child {
            Child::Role(Role::Relay) => self.start_relay(),
            Child::Role(Role::Signer) => self.start_signer(),
            Child::Role(Role::Resolver) => {
                let sockets = self.network.resolver_sockets.iter().flat_map(|(udp, tcp)| [udp.as_fd(), tcp.as_fd()]);
                let pid = Role::Resolver.start(None, &sockets.collect::<Vec<_>>())?;
                self.add(child, pid);
                Ok(())
            }
            Child::Role(Role::Probe) => {
                let pid = Role::Probe.start(None, &[])?;
                self.add(child, pid);
                Ok(())
            }
            Child::Service(service) => self.start_service(service),
        }
    }

    fn add(&mut self, child: Child, pid: Pid) {
        self.running.insert(pid, child);
        tracing::info!(pid = pid.as_raw(), user = child.user(), "supervise: started the {child}");
    }

    fn start_relay(&mut self) -> Result<()> {
        let (ours, theirs) = link::pair().context("the link to the relay")?;
        let mut descriptors = vec![theirs.as_fd(), self.network.relay_socket.as_fd()];
        descriptors.extend(self.log.as_ref().map(AsFd::as_fd));
        let pid = Role::Relay.start(Some(self.network.relay_namespace.as_fd()), &descriptors)?;
        self.add(Child::Role(Role::Relay), pid);
        self.relay = Some(ChildLink::new(Role::Relay, pid, ours).context("the link to the relay")?);
        Ok(())
    }

    fn start_service(&mut self, service: &'static Service) -> Result<()> {
        let (pid, pipe) = services::start(service)?;
        self.add(Child::Service(service), pid);
        self.outputs.push(Output::new(service, pipe).with_context(|| format!("the output of the service {service}"))?);
        Ok(())
    }

    fn start_signer(&mut self) -> Result<()> {
        let (ours, theirs) = link::pair().context("the link to the signer")?;
        let pid = Role::Signer.start(None, &[self.key_exchange.nsm().device(), theirs.as_fd()])?;
        self.add(Child::Role(Role::Signer), pid);
        self.signer = Some(ChildLink::new(Role::Signer, pid, ours).context("the link to the signer")?);
        self.signer_due = Some(Instant::now() + SIGNER_DEADLINE);
        Ok(())
    }

    /// Marks the signer as ready: it has sent its TLS key.
    fn handle_signer(&mut self, ready: std::io::Result<Option<FromSigner>>) {
        let Some(FromSigner { tls_key }) = ChildLink::received(&mut self.signer, ready, GRACE) else { return };
        tracing::info!("supervise: the signer is ready");
        self.signer_due = None;
        self.key_exchange.set_tls_key(tls_key);
        if self.watch.had_handshake() {
            self.let_the_signer_serve();
        }
    }

    /// Not before the first handshake: no client can reach the signer, and its RSA key would delay the tunnel.
    fn let_the_signer_serve(&self) {
        if let Some(signer) = &self.signer {
            signer.send(&ToSigner::Serve);
        }
    }

    fn start_due(&mut self) -> Result<()> {
        let now = Instant::now();
        let (ready, later) = self.due.drain(..).partition(|(at, _)| *at <= now);
        self.due = later;
        let ready: Vec<(Instant, Child)> = ready;
        for (_, child) in ready {
            self.start(child)?;
        }
        Ok(())
    }

    /// Reaps children and orphans, and schedules the children's restarts.
    fn reap(&mut self) -> Result<()> {
        for Ended { pid, how } in reaper::ended() {
            let Some(child) = self.running.remove(&pid) else {
                tracing::info!(pid = pid.as_raw(), "supervise: reaped an orphan: {how}");
                continue;
            };
            for link in [&mut self.relay, &mut self.signer] {
                ChildLink::forget(link, pid);
            }
            if !child.starts_again(&how) {
                tracing::info!(pid = pid.as_raw(), "supervise: the {child} {how}; not restarting it");
                continue;
            }
            match self.policies.entry(child).or_default().ended(Instant::now()) {
                Verdict::RestartAfter(wait) => {
                    tracing::error!(pid = pid.as_raw(), ?wait, "supervise: the {child} {how}; restarting it");
                    self.due.push((Instant::now() + wait, child));
                }
                Verdict::GiveUp { ends, within } => {
                    bail!("supervise: the {child} {how}; it ended {ends} times within {within:?}")
                }
            }
        }
        Ok(())
    }

    fn look(&mut self) -> Result<()> {
        let interface = self.network.device.snapshot().context("watch")?;
        let now = SystemTime::now();
        let news = self.watch.look(&interface, now);
        if news != News::Nothing {
            console::print(&format!("\n{}\n", interface.show(now)));
        }
        if news == News::FirstHandshake {
            let seconds = console::since_boot().as_secs_f64();
            tracing::info!("tunnel: first handshake {seconds:.2} s after power-on");
            if self.signer_due.is_none() {
                self.let_the_signer_serve();
            }
            self.start(Child::Role(Role::Resolver))?;
            self.start(Child::Role(Role::Probe))?;
            self.services.iter().try_for_each(|service| self.start(Child::Service(service)))?;
        }
        Ok(())
    }

    async fn serve(&mut self, message: std::io::Result<Option<ToEnclave>>) -> Result<()> {
        self.messages.spend(Instant::now());
        match ChildLink::received(&mut self.relay, message, GRACE) {
            Some(ToEnclave::Offer(offer)) => {
                let answer = self.key_exchange.answer(offer).await;
                if let Some(relay) = &self.relay {
                    relay.send(&answer);
                }
            }
            Some(ToEnclave::Accepted(ciphertext)) => {
                let Network { netlink, device, .. } = &self.network;
                self.key_exchange.accept(&ciphertext, netlink, device).await.context("tunnel")?;
            }
            // The relay has logged why.
            Some(ToEnclave::Refused(_)) => self.key_exchange.refuse(),
            None => {}
        }
        Ok(())
    }

    /// Prints a service's line on the console.
    fn print(&mut self, OutputLine { service, line }: &OutputLine) {
        self.lines.spend(Instant::now());
        tracing::info!("{service}: {line}");
    }

    /// Logs what the rules refused, with each process's number of refused packets since boot.
    fn log_refusals(&mut self, refused: std::io::Result<HashMap<Refusal, u32>>) {
        self.next_refusals = Instant::now() + REFUSALS_INTERVAL;
        let refused = match refused {
            Ok(refused) => refused,
            Err(error) => return tracing::error!("egress: read refused packets: {error}"),
        };
        let totals: HashMap<String, u64> = match self.network.firewall.refused() {
            Ok(totals) => totals.into_iter().collect(),
            Err(error) => return tracing::error!("egress: {:#}", anyhow::Error::from(error)),
        };
        let kinds = refused.len();
        for (refusal, packets) in refused.into_iter().take(MAX_REFUSALS) {
            let total = totals.get(&refusal.process).copied().unwrap_or_default();
            tracing::warn!(packets, total, "egress: refused {refusal} from {}", refusal.process);
        }
        if kinds > MAX_REFUSALS {
            tracing::warn!("egress: refused packets to {} other destinations", kinds - MAX_REFUSALS);
        }
    }

    /// The earliest deadline of the children that have closed their links.
    fn next_overdue(&self) -> Option<Instant> {
        [&self.relay, &self.signer].into_iter().flatten().filter_map(ChildLink::exit_deadline).min()
    }

    fn kill_overdue(&mut self) {
        let now = Instant::now();
        for link in [&mut self.relay, &mut self.signer] {
            ChildLink::kill_overdue(link, now);
        }
    }

    /// All but the relay, which carries the last lines and ends with the machine.
    async fn end_all(&mut self, children: &mut tokio::signal::unix::Signal) {
        self.running.retain(|_, child| *child != Child::Role(Role::Relay));
        self.signal_all(Signal::SIGTERM);
        let deadline = tokio::time::Instant::now() + GRACE;
        while !self.running.is_empty() {
            for Ended { pid, .. } in reaper::ended() {
                self.running.remove(&pid);
            }
            tokio::select! {
                _ = children.recv(), if !self.running.is_empty() => {}
                () = sleep_until(deadline) => {
                    tracing::warn!("supervise: {} processes outlived the grace period", self.running.len());
                    self.signal_all(Signal::SIGKILL);
                    break;
                }
            }
        }
    }

    fn signal_all(&self, signal: Signal) {
        for (pid, child) in &self.running {
            // ESRCH: it has ended meanwhile.
            if let Err(error) = kill(*pid, signal) {
                tracing::debug!("supervise: {signal} to the {child}: {error}");
            }
        }
    }
}

/// Waits until `time`; without it, for ever.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// The signer's first message, which it has to send by `due`. Waits for ever if it has sent it, or without a signer.
async fn signer_ready(signer: Option<&ChildLink>, due: Option<Instant>) -> std::io::Result<Option<FromSigner>> {
    let (Some(signer), Some(due)) = (signer, due) else { return std::future::pending().await };
    timeout_at(due.into(), signer.receive()).await.unwrap_or_else(|elapsed| Err(elapsed.into()))
}

/// The relay's next message, not before `open`, and not before the signer is ready.
async fn relay_message(
    relay: Option<&ChildLink>,
    signer_due: Option<Instant>,
    open: Option<Instant>,
) -> std::io::Result<Option<ToEnclave>> {
    let (Some(relay), None) = (relay, signer_due) else { return std::future::pending().await };
    if open.is_some() {
        at(open).await;
    }
    relay.receive().await
}

/// The next refused packets, not before `open`.
async fn next_refusals(refusals: &mut Refusals, open: Instant) -> std::io::Result<HashMap<Refusal, u32>> {
    sleep_until(open.into()).await;
    refusals.next().await
}

/// The next line of a service, not before `open`.
async fn next_line(outputs: &mut Vec<Output>, open: Option<Instant>) -> OutputLine {
    if open.is_some() {
        at(open).await;
    }
    services::next_line(outputs).await
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::time::timeout;

    use super::*;
    use crate::link::Link;
    use child_link::tests::idle_child;

    const MOMENT: Duration = Duration::from_millis(100);
    const PATIENCE: Duration = Duration::from_secs(20);

    fn refused() -> ToEnclave {
        ToEnclave::Refused("no lease".to_owned())
    }

    #[tokio::test]
    async fn the_relay_is_not_heard_while_the_signer_is_due() {
        let (_child, link, theirs) = idle_child();
        Link::new(theirs).unwrap().send(&refused()).await.unwrap();
        let due = Some(Instant::now() + PATIENCE);
        let message = timeout(MOMENT, relay_message(Some(&link), due, None)).await;
        assert!(message.is_err(), "a document without the signer's key");
        let heard = timeout(PATIENCE, relay_message(Some(&link), None, None)).await.unwrap();
        assert_eq!(heard.unwrap(), Some(refused()));
    }

    #[tokio::test]
    async fn a_relay_that_floods_is_not_heard_before_its_time() {
        let (_child, link, theirs) = idle_child();
        Link::new(theirs).unwrap().send(&refused()).await.unwrap();
        let open = Instant::now() + 3 * MOMENT;
        let heard = timeout(PATIENCE, relay_message(Some(&link), None, Some(open))).await.unwrap();
        assert_eq!(heard.unwrap(), Some(refused()));
        assert!(Instant::now() >= open);
    }

    #[tokio::test]
    async fn a_signer_that_is_not_ready_in_time_is_an_error() {
        let (_child, link, _theirs) = idle_child();
        let ready = timeout(PATIENCE, signer_ready(Some(&link), Some(Instant::now() + MOMENT))).await;
        assert_eq!(ready.expect("it waits past the deadline").unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_signer_that_is_ready_is_not_waited_for() {
        let (_child, link, theirs) = idle_child();
        Link::new(theirs).unwrap().send(&FromSigner { tls_key: [7; 32] }).await.unwrap();
        assert!(timeout(MOMENT, signer_ready(Some(&link), None)).await.is_err());
        let due = Some(Instant::now() + PATIENCE);
        assert_eq!(signer_ready(Some(&link), due).await.unwrap(), Some(FromSigner { tls_key: [7; 32] }));
    }
}
