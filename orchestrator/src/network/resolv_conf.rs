//! resolv.conf, for services that resolve names.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes the file into a root directory.
pub(crate) fn write(root: &Path, servers: &[IpAddr]) -> Result<()> {
    let dir = root.join("etc");
    fs::create_dir_all(&dir).with_context(|| format!("make directory {}", dir.display()))?;
    let path = dir.join("resolv.conf");
    fs::write(&path, resolv_conf(servers)).with_context(|| format!("write {}", path.display()))
}

fn resolv_conf(servers: &[IpAddr]) -> String {
    let lines: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    lines + "options timeout:2 attempts:3\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_a_line() {
        let text = resolv_conf(&["203.0.113.1".parse().unwrap(), "fd3b::1".parse().unwrap()]);
        assert_eq!(text, "nameserver 203.0.113.1\nnameserver fd3b::1\noptions timeout:2 attempts:3\n");
    }
}
