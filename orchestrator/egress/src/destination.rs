//! A destination as the configuration writes it: `"kms.eu-central-1.amazonaws.com:443"`, `"10.0.0.0/8:5432"`,
//! `"[2001:db8::7]:53/udp"`, `"203.0.113.1:ping"`, `"anywhere"`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

/// The destination without any limit.
const ANYWHERE: &str = "anywhere";

/// One destination that a process may reach.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// Every address, with every protocol.
    Anywhere,
    /// A host or a network, and what is reached there.
    At(Host, Port),
}

/// The part before the colon.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A host name in lower case. The rules cannot know its addresses, so they allow the port at every address.
    Name(String),
    /// An address or a network.
    Net(IpNet),
}

/// The part after the colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Port {
    /// A TCP port.
    Tcp(u16),
    /// A UDP port.
    Udp(u16),
    /// ICMP and ICMPv6 echo requests.
    Ping,
}

/// Why a text is not a destination.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DestinationError {
    /// `https://...`
    #[error("a URL, expected a host and a port such as \"kms.eu-central-1.amazonaws.com:443\"")]
    Url,
    /// No colon, or an IPv6 address without brackets.
    #[error("expected HOST:PORT, with brackets around an IPv6 address, such as \"[2001:db8::7]:443\"")]
    NoPort,
    /// Something else after the colon.
    #[error("`{0}` is not a port, expected 1 to 65535, with `/udp` for UDP, or `ping`")]
    Port(String),
    /// `10.0.0.1/8`
    #[error("{0} has host bits set, expected {1}")]
    HostBits(IpNet, IpNet),
    /// `*.example.com`
    #[error("a wildcard: a rule has one name, expected each host name in full")]
    Wildcard,
    /// Neither an address nor a network nor a name.
    #[error("`{0}` is neither a host name nor an address nor a network")]
    Host(String),
    /// An address that no host can have.
    #[error("{0} is {1}, expected the address of a host")]
    Unreachable(IpAddr, &'static str),
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        if text == ANYWHERE {
            return Ok(Self::Anywhere);
        }
        if text.contains("://") {
            return Err(DestinationError::Url);
        }
        let (host, port) = text.rsplit_once(':').ok_or(DestinationError::NoPort)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or(DestinationError::NoPort)?,
            None if host.contains(':') => return Err(DestinationError::NoPort),
            None => host,
        };
        Ok(Self::At(host.parse()?, port.parse()?))
    }
}

impl FromStr for Host {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        if let Some(net) = net {
            return check_net(net).map(Self::Net);
        }
        if text.contains('*') {
            return Err(DestinationError::Wildcard);
        }
        let name = host_name(text).ok_or_else(|| DestinationError::Host(text.escape_debug().to_string()))?;
        Ok(Self::Name(name))
    }
}

impl FromStr for Port {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        if text == "ping" {
            return Ok(Self::Ping);
        }
        let (number, is_udp) = match text.strip_suffix("/udp") {
            Some(number) => (number, true),
            None => (text.strip_suffix("/tcp").unwrap_or(text), false),
        };
        // Without a sign and without leading zeros, which the library's parser takes.
        let port = number.parse().ok().filter(|port: &u16| *port != 0 && port.to_string() == number);
        let port = port.ok_or_else(|| DestinationError::Port(text.escape_debug().to_string()))?;
        Ok(if is_udp { Self::Udp(port) } else { Self::Tcp(port) })
    }
}

fn check_net(net: IpNet) -> Result<IpNet, DestinationError> {
    if net != net.trunc() {
        return Err(DestinationError::HostBits(net, net.trunc()));
    }
    let address = net.addr();
    let is_mapped = matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
    let reasons = [
        (address.is_unspecified() && net.prefix_len() != 0, "the unspecified address"),
        (address.is_multicast(), "a multicast address"),
        (is_mapped, "an IPv4-mapped IPv6 address"),
    ];
    match reasons.into_iter().find(|(is_so, _)| *is_so) {
        Some((_, reason)) => Err(DestinationError::Unreachable(address, reason)),
        None => Ok(net),
    }
}

/// A host name (RFC 1123, 2.1, and underscores) in lower case and without a dot at its end. None if it is not one.
#[must_use]
pub fn host_name(text: &str) -> Option<String> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    // A last label of digits is a mistyped IPv4 address.
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = name.len() <= 253 && name.split('.').all(is_label) && !name.rsplit('.').next().is_some_and(is_number);
    is_name.then(|| name.to_ascii_lowercase())
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anywhere => f.write_str(ANYWHERE),
            Self::At(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Net(net) if net.prefix_len() < net.max_prefix_len() => match net {
                IpNet::V4(net) => net.fmt(f),
                IpNet::V6(net) => write!(f, "[{net}]"),
            },
            Self::Net(IpNet::V4(net)) => net.addr().fmt(f),
            Self::Net(IpNet::V6(net)) => write!(f, "[{}]", net.addr()),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => port.fmt(f),
            Self::Udp(port) => write!(f, "{port}/udp"),
            Self::Ping => f.write_str("ping"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_of_destination_reads_as_it_is_written() {
        for text in [
            "kms.eu-central-1.amazonaws.com:443",
            "10.0.0.0/8:5432",
            "0.0.0.0/0:443",
            "169.254.169.254:80",
            "127.0.0.1:443",
            "[2001:db8::7]:53/udp",
            "[2001:db8::/32]:443",
            "203.0.113.1:ping",
            "aws.com:ping",
            "anywhere",
        ] {
            assert_eq!(text.parse::<Destination>().map(|destination| destination.to_string()), Ok(text.to_owned()));
        }
        let same = [("Example.COM.:443", "example.com:443"), ("example.com:443/tcp", "example.com:443")];
        for (text, canonical) in same {
            assert_eq!(text.parse::<Destination>(), canonical.parse());
        }
    }

    #[test]
    fn anything_else_is_refused_by_its_kind() {
        let host = |text: &str| DestinationError::Host(text.to_owned());
        let port = |text: &str| DestinationError::Port(text.to_owned());
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        for (text, error) in [
            ("https://example.com:443", DestinationError::Url),
            ("example.com", DestinationError::NoPort),
            ("2001:db8::7:443", DestinationError::NoPort),
            ("[2001:db8::7:443", DestinationError::NoPort),
            ("example.com:0", port("0")),
            ("example.com:65536", port("65536")),
            ("example.com:+443", port("+443")),
            ("example.com:443/sctp", port("443/sctp")),
            ("example.com:", port("")),
            ("10.0.0.1/8:443", DestinationError::HostBits(net("10.0.0.1/8"), net("10.0.0.0/8"))),
            ("*.example.com:443", DestinationError::Wildcard),
            ("10.0.0.256:443", host("10.0.0.256")),
            ("10.0.0.0/33:443", host("10.0.0.0/33")),
            ("user@example.com:443", host("user@example.com")),
            ("exa mple.com:443", host("exa mple.com")),
            ("example..com:443", host("example..com")),
            (":443", host("")),
            ("0.0.0.0:443", DestinationError::Unreachable([0, 0, 0, 0].into(), "the unspecified address")),
            ("224.0.0.1:443", DestinationError::Unreachable([224, 0, 0, 1].into(), "a multicast address")),
        ] {
            assert_eq!(text.parse::<Destination>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            if let Ok(destination) = text.parse::<Destination>() {
                prop_assert_eq!(destination.to_string().parse::<Destination>(), Ok(destination));
            }
        }
    }
}
