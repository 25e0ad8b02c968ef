//! The servers in the lab's internet: addresses and configuration.
//!
//! The name server answers at 169.254.169.253, as a VPC's own does. It has no DNSSEC: a query for signatures gets an
//! answer without them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};

use crate::network::command;
use crate::paths::INTERNET_DIR;

/// Port of the self-test servers, TCP and UDP.
const SELF_TEST_PORT: u16 = 7008;
/// The self-test servers.
pub const SELF_TEST_SERVERS: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10)), SELF_TEST_PORT),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 0x10)), SELF_TEST_PORT),
];
/// The parent's port for raw vsock streams, a reference of the benchmark.
pub const VSOCK_PORT: u32 = 7009;
/// A name that exists, but is not on the allow-list, and its HTTPS server.
pub const OFF_LIST_NAME: &str = "off-list.example";
/// As above.
pub const OFF_LIST_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 81)), 443);

const NAMED_CONF: &str = r#"options {
    directory "/run/lab/internet";
    listen-on { 198.51.100.53; 169.254.169.253; };
    listen-on-v6 { 2001:db8:100::53; };
    pid-file none;
    session-keyfile none;
    recursion no;
    notify no;
    dnssec-validation no;
    allow-transfer { none; };
};
controls {};
zone "." { type primary; file "root.zone"; };
"#;

/// All names of the lab's internet. It is the root zone, so that no other name exists.
const ROOT_ZONE: &str = "$TTL 60
@ SOA ns.internet.example. root.internet.example. 1 3600 600 86400 5
@ NS ns.internet.example.
ns.internet.example. A 198.51.100.53
ns.internet.example. AAAA 2001:db8:100::53
aws.com. A 198.51.100.80
aws.com. AAAA 2001:db8:100::80
kms.eu-central-1.amazonaws.com. A 198.51.100.90
secretsmanager.eu-central-1.amazonaws.com. A 198.51.100.91
sts.eu-central-1.amazonaws.com. A 198.51.100.91
s3.eu-central-1.amazonaws.com. A 198.51.100.91
*.s3.eu-central-1.amazonaws.com. A 198.51.100.91
self-test.internet.example. A 198.51.100.10
self-test.internet.example. AAAA 2001:db8:100::10
hub.internet.example. A 198.51.100.10
rpc.internet.example. A 198.51.100.92
off-list.example. A 198.51.100.81
";

const HTTPS_KEY: [&str; 16] = [
    "openssl",
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-days",
    "30",
    "-subj",
    "/CN=aws.com/O=TEST ONLY lab",
    "-addext",
    "subjectAltName=DNS:aws.com",
    "-keyout",
    "/run/lab/internet/https.key",
];

/// Writes the configuration, and a certificate for aws.com.
pub(super) fn write() -> Result<()> {
    for (name, content) in [("named.conf", NAMED_CONF), ("root.zone", ROOT_ZONE)] {
        let path = format!("{INTERNET_DIR}/{name}");
        fs::write(&path, content).with_context(|| format!("write {path}"))?;
    }
    // ip-netns(8) binds the namespace's resolv.conf over the parent's, which must exist for that.
    fs::write("/etc/resolv.conf", "nameserver 169.254.169.253\n").context("write /etc/resolv.conf")?;
    fs::create_dir_all("/etc/netns/internet").context("make /etc/netns/internet")?;
    fs::write("/etc/netns/internet/resolv.conf", "nameserver 198.51.100.53\n").context("write resolv.conf")?;
    // named writes files beside its zone.
    fs::set_permissions(INTERNET_DIR, fs::Permissions::from_mode(0o777)).context("open the folder to named")?;
    command(&[&HTTPS_KEY[..], &["-out", "/run/lab/internet/https.crt"]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::{aws, chain};

    #[test]
    fn the_zone_has_what_the_lab_names() {
        assert!(ROOT_ZONE.contains(&format!("\n{OFF_LIST_NAME}. A {}\n", OFF_LIST_SERVER.ip())));
        for server in SELF_TEST_SERVERS {
            assert!(ROOT_ZONE.contains(&format!(" {}\n", server.ip())), "{server}");
        }
    }

    #[test]
    fn the_servers_of_aws_have_their_names_and_enclaves_may_look_up_those_that_a_signer_asks() {
        for server in aws::SERVERS.into_iter().chain([chain::SERVER]) {
            for name in server.names {
                assert!(ROOT_ZONE.contains(&format!("\n{name}. A {}\n", server.address)), "{name}");
            }
        }
        let list = config::allow_list(include_str!("../../../../config/parent/dns-allow-list.txt")).unwrap();
        for name in aws::SERVERS.iter().filter_map(|server| server.names.first()) {
            assert!(list.lines().any(|line| line == *name), "{name}");
        }
    }

    #[test]
    fn the_name_off_the_list_is_off_the_list() {
        let list = config::allow_list(include_str!("../../../../config/parent/dns-allow-list.txt")).unwrap();
        assert!(list.lines().any(|line| line == "aws.com"));
        assert!(!list.contains(OFF_LIST_NAME));
    }
}
