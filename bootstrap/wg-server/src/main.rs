//! The parent's daemon: kernel WireGuard, NAT and DNS for the enclaves of one EC2 instance.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails"))]

mod accept;
mod admission;
mod attest;
mod boot;
mod capabilities;
mod check;
mod config;
mod connections;
mod control;
mod controller;
mod daemon;
mod datagram_relay;
mod dns;
mod drain;
mod enclave_id;
mod enclaves;
mod entry_port;
mod firewall;
mod forwarded;
mod forwarding;
mod gateway;
mod health;
mod interface;
mod key;
mod lease;
mod listener;
mod lock;
mod logs;
mod lookup;
mod metrics;
#[cfg(test)]
mod namespace;
mod ports;
mod preface;
mod proofs;
mod refused;
mod relay;
mod remote;
mod service_manager;
mod signals;
mod status;
mod streams;
mod sys;
mod watch;
mod watchdog;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tunnel::port::Cid;

/// Gateway for the enclaves of this parent instance: WireGuard over vsock, NAT and DNS.
#[derive(Parser)]
#[command(name = "wg-server", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serves the enclaves until SIGTERM.
    Run {
        /// Configuration file.
        #[arg(long, default_value = "/etc/wg-server/parent.toml")]
        config: PathBuf,
    },
    /// Starts named when a wg-server that runs as another user asks for it, until SIGTERM. See `dns.named_socket_path`.
    Named {
        /// Configuration file of that wg-server.
        #[arg(long, default_value = "/etc/wg-server/parent.toml")]
        config: PathBuf,
    },
    /// Relays the enclaves' ciphertext to a gateway on another host until SIGTERM (blind mode). Needs no key.
    Relay {
        /// Configuration file.
        #[arg(long, default_value = "/etc/wg-server/relay.toml")]
        config: PathBuf,
        /// Only check the configuration.
        #[arg(long)]
        check: bool,
    },
    /// Checks the configuration and everything that it names. Changes nothing.
    Check {
        /// Configuration file.
        #[arg(long, default_value = "/etc/wg-server/parent.toml")]
        config: PathBuf,
    },
    /// Shows the state of the running wg-server.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// `runtime_dir` of the running wg-server.
        #[arg(long, default_value = config::DEFAULT_RUNTIME_DIR)]
        runtime_dir: PathBuf,
    },
    /// Shows the packets of enclaves to destinations that are not open, as the list that would allow them.
    Egress {
        /// Print each packet as it comes, until the program is interrupted.
        #[arg(long, conflicts_with = "json")]
        watch: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// `runtime_dir` of the running wg-server.
        #[arg(long, default_value = config::DEFAULT_RUNTIME_DIR)]
        runtime_dir: PathBuf,
    },
    /// Looks names up as an enclave would. Prints what to do for each name that fails, and exits with status 1.
    Lookup(lookup::Options),
    /// Refuses new connections through `nat.forwards`, and lets those that are under way go on. For a host that will end: it stays
    /// so when wg-server restarts, until the next boot.
    Drain {
        /// Forward new connections again.
        #[arg(long, conflicts_with = "wait")]
        undo: bool,
        /// Wait this long for the last connection to end, such as "60s", and exit with status 1 if some are left.
        #[arg(long, value_name = "TIME", value_parser = humantime_serde::re::humantime::parse_duration)]
        wait: Option<Duration>,
        /// `runtime_dir` of the running wg-server.
        #[arg(long, default_value = config::DEFAULT_RUNTIME_DIR)]
        runtime_dir: PathBuf,
    },
    /// Renews the enclaves' keys now. Connections survive. wg-server itself renews them every `attestation.key_lifetime`.
    Renew {
        /// Only renew the keys of the enclave with this CID.
        #[arg(long)]
        cid: Option<u32>,
        /// `runtime_dir` of the running wg-server.
        #[arg(long, default_value = config::DEFAULT_RUNTIME_DIR)]
        runtime_dir: PathBuf,
    },
    /// Restarts an enclave's unit when the enclave hangs, until SIGTERM. wg-watchdog.service runs it as root.
    Watch(watchdog::Options),
    /// Serves the metrics of the running wg-server to Prometheus until SIGTERM. Needs no privileges but wg-server's user.
    Metrics(metrics::Options),
    /// Writes the console lines of this host's enclaves to its journal until SIGTERM: `journalctl -t enclave@CID` shows them.
    Logs,
    /// Prints the claims of a Nitro attestation document and verifies it. Exits with status 1 if it is not valid.
    Attest(attest::Options),
    /// Writes a new private key to a file and prints its public key.
    Keygen {
        /// File to write. It must not exist yet.
        #[arg(default_value = "/etc/wg-server/private.key")]
        path: PathBuf,
    },
}

