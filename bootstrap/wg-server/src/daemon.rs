//! `wg-server run`. The layers, from the outside in: this host, the firewall, wg0, the services. Each layer is one function: it
//! sets its layer up, runs the next one inside it, and takes its own down when that has ended.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::stat::{Mode, umask};
use tokio::runtime;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use wireguard::device::PrivateKey;

use crate::config::{Attestation, Config, InterfaceName, ListId};
use crate::controller::Controller;
use crate::drain::Drain;
use crate::entry_port::{self, EntryPort, TunnelPorts};
use crate::firewall::{self, Firewall};
use crate::gateway::Gateway;
use crate::health::Health;
use crate::interface::{self, Found, Interface};
use crate::key;
use crate::listener::Listener;
use crate::lock::Lock;
use crate::refused::Refused;
use crate::service_manager::{self, Loop, Pulse};
use crate::watchdog::record;
use crate::{capabilities, check, dns, signals, status};

/// For taking down one layer.
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
    let result = runtime.block_on(signals::run_until_signal(|stop| host(&config, stop)));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// This host: no other wg-server runs on it, and it has what the configuration names.
async fn host(config: &Config, stop: CancellationToken) -> Result<()> {
    // Nothing outside of its own folders is touched before it is certain that no other wg-server runs.
    make_dir(&config.runtime_dir)?;
    let _lock = Lock::take(&config.runtime_dir)?;
    let key = key::load(&config.wireguard.private_key_path).context("wireguard.private_key_path")?;
    let prepared = Prepared::new(config, &key).await?;
    let result = firewall(prepared, stop).await;
    tracing::info!("stopped");
    result
}

/// The firewall: it is there before wg0 and until after it.
async fn firewall(prepared: Prepared<'_>, stop: CancellationToken) -> Result<()> {
    let plan = firewall::Plan::new(prepared.config, prepared.uplink.clone(), prepared.tunnel_ports);
    let is_listed = |list: &ListId, name: &str| prepared.forwarder.lists(list, name);
    let nft_path = &prepared.config.nat.nft_path;
    let entrance = plan.entrance(nft_path)?;
    let drain = Drain::restore(prepared.config, entrance.clone()).await?;
    let mut firewall = Firewall::apply_behind(entrance, nft_path, &plan, is_listed).await?;
    let result = network(prepared, &mut firewall, &drain, stop).await;
    take_down("remove the firewall", firewall.remove(), result).await
}

/// wg0 and the forwarding to and from it, both in the controller's care.
async fn network(
    prepared: Prepared<'_>,
    firewall: &mut Firewall,
    drain: &Drain,
    stop: CancellationToken,
) -> Result<()> {
    let Prepared { config, key, ref uplink, tunnel_ports, ref interface, .. } = prepared;
    let (interface, health) = (interface.clone(), Health::default());
    let handles = Handles { gate: firewall.gate(), sets: firewall.sets(), drops: firewall.drops(), drain };
    let controller = Controller::new(config, uplink, tunnel_ports, interface.clone(), key, firewall, &health)?;
    let result = match controller.start().await {
        Ok(()) => services(prepared, controller, handles, &health, stop).await,
        Err(error) => Err(error),
    };
    take_down("delete the interface", interface.delete(), result).await
}

/// What the services need of the firewall, which belongs to the controller.
struct Handles<'a> {
    gate: firewall::Gate,
    sets: firewall::Sets,
    drops: firewall::Drops,
    drain: &'a Drain,
}

