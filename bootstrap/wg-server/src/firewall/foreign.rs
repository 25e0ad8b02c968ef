//! Finds other tables that drop the enclaves' packets, as far as their rules tell. Pure: a listing in, sentences out.
//!
//! A packet must pass every base chain of its hook: one chain that drops it is enough, whatever ours says (nft(8), "policy"). So
//! each foreign base chain is evaluated for the packets that enclaves need. If a rule depends on something unknown, the result is
//! unknown, and nothing is reported.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::gate;
use super::packet::{Hook, Opening, Packet, Truth};
use super::ruleset::TABLE;

/// Chains may call each other this deep (NFT_JUMP_STACK_SIZE, net/netfilter/nf_tables.h).
const DEEPEST: u32 = 16;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Address {
    family: String,
    table: String,
    #[serde(alias = "chain")]
    name: String,
}

#[derive(Deserialize)]
struct Base {
    #[serde(flatten)]
    address: Address,
    hook: Option<String>,
    policy: Option<String>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(flatten)]
    address: Address,
    #[serde(default)]
    expr: Vec<Value>,
}

/// Every table's chains.
struct Chains {
    base: Vec<Base>,
    rules: BTreeMap<Address, Vec<Vec<Value>>>,
}

/// The verdict of a chain on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Accepted,
    Dropped,
    /// No rule decided. The caller's next rule or the policy does.
    Undecided,
    /// A rule depends on something unknown.
    Unknown,
}

/// One sentence for each foreign base chain that drops one of the packets, with the command that lets it pass.
pub(super) fn problems(listing: &Value, interface: &str, packets: &[Packet]) -> Vec<String> {
    let chains = Chains::new(listing);
    let mut problems = Vec::new();
    for base in &chains.base {
        let Some(hook) = base.hook.as_deref().and_then(Hook::parse) else { continue };
        let dropped: Vec<&Packet> = packets
            .iter()
            .filter(|packet| packet.hook == hook && packet.is_of(&base.address.family))
            .filter(|packet| chains.drops(base, packet))
            .collect();
        let (of_enclaves, of_parents): (Vec<&Packet>, _) =
            dropped.into_iter().partition(|packet| matches!(packet.opening(interface), Opening::Interface(_)));
        for dropped in [of_enclaves, of_parents].iter().filter(|dropped| !dropped.is_empty()) {
            problems.push(chains.sentence(&base.address, hook, interface, dropped));
        }
    }
    problems
}

impl Chains {
    fn new(listing: &Value) -> Self {
        let mut chains = Self { base: Vec::new(), rules: BTreeMap::new() };
        let objects = listing.get("nftables").and_then(Value::as_array);
        for object in objects.into_iter().flatten() {
            if let Some(rule) = object.get("rule").and_then(|rule| Rule::deserialize(rule).ok()) {
                chains.rules.entry(rule.address).or_default().push(rule.expr);
            } else if let Some(chain) = object.get("chain").and_then(|chain| Base::deserialize(chain).ok()) {
                let is_ours = chain.address.family == "inet"
                    && [TABLE, gate::DNS_TABLE, gate::DRAIN_TABLE].contains(&chain.address.table.as_str());
                if chain.hook.is_some() && !is_ours {
                    chains.base.push(chain);
                }
            }
        }
        chains
    }

    fn drops(&self, base: &Base, packet: &Packet) -> bool {
        match self.walk(&base.address, packet, 0) {
            Fate::Dropped => true,
            Fate::Undecided => base.policy.as_deref() == Some("drop"),
            Fate::Accepted | Fate::Unknown => false,
        }
    }

    fn walk(&self, chain: &Address, packet: &Packet, depth: u32) -> Fate {
        if depth > DEEPEST {
            return Fate::Unknown;
        }
        for rule in self.rules.get(chain).into_iter().flatten() {
            match self.judge(chain, rule, packet, depth) {
                Step::Next => {}
                Step::End(fate) => return fate,
            }
        }
        Fate::Undecided
    }

    fn judge(&self, chain: &Address, rule: &[Value], packet: &Packet, depth: u32) -> Step {
        let mut matches = Truth::Yes;
        for statement in rule {
            let Some((name, value)) = statement.as_object().and_then(|statement| statement.iter().next()) else {
                continue;
            };
            match name.as_str() {
                "match" => matches = matches.and(packet.matches(value)),
                // A target of iptables that nft cannot translate.
                "xt" if value.get("type").and_then(Value::as_str) == Some("target") => {
                    if let Some("REJECT" | "DROP") = value.get("name").and_then(Value::as_str) {
                        return matches.then(|| Step::End(Fate::Dropped));
                    }
                }
                "xt" => matches = matches.and(packet.matches_extension(value)),
                "limit" | "quota" | "connlimit" | "ct count" => matches = matches.and(Truth::Unknown),
                "vmap" => return matches.then(|| self.map(chain, value, packet, depth)),
                "accept" | "drop" | "reject" | "return" | "jump" | "goto" | "queue" => {
                    return matches.then(|| self.verdict(chain, name, value, packet, depth));
                }
                // Counters, logs and changes to the packet give no verdict.
                _ => {}
            }
            if matches == Truth::No {
                return Step::Next;
            }
        }
        Step::Next
    }

