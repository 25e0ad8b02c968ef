//! Whether a name on the list can be looked up, and if not, why. The fault is then outside this host.

use std::net::IpAddr;
use std::time::Duration;
use std::{fmt, io};

use tokio::time::timeout;

use super::message::Rcode;
use super::probe;
use crate::config::Forwarder;

/// named itself gives up on its forwarders after 10 s (resolver-query-timeout).
const DEADLINE: Duration = Duration::from_secs(11);

/// Why a name on the list cannot be looked up. Displayed after the name.
#[derive(Debug)]
pub(crate) enum Fault {
    /// There is an answer only without checking signatures.
    Signatures,
    ServFail,
    NxDomain,
    Other(Rcode),
    Silence,
    /// named itself does not answer.
    Nobody(IpAddr, io::Error),
}

/// Looks a name up. Returns what is wrong, if anything.
pub(crate) async fn fault(server: IpAddr, name: &str, is_validated: bool) -> Option<Fault> {
    let answer = ask(server, name, false).await;
    // With checking disabled, named passes on what it cannot verify.
    let unchecked = match answer {
        Ok(Rcode::ServFail) if is_validated => Some(ask(server, name, true).await),
        _ => None,
    };
    judge(answer, unchecked)
}

async fn ask(server: IpAddr, name: &str, is_unchecked: bool) -> Result<Rcode, Fault> {
    let answer = timeout(DEADLINE, probe::resolve(server, name, is_unchecked)).await;
    answer.map_or(Err(Fault::Silence), |answer| answer.map_err(|error| Fault::Nobody(server, error)))
}

fn judge(answer: Result<Rcode, Fault>, unchecked: Option<Result<Rcode, Fault>>) -> Option<Fault> {
    match (answer, unchecked) {
        (Ok(Rcode::NoError), _) => None,
        (Ok(Rcode::ServFail), Some(Ok(Rcode::NoError))) => Some(Fault::Signatures),
        (Ok(Rcode::ServFail), _) => Some(Fault::ServFail),
        (Ok(Rcode::NxDomain), _) => Some(Fault::NxDomain),
        (Ok(other @ Rcode::Other(_)), _) => Some(Fault::Other(other)),
        (Err(fault), _) => Some(fault),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signatures => {
                "SERVFAIL, but an answer without DNSSEC: the chain of signatures is broken, usually because dns.forwarders return \
                 no DNSSEC records; expected forwarders that do, or dnssec = false in [dns]"
            }
            Self::ServFail => {
                "SERVFAIL: dns.forwarders do not answer, or refuse; expected name servers that this host can reach"
            }
            Self::NxDomain => "NXDOMAIN: dns.forwarders do not know this name of the allow-list; expected a name that exists",
            Self::Other(code) => return write!(f, "{code}; expected an answer"),
            Self::Silence => "no answer: dns.forwarders do not answer; expected name servers that this host can reach",
            Self::Nobody(server, error) => return write!(f, "named does not answer at {server}: {error}"),
        })
    }
}

impl Fault {
    /// What to do about it. Displayed after the fault.
    pub(crate) fn remedy(&self, name: &str, forwarder: Forwarder) -> String {
        let Forwarder { address, port } = forwarder;
        let dig =
            if port == 53 { format!("dig @{address} {name}") } else { format!("dig @{address} -p {port} {name}") };
        match self {
            Self::Signatures => "edit it and restart wg-server".to_owned(),
            Self::ServFail | Self::Silence => format!(
                "ask one as wg-server does, `{dig}`; if it answers, wg-server's log says why wg-server refused the answer"
            ),
            Self::NxDomain | Self::Other(_) => {
                format!(
                    "ask one as wg-server does, `{dig}`; if it answers, restart wg-server, which reads the list at its start"
                )
            }
            Self::Nobody(..) => "`wg-server status` says whether named runs, and why not".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
    const FORWARDER: Forwarder = Forwarder { address: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 53)), port: 53 };

    #[test]
    fn every_way_not_to_be_answered_is_told_from_the_others() {
        let fault =
            |answer, unchecked| judge(answer, unchecked).map_or_else(String::new, |fault| format!("aws.com: {fault}"));
        assert_eq!(fault(Ok(Rcode::NoError), None), "");
        assert!(fault(Ok(Rcode::ServFail), Some(Ok(Rcode::NoError))).contains("dnssec = false"));
        for unchecked in [None, Some(Ok(Rcode::ServFail)), Some(Err(Fault::Silence))] {
            assert!(
                fault(Ok(Rcode::ServFail), unchecked).starts_with("aws.com: SERVFAIL: dns.forwarders do not answer")
            );
        }
        assert!(fault(Ok(Rcode::NxDomain), None).starts_with("aws.com: NXDOMAIN: "));
        assert_eq!(fault(Ok(Rcode::Other(5)), None), "aws.com: REFUSED; expected an answer");
        assert!(fault(Err(Fault::Silence), None).starts_with("aws.com: no answer: "));
        let refused = Fault::Nobody(SERVER, io::ErrorKind::ConnectionRefused.into());
        assert_eq!(fault(Err(refused), None), "aws.com: named does not answer at 203.0.113.1: connection refused");
    }

    #[test]
    fn what_to_do_is_where_the_fault_is() {
        let remedy = |fault: Fault| fault.remedy("aws.com", FORWARDER);
        assert_eq!(remedy(Fault::Signatures), "edit it and restart wg-server");
        for fault in [Fault::ServFail, Fault::Silence] {
            let expected = "ask one as wg-server does, `dig @198.51.100.53 aws.com`; if it answers, wg-server's log says why \
                            wg-server refused the answer";
            assert_eq!(remedy(fault), expected);
        }
        for fault in [Fault::NxDomain, Fault::Other(Rcode::Other(5))] {
            let expected = "ask one as wg-server does, `dig @198.51.100.53 aws.com`; if it answers, restart wg-server, which reads \
                            the list at its start";
            assert_eq!(remedy(fault), expected);
        }
        let nobody = Fault::Nobody(SERVER, io::ErrorKind::ConnectionRefused.into());
        assert!(remedy(nobody).starts_with("`wg-server status`"));
        let other_port = Fault::ServFail.remedy("aws.com", Forwarder { port: 5353, ..FORWARDER });
        assert!(other_port.contains("`dig @198.51.100.53 -p 5353 aws.com`"), "{other_port}");
    }
}
