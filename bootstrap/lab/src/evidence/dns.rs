//! What BIND's query log proves.

use std::net::IpAddr;

/// The log's lines for queries of `name` from one of `clients`.
pub(crate) fn queries<'text>(log: &'text str, name: &str, clients: &[IpAddr]) -> Vec<&'text str> {
    let of_client = |line: &str| clients.iter().any(|client| line.contains(&format!(" {client}#")));
    log.lines().filter(|line| line.contains(&format!(": query: {name} IN ")) && of_client(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_of_another_client_or_name_does_not_count() {
        let log = "23-Nov-2026 client @0x7f 203.0.113.2#53211 (aws.com): query: aws.com IN A + (203.0.113.1)";
        let client = ["203.0.113.2".parse().unwrap()];
        assert_eq!(queries(log, "aws.com", &client), [log]);
        assert!(queries(log, "aws.com", &["203.0.113.22".parse().unwrap()]).is_empty());
        assert!(queries(log, "ws.com", &client).is_empty());
    }
}
