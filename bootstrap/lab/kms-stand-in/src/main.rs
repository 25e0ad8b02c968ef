//! The lab's KMS. See the library of the same name.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use kms_stand_in::{Config, Server, StandIn};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tracing_subscriber::EnvFilter;

/// Stand-in for AWS KMS, for labs and tests only. Verifies signatures, attestation documents and key policies like KMS.
#[derive(Parser)]
#[command(name = "kms-stand-in", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serves until SIGTERM.
    Run {
        /// Configuration, in TOML: region, keys, access keys.
        #[arg(long)]
        config: PathBuf,
    },
    /// Checks the configuration and the files that it names, and prints a summary.
    Check {
        /// Configuration, in TOML: region, keys, access keys.
        #[arg(long)]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .with_env_filter(filter)
        .with_target(false)
        .init();
    let done = match Arguments::parse().verb {
        Verb::Run { config } => run(&config),
        Verb::Check { config } => check(&config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(path: &Path) -> Result<()> {
    let config = Config::read(path)?;
    config.listen().with_context(|| path.display().to_string())?;
    config.tls().and_then(kms_stand_in::Tls::server_config).with_context(|| path.display().to_string())?;
    Ok(write!(io::stdout(), "{config}")?)
}

fn run(path: &Path) -> Result<()> {
    let config = Config::read(path)?;
    let addresses = config.listen().with_context(|| path.display().to_string())?.to_vec();
    let tls = config.tls().and_then(kms_stand_in::Tls::server_config).with_context(|| path.display().to_string())?;
    for line in config.to_string().lines() {
        tracing::info!("{line}");
    }
    let stand_in = Arc::new(StandIn::new(config)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("start the runtime")?.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
        let mut servers = JoinSet::new();
        for address in addresses {
            let server = Server::bind(address, Arc::clone(&tls), Arc::clone(&stand_in));
            let server = server.await.with_context(|| format!("listen on {address}"))?;
            tracing::info!(address = %server.address(), "listening");
            servers.spawn(server.run());
        }
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
            Some(ended) = servers.join_next() => {
                ended.context("a server")?.context("a server")?;
            }
        }
        Ok(())
    })
}