    fn verdict(&self, chain: &Address, name: &str, value: &Value, packet: &Packet, depth: u32) -> Step {
        let to = || {
            let target = value.get("target").and_then(Value::as_str);
            let target = target.map(|name| Address { name: name.to_owned(), ..chain.clone() });
            target.map_or(Fate::Unknown, |target| self.walk(&target, packet, depth + 1))
        };
        match name {
            "accept" => Step::End(Fate::Accepted),
            "drop" | "reject" => Step::End(Fate::Dropped),
            "return" => Step::End(Fate::Undecided),
            "goto" => Step::End(to()),
            "jump" => match to() {
                Fate::Undecided => Step::Next,
                fate @ (Fate::Accepted | Fate::Dropped | Fate::Unknown) => Step::End(fate),
            },
            _ => Step::End(Fate::Unknown),
        }
    }

    /// `KEY vmap { VALUE : VERDICT, ... }`.
    fn map(&self, chain: &Address, value: &Value, packet: &Packet, depth: u32) -> Step {
        let (Some(key), Some(elements)) = (value.get("key"), value.pointer("/data/set").and_then(Value::as_array))
        else {
            return Step::End(Fate::Unknown);
        };
        for element in elements {
            let Some([right, verdict]) = element.as_array().map(Vec::as_slice) else {
                return Step::End(Fate::Unknown);
            };
            let matches = packet.compare(key, right);
            let verdict = verdict.as_object().and_then(|verdict| verdict.iter().next());
            let (Some((name, value)), true) = (verdict, matches != Truth::No) else { continue };
            return matches.then(|| self.verdict(chain, name, value, packet, depth));
        }
        Step::Next
    }

    fn sentence(&self, chain: &Address, hook: Hook, interface: &str, dropped: &[&Packet]) -> String {
        let Address { family, table, name } = chain;
        let openings: BTreeSet<Opening<'_>> = dropped.iter().map(|packet| packet.opening(interface)).collect();
        let is_of_parents = openings.iter().any(|opening| matches!(opening, Opening::Port { .. }));
        let (whose, what) = match hook {
            Hook::Forward => (interface, "enclaves cannot reach the outside or be reached from it"),
            Hook::Input if is_of_parents => ("remote.parents", "their enclaves have no tunnel"),
            Hook::Input => (interface, "enclaves cannot reach the gateway's name server"),
        };
        let commands: Vec<String> =
            openings.iter().map(|opening| format!("`{}`", self.command(chain, hook, *opening, interface))).collect();
        format!(
            "the chain {name} of the table {family} {table} drops packets of {whose}, so {what}: run {} (wg-server's own \
             rules still apply), and make the same change in the file that defines that chain",
            commands.join(" and ")
        )
    }

    /// The command of the program that made the chain, if it is known.
    fn command(&self, chain: &Address, hook: Hook, opening: Opening<'_>, interface: &str) -> String {
        let Address { family, table, name } = chain;
        let side = match opening {
            Opening::Interface(side) => side,
            Opening::Port { from, protocol, port } => return self.command_for_port(chain, from, protocol, port),
        };
        let has = |prefix: &str| self.rules.keys().any(|it| it.table == *table && it.name.starts_with(prefix));
        let (flag, direction) = if side == "iifname" { ("-i", "in") } else { ("-o", "out") };
        let iptables = if family == "ip6" { "ip6tables" } else { "iptables" };
        match (table.as_str(), name.as_str(), hook) {
            ("firewalld", ..) => format!("firewall-cmd --zone=trusted --add-interface={interface}"),
            (_, "FORWARD", Hook::Forward) if has("DOCKER") => {
                format!("{iptables} -I DOCKER-USER {flag} {interface} -j ACCEPT")
            }
            (_, "FORWARD", Hook::Forward) if has("ufw") => format!("ufw route allow {direction} on {interface}"),
            (_, "INPUT", Hook::Input) if has("ufw") => format!("ufw allow in on {interface}"),
            (_, "FORWARD" | "INPUT", _) => format!("{iptables} -I {name} {flag} {interface} -j ACCEPT"),
            _ => format!("nft insert rule {family} {table} {name} {side} \"{interface}\" accept"),
        }
    }
}

impl Chains {
    /// The same for a port of this host.
    fn command_for_port(&self, chain: &Address, from: &str, protocol: &str, port: u16) -> String {
        let Address { family, table, name } = chain;
        let is_ufw = self.rules.keys().any(|it| it.table == *table && it.name.starts_with("ufw"));
        let iptables = if family == "ip6" { "ip6tables" } else { "iptables" };
        match (table.as_str(), name.as_str()) {
            ("firewalld", _) => {
                format!(
                    "firewall-cmd --zone=$(firewall-cmd --get-zone-of-interface={from}) --add-port={port}/{protocol}"
                )
            }
            (_, "INPUT") if is_ufw => format!("ufw allow in on {from} to any port {port} proto {protocol}"),
            (_, "INPUT") => format!("{iptables} -I INPUT -i {from} -p {protocol} --dport {port} -j ACCEPT"),
            _ => format!("nft insert rule {family} {table} {name} iifname \"{from}\" {protocol} dport {port} accept"),
        }
    }
}

/// The result of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Next,
    End(Fate),
}

impl Truth {
    /// If a rule may or may not match, its verdict is unknown. Exception: a rule that drops is skipped, because nothing is reported
    /// that is not certain, and the next rules may still drop.
    fn then(self, step: impl FnOnce() -> Step) -> Step {
        match self {
            Self::Yes => step(),
            Self::No => Step::Next,
            Self::Unknown => match step() {
                Step::Next | Step::End(Fate::Dropped) => Step::Next,
                Step::End(Fate::Accepted | Fate::Undecided | Fate::Unknown) => Step::End(Fate::Unknown),
            },
        }
    }
}

#[cfg(test)]
mod tests;
