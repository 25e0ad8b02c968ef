//! The namespaces `internet` and `gateway`, and the uplinks of parent and gateway.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::paths::RUN_DIR;

/// Batches of ip(8), one for each namespace. With a command for each line they would take seconds under emulation.
const PARENT: &str = "
netns add internet
netns add gateway
link add uplink0 type veth peer name inet0 netns internet
address add 198.51.100.2/24 dev uplink0
address add 2001:db8:100::2/64 dev uplink0 nodad
link set uplink0 mtu 1500 up
route add default via 198.51.100.1 dev uplink0
route add default via 2001:db8:100::1 dev uplink0
";
const GATEWAY: &str = "
link add uplink0 type veth peer name inet1 netns internet
link set lo up
address add 192.0.2.10/24 dev uplink0
address add 2001:db8:200::10/64 dev uplink0 nodad
link set uplink0 mtu 1500 up
route add default via 192.0.2.1 dev uplink0
route add default via 2001:db8:200::1 dev uplink0
";
const INTERNET: &str = "
link set lo up
address add 198.51.100.1/24 dev inet0
address add 198.51.100.10/24 dev inet0
address add 198.51.100.53/24 dev inet0
address add 198.51.100.80/24 dev inet0
address add 198.51.100.81/24 dev inet0
address add 198.51.100.90/24 dev inet0
address add 198.51.100.91/24 dev inet0
address add 198.51.100.92/24 dev inet0
address add 169.254.169.253/32 dev inet0
address add 169.254.169.254/32 dev inet0
address add 2001:db8:100::1/64 dev inet0 nodad
address add 2001:db8:100::10/64 dev inet0 nodad
address add 2001:db8:100::53/64 dev inet0 nodad
address add 2001:db8:100::80/64 dev inet0 nodad
link set inet0 mtu 1500 up
address add 192.0.2.1/24 dev inet1
address add 2001:db8:200::1/64 dev inet1 nodad
link set inet1 mtu 1500 up
";
/// Forwarding, and the TTL of the metadata service's answers.
const INTERNET_RULES: &str = "
sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
nft 'table ip metadata { chain output { type filter hook output priority 0; ip saddr 169.254.169.254 ip ttl set 2; }; }'
";

/// Creates everything.
pub(super) fn set_up() -> Result<()> {
    batch(&["ip"], PARENT)?;
    batch(&["ip", "-n", "gateway"], GATEWAY)?;
    batch(&["ip", "-n", "internet"], INTERNET)?;
    command(&["ip", "netns", "exec", "internet", "sh", "-e", "-c", INTERNET_RULES])
}

/// Runs a batch of ip(8), which reports the line of an error.
fn batch(program: &[&str], lines: &str) -> Result<()> {
    let path = format!("{RUN_DIR}/ip-batch");
    fs::write(&path, lines).with_context(|| format!("write {path}"))?;
    command(&[program, &["-batch", &path]].concat())
}

/// Runs a program, and waits for it.
pub(super) fn command(words: &[&str]) -> Result<()> {
    let (program, arguments) = words.split_first().context("no program")?;
    let line = words.join(" ");
    let output = Command::new(program).args(arguments).output().with_context(|| line.clone())?;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
