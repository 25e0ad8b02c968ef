//! The parent's daemon: kernel WireGuard, NAT and DNS for the enclaves of one EC2 instance.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")
)]

mod accept;
mod admission;
mod attest;
mod capabilities;
mod check;
mod config;
mod connections;
mod control;
mod controller;
mod daemon;
mod datagram_relay;
mod dns;
mod enclave_id;
mod enclaves;
mod entry_port;
mod firewall;
mod forwarding;
mod gateway;
mod health;
mod interface;
mod key;
mod lease;
mod listener;
mod lock;
mod lookup;
#[cfg(test)]
mod namespace;
mod ports;
mod preface;
mod proofs;
mod relay;
mod remote;
mod service_manager;
mod signals;
mod status;
mod streams;
mod sys;
mod watch;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tunnel::port::Cid;

/// Gateway of the enclaves on this parent instance: WireGuard over vsock, NAT and DNS.
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
        /// The operator's configuration.
        #[arg(long, default_value = "/etc/wg-server/parent.toml")]
        config: PathBuf,
    },
    /// Starts named for a wg-server that runs as another user, until SIGTERM: `wg-named.service`, see `dns.named_socket_path`.
    Named {
        /// The operator's configuration, which wg-server has.
        #[arg(long, default_value = "/etc/wg-server/parent.toml")]
        config: PathBuf,
    },
    /// Carries the enclaves' ciphertext to a gateway elsewhere until SIGTERM: the parent's part of blind mode, without a key.
    Relay {
        /// The operator's configuration.
        #[arg(long, default_value = "/etc/wg-server/relay.toml")]
        config: PathBuf,
        /// Only say what is wrong with the configuration.
        #[arg(long)]
        check: bool,
    },
    /// Says what is wrong with the configuration and what it names, and touches nothing.
    Check {
        /// The operator's configuration.
        #[arg(long, default_value = "/etc/wg-server/parent.toml")]
        config: PathBuf,
    },
    /// Shows what the running wg-server is doing.
    Status {
        /// For programs.
        #[arg(long)]
        json: bool,
        /// The running wg-server's `runtime_dir`.
        #[arg(long, default_value = config::DEFAULT_RUNTIME_DIR)]
        runtime_dir: PathBuf,
    },
    /// Has the running wg-server look names up as an enclave would; each that fails is a line with what to do, and the exit status 1.
    Lookup(lookup::Options),
    /// Has the running wg-server renew keys now, which costs no connection; by itself it does so every `attestation.key_lifetime`.
    Renew {
        /// Only those of the enclave with this CID.
        #[arg(long)]
        cid: Option<u32>,
        /// The running wg-server's `runtime_dir`.
        #[arg(long, default_value = config::DEFAULT_RUNTIME_DIR)]
        runtime_dir: PathBuf,
    },
    /// Prints what a Nitro attestation document claims and whether it holds, which is its exit status too.
    Attest(attest::Options),
    /// Makes a private key in a new file and prints its public key.
    Keygen {
        /// The file, which must not exist.
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
        Verb::Lookup(options) => lookup::lookup(&options, print),
        Verb::Renew { cid, runtime_dir } => renew(&runtime_dir, cid.map(Cid)),
        Verb::Attest(options) => attest::attest(&options, print),
        Verb::Keygen { path } => keygen(&path),
    }
}

fn show_status(runtime_dir: &Path, json: bool) -> Result<()> {
    let report = status::ask(&status::socket_path(runtime_dir))?;
    if json { say(serde_json::to_string_pretty(&report)?) } else { say(report.to_string().trim_end()) }
}

fn renew(runtime_dir: &Path, cid: Option<Cid>) -> Result<()> {
    let renewing = status::renew(&status::socket_path(runtime_dir), cid)?;
    anyhow::ensure!(
        !renewing.is_nobody() || cid.is_none(),
        "no enclave of that CID is connected: see `wg-server status`"
    );
    say(renewing)
}

fn keygen(path: &Path) -> Result<()> {
    let key = interface::generate_private_key();
    key.create(path)?;
    say(interface::public_key(&key))
}

fn say(line: impl std::fmt::Display) -> Result<()> {
    print(&format!("{line}\n"))
}

/// A reader that has seen enough, like `head`, is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("write to stdout"),
        Ok(()) | Err(_) => Ok(()),
    }
}
