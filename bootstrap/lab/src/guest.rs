//! What runs inside the parent's machine: the lab's internet, nitro-cli's part of the heartbeat, and wg-server.
//!
//! ```text
//! parent: wg0 203.0.113.1 -- uplink0 198.51.100.2 ==veth== inet0 198.51.100.1 .10 .53 .80 :namespace `internet`
//! ```
//!
//! The namespace has no route to the enclaves' addresses: only what wg-server translates comes back.

mod files;
mod heartbeat;
mod network;
mod service;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use service::Service;

pub(crate) use files::{OFF_LIST_NAME, SELF_TEST_SERVERS, VSOCK_PORT};

/// The line on the parent's console that `lab up` waits for.
pub(crate) const READY: &str = "lab: parent ready";
/// Where pid files and holds are.
pub(crate) const RUN_DIR: &str = "/run/lab";
/// Where logs are.
pub(crate) const LOG_DIR: &str = "/var/log/lab";
const PROGRAM: &str = "/payload/bin/lab";
const WG_SERVER: &str = "/payload/bin/wg-server";
/// User and group, which need no name.
const WG_SERVER_USER: &str = "998:998";
/// What systemd would make for it, and its configuration.
const WG_SERVER_DIRS: [&str; 4] = ["/run/wg-server", "/var/lib/wg-server", "/var/log/wg-server", "/etc/wg-server"];

/// Sets everything up and keeps it running; returns only when something goes wrong.
///
/// # Errors
/// A step of the setup, or a task that ended.
pub(crate) fn run() -> Result<()> {
    runtime()?.block_on(async {
        for dir in [RUN_DIR, LOG_DIR, "/run/lab/internet"].iter().chain(&WG_SERVER_DIRS) {
            fs::create_dir_all(dir).with_context(|| format!("make {dir}"))?;
        }
        network::set_up().context("the lab's internet")?;
        files::write().context("the lab's internet")?;
        make_key().context("the parent's WireGuard key")?;
        for dir in WG_SERVER_DIRS {
            network::command(&["chown", "-R", WG_SERVER_USER, dir])?;
        }

        let mut tasks = JoinSet::new();
        tasks.spawn(heartbeat::serve());
        tasks.spawn(self_test::server::run_vsock(VSOCK_PORT));
        for service in services() {
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

fn services() -> Vec<Service> {
    let in_internet = |name, program: &str, arguments: &[&str]| {
        let enter = ["--net=/run/netns/internet", "--", program];
        Service::new(name, "nsenter", &[&enter, arguments].concat())
    };
    let https = |name, address: &str| {
        let files = ["-cert", "/run/lab/internet/https.crt", "-key", "/run/lab/internet/https.key"];
        in_internet(name, "openssl", &[&["s_server", "-quiet", "-www", "-accept", address], &files[..]].concat())
    };
    vec![
        in_internet("internet-dns", "/usr/sbin/named", &["-f", "-c", "/run/lab/internet/named.conf"]),
        https("internet-https", "198.51.100.80:443"),
        https("internet-https6", "[2001:db8:100::80]:443"),
        in_internet("internet-self-test", PROGRAM, &["internet"]),
        // As the service that docs/aws.md describes: no root, two capabilities.
        Service::new(
            "wg-server",
            "setpriv",
            &[
                "--reuid=998",
                "--regid=998",
                "--clear-groups",
                "--bounding-set=-all,+net_admin,+net_bind_service",
                "--inh-caps=+net_admin,+net_bind_service",
                "--ambient-caps=+net_admin,+net_bind_service",
                "--no-new-privs",
                WG_SERVER,
                "run",
                "--config",
                "/etc/wg-server/parent.toml",
            ],
        ),
    ]
}

fn make_key() -> Result<()> {
    let path = "/etc/wg-server/private.key";
    if Path::new(path).exists() { Ok(()) } else { network::command(&[WG_SERVER, "keygen", path]) }
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
