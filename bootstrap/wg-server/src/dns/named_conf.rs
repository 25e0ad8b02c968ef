//! BIND's configuration, generated from ours.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::allow_list::{AllowList, Name, POLICY_ZONE};
use super::cookie::Secret;
use super::{forwarder, zone};
use crate::config::{Config, Deny};

/// A file that named reads.
pub(super) struct GeneratedFile {
    pub(super) name: &'static str,
    pub(super) text: String,
}

pub(super) const CONF_FILE: &str = "named.conf";
/// The folder that named may write in.
pub(super) const WORK_DIR: &str = "work";
const POLICY_FILE: &str = "policy.zone";
const ROOT_FILE: &str = "refused-root.zone";

/// Where named and wg-server meet, on the loopback interface.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    /// wg-server's.
    pub(super) forwarder: SocketAddr,
    /// named's own.
    pub(super) statistics: SocketAddr,
}

/// Everything that named reads, for a working folder.
pub(super) fn files(
    config: &Config,
    list: &AllowList,
    dir: &Path,
    secret: &Secret,
    ports: Ports,
) -> Vec<GeneratedFile> {
    let mut files = vec![
        GeneratedFile { name: CONF_FILE, text: conf(config, list, dir, secret, ports) },
        GeneratedFile { name: POLICY_FILE, text: zone::policy(list) },
    ];
    if config.dns.deny == Deny::Refused {
        files.push(GeneratedFile { name: ROOT_FILE, text: zone::refused_root() });
    }
    files
}

fn conf(config: &Config, list: &AllowList, dir: &Path, secret: &Secret, ports: Ports) -> String {
    let Ports { forwarder, statistics } = ports;
    let gateways: Vec<IpAddr> = config.wireguard.gateways().collect();
    let (ipv4, ipv6): (Vec<IpAddr>, Vec<IpAddr>) = gateways.into_iter().partition(IpAddr::is_ipv4);
    let networks: String = config.wireguard.addresses.iter().map(|net| format!(" {};", net.trunc())).collect();
    let mut conf = format!(
        r#"// Written by wg-server at every start; changes here are lost.
acl enclaves {{{networks} }};
options {{
    directory "{dir}/{WORK_DIR}";
    pid-file none;
    session-keyfile none;
    listen-on {{{listen_on} }};
    listen-on-v6 {{{listen_on_v6} }};
    interface-interval 1;

    recursion yes;
    allow-query {{ enclaves; }};
    allow-query-cache {{ enclaves; }};
    allow-recursion {{ enclaves; }};
    allow-transfer {{ none; }};
    notify no;
    version none;
    hostname none;
    server-id none;
    // wg-server identifies this named by the cookies in its answers.
    cookie-algorithm siphash24;
    cookie-secret "{secret}";
    minimal-responses yes;
    minimal-any yes;

    // wg-server, which passes questions to dns.forwarders. An answer opens its addresses for a while: named may not keep it longer.
    forward only;
    forwarders {{ {forwarder} port {port}; }};
    max-cache-ttl {max_ttl};
    stale-cache-enable no;
    stale-answer-enable no;
    dnssec-validation {dnssec};

    recursive-clients 256;
    tcp-clients 64;
    max-cache-size 32m;
    // A client that exceeds the limit gets truncated answers, which ask it to retry over TCP.
    rate-limit {{ responses-per-second 200; slip 1; ipv4-prefix-length 32; ipv6-prefix-length 64; log-only no; }};

    // Denies a name before anything is sent to a forwarder.
    response-policy {{ zone "{policy}" policy given log yes; }} qname-wait-recurse no break-dnssec yes
        // Also for questions without recursion, which ask for cached names.
        recursive-only no;
}};
controls {{ }};
// Numbers for wg-server's metrics.
statistics-channels {{ inet {statistics_address} port {statistics_port} allow {{ {statistics_address}; }}; }};
logging {{
    channel queries {{
        file "{query_log}" versions 3 size 20m;
        print-time yes;
        severity info;
    }};
    channel daemon {{ stderr; severity info; }};
    category default {{ daemon; }};
    category queries {{ queries; }};
    category rpz {{ queries; }};
    category rpz-passthru {{ null; }};
    category security {{ queries; }};
    category query-errors {{ queries; }};
    category rate-limit {{ queries; }};
    category lame-servers {{ null; }};
}};
zone "{policy}" {{ type primary; file "{dir}/{POLICY_FILE}"; allow-query {{ none; }}; }};
"#,
        dir = dir.display(),
        listen_on = list_of(&ipv4),
        listen_on_v6 = list_of(&ipv6),
        dnssec = if config.dns.dnssec { "auto" } else { "no" },
        secret = secret.expose_as_hex(),
        forwarder = forwarder.ip(),
        port = forwarder.port(),
        statistics_address = statistics.ip(),
        statistics_port = statistics.port(),
        max_ttl = forwarder::MAX_TTL.as_secs(),
        policy = POLICY_ZONE,
        query_log = config.dns.query_log_path.display(),
    );
    if config.dns.deny == Deny::Refused {
        refuse(&mut conf, list, forwarder, dir);
    }
    conf
}

/// A policy zone cannot refuse. Our own root zone can, because nobody may query it. The allowed names are zones inside it whose
/// questions go to the forwarder. They are static stubs, because BIND answers from the closest *zone*, and a zone of type
/// `forward` does not count as one.
fn refuse(conf: &mut String, list: &AllowList, forwarder: SocketAddr, dir: &Path) {
    let (address, port) = (forwarder.ip(), forwarder.port());
    let dir = dir.display();
    // Writing to a string cannot fail.
    let _infallible =
        writeln!(conf, "zone \".\" {{ type primary; file \"{dir}/{ROOT_FILE}\"; allow-query {{ none; }}; }};");
    let listed: Vec<&Name> = list.entries().map(|(name, _)| name).collect();
    for name in &listed {
        let is_inside_another =
            std::iter::successors(name.parent(), Name::parent).any(|ancestor| listed.binary_search(&&ancestor).is_ok());
        if !is_inside_another {
            let _infallible = writeln!(
                conf,
                "zone \"{name}\" {{ type static-stub; server-addresses {{ {address}; }}; forward only; \
                 forwarders {{ {address} port {port}; }}; allow-query {{ enclaves; }}; }};"
            );
        }
    }
}

fn list_of(addresses: &[IpAddr]) -> String {
    match addresses {
        [] => " none;".to_owned(),
        _ => addresses.iter().map(|address| format!(" {address};")).collect(),
    }
}