/// named, the enclaves' streams and the status socket, while the controller runs.
async fn services(
    prepared: Prepared<'_>,
    mut controller: Controller<'_>,
    handles: Handles<'_>,
    health: &Health,
    stop: CancellationToken,
) -> Result<()> {
    let Handles { gate, sets, drops, drain } = handles;
    let Prepared {
        config,
        uplink,
        tunnel_ports,
        entry_port,
        interface,
        found,
        listener,
        attestation,
        named,
        forwarder,
        ..
    } = prepared;
    let _entry_port = entry_port.map_or_else(|| EntryPort::hold_everywhere(tunnel_ports.entry), Ok)?;
    let public_key = controller.public_key();
    tracing::info!(interface = %interface.name(), %public_key, adopted = found == Found::Ours, "interface up");
    let wireguard = SocketAddr::from((Ipv4Addr::LOCALHOST, tunnel_ports.entry));
    let gateway = Gateway::new(config, attestation, interface, public_key, wireguard, sets.clone())?;
    if found == Found::Ours {
        gateway.adopt_peers().await?;
    }
    let named = dns::Named::new(config, named, gate, health);
    let status = status::Server::bind(&config.runtime_dir)?;
    let (pulse, refused) = (Pulse::default(), Refused::new(&config.egress, sets.members(), drops.is_logged()));
    tracing::info!(%uplink, trust_root = %gateway.attestation().root, "serving");
    let watched = status::Watched {
        gateway: &gateway,
        named: &named,
        health,
        drops: &drops,
        sets: &sets,
        refused: &refused,
        egress: &config.egress,
        forwards: &config.nat.forwards,
        drain,
        watchdog_dir: config.remote.is_none().then_some(Path::new(record::DEFAULT_STATE_DIR)),
    };
    tokio::select! {
        // All of them end when told to.
        _ = async {
            tokio::join!(
                named.run(stop.clone()),
                forwarder.run(sets.clone(), stop.clone()),
                listener.serve(gateway.clone(), stop.clone()),
                controller.run(&gateway, &pulse, &stop)
            )
        } => {}
        never = status.serve(&watched) => match never {},
        never = expire(&gateway, &pulse) => match never {},
        never = refused.watch(health) => match never {},
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

/// Takes a layer down after what ran inside it has ended. The error of the inside goes first.
async fn take_down(what: &'static str, undo: impl Future<Output = Result<()>>, inside: Result<()>) -> Result<()> {
    let undone = timeout(GRACE, undo).await.context(what).and_then(|undone| undone);
    inside.and(undone)
}

/// What the layers need of this host: read, checked and reserved before anything on it is changed.
struct Prepared<'a> {
    config: &'a Config,
    key: &'a PrivateKey,
    uplink: InterfaceName,
    tunnel_ports: TunnelPorts,
    /// `None`: parents elsewhere send to the configured port, which is bound when WireGuard has left it.
    entry_port: Option<EntryPort>,
    interface: Interface,
    found: Found,
    listener: Listener,
    attestation: Attestation,
    named: dns::Prepared,
    forwarder: dns::Forwarder,
}

impl<'a> Prepared<'a> {
    async fn new(config: &'a Config, key: &'a PrivateKey) -> Result<Self> {
        let listener = Listener::bind(config.remote.as_ref()).await?;
        let attestation = config.attestation.load()?;
        check::executables(config).await?;
        make_dir(&config.enclaves.state_dir)?;
        dns::ensure_port_is_free(config).await?;
        let (named, forwarder) = dns::prepare(config, &config.runtime_dir.join("named")).await?;
        let uplink = uplink(config).await.context("nat.uplink")?;
        let (tunnel_ports, entry_port) = tunnel_ports(config)?;
        let (interface, found) = Interface::find(&config.wireguard, key).await?;
        Ok(Self {
            config,
            key,
            uplink,
            tunnel_ports,
            entry_port,
            interface,
            found,
            listener,
            attestation,
            named,
            forwarder,
        })
    }
}

async fn uplink(config: &Config) -> Result<InterfaceName> {
    let Some(uplink) = &config.nat.uplink else { return interface::default_route_interface().await };
    check::ensure_exists(uplink)?;
    Ok(uplink.clone())
}

/// Parents elsewhere send to the configured port, so it is the entry port. Relays on this host can be told any other.
fn tunnel_ports(config: &Config) -> Result<(TunnelPorts, Option<EntryPort>)> {
    let listen_port = config.wireguard.listen_port;
    if config.remote.is_some() {
        return Ok((TunnelPorts { entry: listen_port, wireguard: entry_port::other_port(listen_port)? }, None));
    }
    let entry_port = EntryPort::hold()?;
    Ok((TunnelPorts { entry: entry_port.port(), wireguard: listen_port }, Some(entry_port)))
}

fn make_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))
}
