//! The wallet as an AWS Lambda function, on a custom runtime.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;
use wallet::lambda::{Environment, run};

fn main() -> ExitCode {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    // Lambda has its own clock on every line.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_env_filter(filter)
        .with_target(false)
        .init();
    match perform() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform() -> Result<()> {
    const API: &str = "AWS_LAMBDA_RUNTIME_API";
    let variable = |name: &str| std::env::var(name).ok();
    let api = variable(API)
        .with_context(|| format!("{API} is not set: Lambda starts this program; use `wallet` on the command line"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start tokio")?;
    runtime.block_on(run(&api, Environment::read(variable)))
}
