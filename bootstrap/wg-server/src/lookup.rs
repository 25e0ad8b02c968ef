//! `wg-server lookup`: whether named looks names up, asked as an enclave asks.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;
use tokio::runtime;

use crate::config::Config;
use crate::dns::{self, AllowList, Name};

/// Which names, and whose.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Names on the allow-list, like `aws.com`.
    #[arg(required = true, value_name = "NAME", value_parser = parse)]
    names: Vec<Name>,
    /// The operator's configuration, which the running wg-server has.
    #[arg(long, default_value = "/etc/wg-server/parent.toml")]
    config: PathBuf,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// What became of one name, for programs.
#[derive(Debug, Serialize)]
struct Answer {
    name: String,
    /// `None`: it was looked up.
    problem: Option<String>,
}

/// Asks for the names one after the other, and says on `out` which were looked up.
///
/// # Errors
/// The last name that could not be looked up, after the others in the log, a line each.
pub(crate) fn lookup(options: &Options, out: impl Fn(&str) -> Result<()>) -> Result<()> {
    let config = Config::load(&options.config)?;
    let list = AllowList::load(&config.dns.allow_list_path).context("dns.allow_list_path")?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let mut answers = Vec::new();
    for name in &options.names {
        let problem = runtime.block_on(look_up(&config, &list, name)).err().map(|error| format!("{error:#}"));
        if problem.is_none() && !options.json {
            out(&format!("{name}: looked up\n"))?;
        }
        answers.push(Answer { name: name.to_string(), problem });
    }
    if options.json {
        out(&format!("{}\n", serde_json::to_string_pretty(&answers)?))?;
    }
    let mut problems: Vec<String> = answers.into_iter().filter_map(|answer| answer.problem).collect();
    let Some(last) = problems.pop() else { return Ok(()) };
    problems.iter().for_each(|problem| tracing::error!("{problem}"));
    Err(anyhow!(last))
}

/// Asks named at the gateway's first address; it is the same named at the other.
pub(crate) async fn look_up(config: &Config, list: &AllowList, name: &Name) -> Result<()> {
    ensure!(list.allows(name), "{name} is not on dns.allow_list_path: add it and restart wg-server");
    let server = config.wireguard.gateways().next().context("wireguard.addresses: empty")?;
    let name = name.to_string();
    let Some(fault) = dns::fault(server, &name, config.dns.dnssec).await else { return Ok(()) };
    match config.dns.forwarders.first() {
        Some(forwarder) => bail!("{name}: {fault}: {}", fault.remedy(&name, *forwarder)),
        None => bail!("{name}: {fault}"),
    }
}

fn parse(text: &str) -> Result<Name> {
    if let Some(domain) = text.strip_prefix("*.") {
        bail!("it stands for every name below {domain}; expected one of these, like `x.{domain}`");
    }
    Name::parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_an_allow_list_could_have_and_no_wildcard() {
        assert_eq!(parse("AWS.com.").unwrap().to_string(), "aws.com");
        assert!(parse("198.51.100.1").unwrap_err().to_string().contains("is an address"));
        let expected = "it stands for every name below aws.com; expected one of these, like `x.aws.com`";
        assert_eq!(parse("*.aws.com").unwrap_err().to_string(), expected);
    }

    #[tokio::test]
    async fn a_name_that_is_not_on_the_list_is_not_asked_for() {
        // 203.0.113.1 is nowhere here: a question would fail, and say so.
        let config = Config::parse(include_str!("../tests/parent.toml")).unwrap();
        let list = AllowList::parse("*.aws.com\n").unwrap();
        let error = look_up(&config, &list, &Name::parse("aws.com").unwrap()).await.unwrap_err().to_string();
        assert_eq!(error, "aws.com is not on dns.allow_list_path: add it and restart wg-server");
        let error = look_up(&config, &list, &Name::parse("x.aws.com").unwrap()).await.unwrap_err().to_string();
        assert!(error.starts_with("x.aws.com: named does not answer at 203.0.113.1: "), "{error}");
        assert!(error.ends_with(": `wg-server status` says whether named runs, and why not"), "{error}");
    }
}
