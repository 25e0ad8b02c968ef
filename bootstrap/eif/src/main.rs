//! Builds and inspects enclave image files (`.eif`).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test"))]

mod build;
mod command_line;
mod config_dir;
mod describe;
mod extract;
mod image;
mod input;
mod kernel;
mod measurements;
mod private_key;
mod ramdisk;
mod signature;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// Builds and inspects enclave image files (.eif).
///
/// An image consists of a kernel, its command line and two ramdisks: the first holds /init, the second the measured
/// configuration. Builds are reproducible: the same inputs give the same bytes.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Build(build::Options),
    Describe(describe::Options),
    Extract(extract::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match writeln!(io::stderr(), "eif: {error:#}") {
            Ok(()) => ExitCode::FAILURE,
            Err(_) => ExitCode::from(2),
        },
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.verb {
        Verb::Build(options) => print(&build::build(&options).context("build")?),
        Verb::Describe(options) => {
            let description = describe::describe(&options).context("describe")?;
            print(&description.text)?;
            description.verdict.context("describe")
        }
        Verb::Extract(options) => print(&extract::extract(&options).context("extract")?),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // `eif describe FILE | head -1` is a correct use.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("write to standard output"),
    }
}
