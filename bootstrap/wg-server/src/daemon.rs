//! `wg-server run`: up in this order, down in the reverse.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::stat::{Mode, umask};
use tokio::runtime;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::{Attestation, Config, InterfaceName};
use crate::controller::Controller;
use crate::door::{self, Door, Passage};
use crate::firewall::{self, Firewall};
use crate::gateway::Gateway;
use crate::health::Health;
use crate::interface::{self, Found, Interface};
use crate::key::PrivateKey;
use crate::listener::Listener;
use crate::lock::Lock;
use crate::service_manager::{self, Loop, Pulse};
use crate::{capabilities, check, dns, signals, status};

/// For each thing that has to be undone.
const GRACE: Duration = Duration::from_secs(5);
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(config_path: &Path) -> Result<()> {
    let config = Config::load(config_path)?;
    // Before any thread: both belong to threads, and what they make inherits them. What wg-server makes is its owner's only.
    umask(Mode::from_bits_truncate(0o077));
    capabilities::raise(config.dns.named_socket_path.is_none())?;
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    // On this thread, which lives as long as the process: named is bound to it.
    let result = runtime.block_on(until_told(&config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn until_told(config: &Config) -> Result<()> {
    let stop = CancellationToken::new();
    tokio::select! {
        result = host(config, stop.clone()) => result,
        error = signals::watch(&stop) => error.map(|never| match never {}),
    }
}

/// Everything that the layers above the host need.
struct Parts<'a> {
    drops: firewall::Drops,
    gate: firewall::Gate,
    config: &'a Config,
    attestation: Attestation,
    uplink: InterfaceName,
    named: dns::Prepared,
    listener: Listener,
    /// `None`: parents elsewhere send to the configured port, which is the door's when WireGuard has left it.
    door: Option<Door>,
    passage: Passage,
    stop: CancellationToken,
}

/// The lock, the ports, the files and the firewall.
async fn host(config: &Config, stop: CancellationToken) -> Result<()> {
    // Nothing outside of its own folders is touched before it is certain that no other wg-server runs.
    make_dir(&config.runtime_dir)?;
    let _lock = Lock::take(&config.runtime_dir)?;
    let listener = Listener::bind(config.remote.as_ref()).await?;
    let key = PrivateKey::load(&config.wireguard.private_key_path).context("wireguard.private_key_path")?;
    let attestation = config.attestation.load()?;
    check::executables(config).await?;
    make_dir(&config.enclaves.state_dir)?;
    dns::ensure_port_is_free(config).await?;
    let named = dns::prepare(config, &config.runtime_dir.join("named")).await?;
    let uplink = uplink(config).await.context("nat.uplink")?;
    let listen_port = config.wireguard.listen_port;
    let (door, passage) = match config.remote {
        None => {
            let door = Door::hold()?;
            let passage = Passage { door: door.port(), wireguard: listen_port };
            (Some(door), passage)
        }
        Some(_) => (None, Passage { door: listen_port, wireguard: door::other_port(listen_port)? }),
    };
    let plan = firewall::Plan::new(config, uplink.clone(), passage);
    let (interface, found) = Interface::find(&config.wireguard, &key).await?;

    // The firewall is there before wg0 and until after it.
    let mut firewall = Firewall::apply(&config.nat.nft_path, &plan).await?;
    let (drops, gate, health) = (firewall.drops(), firewall.gate(), Health::default());
    let result = match Controller::new(config, &uplink, passage, interface.clone(), key, &mut firewall, &health) {
        Ok(controller) => {
            let parts = Parts { drops, gate, config, attestation, uplink, named, listener, door, passage, stop };
            network(parts, &interface, found, controller, &health).await
        }
        Err(error) => Err(error),
    };
    let removed = timeout(GRACE, firewall.remove()).await.context("remove the firewall").and_then(|removed| removed);
    tracing::info!("stopped");
    result.and(removed)
}

/// wg0.
async fn network(
    parts: Parts<'_>,
    interface: &Interface,
    found: Found,
    controller: Controller<'_>,
    health: &Health,
) -> Result<()> {
    let result = match controller.start().await {
        Ok(()) => services(parts, interface, found, controller, health).await,
        Err(error) => Err(error),
    };
    let deleted = timeout(GRACE, interface.delete()).await.context("delete the interface").and_then(|deleted| deleted);
    result.and(deleted)
}

/// named, the enclaves' streams, the status socket and the controller.
async fn services(
    parts: Parts<'_>,
    interface: &Interface,
    found: Found,
    mut controller: Controller<'_>,
    health: &Health,
) -> Result<()> {
    let Parts { drops, gate, config, attestation, uplink, named, listener, door, passage, stop } = parts;
    let _door = door.map_or_else(|| Door::hold_everywhere(passage.door), Ok)?;
    let public_key = controller.public_key();
    tracing::info!(interface = %interface.name(), %public_key, adopted = found == Found::Ours, "interface up");
    let wireguard = SocketAddr::from((Ipv4Addr::LOCALHOST, passage.door));
    let gateway = Gateway::new(config, attestation, interface.clone(), public_key, wireguard)?;
    if found == Found::Ours {
        gateway.adopt_peers().await?;
    }
    let named = dns::Named::new(config, named, gate, health);
    let status = status::Server::bind(&config.runtime_dir)?;
    let pulse = Pulse::default();
    tracing::info!(%uplink, trust_root = %gateway.attestation().root, "serving");
    let watched =
        status::Watched { gateway: &gateway, named: &named, health, drops: &drops, forwards: &config.nat.forwards };
    tokio::select! {
        // All three end when told to.
        _ = async {
            tokio::join!(
                named.run(stop.clone()),
                listener.serve(gateway.clone(), stop.clone()),
                controller.run(&gateway, &pulse, &stop)
            )
        } => {}
        never = status.serve(&watched) => match never {},
        never = expire(&gateway, &pulse) => match never {},
        never = tell_when_ready(&named) => match never {},
        never = service_manager::watch(|| pulse.all_turned()) => match never {},
    }
    service_manager::stopping();
    std::fs::remove_file(status::socket_path(&config.runtime_dir)).context("remove the status socket")
}

/// Enclaves' streams are served from the start: a name server that is late or missing ends no tunnel.
async fn tell_when_ready(named: &dns::Named<'_>) -> Infallible {
    service_manager::waiting_for("named");
    named.wait_running().await;
    service_manager::ready();
    std::future::pending().await
}

async fn expire(gateway: &Gateway, pulse: &Pulse) -> Infallible {
    let mut ticks = interval(EXPIRE_EVERY);
    loop {
        ticks.tick().await;
        gateway.expire().await;
        pulse.beat(Loop::Expiry);
    }
}

async fn uplink(config: &Config) -> Result<InterfaceName> {
    let Some(uplink) = &config.nat.uplink else { return interface::default_route_interface().await };
    check::ensure_exists(uplink)?;
    Ok(uplink.clone())
}

fn make_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))
}
