//! The two capabilities that wg-server needs instead of root.

use anyhow::{Context, Result, ensure};
use caps::{CapSet, Capability};

const NEEDED: [(Capability, &str); 2] = [
    (Capability::CAP_NET_ADMIN, "for wg0, the firewall and the forwarding sysctls"),
    (Capability::CAP_NET_BIND_SERVICE, "for vsock ports 820 and 821 and for DNS on port 53"),
];

/// Checks that both are there and lets the children have them: nft needs the first, named the second.
///
/// To be called before any thread starts: capabilities belong to threads, which inherit them.
pub(crate) fn raise() -> Result<()> {
    check()?;
    for (capability, _) in NEEDED {
        caps::raise(None, CapSet::Inheritable, capability).with_context(|| format!("make {capability} inheritable"))?;
        caps::raise(None, CapSet::Ambient, capability).with_context(|| format!("make {capability} ambient"))?;
    }
    Ok(())
}

/// Says which capability is missing.
pub(crate) fn check() -> Result<()> {
    let effective = caps::read(None, CapSet::Effective).context("read this process's capabilities")?;
    missing(|capability| effective.contains(&capability))
}

fn missing(has: impl Fn(Capability) -> bool) -> Result<()> {
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|(capability, _)| !has(*capability))
        .map(|(capability, reason)| format!("{capability} ({reason})"))
        .collect();
    ensure!(
        missing.is_empty(),
        "missing {}; run as root or with AmbientCapabilities= of systemd",
        missing.join(" and ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named_with_what_it_is_for() {
        let error = missing(|capability| capability == Capability::CAP_NET_ADMIN).unwrap_err().to_string();
        assert!(error.starts_with("missing CAP_NET_BIND_SERVICE (for vsock ports 820 and 821"), "{error}");
        let error = missing(|_| false).unwrap_err().to_string();
        assert!(error.contains("CAP_NET_ADMIN (") && error.contains(" and CAP_NET_BIND_SERVICE ("), "{error}");
        assert!(missing(|_| true).is_ok());
    }
}
