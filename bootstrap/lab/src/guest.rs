//! What runs inside the parent's machine: the lab's internet, nitro-cli's part of the heartbeat, and wg-server.
//!
//! ```text
//! parent: wg0 203.0.113.1 -- uplink0 198.51.100.2 ==veth== inet0 198.51.100.1 .10 .53 .80 .90 .91 :namespace `internet`
//!                                                           inet1 192.0.2.1 ==veth== uplink0 192.0.2.10 :namespace `gateway`
//! ```
//!
//! inet0 has 169.254.169.254 too, which the default routes of parent and gateway lead to, and wg-server translates as all else.
//! In blind mode the parent has `wg-server relay` in place of its wg0, and wg0 is the gateway's. Both are held until then.
//!
//! The namespace has no route to the enclaves' addresses: only what wg-server translates comes back.

mod aws;
mod files;
mod heartbeat;
mod network;
mod record;
mod service;
mod services;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

pub(crate) use aws::{
    AWS, AWS_SERVICE, ENCLAVE_ROLE, KEY_POLICY_PATH, KMS, KMS_CONFIG_PATH, KMS_SERVICE, SERVERS as AWS_SERVERS,
    WALLET_ROLE,
};
pub(crate) use files::{OFF_LIST_NAME, SELF_TEST_SERVERS, VSOCK_PORT};
pub(crate) use record::{Options as RecordOptions, record};
pub(crate) use services::{GATEWAY_SERVICE, RELAY_SERVICE, WG_SERVER_SERVICE};

/// The line on the parent's console that `lab up` waits for.
pub(crate) const READY: &str = "lab: parent ready";
/// Where pid files and holds are.
pub(crate) const RUN_DIR: &str = "/run/lab";
/// Where logs are.
pub(crate) const LOG_DIR: &str = "/var/log/lab";
const PROGRAM: &str = "/payload/bin/lab";
/// User and group, which need no name.
const WG_SERVER_USER: &str = "998:998";
/// What systemd would make for it, and its configuration.
const WG_SERVER_DIRS: [&str; 4] = ["/run/wg-server", "/var/lib/wg-server", "/var/log/wg-server", "/etc/wg-server"];
/// The same for the gateway in the lab's internet.
const GATEWAY_DIRS: [&str; 4] = ["/run/wg-gateway", "/var/lib/wg-gateway", "/var/log/wg-gateway", "/etc/wg-gateway"];

/// Sets everything up and keeps it running; returns only when something goes wrong.
///
/// # Errors
/// A step of the setup, or a task that ended.
pub(crate) fn run() -> Result<()> {
    runtime()?.block_on(async {
        for dir in [RUN_DIR, LOG_DIR, "/run/lab/internet"].iter().chain(&WG_SERVER_DIRS).chain(&GATEWAY_DIRS) {
            fs::create_dir_all(dir).with_context(|| format!("make {dir}"))?;
        }
        network::set_up().context("the lab's internet")?;
        files::write().context("the lab's internet")?;
        make_key("/etc/wg-server/private.key").context("the parent's WireGuard key")?;
        make_key("/etc/wg-gateway/private.key").context("the gateway's WireGuard key")?;
        for dir in WG_SERVER_DIRS.iter().chain(&GATEWAY_DIRS) {
            network::command(&["chown", "-R", WG_SERVER_USER, dir])?;
        }
        for service in [RELAY_SERVICE, GATEWAY_SERVICE, AWS_SERVICE] {
            fs::write(service::hold_path(service), "").with_context(|| format!("hold {service}"))?;
        }

        let mut tasks = JoinSet::new();
        tasks.spawn(heartbeat::serve());
        tasks.spawn(self_test::server::run_vsock(VSOCK_PORT));
        for service in services::all() {
            tasks.spawn(service.keep());
        }
        announce()?;
        match tasks.join_next().await {
            Some(ended) => ended.context("a task of the parent")?,
            None => Ok(()),
        }
    })
}

/// The self-test server, inside the namespace `internet`.
///
/// # Errors
/// A socket that cannot be bound or that fails.
pub(crate) fn internet() -> Result<()> {
    runtime()?.block_on(self_test::server::run(&SELF_TEST_SERVERS))
}

fn make_key(path: &str) -> Result<()> {
    if Path::new(path).exists() { Ok(()) } else { network::command(&[services::WG_SERVER, "keygen", path]) }
}

/// Says on the console that the parent is complete, but for wg-server, which says so itself.
fn announce() -> Result<()> {
    let uptime = fs::read_to_string("/proc/uptime").context("read /proc/uptime")?;
    let seconds = uptime.split(' ').next().unwrap_or_default();
    fs::write("/dev/console", format!("{READY} after {seconds} s\n")).context("write /dev/console")
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .context("start the runtime")
}
