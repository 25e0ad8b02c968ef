//! What wg(8) `show` prints for an interface, without colours.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use tunnel::control::PublicKey;

/// An interface, without its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) public_key: Option<PublicKey>,
    pub(crate) has_private_key: bool,
    pub(crate) listening_port: Option<u16>,
    pub(crate) fwmark: Option<u32>,
    pub(crate) peers: Vec<Peer>,
}

/// A peer, without its preshared key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) public_key: PublicKey,
    pub(crate) has_preshared_key: bool,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) allowed_ips: Vec<IpNet>,
    pub(crate) latest_handshake: Option<SystemTime>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) persistent_keepalive: Option<u16>,
}

impl Interface {
    /// The text that `wg show` prints at `now`.
    pub(crate) fn show(&self, now: SystemTime) -> impl Display + '_ {
        fmt::from_fn(move |f| self.write(f, now))
    }

    fn write(&self, f: &mut Formatter<'_>, now: SystemTime) -> fmt::Result {
        writeln!(f, "interface: {}", self.name)?;
        if let Some(key) = self.public_key {
            writeln!(f, "  public key: {key}")?;
        }
        if self.has_private_key {
            writeln!(f, "  private key: (hidden)")?;
        }
        if let Some(port) = self.listening_port.filter(|port| *port != 0) {
            writeln!(f, "  listening port: {port}")?;
        }
        if let Some(mark) = self.fwmark.filter(|mark| *mark != 0) {
            writeln!(f, "  fwmark: {mark:#x}")?;
        }
        for peer in &self.peers {
            writeln!(f)?;
            peer.write(f, now)?;
        }
        Ok(())
    }
}

impl Peer {
    fn write(&self, f: &mut Formatter<'_>, now: SystemTime) -> fmt::Result {
        writeln!(f, "peer: {}", self.public_key)?;
        if self.has_preshared_key {
            writeln!(f, "  preshared key: (hidden)")?;
        }
        if let Some(endpoint) = self.endpoint {
            writeln!(f, "  endpoint: {endpoint}")?;
        }
        let allowed = self.allowed_ips.iter().map(ToString::to_string).collect::<Vec<_>>();
        let allowed = if allowed.is_empty() { "(none)".into() } else { allowed.join(", ") };
        writeln!(f, "  allowed ips: {allowed}")?;
        if let Some(handshake) = self.latest_handshake {
            writeln!(f, "  latest handshake: {}", Ago { since: handshake, now })?;
        }
        if self.received > 0 || self.sent > 0 {
            writeln!(f, "  transfer: {} received, {} sent", Bytes(self.received), Bytes(self.sent))?;
        }
        if let Some(seconds) = self.persistent_keepalive.filter(|seconds| *seconds != 0) {
            writeln!(f, "  persistent keepalive: every {}", Span(u64::from(seconds)))?;
        }
        Ok(())
    }
}

/// `1 minute, 3 seconds ago`; wg(8) counts whole seconds of the wall clock.
struct Ago {
    since: SystemTime,
    now: SystemTime,
}

impl Display for Ago {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds =
            |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        match seconds(self.now).checked_sub(seconds(self.since)) {
            Some(0) => f.write_str("Now"),
            Some(passed) => write!(f, "{} ago", Span(passed)),
            None => f.write_str("(System clock wound backward; connection problems may ensue.)"),
        }
    }
}

/// Seconds as wg(8) prints them.
struct Span(u64);

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 5] =
            [(365 * 86_400, "year"), (86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
        let mut left = self.0;
        let mut separator = "";
        for (size, unit) in UNITS {
            let count = left / size;
            left %= size;
            if count > 0 {
                write!(f, "{separator}{count} {unit}{}", if count == 1 { "" } else { "s" })?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

/// `1.23 KiB`
struct Bytes(u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (exponent, name) = match self.0.checked_ilog2().unwrap_or(0) {
            0..10 => return write!(f, "{} B", self.0),
            10..20 => (1, "KiB"),
            20..30 => (2, "MiB"),
            30..40 => (3, "GiB"),
            40.. => (4, "TiB"),
        };
        // Hundredths in integers, rounded as printf(3) rounds: to the nearest, and a half to the even one.
        let unit = 1_u128 << (10 * exponent);
        let scaled = u128::from(self.0) * 100;
        let (down, rest) = (scaled / unit, 2 * (scaled % unit));
        let hundredths = if rest > unit || (rest == unit && down % 2 == 1) { down + 1 } else { down };
        write!(f, "{}.{:02} {name}", hundredths / 100, hundredths % 100)
    }
}

#[cfg(test)]
mod tests;
