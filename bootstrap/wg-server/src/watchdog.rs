//! `wg-server watch`: looks at an enclave, and restarts its unit if it hangs. What is decided is in [`judge`].

mod judge;
mod ready;
pub(crate) mod record;
mod unit;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::runtime;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Watchdog};
use crate::status::{self, Vitals};
use crate::{service_manager, signals};
use judge::{Excuse, Look, Signs, Step};
pub(crate) use judge::{Fault, Judge, Ready};
use record::Record;
use unit::Unit;

/// Besides the interval and the signer's time: for wg-server's answer and systemd's.
const SLACK: Duration = Duration::from_secs(20);

/// Which enclave, and what to call when restarts do not mend it.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Configuration file of the running wg-server, with the table [watchdog].
    #[arg(long, default_value = "/etc/wg-server/parent.toml")]
    config: PathBuf,
    /// systemd's unit that runs the enclave.
    #[arg(long, default_value = "enclave.service")]
    unit: String,
    /// CID of the enclave.
    #[arg(long)]
    cid: u32,
    /// systemd's unit to start when restarts do not help. It reports the instance as unhealthy.
    #[arg(long, default_value = "instance-unhealthy.service")]
    give_up_unit: String,
    /// Folder for what the watchdog knows, which `wg-server status` shows.
    #[arg(long, default_value = record::DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
}

/// Watches until SIGTERM or SIGINT.
pub(crate) fn run(options: &Options) -> Result<()> {
    let config = Config::load(&options.config)?;
    ensure!(
        config.remote.is_none(),
        "{}: a gateway with [remote] has no enclaves on its host that could be restarted; expected a wg-server without it",
        options.config.display()
    );
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(signals::run_until_signal(|stop| watch(options, config, stop)))
}

async fn watch(options: &Options, config: Config, stop: CancellationToken) -> Result<()> {
    let settings = config.watchdog;
    let unit = Unit(options.unit.clone());
    let mut judge = Record::load(&options.state_dir, options.cid).map(|record| record.judge).unwrap_or_default();
    tracing::info!(unit = options.unit, cid = options.cid, "watching");
    let mut said = String::new();
    service_manager::ready();
    loop {
        let look = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            look = look(&unit, &config, options.cid) => look,
        };
        let now = record::now();
        let step = judge.judge(look, &settings, now);
        log_change(&judge, &mut said);
        let next = now + settings.interval + settings.ready_within + SLACK;
        let record = Record { cid: options.cid, unit: options.unit.clone(), looked: now, next, judge: judge.clone() };
        // Before it is done, so that a watchdog that is killed meanwhile does not do it twice.
        if let Err(error) = record.save(&options.state_dir) {
            tracing::warn!("{error:#}");
        }
        act(step, &unit, options, &judge).await;
        service_manager::alive();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleep(settings.interval) => {}
        }
    }
}

async fn act(step: Step, unit: &Unit, options: &Options, judge: &Judge) {
    match step {
        Step::Nothing => {}
        Step::Restart(fault) => {
            tracing::warn!(number = judge.restarts.len(), "restarting {}: {fault}", unit.0);
            if let Err(error) = unit.restart().await {
                tracing::error!("{error:#}");
            }
        }
        Step::GiveUp(fault) => {
            tracing::error!(
                "giving up on {}: {fault}, after {} restarts, and {} ends of its own: starting {}; see `journalctl -u {}`, and \
                 restart {} when the cause is gone",
                unit.0,
                judge.restarts.len(),
                judge.ends(),
                options.give_up_unit,
                unit.0,
                unit.0
            );
            if let Err(error) = Unit(options.give_up_unit.clone()).start().await {
                tracing::error!("{error:#}");
            }
        }
    }
}

