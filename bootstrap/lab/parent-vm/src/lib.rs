//! What runs inside the parent's machine beside what ships: what EC2 and AWS's packages bring, and the lab's internet.
//!
//! ```text
//! parent: wg0 203.0.113.1 -- uplink0 198.51.100.2 ==veth== inet0 198.51.100.1 .10 .53 .80 .90 .91 :namespace `internet`
//!                                                           inet1 192.0.2.1 ==veth== uplink0 192.0.2.10 :namespace `gateway`
//! ```
//!
//! inet0 has 169.254.169.254 too, which the default routes of parent and gateway lead to, and wg-server translates as all else.
//! In blind mode the parent has `wg-server relay` in place of its wg0, and wg0 is the gateway's.
//!
//! The namespace has no route to the enclaves' addresses: only what wg-server translates comes back.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")
)]

mod allocator;
mod aws;
pub mod config;
mod enclave_id;
mod hypervisor;
mod internet;
mod network;
mod nitro;
mod record;
mod traffic;
mod units;

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

pub use aws::{
    AWS, AWS_SERVICE, ENCLAVE_ROLE, KEY_POLICY_PATH, KMS, KMS_CONFIG_PATH, KMS_SERVICE, SERVERS as AWS_SERVERS, Server,
    WALLET_ROLE,
};
pub use enclave_id::{ENCLAVE_CIDS, EnclaveId};
pub use hypervisor::ADDRESS as HYPERVISOR;
pub use internet::{OFF_LIST_NAME, SELF_TEST_SERVERS, VSOCK_PORT};
pub use nitro::{ALLOCATED, ALLOCATOR_PATH, ENCLAVE_ENVIRONMENT, NITRO_CLI, image_path, service as enclave_service};
pub use record::Options as RecordOptions;
pub use traffic::Traffic;
pub use units::{GATEWAY_SERVICE, RELAY_SERVICE, Shipped, Unit, WG_SERVER_SERVICE, all as units, held_path};

/// The line on the parent's console that `lab up` waits for.
pub const READY: &str = "lab: parent ready";
/// Where the lab's files are.
pub const RUN_DIR: &str = "/run/lab";
/// Where logs are that are not the journal's.
pub const LOG_DIR: &str = "/var/log/lab";
const PROGRAM: &str = "/payload/bin/lab";
/// The parent's daemon, where an instance has it.
pub const WG_SERVER: &str = "/usr/local/bin/wg-server";
const WG_SERVER_USER: &str = "wg-server";
/// `dns.user` of what ships.
const NAMED_USER: &str = "wg-named";

/// The verbs that run on the parent only.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// What runs inside the parent
    #[command(hide = true, subcommand)]
    ParentVm(Part),
    /// Both ends of the benchmark's traffic
    #[command(hide = true, subcommand)]
    Traffic(Traffic),
    /// Send vsock connection requests to an enclave, wait for no answer
    #[command(hide = true)]
    Flood {
        /// CID of the enclave
        enclave: EnclaveId,
        /// A port that nobody listens on
        port: u32,
        /// How many
        count: u32,
    },
    /// Play the gateway until an enclave has answered, print the answer in base64
    #[command(hide = true)]
    Record(record::Options),
    /// Send one command to a self-test agent, print its report
    #[command(hide = true)]
    SelfTest {
        /// Where the agent listens
        agent: SocketAddr,
        /// The command as JSON
        command: String,
    },
}

/// What a unit of the parent runs.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Part {
    /// Make the lab's internet, and what wg-server needs of its host
    SetUp {
        /// Without what user data does
        #[arg(long)]
        first_boot: bool,
    },
    /// Serve raw vsock streams, and nitro-cli's way to the host
    Serve,
    /// The self-test server of the lab's internet
    Internet,
    /// Set memory and processors aside for enclaves
    Allocate,
}

/// Does what the verb says; what to print.
///
/// # Errors
/// Those of the verb.
pub fn run(verb: Verb) -> Result<String> {
    match verb {
        Verb::ParentVm(part) => part.run(),
        Verb::Traffic(traffic) => traffic::run(traffic),
        Verb::Flood { enclave, port, count } => {
            current_thread()?.block_on(self_test::flood(enclave.cid().0, port, count, Duration::ZERO))?;
            Ok(String::new())
        }
        Verb::Record(options) => {
            let answer = current_thread()?.block_on(record::record(&options))?;
            Ok(format!("{}\n", STANDARD.encode(answer)))
        }
        Verb::SelfTest { agent, command } => {
            let command = serde_json::from_str(&command).context("the self-test command")?;
            let test = async { self_test::driver::Driver::connect(agent).await?.run(&command).await };
            let report = current_thread()?.block_on(test)?;
            Ok(format!("{}\n", serde_json::to_string(&report)?))
        }
    }
}

impl Part {
    /// # Errors
    /// A step of the setup, a socket that cannot be bound, or one that fails.
    fn run(self) -> Result<String> {
        match self {
            Self::SetUp { first_boot } => set_up(first_boot)?,
            Self::Serve => runtime()?.block_on(serve())?,
            Self::Allocate => return Ok(format!("{}\n", allocator::allocate()?)),
            Self::Internet => runtime()?.block_on(self_test::server::run(&SELF_TEST_SERVERS))?,
        }
        Ok(String::new())
    }
}

fn set_up(is_first_boot: bool) -> Result<()> {
    for dir in [RUN_DIR, LOG_DIR, "/run/lab/internet"] {
        fs::create_dir_all(dir).with_context(|| format!("make {dir}"))?;
    }
    network::set_up().context("the lab's internet")?;
    internet::write().context("the lab's internet")?;
    nitro::set_up().context("what nitro-cli's package brings")?;
    if is_first_boot {
        return Ok(());
    }
    nitro::add_user()?;
    for user in [WG_SERVER_USER, NAMED_USER] {
        network::command(&["useradd", "--system", "--no-create-home", "--shell", "/sbin/nologin", user])?;
    }
    make_key("/etc/wg-server/private.key").context("the parent's WireGuard key")?;
    make_key("/etc/wg-gateway/private.key").context("the gateway's WireGuard key")
}

async fn serve() -> Result<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(hypervisor::serve());
    tasks.spawn(self_test::server::run_vsock(VSOCK_PORT));
    announce()?;
    match tasks.join_next().await {
        Some(ended) => ended.context("a task of the parent")?,
        None => Ok(()),
    }
}

fn make_key(path: &str) -> Result<()> {
    network::command(&[WG_SERVER, "keygen", path])?;
    network::command(&["chown", &format!("{WG_SERVER_USER}:"), path])
}

/// Says on the console that the parent is complete, but for wg-server, which says so itself.
fn announce() -> Result<()> {
    let uptime = fs::read_to_string("/proc/uptime").context("read /proc/uptime")?;
    let seconds = uptime.split(' ').next().unwrap_or_default();
    // systemd leaves the console in the middle of a line.
    fs::write("/dev/console", format!("\n{READY} after {seconds} s\n")).context("write /dev/console")
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .context("start the runtime")
}

fn current_thread() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}
