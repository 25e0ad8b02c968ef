//! The capabilities that wg-server needs instead of root.

use anyhow::{Context, Result, ensure};
use caps::{CapSet, Capability};

const NEEDED: [(Capability, &str); 2] = [
    (Capability::CAP_NET_ADMIN, "for wg0, the firewall and the forwarding sysctls"),
    (Capability::CAP_NET_BIND_SERVICE, "for vsock ports 820 and 821 and for DNS on port 53"),
];
/// Needed only if no `wg-server named` starts named.
const FOR_NAMED: [(Capability, &str); 3] = [
    (Capability::CAP_SETUID, "to start named as another user"),
    (Capability::CAP_SETGID, "to start named in its own group, and to give named's files to that group"),
    (Capability::CAP_KILL, "to stop named, which runs as another user"),
];

/// What every child inherits, because nft needs it. named gets its own ([`crate::sys::confine`]).
const INHERITED: Capability = Capability::CAP_NET_ADMIN;

/// Checks that wg-server has all capabilities, and lets children inherit one of them.
///
/// Call it before any thread starts: capabilities belong to threads, which inherit them.
pub(crate) fn raise(starts_named: bool) -> Result<()> {
    check(starts_named)?;
    caps::clear(None, CapSet::Ambient).context("keep this process's capabilities from its children")?;
    caps::raise(None, CapSet::Inheritable, INHERITED).with_context(|| format!("make {INHERITED} inheritable"))?;
    caps::raise(None, CapSet::Ambient, INHERITED).with_context(|| format!("make {INHERITED} ambient"))
}

/// Says which capability is missing.
fn check(starts_named: bool) -> Result<()> {
    let effective = caps::read(None, CapSet::Effective).context("read this process's capabilities")?;
    missing(starts_named, |capability| effective.contains(&capability))
}

fn missing(starts_named: bool, has: impl Fn(Capability) -> bool) -> Result<()> {
    let for_named = if starts_named { &FOR_NAMED[..] } else { &[] };
    let missing: Vec<String> = NEEDED
        .iter()
        .chain(for_named)
        .filter(|(capability, _)| !has(*capability))
        .map(|(capability, reason)| format!("{capability} ({reason})"))
        .collect();
    ensure!(
        missing.is_empty(),
        "missing {}; run as root or with AmbientCapabilities= of systemd{}",
        missing.join(" and "),
        if starts_named { ", or set dns.named_socket_path, so that wg-named.service starts named" } else { "" }
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named_with_what_it_is_for() {
        let error = missing(true, |capability| capability == Capability::CAP_NET_ADMIN).unwrap_err().to_string();
        assert!(error.starts_with("missing CAP_NET_BIND_SERVICE (for vsock ports 820 and 821"), "{error}");
        let error = missing(true, |_| false).unwrap_err().to_string();
        assert!(error.contains("CAP_NET_ADMIN (") && error.contains(" and CAP_NET_BIND_SERVICE ("), "{error}");
        let error = missing(true, |capability| capability != Capability::CAP_SETUID).unwrap_err().to_string();
        assert!(error.starts_with("missing CAP_SETUID (to start named as another user); run as root"), "{error}");
        assert!(missing(true, |_| true).is_ok());
        let two = [Capability::CAP_NET_ADMIN, Capability::CAP_NET_BIND_SERVICE];
        assert!(missing(false, |capability| two.contains(&capability)).is_ok());
        assert!(missing(true, |capability| two.contains(&capability)).is_err());
    }
}
