//! The kernel's forwarding sysctls: on for wg0 and the uplink, and nowhere else if the kernel allows that.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::config::InterfaceName;

const ROOT: &str = "/proc/sys/net";

/// A sysctl that must have a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Switch {
    path: PathBuf,
    value: &'static str,
    /// If set, only this value is overwritten.
    over: Option<&'static str>,
}

/// A sysctl that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Switched {
    /// Its name in sysctl(8).
    pub(crate) name: String,
    pub(crate) from: String,
    pub(crate) to: &'static str,
}

/// The sysctls that the enclaves' traffic needs. They stay on at the end, because other programs may rely on them by then.
pub(crate) fn plan(interface: &InterfaceName, uplink: &InterfaceName, ipv4: bool, ipv6: bool) -> Vec<Switch> {
    let switch = |path: String, value, over| Switch { path: PathBuf::from(format!("{ROOT}/{path}")), value, over };
    let mut switches = Vec::new();
    if ipv4 {
        // IPv4 checks the interface that a packet arrived on: wg0 for requests, the uplink for answers.
        for name in [interface, uplink] {
            switches.push(switch(format!("ipv4/conf/{name}/forwarding"), "1", None));
        }
    }
    if ipv6 {
        // With forwarding on, an interface ignores router advertisements unless accept_ra is 2, and on EC2 the default route
        // comes from one (Documentation/networking/ip-sysctl.rst, accept_ra).
        switches.push(switch(format!("ipv6/conf/{uplink}/accept_ra"), "2", Some("1")));
        // Without this one, IPv6 forwards nothing on any interface (ip6_forward).
        switches.push(switch("ipv6/conf/all/forwarding".to_owned(), "1", None));
    }
    switches
}

/// Sets what differs. `done` gets each change, even if a later one fails.
pub(crate) fn settle(switches: &[Switch], done: &mut Vec<Switched>) -> Result<()> {
    for switch in switches {
        let path = switch.path.display();
        let present = std::fs::read_to_string(&switch.path).with_context(|| format!("read {path}"))?;
        if let Some(switched) = switch.over(present.trim()) {
            std::fs::write(&switch.path, switch.value).with_context(|| format!("write {} to {path}", switch.value))?;
            done.push(switched);
        }
    }
    Ok(())
}

/// Refuses a host on which wg0 cannot have an IPv6 address, with the sysctl that forbids it and what to do.
pub(crate) fn ensure_ipv6(interface: &InterfaceName) -> Result<()> {
    ensure_ipv6_below(Path::new(ROOT), interface)
}

fn ensure_ipv6_below(root: &Path, interface: &InterfaceName) -> Result<()> {
    let or = "or remove enclaves.ipv6_range and the IPv6 address of wireguard.addresses from the configuration";
    let conf = root.join("ipv6/conf");
    ensure!(
        conf.is_dir(),
        "wireguard.addresses has an IPv6 address, but this kernel has no IPv6: boot without ipv6.disable=1, {or}"
    );
    // A new interface gets the default.
    let place = if conf.join(interface.as_str()).is_dir() { interface.as_str() } else { "default" };
    let path = conf.join(place).join("disable_ipv6");
    let value = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    // In sysctl's names a dot inside an interface's name is a slash (sysctl(8)).
    let name = format!("net.ipv6.conf.{}.disable_ipv6", place.replace('.', "/"));
    ensure!(
        value.trim() == "0",
        "wireguard.addresses has an IPv6 address, but {name} is {}, expected 0: `sysctl -w {name}=0` (and change the file in \
         /etc/sysctl.d that sets it, or net.ipv6.conf.all.disable_ipv6), {or}",
        value.trim()
    );
    Ok(())
}

impl Switch {
    fn over(&self, present: &str) -> Option<Switched> {
        if present == self.value || self.over.is_some_and(|over| over != present) {
            return None;
        }
        let name = self.path.strip_prefix("/proc/sys").unwrap_or(&self.path);
        Some(Switched {
            // sysctl(8) takes slashes too, and then a dot in an interface's name stays one.
            name: name.display().to_string(),
            from: present.to_owned(),
            to: self.value,
        })
    }
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

    #[test]
    fn only_what_is_not_as_it_should_be_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let switch = |name: &str, value, over| {
            let path = dir.path().join(name);
            std::fs::write(&path, format!("{value}\n")).unwrap();
            Switch { path, value: if over == Some("1") { "2" } else { "1" }, over }
        };
        let switches = [switch("off", "0", None), switch("on", "1", None), switch("ra_off", "0", Some("1"))];
        let mut done = Vec::new();
        settle(&switches, &mut done).unwrap();
        assert_eq!(done.iter().map(|done| (done.from.as_str(), done.to)).collect::<Vec<_>>(), [("0", "1")]);
        assert_eq!(std::fs::read_to_string(dir.path().join("off")).unwrap(), "1");
        assert_eq!(std::fs::read_to_string(dir.path().join("ra_off")).unwrap(), "0\n", "switched off by the operator");
        done.clear();
        settle(&switches, &mut done).unwrap();
        assert_eq!(done, []);
    }

    #[test]
    fn a_sysctl_that_forbids_ipv6_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let name = InterfaceName::parse("wg0").unwrap();
        let error = || ensure_ipv6_below(dir.path(), &name).unwrap_err().to_string();
        assert!(error().contains("this kernel has no IPv6: boot without ipv6.disable=1"), "{}", error());
        let set = |place: &str, value: &str| {
            let conf = dir.path().join("ipv6/conf").join(place);
            std::fs::create_dir_all(&conf).unwrap();
            std::fs::write(conf.join("disable_ipv6"), value).unwrap();
        };
        set("default", "1\n");
        assert!(error().contains("net.ipv6.conf.default.disable_ipv6 is 1, expected 0: `sysctl -w"), "{}", error());
        set("default", "0\n");
        ensure_ipv6_below(dir.path(), &name).unwrap();
        set("wg0", "1\n");
        assert!(error().contains("net.ipv6.conf.wg0.disable_ipv6 is 1"), "{}", error());
        assert!(error().contains("remove enclaves.ipv6_range"), "{}", error());
    }
}
