//! The programs that the parent's machine runs, each with its namespace and its rights.

use super::service::Service;
use super::{PROGRAM, aws};

/// The parent's daemon, for everything but blind mode.
pub(crate) const WG_SERVER_SERVICE: &str = "wg-server";
/// The parent's part of blind mode.
pub(crate) const RELAY_SERVICE: &str = "wg-relay";
/// The gateway of blind mode, in the lab's internet.
pub(crate) const GATEWAY_SERVICE: &str = "wg-gateway";

pub(super) const WG_SERVER: &str = "/payload/bin/wg-server";

/// All of them; those of blind mode are held until it is asked for, and moto until the tunnels are up.
pub(super) fn all() -> Vec<Service> {
    let https = |name, address: &str| {
        let command = words(&["openssl", "s_server", "-quiet", "-www", "-accept", address]);
        let files = words(&["-cert", "/run/lab/internet/https.crt", "-key", "/run/lab/internet/https.key"]);
        Service::new(name, within("internet", [command, files].concat()))
    };
    let gateway =
        |config: &str| wg_server("+net_admin,+net_bind_service,+setuid,+setgid,+kill", &["run", "--config", config]);
    let named = words(&["/usr/sbin/named", "-f", "-c", "/run/lab/internet/named.conf"]);
    let mut services = vec![
        Service::new("internet-dns", within("internet", named)),
        https("internet-https", "198.51.100.80:443"),
        https("internet-https6", "[2001:db8:100::80]:443"),
        Service::new("internet-self-test", within("internet", words(&[PROGRAM, "internet"]))),
        Service::new(WG_SERVER_SERVICE, gateway("/etc/wg-server/parent.toml")),
        Service::new(
            RELAY_SERVICE,
            wg_server("+net_bind_service", &["relay", "--config", "/etc/wg-server/relay.toml"]),
        ),
        Service::new(GATEWAY_SERVICE, within("gateway", gateway("/etc/wg-gateway/gateway.toml"))),
    ];
    services.extend(aws::services());
    services
}

pub(super) fn within(namespace: &str, command: Vec<String>) -> Vec<String> {
    [words(&["nsenter", &format!("--net=/run/netns/{namespace}"), "--"]), command].concat()
}

/// As the services that docs/aws.md describes: no root, no capabilities but these.
fn wg_server(capabilities: &str, arguments: &[&str]) -> Vec<String> {
    let limits = [
        "setpriv".to_owned(),
        "--reuid=998".to_owned(),
        "--regid=998".to_owned(),
        "--clear-groups".to_owned(),
        format!("--bounding-set=-all,{capabilities}"),
        format!("--inh-caps={capabilities}"),
        format!("--ambient-caps={capabilities}"),
        "--no-new-privs".to_owned(),
        WG_SERVER.to_owned(),
    ];
    [&limits[..], &words(arguments)].concat()
}

pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
