//! The parent's daemon: kernel WireGuard, NAT and DNS for the enclaves of one EC2 instance.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")
)]

mod capabilities;
mod check;
mod config;
mod control;
mod daemon;
mod dns;
mod enclaves;
mod firewall;
mod forwarding;
mod gateway;
mod interface;
mod key;
mod lease;
mod listener;
mod lock;
#[cfg(test)]
mod namespace;
mod relay;
mod status;
mod sys;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

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
        #[arg(long, default_value = status::DEFAULT_RUNTIME_DIR)]
        runtime_dir: PathBuf,
    },
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
        Verb::Check { config } => say(check::check(&config)?),
        Verb::Status { json, runtime_dir } => show_status(&runtime_dir, json),
        Verb::Keygen { path } => keygen(&path),
    }
}

fn show_status(runtime_dir: &Path, json: bool) -> Result<()> {
    let report = status::ask(&status::socket_path(runtime_dir))?;
    if json { say(serde_json::to_string_pretty(&report)?) } else { say(report.to_string().trim_end()) }
}

fn keygen(path: &Path) -> Result<()> {
    let key = interface::generate_private_key();
    key.create(path)?;
    say(interface::public_key(&key))
}

fn say(line: impl std::fmt::Display) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
