//! The kernel's forwarding switches: on for wg0 and the uplink, nowhere else where the kernel leaves the choice.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::config::InterfaceName;

const ROOT: &str = "/proc/sys/net";

/// One value that has to be there, and when.
#[derive(Debug, PartialEq, Eq)]
struct Switch {
    path: PathBuf,
    value: &'static str,
    /// Written only over this value.
    over: Option<&'static str>,
}

/// Switches forwarding on. It stays on at the end: others may have come to rely on it.
pub(crate) fn enable(interface: &InterfaceName, uplink: &InterfaceName, ipv4: bool, ipv6: bool) -> Result<()> {
    for switch in plan(interface, uplink, ipv4, ipv6) {
        let path = switch.path.display();
        let present = std::fs::read_to_string(&switch.path).with_context(|| format!("read {path}"))?;
        let present = present.trim();
        if present == switch.value || switch.over.is_some_and(|over| over != present) {
            continue;
        }
        std::fs::write(&switch.path, switch.value).with_context(|| format!("write {} to {path}", switch.value))?;
        tracing::info!(%path, from = present, to = switch.value, "sysctl changed");
    }
    Ok(())
}

fn plan(interface: &InterfaceName, uplink: &InterfaceName, ipv4: bool, ipv6: bool) -> Vec<Switch> {
    let switch = |path: String, value, over| Switch { path: PathBuf::from(format!("{ROOT}/{path}")), value, over };
    let mut switches = Vec::new();
    if ipv4 {
        // IPv4 asks the interface that a packet came in on: wg0 for questions, the uplink for answers.
        for name in [interface, uplink] {
            switches.push(switch(format!("ipv4/conf/{name}/forwarding"), "1", None));
        }
    }
    if ipv6 {
        // With forwarding on, an interface takes no more router advertisements unless accept_ra is 2, and on EC2 the default
        // route comes from one (Documentation/networking/ip-sysctl.rst, accept_ra).
        switches.push(switch(format!("ipv6/conf/{uplink}/accept_ra"), "2", Some("1")));
        // IPv6 forwards nothing anywhere unless this one is on (ip6_forward).
        switches.push(switch("ipv6/conf/all/forwarding".to_owned(), "1", None));
    }
    switches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(ipv4: bool, ipv6: bool) -> Vec<String> {
        let name = |text| InterfaceName::parse(text).unwrap();
        let plan = plan(&name("wg0"), &name("eth0"), ipv4, ipv6);
        plan.iter().map(|switch| format!("{}={}", switch.path.display(), switch.value)).collect()
    }

    #[test]
    fn only_the_versions_in_use_are_forwarded() {
        assert_eq!(
            paths(true, false),
            ["/proc/sys/net/ipv4/conf/wg0/forwarding=1", "/proc/sys/net/ipv4/conf/eth0/forwarding=1"]
        );
    }

    #[test]
    fn router_advertisements_are_kept_before_ipv6_forwarding_is_switched_on() {
        assert_eq!(
            paths(false, true),
            ["/proc/sys/net/ipv6/conf/eth0/accept_ra=2", "/proc/sys/net/ipv6/conf/all/forwarding=1"]
        );
    }
}
