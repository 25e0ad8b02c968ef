//! What `wg-server status` proves.

use std::net::IpAddr;

use serde::Deserialize;
use tunnel::port::Cid;

/// The part of `wg-server status --json` that the lab reads.
#[derive(Debug, Deserialize)]
struct Report {
    enclaves: Vec<Enclave>,
}

#[derive(Debug, Deserialize)]
struct Enclave {
    cid: Cid,
    addresses: Vec<IpAddr>,
    /// Absent while no document has been verified for its keys.
    attested: Option<Attested>,
}

#[derive(Debug, Deserialize)]
struct Attested {
    /// Base64.
    document: String,
}

/// The addresses of one enclave in a report as JSON, IPv4 first.
///
/// # Errors
/// Text that is not a report.
pub(crate) fn leased_addresses(report: &str, cid: Cid) -> serde_json::Result<Vec<IpAddr>> {
    let mut addresses: Vec<_> = of(report, cid)?.flat_map(|enclave| enclave.addresses).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    Ok(addresses)
}

/// The attestation document of one enclave in a report as JSON, in base64; none while no document has been verified.
///
/// # Errors
/// Text that is not a report.
pub(crate) fn document(report: &str, cid: Cid) -> serde_json::Result<Option<String>> {
    Ok(of(report, cid)?.find_map(|enclave| enclave.attested).map(|attested| attested.document))
}

/// The lines of `wg-server status` about an enclave's document: `PCR0: 00...` and so on.
pub(crate) fn attested(status: &str, cid: Cid) -> Option<Vec<&str>> {
    let of_enclave = status.split("\nenclave: ").find_map(|block| block.strip_prefix(&format!("CID {cid}\n")))?;
    let is_of_document =
        |line: &&str| ["module: ", "PCR", "configuration: "].iter().any(|start| line.starts_with(start));
    let lines: Vec<_> = of_enclave.lines().map(str::trim).filter(is_of_document).collect();
    (!lines.is_empty()).then_some(lines)
}

fn of(report: &str, cid: Cid) -> serde_json::Result<impl Iterator<Item = Enclave>> {
    let Report { enclaves } = serde_json::from_str(report)?;
    Ok(enclaves.into_iter().filter(move |enclave| enclave.cid == cid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_enclave_proved_is_not_another_s() {
        let status = "trust root: x\n\nenclave: CID 16\n  module: lab-16\n  PCR0: 00\n  relay: y\n\nenclave: CID 17\n  PCR0: 11\n";
        assert_eq!(attested(status, Cid(16)), Some(vec!["module: lab-16", "PCR0: 00"]));
        assert_eq!(attested(status, Cid(17)), Some(vec!["PCR0: 11"]));
        assert_eq!(attested(status, Cid(18)), None);
    }

    const REPORT: &str = r#"{"uptime":1,"enclaves":[
        {"cid":16,"addresses":["fd3b::2","203.0.113.2"],"attested":null},
        {"cid":17,"addresses":["203.0.113.3"],"attested":{"document":"AA=="}}]}"#;

    #[test]
    fn documents_are_found_by_cid() {
        assert_eq!(document(REPORT, Cid(16)).unwrap(), None);
        assert_eq!(document(REPORT, Cid(17)).unwrap(), Some("AA==".to_owned()));
        assert_eq!(document(REPORT, Cid(18)).unwrap(), None);
    }

    #[test]
    fn addresses_are_found_by_cid() {
        let of = |cid| leased_addresses(REPORT, Cid(cid)).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of(16), ["203.0.113.2", "fd3b::2"]);
        assert_eq!(of(17), ["203.0.113.3"]);
        assert!(of(18).is_empty());
    }

    #[test]
    fn what_is_not_a_report_is_an_error_and_not_an_enclave_without_addresses() {
        for text in ["", "[]", r#"{"enclaves":[{"cid":16,"attested":null}]}"#] {
            leased_addresses(text, Cid(16)).unwrap_err();
            document(text, Cid(16)).unwrap_err();
        }
    }
}
