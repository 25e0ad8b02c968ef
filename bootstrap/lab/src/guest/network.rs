//! The namespaces that play the internet and a gateway in it, and the uplinks of parent and gateway.

use std::process::Command;

use anyhow::{Context, Result, ensure};

const SETUP: &str = "
ip netns add internet
ip link add uplink0 type veth peer name inet0 netns internet
ip address add 198.51.100.2/24 dev uplink0
ip -6 address add 2001:db8:100::2/64 dev uplink0 nodad
ip link set uplink0 mtu 1500 up
ip -n internet link set lo up
ip -n internet address add 198.51.100.1/24 dev inet0
ip -n internet address add 198.51.100.10/24 dev inet0
ip -n internet address add 198.51.100.53/24 dev inet0
ip -n internet address add 198.51.100.80/24 dev inet0
ip -n internet address add 198.51.100.90/24 dev inet0
ip -n internet address add 198.51.100.91/24 dev inet0
ip -n internet address add 169.254.169.254/32 dev inet0
ip -n internet -6 address add 2001:db8:100::1/64 dev inet0 nodad
ip -n internet -6 address add 2001:db8:100::10/64 dev inet0 nodad
ip -n internet -6 address add 2001:db8:100::53/64 dev inet0 nodad
ip -n internet -6 address add 2001:db8:100::80/64 dev inet0 nodad
ip -n internet link set inet0 mtu 1500 up
ip route add default via 198.51.100.1 dev uplink0
ip -6 route add default via 2001:db8:100::1 dev uplink0
ip netns add gateway
ip -n gateway link add uplink0 type veth peer name inet1 netns internet
ip -n gateway link set lo up
ip -n gateway address add 192.0.2.10/24 dev uplink0
ip -n gateway -6 address add 2001:db8:200::10/64 dev uplink0 nodad
ip -n gateway link set uplink0 mtu 1500 up
ip -n internet address add 192.0.2.1/24 dev inet1
ip -n internet -6 address add 2001:db8:200::1/64 dev inet1 nodad
ip -n internet link set inet1 mtu 1500 up
ip -n gateway route add default via 192.0.2.1 dev uplink0
ip -n gateway -6 route add default via 2001:db8:200::1 dev uplink0
ip netns exec internet sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip netns exec internet nft add table ip metadata
ip netns exec internet nft add chain ip metadata output { type filter hook output priority 0 ; }
ip netns exec internet nft add rule ip metadata output ip saddr 169.254.169.254 ip ttl set 2
";

/// Makes all ends.
pub(super) fn set_up() -> Result<()> {
    for line in SETUP.lines().filter(|line| !line.is_empty()) {
        command(&line.split(' ').collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Runs a program to its end.
pub(super) fn command(words: &[&str]) -> Result<()> {
    let (program, arguments) = words.split_first().context("no program")?;
    let line = words.join(" ");
    let output = Command::new(program).args(arguments).output().with_context(|| line.clone())?;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
