//! The enclave's PID 1: boots the machine, brings up the tunnel and supervises its processes.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::wildcard_enum_match_arm,
        reason = "a test that panics has failed"
    )
)]

mod assignment;
mod boot;
mod budget;
mod cli;
mod config;
mod console;
mod dns;
mod explain;
mod key_exchange;
mod link;
mod network;
mod nsm;
mod power;
mod probe;
mod relay;
mod resolver;
mod role;
mod runtime;
mod sandbox;
mod services;
mod show;
mod signing;
mod supervise;
mod sys;
mod watch;

use std::convert::Infallible;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use egress::Process;

use cli::Cli;
use config::{Config, Signing};
use role::Role;
use service::Service;
use supervise::Supervisor;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        power::guard();
        let Err(error) = init();
        power::down(&format!("{error:#}"));
    }
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some(services::VERB), Some(name)) => services::become_service(&name),
        (verb, _) => match verb.and_then(Role::named) {
            Some(role) => serve(role),
            None => build_host(&Cli::parse()),
        },
    }
}

/// PID 1: boots, brings up the network, supervises, powers off.
fn init() -> Result<Infallible> {
    let runtime = runtime::single_threaded()?;
    let booted = boot::run(&runtime)?;
    let network = network::up(&runtime, &booted.config)?;
    let supervisor = Supervisor::new(booted, network);
    let reason = runtime.block_on(supervisor.run())?;
    power::off(reason)
}

/// Runs one of PID 1's child processes. PID 1 decides whether to start it again when it exits.
fn serve(role: Role) -> ExitCode {
    console::inherit();
    console::log();
    power::guard_role(role);
    let result = match role {
        Role::Relay => relay::run(),
        Role::Resolver => resolver::run(),
        Role::Probe => probe::run(),
        Role::Signer => signing::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{role}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The program on the build host: checks a configuration, or prints the help.
fn build_host(cli: &Cli) -> ExitCode {
    let result = match (&cli.check, &cli.explain) {
        (Some(path), Some(request)) => explain::run(path, request, cli),
        (Some(path), None) => check(path).map(|()| ExitCode::SUCCESS),
        (None, _) => write(&mut std::io::stdout(), &Cli::usage()).map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            drop(write(&mut std::io::stderr(), &format!("{error:#}\n")));
            // 1 is a request that would be refused.
            if cli.explain.is_some() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn check(path: &Path) -> Result<()> {
    let config = Config::load(path)?;
    config.check_programs(path.parent().unwrap_or(Path::new(".")))?;
    let services: String = config.services.iter().map(describe).collect();
    for warning in config.signing.iter().flat_map(|signing| signing.service.policy.warnings()) {
        write(&mut std::io::stderr(), &format!("{}: warning: {warning}\n", path.display()))?;
    }
    let nonces = config.signing.as_ref().map(|signing| format!("; {}", signing.nonce_memory())).unwrap_or_default();
    let ledger = config.signing.as_ref().map(Signing::ledger).unwrap_or_default();
    let windows = config.signing.as_ref().map(Signing::windows).unwrap_or_default();
    let servers = config.signing.as_ref().map(Signing::servers).unwrap_or_default();
    let egress: String = config.rules.processes.iter().map(reach).collect();
    write(
        &mut std::io::stdout(),
        &format!("{}: good{services}{nonces}\n{ledger}{windows}{servers}{egress}", path.display()),
    )
}

fn write(out: &mut dyn Write, text: &str) -> Result<()> {
    out.write_all(text.as_bytes()).context("write")
}

/// Where a process may connect, for a reviewer of the image.
fn reach(process: &Process) -> String {
    let destinations: Vec<_> = process.destinations.iter().map(ToString::to_string).collect();
    let destinations = if destinations.is_empty() { "nowhere".to_owned() } else { destinations.join(" ") };
    format!("  {} may connect to {destinations}\n", process.name)
}

/// Describes a service to a reviewer of the image.
fn describe(service: &Service) -> String {
    let vsock = if service.vsock { ", may open vsock connections, which bypass the tunnel: only for labs" } else { "" };
    format!("; service {service}{vsock}")
}
