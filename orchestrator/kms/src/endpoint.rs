//! The URL of a server: a scheme, a host and optionally a port, and nothing else.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use hyper::Uri;
use thiserror::Error;

/// HTTP's port.
const HTTP_PORT: u16 = 80;
/// HTTPS's port.
const HTTPS_PORT: u16 = 443;

/// An HTTPS server: `https://HOST` or `https://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

/// Why a text is not an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// Not a URL.
    #[error("not a URL")]
    Url,
    /// For example HTTP where HTTPS is required.
    #[error("the scheme is not {0}")]
    Scheme(&'static str),
    /// A user name, which can disguise the host that follows it.
    #[error("a user name")]
    User,
    /// Port 0, a port above 65535, or none after the colon.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// A path or a query.
    #[error("something behind the host and port")]
    Path,
    /// A name, where there may be no resolver.
    #[error("the host is not an IP address")]
    Address,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        origin(text, "https")?;
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl Endpoint {
    /// The host, a name or an address without brackets, and the port.
    ///
    /// # Panics
    /// Never: the text was checked.
    #[must_use]
    pub fn host_and_port(&self) -> (String, u16) {
        let uri = origin(&self.0, "https").expect("checked when it was made");
        let host = uri.host().expect("an origin has one").trim_start_matches('[').trim_end_matches(']');
        (host.to_owned(), uri.port_u16().unwrap_or(HTTPS_PORT))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads `http://ADDRESS` or `http://ADDRESS:PORT`.
///
/// # Errors
/// Why the text is not such an address.
pub fn http_address(text: &str) -> Result<SocketAddr, EndpointError> {
    let uri = origin(text, "http")?;
    let host = uri.host().expect("an origin has one").trim_start_matches('[').trim_end_matches(']');
    let address: IpAddr = host.parse().map_err(|_not_an_address| EndpointError::Address)?;
    Ok(SocketAddr::new(address, uri.port_u16().unwrap_or(HTTP_PORT)))
}

fn origin(text: &str, scheme: &'static str) -> Result<Uri, EndpointError> {
    let uri: Uri = text.parse().map_err(|_not_a_url| EndpointError::Url)?;
    let authority = uri.authority().ok_or(EndpointError::Url)?;
    // The library overlooks what is not a port.
    let (authority, host) = (authority.as_str(), authority.host());
    let is_whole = match uri.port_u16() {
        Some(port) => port != 0 && authority == format!("{host}:{port}"),
        None => authority == host,
    };
    let checks = [
        (uri.scheme_str() == Some(scheme), EndpointError::Scheme(scheme)),
        (!authority.contains('@'), EndpointError::User),
        (is_whole, EndpointError::Port),
        (uri.path() == "/" && uri.query().is_none(), EndpointError::Path),
    ];
    match checks.into_iter().find(|(is_right, _)| !is_right) {
        Some((_, error)) => Err(error),
        None => Ok(uri),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> EndpointError {
        text.parse::<Endpoint>().unwrap_err()
    }

    #[test]
    fn only_https_servers_are_endpoints() {
        for good in ["https://kms.example", "https://kms.example:8443", "https://192.0.2.1", "https://[2001:db8::1]:1"]
        {
            assert_eq!(good.parse::<Endpoint>().unwrap().to_string(), good);
        }
        let parts = |text: &str| text.parse::<Endpoint>().unwrap().host_and_port();
        assert_eq!(parts("https://kms.example"), ("kms.example".to_owned(), 443));
        assert_eq!(parts("https://[2001:db8::1]:1"), ("2001:db8::1".to_owned(), 1));
        assert_eq!("https://kms.example/".parse::<Endpoint>().unwrap().to_string(), "https://kms.example");
        assert_eq!(refused("http://kms.example:8443"), EndpointError::Scheme("https"));
        assert_eq!(refused("kms.example"), EndpointError::Scheme("https"));
        assert_eq!(refused("https://user@kms.example"), EndpointError::User);
        assert_eq!(refused("https://kms.example:0"), EndpointError::Port);
        for port in ["", "65536", "99999999", "+443", "0443"] {
            assert_eq!(refused(&format!("https://kms.example:{port}")), EndpointError::Port, "{port:?}");
            assert_eq!(refused(&format!("https://[2001:db8::1]:{port}")), EndpointError::Port, "{port:?}");
        }
        assert_eq!(refused("https://kms.example/path"), EndpointError::Path);
        assert_eq!(refused("https://kms.example?query"), EndpointError::Path);
        for text in ["", "https://", "/", "https://kms.example\n", "https://kms example"] {
            assert_eq!(refused(text), EndpointError::Url, "{text:?}");
        }
    }

    #[test]
    fn the_metadata_service_is_an_address() {
        assert_eq!(http_address("http://192.0.2.1"), Ok("192.0.2.1:80".parse().unwrap()));
        assert_eq!(http_address("http://[fd00:ec2::254]:81/"), Ok("[fd00:ec2::254]:81".parse().unwrap()));
        assert_eq!(http_address("https://192.0.2.1"), Err(EndpointError::Scheme("http")));
        assert_eq!(http_address("http://metadata.example"), Err(EndpointError::Address));
        assert_eq!(http_address("http://192.0.2.1/latest"), Err(EndpointError::Path));
        assert_eq!(http_address("http://192.0.2.1:65536"), Err(EndpointError::Port));
    }
}