async fn look(unit: &Unit, config: &Config, cid: u32) -> Look {
    let running = match unit.state().await {
        Ok(Ok(running)) => running,
        Ok(Err(excuse)) => return Look::Excused(excuse),
        Err(error) => return Look::Excused(Excuse::Unknown(format!("{error:#}"))),
    };
    let vitals = match vitals(&config.runtime_dir, cid).await {
        Ok(vitals) => vitals,
        Err(error) => return Look::Excused(Excuse::Unknown(format!("{error:#}"))),
    };
    if let Some(excuse) = excuse(&vitals) {
        return Look::Excused(excuse);
    }
    let ready = match signer(&vitals, &config.watchdog) {
        Some(signer) => ready::ask(signer, config.watchdog.ready_within).await,
        None => Ready::NotAsked,
    };
    Look::Signs(Signs {
        life: running.life,
        ends: running.ends,
        has_control: vitals.has_control,
        has_data: vitals.has_data,
        is_peer: vitals.is_peer,
        handshake: vitals.latest_handshake,
        ready,
    })
}

async fn vitals(runtime_dir: &Path, cid: u32) -> Result<Vitals> {
    let path = status::socket_path(runtime_dir);
    spawn_blocking(move || status::vitals(&path, cid)).await.context("ask wg-server")?
}

fn excuse(vitals: &Vitals) -> Option<Excuse> {
    let host = vitals.tunnel_problems.first().cloned().map(Excuse::Host);
    host.or_else(|| vitals.refused.clone().map(Excuse::Refused))
}

/// Where to ask for `/ready`: only through a tunnel that works, and over a path that this host does not block.
fn signer(vitals: &Vitals, settings: &Watchdog) -> Option<SocketAddr> {
    let is_reachable = vitals.has_control && vitals.has_data && vitals.is_peer && vitals.path_problems.is_empty();
    let address = vitals.signer.filter(|_| is_reachable)?;
    Some(SocketAddr::new(address, settings.ready_port))
}

/// Each change once.
fn log_change(judge: &Judge, said: &mut String) {
    let state = match (&judge.gave_up, &judge.excuse, judge.suspicion()) {
        (Some(_), ..) => return,
        (None, Some(excuse), _) => excuse.to_string(),
        (None, None, Some((fault, _))) => match &judge.ready {
            Some(Ready::Silent(why)) => format!("suspected: {fault}: {why}"),
            _ => format!("suspected: {fault}"),
        },
        (None, None, None) => "no fault".to_owned(),
    };
    if *said != state {
        tracing::info!("{state}");
        *said = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vitals() -> Vitals {
        Vitals {
            has_control: true,
            has_data: true,
            is_peer: true,
            latest_handshake: Some(1),
            signer: Some("203.0.113.2".parse().unwrap()),
            refused: None,
            tunnel_problems: Vec::new(),
            path_problems: Vec::new(),
        }
    }

    #[test]
    fn the_signer_is_asked_only_through_a_tunnel_that_works() {
        let settings = Config::parse(include_str!("../tests/parent.toml")).unwrap().watchdog;
        assert_eq!(signer(&vitals(), &settings), Some("203.0.113.2:443".parse().unwrap()));
        for without in [
            Vitals { has_control: false, ..vitals() },
            Vitals { has_data: false, ..vitals() },
            Vitals { is_peer: false, ..vitals() },
            Vitals { signer: None, ..vitals() },
            Vitals { path_problems: vec!["a chain drops packets of wg0".to_owned()], ..vitals() },
        ] {
            assert_eq!(signer(&without, &settings), None, "{without:?}");
        }
    }

    #[test]
    fn a_problem_of_the_host_and_a_refusal_excuse_the_enclave_and_a_blocked_path_does_not() {
        assert_eq!(excuse(&vitals()), None);
        assert_eq!(excuse(&Vitals { path_problems: vec!["x".to_owned()], ..vitals() }), None);
        let host = Vitals { tunnel_problems: vec!["wg0 is missing".to_owned()], ..vitals() };
        assert_eq!(excuse(&host), Some(Excuse::Host("wg0 is missing".to_owned())));
        let refused = Vitals { refused: Some("PCR0".to_owned()), ..vitals() };
        assert_eq!(excuse(&refused), Some(Excuse::Refused("PCR0".to_owned())));
    }
}
