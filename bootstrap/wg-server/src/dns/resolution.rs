//! Whether a name on the list can be looked up, and what is in the way if not: the fault is then outside of this host.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::message::Rcode;
use super::probe;

/// named itself gives up on its forwarders after 10 s (resolver-query-timeout).
const DEADLINE: Duration = Duration::from_secs(11);

/// What is wrong with the answers for this name, if anything.
pub(super) async fn fault(server: IpAddr, name: &str, is_validated: bool) -> Option<String> {
    let answer = ask(server, name, false).await;
    // With checking disabled, named passes on what it cannot verify.
    let unchecked = match answer {
        Some(Rcode::ServFail) if is_validated => ask(server, name, true).await,
        _ => None,
    };
    describe(name, answer, unchecked)
}

async fn ask(server: IpAddr, name: &str, is_unchecked: bool) -> Option<Rcode> {
    timeout(DEADLINE, probe::resolve(server, name, is_unchecked)).await.ok()?.ok()
}

fn describe(name: &str, answer: Option<Rcode>, unchecked: Option<Rcode>) -> Option<String> {
    let what = match (answer, unchecked) {
        (Some(Rcode::NoError), _) => return None,
        (Some(Rcode::ServFail), Some(Rcode::NoError)) => {
            "SERVFAIL, and an answer if DNSSEC is left out: its chain of signatures is broken, mostly because dns.forwarders hand \
             out no DNSSEC records; expected forwarders that do, or dnssec = false in [dns]"
                .to_owned()
        }
        (Some(Rcode::ServFail), _) => {
            "SERVFAIL: dns.forwarders do not answer, or refuse; expected name servers that this host reaches".to_owned()
        }
        (Some(Rcode::NxDomain), _) => {
            "NXDOMAIN: dns.forwarders do not know this name of the allow-list; expected one that exists".to_owned()
        }
        (Some(other @ Rcode::Other(_)), _) => format!("{other}; expected an answer"),
        (None, _) => "no answer: dns.forwarders are silent; expected name servers that this host reaches".to_owned(),
    };
    Some(format!("{name}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_not_to_be_answered_is_told_from_the_others() {
        let fault = |answer, unchecked| describe("aws.com", answer, unchecked).unwrap_or_default();
        assert_eq!(fault(Some(Rcode::NoError), None), "");
        assert!(fault(Some(Rcode::ServFail), Some(Rcode::NoError)).contains("dnssec = false"));
        for answer in [(Some(Rcode::ServFail), None), (Some(Rcode::ServFail), Some(Rcode::ServFail))] {
            assert!(fault(answer.0, answer.1).starts_with("aws.com: SERVFAIL: dns.forwarders do not answer"));
        }
        assert!(fault(Some(Rcode::NxDomain), None).starts_with("aws.com: NXDOMAIN: "));
        assert_eq!(fault(Some(Rcode::Other(5)), None), "aws.com: REFUSED; expected an answer");
        assert!(fault(None, None).starts_with("aws.com: no answer: "));
    }
}
