//! Requests of web pages. A browser on this host reaches loopback, and a page that it shows could ask for signatures.
//!
//! A page's request has an `Origin`, except where it goes to the page's own host. A page can make a name of its own lead
//! to loopback (DNS rebinding): then its own host is this one, and `Host` has that name. So `Host` has to be an address,
//! `localhost`, or a name that the operator has listed.

use std::net::IpAddr;

use attestation::Printable;
use hyper::header::{HOST, HeaderMap, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{Method, StatusCode, Uri};

use super::failure::Failure;

/// Which names in `Host` are this host's.
#[derive(Clone, Debug)]
pub(super) enum Names {
    /// No browser connects to a Unix socket.
    Any,
    /// Those, beside `localhost` and addresses.
    Listed(Vec<String>),
}

/// What is not a request of a program to this host.
pub(super) fn check(names: &Names, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    if headers.contains_key(ORIGIN) {
        return Err(forbidden("a request of a web page: it has an Origin, expected one of a program".to_owned()));
    }
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        let message = format!("{method} is not possible here, expected GET, HEAD or POST");
        return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message));
    }
    let Names::Listed(names) = names else { return Ok(()) };
    let hosts = headers.get_all(HOST).iter().map(|host| host.as_bytes());
    let target = uri.authority().map(|authority| authority.as_str().as_bytes());
    match hosts.chain(target).find(|host| !is_own(host, names)) {
        None => Ok(()),
        Some(host) => {
            let host = String::from_utf8_lossy(host);
            let expected = "expected localhost, an address, or a name of --host";
            Err(forbidden(format!("a request to the host `{}`, {expected}", Printable(&host))))
        }
    }
}

fn is_own(host: &[u8], names: &[String]) -> bool {
    let Ok(authority) = Authority::try_from(host) else { return false };
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_named = |name: &str| host.eq_ignore_ascii_case(name);
    // A page has a name, or it comes from this very server.
    address.parse::<IpAddr>().is_ok() || is_named("localhost") || names.iter().any(|name| is_named(name))
}

fn forbidden(message: String) -> Failure {
    Failure::new(StatusCode::FORBIDDEN, "forbidden", message)
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn allows(uri: &str, headers: &[(HeaderName, &str)]) -> bool {
        let names = Names::Listed(vec!["proxy".to_owned()]);
        let pair = |(name, value): &(HeaderName, &str)| (name.clone(), HeaderValue::from_str(value).unwrap());
        let headers = headers.iter().map(pair).collect();
        check(&names, &Method::POST, &uri.parse().unwrap(), &headers).is_ok()
    }

    #[test]
    fn a_programs_host_is_an_address_or_a_known_name() {
        for host in ["127.0.0.1:8545", "127.0.0.1", "[::1]:8545", "[::1]", "localhost:8545", "LOCALHOST", "proxy:8545"]
        {
            assert!(allows("/", &[(HOST, host)]), "{host}");
        }
        assert!(allows("/", &[]));
        assert!(allows("http://localhost:8545/", &[(HOST, "localhost:8545")]));
    }

    #[test]
    fn a_name_that_leads_here_is_not_this_hosts() {
        for host in [
            "evil.example",
            "evil.example:8545",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "proxy.example",
            "",
        ] {
            assert!(!allows("/", &[(HOST, host)]), "{host}");
        }
        assert!(!allows("/", &[(HOST, "localhost"), (HOST, "evil.example")]));
        assert!(!allows("http://evil.example/", &[(HOST, "localhost")]));
        assert!(!allows("/", &[(HOST, "localhost"), (ORIGIN, "http://localhost")]));
    }

    #[test]
    fn a_connection_through_is_not_asked_for() {
        for method in [Method::CONNECT, Method::TRACE] {
            assert!(check(&Names::Any, &method, &Uri::from_static("/"), &HeaderMap::new()).is_err());
        }
    }
}
