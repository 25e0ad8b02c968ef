//! What the enclave may reach: by its own list, and by the parent's.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use parent_vm::paths::WG_SERVER;
use parent_vm::{OFF_LIST_NAME, OFF_LIST_SERVER};
use self_test::command::Command as Test;
use self_test::{Attempt, Report};

use super::page::indented;
use super::{NAME, PROBE_PATIENCE, Transcript, body, title, unexpected};

/// A name server that nobody asks.
const OTHER_NAME_SERVER: &str = "198.51.100.53:53";

/// An attempt, and what is to come of it.
struct Row {
    text: &'static str,
    to: SocketAddr,
    by: Attempt,
    /// The error, or none.
    expected: Option<&'static str>,
}

impl Transcript<'_> {
    pub(super) fn outbound(&self) -> Result<()> {
        title(6, "processes of the enclave reach what is on a list, and nothing else")?;
        let limited = |test: &Test| self.enclave.limited_self_test(test);
        let free = |test: &Test| self.enclave.self_test(test);
        let found = limited(&Test::Resolve { name: format!("{NAME}.") })?;
        let Report::Resolved(found) = found else { return unexpected(&found) };
        let address = found.addresses.into_iter().find(std::net::IpAddr::is_ipv4);
        let Some(address) = address else { anyhow::bail!("{NAME} has no IPv4 address") };
        let listed = SocketAddr::new(address, 443);

        let rows = [
            Row { text: "connect", to: listed, by: Attempt::Tcp, expected: None },
            Row { text: "connect", to: SocketAddr::new(address, 80), by: Attempt::Tcp, expected: Some("refused") },
            Row { text: "query", to: OTHER_NAME_SERVER.parse()?, by: Attempt::Udp, expected: Some("not permitted") },
            Row { text: "ping", to: listed, by: Attempt::Ping, expected: Some("denied") },
        ];
        let mut lines = vec![format!("resolve {NAME}: {address}")];
        lines.extend(attempt_all(&rows, limited)?);
        let refused = limited(&Test::Resolve { name: format!("{OFF_LIST_NAME}.") })?;
        let Report::Resolved(refused) = refused else { return unexpected(&refused) };
        ensure!(refused.addresses.is_empty(), "{OFF_LIST_NAME} resolves to {:?}", refused.addresses);
        lines.push(format!("resolve {OFF_LIST_NAME}: {}", refused.code.as_deref().unwrap_or("no address")));
        let console = self.enclave.console().wait(
            "refused packets on the console",
            PROBE_PATIENCE,
            || self.enclave.expect_running(),
            |text| {
                let refused = |what: &str| {
                    let start = format!("egress: refused {what} ");
                    let mut lines = text.lines().filter(|line| line.contains(" from limited"));
                    lines.find(|line| line.contains(&start)).map(str::to_owned)
                };
                ["TCP", "UDP", "a query"].into_iter().map(refused).collect::<Option<Vec<_>>>()
            },
        )?;
        body(&format!(
            "The agent `limited` may connect to {NAME}:443 ([egress] in the measured enclave.toml):\n{}\
             The enclave refuses by itself, and says so on its console:\n{}",
            own(&lines),
            own(&console),
        ))?;

        let rows = [
            Row { text: "connect", to: listed, by: Attempt::Tcp, expected: None },
            Row { text: "connect", to: OFF_LIST_SERVER, by: Attempt::Tcp, expected: Some("no answer") },
        ];
        let lines = attempt_all(&rows, free)?;
        let status = self.parent.output(&[WG_SERVER, "status"])?;
        let shown: Vec<_> = status
            .lines()
            .filter(|line| line.contains("packets to what is not open") || line.trim().starts_with("open: "))
            .map(|line| line.trim().to_owned())
            .collect();
        ensure!(!shown.is_empty(), "wg-server shows nothing that is open:\n{status}");
        let report = self.parent.output(&[WG_SERVER, "egress"])?;
        let refused: Vec<_> = report.lines().filter(|line| line.contains(&format!("\"{OFF_LIST_SERVER}\""))).collect();
        ensure!(!refused.is_empty(), "wg-server has not reported the packets to {OFF_LIST_SERVER}:\n{report}");
        body(&format!(
            "The agent `self-test` may send anything, for tests of the parent. The parent lets it reach the addresses of\n\
             names on its allow-list, and no others:\n{}\
             What is open (wg-server status):\n{}\
             What it has refused (wg-server egress):\n{}",
            own(&lines),
            own(&shown),
            indented(&refused),
        ))
    }
}

fn attempt_all(rows: &[Row], agent: impl Fn(&Test) -> Result<Report>) -> Result<Vec<String>> {
    rows.iter()
        .map(|Row { text, to, by, expected }| {
            let report = agent(&Test::Reach { to: *to, by: *by })?;
            let Report::Reached(error) = report else { return unexpected(&report) };
            let is_right = match (&error, expected) {
                (None, None) => true,
                (Some(error), Some(expected)) => error.contains(expected),
                _ => false,
            };
            ensure!(is_right, "{text} {to}: {error:?}, expected {expected:?}");
            let to = if *by == Attempt::Ping { to.ip().to_string() } else { to.to_string() };
            Ok(format!("{text} {to}: {}", error.as_deref().unwrap_or("allowed")))
        })
        .collect()
}

fn own(lines: &[String]) -> String {
    indented(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}
