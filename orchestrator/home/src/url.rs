//! The URL of a hub.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::ServerName;
use thiserror::Error;

/// HTTPS's port.
const HTTPS_PORT: u16 = 443;

/// `https://HOST` or `https://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeUrl {
    host: String,
    port: u16,
    server_name: ServerName<'static>,
}

/// Why a text is not the URL of a hub.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{}` is not a hub's URL, expected https://HOST or https://HOST:PORT and nothing behind", .0.escape_debug())]
pub struct UrlError(String);

impl HomeUrl {
    /// A name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What the hub's certificate must be for.
    #[must_use]
    pub fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }

    /// Host and port, for logs and metrics.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl FromStr for HomeUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        parse(text).ok_or_else(|| UrlError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<HomeUrl> {
    let authority = text.strip_prefix("https://")?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']')?;
            // Brackets are for IPv6 addresses.
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = port.map_or(Some(HTTPS_PORT), |digits| {
        let port: u16 = digits.parse().ok()?;
        (port != 0 && port.to_string() == digits).then_some(port)
    })?;
    let server_name = ServerName::try_from(host.to_owned()).ok()?;
    Some(HomeUrl { host: host.to_owned(), port, server_name })
}

impl fmt::Display for HomeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_perhaps_a_port() {
        for (text, host, port) in [
            ("https://hub.example", "hub.example", 443),
            ("https://10.0.0.2:8443", "10.0.0.2", 8443),
            ("https://[fd00::2]:444", "fd00::2", 444),
            ("https://[fd00::2]/", "fd00::2", 443),
        ] {
            let url: HomeUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port()), (host, port), "{text}");
        }
        assert_eq!("https://hub.example".parse::<HomeUrl>().unwrap().to_string(), "https://hub.example:443");
        assert_eq!("https://[fd00::2]:444".parse::<HomeUrl>().unwrap().to_string(), "https://[fd00::2]:444");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "hub.example",
            "http://hub.example",
            "https://",
            "https://a@hub.example",
            "https://hub.example:",
            "https://hub.example:0",
            "https://hub.example:0443",
            "https://hub.example:+443",
            "https://hub.example:65536",
            "https://hub.example/path",
            "https://hub.example?nonce=1",
            "https://hub.example#x",
            "https://hub .example",
            "https://hub.example\n",
            "https://[10.0.0.2]",
            "https://[fd00::2",
            "https://[fd00::2]444",
            "https://fd00::2",
        ] {
            assert_eq!(text.parse::<HomeUrl>(), Err(UrlError(text.to_owned())), "{text:?}");
        }
    }
}
