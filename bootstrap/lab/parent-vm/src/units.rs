//! The parent's systemd units: the lab's internet, ssh, blind mode, and those that ship.
//!
//! The gateway and the relay of blind mode are copies of `wg-server.service` with a drop-in.

use crate::internet::OFF_LIST_SERVER;
use crate::paths::{GATEWAY_CONFIG_PATH, INTERNET_DIR, LAB, RELAY_CONFIG_PATH, RUN_DIR, WG_SERVER};
use crate::{allocator, aws, chain, nitro};

/// The parent's wg-server.
pub const WG_SERVER_SERVICE: &str = "wg-server";
/// The parent's relay in blind mode.
pub const RELAY_SERVICE: &str = "wg-relay";
/// The watchdog of the first enclave.
pub const WATCHDOG_SERVICE: &str = "wg-watchdog";
/// The gateway of blind mode, in the lab's internet.
pub const GATEWAY_SERVICE: &str = "wg-gateway";

/// Creates the namespaces and files that the other units need.
const SET_UP: &str = "lab-internet.service";

/// A service.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its name, without `.service`.
    pub name: String,
    /// The unit file.
    pub text: String,
    /// A drop-in, with what differs from the unit file.
    pub changes: Option<String>,
    /// Whether it starts at boot.
    pub is_enabled: bool,
}

/// The unit files that ship.
#[derive(Debug)]
pub struct Shipped {
    /// `wg-server.service`.
    pub wg_server: String,
    /// `wg-named.service`.
    pub wg_named: String,
    /// `enclave.service`.
    pub enclave: String,
    /// `wg-logs.service`.
    pub wg_logs: String,
    /// `wg-metrics.service`.
    pub wg_metrics: String,
    /// `wg-watchdog.service`.
    pub wg_watchdog: String,
    /// `instance-unhealthy.service`.
    pub instance_unhealthy: String,
}

/// All units. Without those that ship, the parent is an instance at its first boot.
pub fn all(shipped: Option<&Shipped>) -> Vec<Unit> {
    let https = |name, address: &str| {
        let files = format!("-cert {INTERNET_DIR}/https.crt -key {INTERNET_DIR}/https.key");
        in_internet(name, &format!("/usr/bin/openssl s_server -quiet -www -accept {address} {files}"), "")
    };
    let option = if shipped.is_some() { "" } else { " --first-boot" };
    let set_up = format!(
        "Type=oneshot\nRemainAfterExit=yes\nExecStart={LAB} parent-vm set-up{option}\nStandardError=journal+console\n"
    );
    let ssh = "Type=notify\nExecStart=/usr/sbin/sshd -D -f /etc/ssh/sshd_config.lab\nRuntimeDirectory=sshd\nKillMode=process\n";
    let serve = format!("ExecStart={LAB} parent-vm serve\nStandardError=journal+console\n");
    let mut units = vec![
        unit("lab-internet", "Before=network-online.target\n", &set_up),
        unit("lab-ssh", "", ssh),
        unit("lab-parent", &format!("Requires={SET_UP}\nAfter={SET_UP} lab-ssh.service\n"), &serve),
        in_internet("internet-dns", &format!("/usr/sbin/named -f -c {INTERNET_DIR}/named.conf"), ""),
        https("internet-https", "198.51.100.80:443"),
        https("internet-https6", "[2001:db8:100::80]:443"),
        https("internet-https-off-list", &OFF_LIST_SERVER.to_string()),
        in_internet("internet-self-test", &format!("{LAB} parent-vm internet"), ""),
        allocator::service(),
    ];
    units.extend(aws::units());
    units.push(chain::unit());
    if let Some(shipped) = shipped {
        let Shipped { wg_server, wg_named, wg_logs, wg_metrics, enclave, wg_watchdog, instance_unhealthy } = shipped;
        let changed = |name: &str, changes| Unit {
            name: name.to_owned(),
            text: wg_server.clone(),
            changes: Some(changes),
            is_enabled: false,
        };
        let held = |name| format!("[Unit]\nConditionPathExists=!{}\n", held_path(name));
        units.push(Unit { is_enabled: true, ..changed(WG_SERVER_SERVICE, held(WG_SERVER_SERVICE)) });
        units.push(Unit {
            name: WATCHDOG_SERVICE.to_owned(),
            text: wg_watchdog.clone(),
            changes: Some(held(WATCHDOG_SERVICE)),
            is_enabled: true,
        });
        for (name, text) in [("wg-metrics", wg_metrics), ("wg-logs", wg_logs)] {
            units.push(Unit { name: name.to_owned(), text: text.clone(), changes: None, is_enabled: true });
        }
        let text = instance_unhealthy.clone();
        units.push(Unit { name: "instance-unhealthy".to_owned(), text, changes: None, is_enabled: false });
        let text = wg_named.clone();
        units.push(Unit { name: "wg-named".to_owned(), text, changes: None, is_enabled: false });
        units.extend([changed(RELAY_SERVICE, relay()), changed(GATEWAY_SERVICE, gateway())]);
        units.extend(nitro::enclaves(enclave));
    }
    units
}

/// While this file exists, the service does not start, also for units that want it.
pub fn held_path(service: &str) -> String {
    format!("{RUN_DIR}/{service}.held")
}

/// A service in the lab's internet, which systemd restarts whenever it ends.
pub(super) fn in_internet(name: &str, command: &str, more: &str) -> Unit {
    let service = format!(
        "NetworkNamespacePath=/run/netns/internet\nExecStart={command}\nRestart=always\nRestartSec=0.2\n{more}"
    );
    unit(name, &format!("Requires={SET_UP}\nAfter={SET_UP}\nStartLimitIntervalSec=0\n"), &service)
}

pub(super) fn unit(name: &str, order: &str, service: &str) -> Unit {
    let text = format!("[Unit]\nDescription=Lab: {name}\n{order}\n[Service]\nEnvironment=RUST_LOG=info\n{service}");
    Unit { name: name.to_owned(), text, changes: None, is_enabled: true }
}

/// The relay, as docs/operations.md describes it for a gateway on another host.
fn relay() -> String {
    let mut changes = changes_of(
        RELAY_SERVICE,
        &format!("{WG_SERVER} relay --check --config {RELAY_CONFIG_PATH}"),
        &format!("{WG_SERVER} relay --config {RELAY_CONFIG_PATH}"),
    );
    changes.push_str("AmbientCapabilities=\nCapabilityBoundingSet=\n");
    changes.push_str("AmbientCapabilities=CAP_NET_BIND_SERVICE\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n");
    changes
}

/// The gateway. Its host is a namespace here.
fn gateway() -> String {
    let mut changes = changes_of(
        GATEWAY_SERVICE,
        &format!("{WG_SERVER} check --config {GATEWAY_CONFIG_PATH}"),
        &format!("{WG_SERVER} run --config {GATEWAY_CONFIG_PATH}"),
    );
    changes.push_str("NetworkNamespacePath=/run/netns/gateway\n");
    // Without wg-named.service, so that it starts named itself.
    let more = "CAP_SETUID CAP_SETGID CAP_KILL";
    changes.push_str(&format!("AmbientCapabilities={more}\nCapabilityBoundingSet={more}\nSystemCallFilter=@setuid\n"));
    changes
}

fn changes_of(name: &str, check: &str, command: &str) -> String {
    let own = |kind: &str| format!("{kind}Directory=\n{kind}Directory={name}\n");
    let directories = ["State", "Runtime", "Logs"].map(own).concat();
    format!("[Service]\nExecStartPre=\nExecStartPre={check}\nExecStart=\nExecStart={command}\n{directories}")
}
