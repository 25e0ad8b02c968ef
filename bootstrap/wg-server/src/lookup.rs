//! `wg-server lookup`: looks names up through named, as an enclave does.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;
use tokio::runtime;

use crate::config::Config;
use crate::dns::{self, AllowList, AllowLists, Name};

/// The names, and which wg-server to ask.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Names on the allow-list, for example `aws.com`.
    #[arg(required = true, value_name = "NAME", value_parser = parse)]
    names: Vec<Name>,
    /// Configuration file of the running wg-server.
    #[arg(long, default_value = "/etc/wg-server/parent.toml")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The result for one name, as JSON.
#[derive(Debug, Serialize)]
struct Answer {
    name: String,
    /// `None`: the name was looked up.
    problem: Option<String>,
}

/// Looks the names up one after the other, and prints those that succeed on `out`.
///
/// # Errors
/// The last name that failed. The others are in the log, one line each.
pub(crate) fn lookup(options: &Options, out: impl Fn(&str) -> Result<()>) -> Result<()> {
    let config = Config::load(&options.config)?;
    let lists = AllowLists::load(&config)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let mut answers = Vec::new();
    for name in &options.names {
        let problem = runtime.block_on(look_up(&config, lists.all(), name)).err().map(|error| format!("{error:#}"));
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

/// Asks named at the gateway's first address. The same named listens at the other one.
pub(crate) async fn look_up(config: &Config, list: &AllowList, name: &Name) -> Result<()> {
    let place = if config.egress.lists.is_empty() {
        "dns.allow_list_path"
    } else {
        "dns.allow_list_path or egress.lists.names"
    };
    ensure!(list.allows(name), "{name} is not on {place}: add it and restart wg-server");
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
        bail!("a wildcard stands for every name below {domain}; expected one of them, like `x.{domain}`");
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
        let expected = "a wildcard stands for every name below aws.com; expected one of them, like `x.aws.com`";
        assert_eq!(parse("*.aws.com").unwrap_err().to_string(), expected);
    }

    #[tokio::test]
    async fn a_name_that_is_not_on_the_list_is_not_asked_for() {
        // 203.0.113.1 is nowhere here: a question would fail, and say so.
        let config = Config::parse(include_str!("../tests/parent.toml")).unwrap();
        let list = AllowList::parse("*.aws.com\n").unwrap();
        let error = look_up(&config, &list, &Name::parse("aws.com").unwrap()).await.unwrap_err().to_string();
        assert_eq!(error, "aws.com is not on dns.allow_list_path: add it and restart wg-server");
        let lists = "[[egress.lists]]\nname = \"a\"\nnames = [\"a.example\"]\ncids = [16]\n[dns]";
        let with_lists = include_str!("../tests/parent.toml").replacen("[dns]", lists, 1);
        let with_lists = Config::parse(&with_lists).unwrap();
        let error = look_up(&with_lists, &list, &Name::parse("aws.com").unwrap()).await.unwrap_err().to_string();
        let expected = "aws.com is not on dns.allow_list_path or egress.lists.names: add it and restart wg-server";
        assert_eq!(error, expected);
        let error = look_up(&config, &list, &Name::parse("x.aws.com").unwrap()).await.unwrap_err().to_string();
        assert!(error.starts_with("x.aws.com: named does not answer at 203.0.113.1: "), "{error}");
        assert!(error.ends_with(": `wg-server status` says whether named runs, and why not"), "{error}");
    }
}
