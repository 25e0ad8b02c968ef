//! The tables of legacy iptables, which nft does not list: whether they may drop what enclaves live on.
//!
//! Its rules are not judged one by one, as those of nftables are. A table that drops nothing at all is fine, and one that lets
//! the packets pass before anything else. Whatever is between is named. To read them takes CAP_NET_RAW, for iptables's raw socket:
//! a table that cannot be read is in the log, and no problem that never ends.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Once;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::packet::{Hook, Opening, Packet};

const DEADLINE: Duration = Duration::from_secs(5);

/// A table that cannot be read is reported once.
static UNREAD: Once = Once::new();

/// The tables of one IP version.
struct Version {
    is_ipv4: bool,
    /// The list of tables. Only root can read it, and not in every container.
    names: &'static str,
    /// This module is loaded once a program has used the table.
    module: &'static str,
    program: &'static str,
}

const VERSIONS: [Version; 2] = [
    Version { is_ipv4: true, names: "ip_tables_names", module: "iptable_filter", program: "iptables-legacy" },
    Version { is_ipv4: false, names: "ip6_tables_names", module: "ip6table_filter", program: "ip6tables-legacy" },
];

/// The paths of the kernel's files and of the programs.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) proc_net: PathBuf,
    pub(super) modules: PathBuf,
    pub(super) programs: Vec<PathBuf>,
}

