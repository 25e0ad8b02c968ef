//! resolv.conf, for whatever resolves names in PID 1's namespace.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::boot::SELF_TEST_DIR;

/// Writes the file into the root and into the self-test's root.
pub(super) fn write(servers: &[IpAddr]) -> Result<()> {
    let text = resolv_conf(servers);
    for root in [Path::new("/"), Path::new(SELF_TEST_DIR)] {
        let dir: PathBuf = root.join("etc");
        fs::create_dir_all(&dir).with_context(|| format!("make directory {}", dir.display()))?;
        let path = dir.join("resolv.conf");
        fs::write(&path, &text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
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