fn main() -> ExitCode {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_env_filter(filter)
        .with_target(false)
        .init();
    match perform(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(verb: Verb) -> Result<()> {
    match verb {
        Verb::Run { config } => daemon::run(&config),
        Verb::Named { config } => dns::starter::run(&config),
        Verb::Relay { config, check: false } => relay::run(&config),
        Verb::Relay { config, check: true } => say(relay::check(&config)?),
        Verb::Check { config } => say(check::check(&config)?),
        Verb::Status { json, runtime_dir } => show_status(&runtime_dir, json),
        Verb::Egress { watch: true, runtime_dir, .. } => watch_egress(&runtime_dir),
        Verb::Egress { watch: false, json, runtime_dir } => show_egress(&runtime_dir, json),
        Verb::Lookup(options) => lookup::lookup(&options, print),
        Verb::Drain { undo: true, runtime_dir, .. } => say(status::drain(&status::socket_path(&runtime_dir), false)?),
        Verb::Drain { undo: false, wait, runtime_dir } => drain(&runtime_dir, wait),
        Verb::Renew { cid, runtime_dir } => renew(&runtime_dir, cid.map(Cid)),
        Verb::Watch(options) => watchdog::run(&options),
        Verb::Metrics(options) => metrics::run(&options, print),
        Verb::Logs => logs::run(),
        Verb::Attest(options) => attest::attest(&options, print),
        Verb::Keygen { path } => keygen(&path),
    }
}

fn show_status(runtime_dir: &Path, json: bool) -> Result<()> {
    let report = status::ask(&status::socket_path(runtime_dir))?;
    if json { say(serde_json::to_string_pretty(&report)?) } else { say(report.to_string().trim_end()) }
}

fn show_egress(runtime_dir: &Path, json: bool) -> Result<()> {
    let report = status::refused(&status::socket_path(runtime_dir), 0)?;
    if json { say(serde_json::to_string_pretty(&report)?) } else { say(report) }
}

/// Starts with the last packets.
fn watch_egress(runtime_dir: &Path) -> Result<()> {
    const EVERY: std::time::Duration = std::time::Duration::from_secs(1);
    let mut first = 0;
    loop {
        let report = status::refused(&status::socket_path(runtime_dir), first)?;
        report.lines().try_for_each(say)?;
        // A wg-server that was restarted counts from zero.
        first = report.next;
        std::thread::sleep(EVERY);
    }
}

fn drain(runtime_dir: &Path, wait: Option<Duration>) -> Result<()> {
    let ask = || status::drain(&status::socket_path(runtime_dir), true);
    say(ask()?)?;
    let Some(wait) = wait else { return Ok(()) };
    drain::wait_for_none(wait, ask, std::thread::sleep)?;
    say("no connection is under way")
}

fn renew(runtime_dir: &Path, cid: Option<Cid>) -> Result<()> {
    let renewing = status::renew(&status::socket_path(runtime_dir), cid)?;
    anyhow::ensure!(
        !renewing.is_nobody() || cid.is_none(),
        "no enclave with this CID is connected: see `wg-server status`"
    );
    say(renewing)
}

fn keygen(path: &Path) -> Result<()> {
    let private_key = key::generate()?;
    key::create(&private_key, path)?;
    say(private_key.public_key())
}

fn say(line: impl std::fmt::Display) -> Result<()> {
    print(&format!("{line}\n"))
}

/// A reader that closes the pipe early, like `head`, is not an error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("write to stdout"),
        Ok(()) | Err(_) => Ok(()),
    }
}