impl Host {
    pub(super) fn real() -> Self {
        Self {
            proc_net: "/proc/self/net".into(),
            modules: "/sys/module".into(),
            programs: ["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from).to_vec(),
        }
    }

    /// One sentence for each IP version whose table may drop one of the packets, with what to do.
    pub(super) async fn problems(&self, interface: &str, packets: &[Packet]) -> Vec<String> {
        let mut problems = Vec::new();
        for version in VERSIONS {
            let packets: Vec<&Packet> = packets.iter().filter(|it| it.is_ipv4 == version.is_ipv4).collect();
            if packets.is_empty() || !self.has_table(&version) {
                continue;
            }
            match self.rules(version.program).await {
                Some(rules) => {
                    let commands = objections(&rules, interface, &packets);
                    if !commands.is_empty() {
                        problems.push(sentence(version.program, &commands));
                    }
                }
                None => UNREAD.call_once(|| {
                    tracing::warn!(
                        "no permission to read the rules: {}",
                        sentence(version.program, &needed(interface, &packets))
                    );
                }),
            }
        }
        problems
    }

    fn has_table(&self, version: &Version) -> bool {
        match std::fs::read_to_string(self.proc_net.join(version.names)) {
            Ok(names) => names.lines().any(|name| name == "filter"),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => self.modules.join(version.module).exists(),
            Err(_) => false,
        }
    }

    /// The output of `iptables-legacy-save`. `None` if it is not installed or fails.
    async fn rules(&self, program: &str) -> Option<String> {
        let path = self.programs.iter().map(|dir| dir.join(format!("{program}-save"))).find(|path| path.exists())?;
        let output = output(&path).await?;
        output.contains("*filter").then_some(output)
    }
}

async fn output(path: &Path) -> Option<String> {
    let mut command = Command::new(path);
    command.args(["-t", "filter"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(DEADLINE, command.output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The rules that let the packets pass, as the program prints them: `FORWARD -i wg0 -j ACCEPT`.
fn needed(interface: &str, packets: &[&Packet]) -> Vec<String> {
    let rule = |packet: &&Packet| {
        let chain = match packet.hook {
            Hook::Input => "INPUT",
            Hook::Forward => "FORWARD",
        };
        match packet.opening(interface) {
            Opening::Interface("iifname") => format!("{chain} -i {interface} -j ACCEPT"),
            Opening::Interface(_) => format!("{chain} -o {interface} -j ACCEPT"),
            Opening::Port { from, protocol, port } => {
                format!("{chain} -i {from} -p {protocol} -m {protocol} --dport {port} -j ACCEPT")
            }
        }
    };
    packets.iter().map(rule).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The needed rules that do not come first in their chain, if the table drops anything.
fn objections(rules: &str, interface: &str, packets: &[&Packet]) -> Vec<String> {
    let needed = needed(interface, packets);
    let drops =
        |line: &str| ["-j DROP", "-j REJECT", "-j QUEUE", "-j NFQUEUE"].iter().any(|target| line.contains(target));
    let has_policy = |line: &str| [":INPUT DROP", ":FORWARD DROP"].iter().any(|policy| line.starts_with(policy));
    if !rules.lines().any(|line| drops(line) || has_policy(line)) {
        return Vec::new();
    }
    let comes_first = |rule: &String| {
        let (chain, _) = rule.split_once(' ').expect("`needed` puts a chain and a space first");
        let mut of_chain = rules.lines().filter_map(|line| line.strip_prefix("-A ")).filter(|it| it.starts_with(chain));
        of_chain.find(|line| line == rule || !line.ends_with("-j ACCEPT")).is_some_and(|line| line == rule)
    };
    needed.into_iter().filter(|rule| !comes_first(rule)).collect()
}

fn sentence(program: &str, rules: &[String]) -> String {
    let commands: Vec<String> = rules.iter().map(|rule| format!("`{program} -I {rule}`")).collect();
    format!(
        "legacy iptables has a filter table that may drop packets of enclaves, and wg-server cannot evaluate it: `{program} -S` shows \
         it. Expected no rule that drops, or before all other rules {}; or move its rules to iptables-nft",
        commands.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, InterfaceName};
    use crate::entry_port::TunnelPorts;
    use crate::firewall::Plan;

    const LAB: &str = include_str!("../../tests/parent.toml");

    fn packets(toml: &str) -> Vec<Packet> {
        let tunnel_ports = TunnelPorts { entry: 51_820, wireguard: 40_001 };
        Plan::new(&Config::parse(toml).unwrap(), InterfaceName::parse("uplink0").unwrap(), tunnel_ports).packets()
    }

    /// What is said on a host with this `iptables-legacy-save`.
    async fn said(names: &str, save: Option<&str>, toml: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("ip_tables_names"), names).unwrap();
        if let Some(save) = save {
            std::fs::write(path("saved"), save).unwrap();
            let (program, saved) = (path("iptables-legacy-save"), path("saved"));
            crate::namespace::sh(&format!(
                "printf '#!/bin/sh\\n[ \"$*\" = \"-t filter\" ] && cat {1}\\n' > {0}; chmod +x {0}",
                program.display(),
                saved.display()
            ));
        }
        let host = Host { proc_net: path(""), modules: path("modules"), programs: vec![path("nowhere"), path("")] };
        host.problems("wg0", &packets(toml)).await
    }

    fn save(policy: &str, rules: &str) -> String {
        format!(
            "# Generated\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD {policy} [5:300]\n:OUTPUT ACCEPT [0:0]\n{rules}COMMIT\n"
        )
    }

    #[tokio::test]
    async fn a_legacy_table_that_drops_is_named_with_how_to_see_it_and_one_that_cannot_be_read_is_not() {
        let drops = save("DROP", "-A INPUT -j DROP\n");
        assert_eq!(said("nat\n", Some(&drops), LAB).await, [] as [&str; 0]);
        assert_eq!(said("nat\nfilter\n", None, LAB).await, [] as [&str; 0]);
        let said = said("nat\nfilter\n", Some(&drops), LAB).await;
        assert_eq!(said.len(), 1);
        for expected in
            ["`iptables-legacy -S` shows", "`iptables-legacy -I FORWARD -i wg0 -j ACCEPT`", "-I INPUT -i wg0 "]
        {
            assert!(said[0].contains(expected), "{said:?}");
        }
    }

    #[tokio::test]
    async fn a_legacy_table_that_drops_nothing_or_lets_enclaves_pass_first_is_not_named() {
        let first = "-A INPUT -i wg0 -j ACCEPT\n-A FORWARD -o wg0 -j ACCEPT\n-A FORWARD -i wg0 -j ACCEPT\n";
        let docker = "-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN\n-A INPUT -s 192.0.2.9/32 -j REJECT --reject-with icmp-port-unreachable\n";
        for (policy, rules) in [
            ("ACCEPT", String::new()),
            ("ACCEPT", "-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN\n".to_owned()),
            ("DROP", format!("{first}{docker}")),
        ] {
            assert_eq!(said("filter\n", Some(&save(policy, &rules)), LAB).await, [] as [&str; 0], "{policy} {rules}");
        }
        let forward =
            ["`iptables-legacy -I FORWARD -i wg0 -j ACCEPT`", "`iptables-legacy -I FORWARD -o wg0 -j ACCEPT`"];
        for (policy, rules) in [
            ("DROP", "-A INPUT -i wg0 -j ACCEPT\n".to_owned()),
            (
                "ACCEPT",
                format!(
                    "-A INPUT -i wg0 -j ACCEPT\n{docker}-A FORWARD -i wg0 -j ACCEPT\n-A FORWARD -o wg0 -j ACCEPT\n"
                ),
            ),
        ] {
            let said = said("filter\n", Some(&save(policy, &rules)), LAB).await;
            assert!(
                forward.iter().all(|it| said[0].contains(it)) && !said[0].contains("INPUT"),
                "{policy} {rules}: {said:?}"
            );
        }
    }

    #[tokio::test]
    async fn parents_elsewhere_need_their_ports_in_a_legacy_table_too() {
        let remote = "[remote]\nlisten = \"192.0.2.10:821\"\nparents = [\"192.0.2.2\"]\n[nat]";
        let drops = save("ACCEPT", "-A INPUT -j DROP\n");
        let said = said("filter\n", Some(&drops), &LAB.replacen("[nat]", remote, 1)).await;
        for expected in ["-I INPUT -i uplink0 -p udp -m udp --dport 51820 -j ACCEPT`", "-p tcp -m tcp --dport 821 "] {
            assert!(said[0].contains(expected), "{said:?}");
        }
    }
}
