//! The URL of an enclave's signer.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hyper::Uri;
use rustls::pki_types::ServerName;
use thiserror::Error;

const HTTPS_PORT: u16 = 443;

/// `https://HOST` or `https://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnclaveUrl {
    authority: Box<str>,
    host: Box<str>,
    port: u16,
    server_name: ServerName<'static>,
}

/// Why a text is not an [`EnclaveUrl`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not the URL of a signer, expected https://HOST or https://HOST:PORT and nothing behind it")]
pub struct UrlError(String);

impl EnclaveUrl {
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// As in a `Host` header.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }
}

impl FromStr for EnclaveUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let refused = || UrlError(text.to_owned());
        let uri: Uri = text.parse().map_err(|_not_a_url| refused())?;
        let authority = uri.authority().ok_or_else(refused)?;
        let (authority, bracketed) = (authority.as_str(), authority.host());
        let is_right = uri.scheme_str() == Some("https")
            && uri.path() == "/"
            && uri.query().is_none()
            && !text.contains('#')
            && uri.port_u16() != Some(0);
        // The library accepts invalid ports, and user names.
        let is_whole = match uri.port_u16() {
            Some(port) => authority == format!("{bracketed}:{port}"),
            None => authority == bracketed,
        };
        if !is_right || !is_whole {
            return Err(refused());
        }
        let host = bracketed.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(bracketed);
        let server_name = match host.parse::<IpAddr>() {
            Ok(address) => ServerName::IpAddress(address.into()),
            Err(_) => ServerName::try_from(host.to_owned()).map_err(|_no_name| refused())?,
        };
        let port = uri.port_u16().unwrap_or(HTTPS_PORT);
        Ok(Self { authority: authority.into(), host: host.into(), port, server_name })
    }
}

impl fmt::Display for EnclaveUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_perhaps_a_port() {
        for (text, host, port) in [
            ("https://signer.example", "signer.example", 443),
            ("https://10.0.0.2:8443", "10.0.0.2", 8443),
            ("https://[fd00::2]:444", "fd00::2", 444),
        ] {
            let url: EnclaveUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port(), url.to_string().as_str()), (host, port, text));
        }
        assert_eq!("https://signer.example/".parse::<EnclaveUrl>().unwrap().to_string(), "https://signer.example");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "signer.example",
            "http://signer.example",
            "https://",
            "https://a@signer.example",
            "https://signer.example:",
            "https://signer.example:0",
            "https://signer.example:65536",
            "https://signer.example/path",
            "https://signer.example?nonce=1",
            "https://signer.example#x",
            "https://signer .example",
            "https://signer.example\n",
        ] {
            assert_eq!(text.parse::<EnclaveUrl>(), Err(UrlError(text.to_owned())), "{text:?}");
        }
    }
}
