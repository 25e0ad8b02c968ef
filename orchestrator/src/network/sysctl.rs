//! Kernel settings without a netlink message, for PID 1's namespace and for the whole machine.

use std::fs;

use anyhow::{Context, Result};

/// Paths below /proc/sys, and their values.
const SETTINGS: [(&str, &str); 17] = [
    // Only wg0's peer can send packets here, and it is trusted with availability only.
    ("net/ipv4/conf/all/rp_filter", "1"),
    ("net/ipv4/conf/default/rp_filter", "1"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/conf/all/accept_source_route", "0"),
    ("net/ipv4/conf/default/accept_source_route", "0"),
    ("net/ipv4/icmp_echo_ignore_broadcasts", "1"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    // The probe's group may open ping sockets, which need no capability.
    ("net/ipv4/ping_group_range", "1002 1002"),
    // A service has no capability, and Landlock allows it the ports that the configuration lists, port 80 among them.
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("kernel/kptr_restrict", "2"),
    ("kernel/dmesg_restrict", "1"),
];

/// The connections that are tracked at most, at about 300 bytes each. When they are too many, the kernel drops those
/// that were never answered.
const MAX_CONNECTIONS: (&str, &str) = ("net/netfilter/nf_conntrack_max", "16384");

/// Bounds the memory of connection tracking, which starts with the first rule that needs it.
pub(super) fn bound_connections() -> Result<()> {
    write(MAX_CONNECTIONS)
}

/// Writes all settings.
pub(super) fn write_all() -> Result<()> {
    SETTINGS.into_iter().try_for_each(write)
}

fn write((name, value): (&str, &str)) -> Result<()> {
    let path = format!("/proc/sys/{name}");
    fs::write(&path, value).with_context(|| format!("write {value} to {path}"))
}
