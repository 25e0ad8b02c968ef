//! `orchestrator --check CONFIG --explain REQUEST`: which rule of the policy decides about a request.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use signer::explain::{Asked, explain};

use crate::cli::Cli;
use crate::config::Config;

/// Prints the explanation. The code is 1 if the request would be refused.
///
/// # Errors
/// A configuration without a signer, or a request, key or client that cannot be read.
pub(crate) fn run(config: &Path, request: &Path, cli: &Cli) -> Result<ExitCode> {
    let signing = Config::load(config)?.signing;
    let signing = signing.with_context(|| format!("{}: there is no [signer], expected one", config.display()))?;
    let at = || request.display().to_string();
    let body = fs::read(request).with_context(at)?;
    let key = cli.key.as_deref().map(|text| text.parse().with_context(|| format!("--key `{}`", text.escape_debug())));
    let asked = Asked { key: key.transpose()?, client: cli.client.clone() };
    let explanation = explain(&signing.service, &body, &asked).with_context(at)?;
    let text =
        if cli.json { format!("{}\n", serde_json::to_string_pretty(&explanation)?) } else { explanation.to_string() };
    crate::write(&mut std::io::stdout(), &text)?;
    Ok(if explanation.would_be_signed { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
