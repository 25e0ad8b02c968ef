//! What consoles, logs and reports prove; text in, values out.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use tunnel::port::Cid;

/// The kernel's time of the first handshake's line.
pub(crate) fn first_handshake(console: &str) -> Option<Duration> {
    let line = console.lines().find(|line| line.contains("first handshake"))?;
    stamp(line)
}

/// The time in front of a line: `[    1.234567] ...`.
fn stamp(line: &str) -> Option<Duration> {
    let (time, _) = line.strip_prefix('[')?.split_once(']')?;
    Duration::try_from_secs_f64(time.trim().parse().ok()?).ok()
}

/// What the gateway said of this enclave: the reason of its first refusal, or, as an error, the line that says that it was
/// taken for a peer.
pub(crate) fn gateway_verdict(console: &str) -> Option<Result<String, String>> {
    console.lines().find_map(|line| {
        let reason = ["the gateway refuses this enclave: ", "impostor: refused: "]
            .iter()
            .find_map(|start| line.split_once(start).map(|(_, reason)| reason))
            // The relay says after the reason how long the stream lived.
            .map(|reason| reason.rsplit_once(" lived=").map_or(reason, |(reason, _)| reason));
        let is_end =
            ["impostor: accepted", "impostor: error: ", "first handshake"].iter().any(|text| line.contains(text));
        reason.map(|reason| Ok(reason.to_owned())).or_else(|| is_end.then(|| Err(line.to_owned())))
    })
}

/// The last `wg show` text of a console that has a handshake in it.
pub(crate) fn wg_show(console: &str) -> Option<String> {
    let lines: Vec<_> = console.lines().collect();
    let starts = lines.iter().enumerate().filter(|(_, line)| line.starts_with("interface: ")).map(|(index, _)| index);
    starts.filter_map(|start| block(lines.get(start..)?)).rfind(|block| block.contains("latest handshake: "))
}

/// An interface line and what belongs to it: its fields, and its peers after an empty line each.
fn block(lines: &[&str]) -> Option<String> {
    let mut text = format!("{}\n", lines.first()?);
    let mut rest = lines.iter().skip(1).peekable();
    while let Some(line) = rest.next() {
        let is_before_peer = line.is_empty() && rest.peek().is_some_and(|next| next.starts_with("peer: "));
        if !(line.starts_with("  ") || line.starts_with("peer: ") || is_before_peer) {
            break;
        }
        text.push_str(line);
        text.push('\n');
    }
    Some(text)
}

/// The first answered and finished ping of `target` (an address, or a name), from its `PING` line to its statistics.
pub(crate) fn ping<'text>(console: &'text str, target: &str) -> Option<Vec<&'text str>> {
    let start = format!("PING {target} (");
    let lines: Vec<_> = console.lines().collect();
    let starts = lines.iter().enumerate().filter(|(_, line)| line.starts_with(&start)).map(|(index, _)| index);
    starts.filter_map(|index| answered(lines.get(index..)?)).next()
}

fn answered<'text>(lines: &[&'text str]) -> Option<Vec<&'text str>> {
    let of_ping = |line: &&&str| ["PING ", "--- "].iter().any(|start| line.starts_with(start)) || is_of_ping(line);
    let next = lines.iter().skip(1).position(|line| line.starts_with("PING ")).map_or(lines.len(), |index| index + 1);
    let block: Vec<_> = lines.get(..next)?.iter().filter(of_ping).copied().collect();
    let has = |text: &str| block.iter().any(|line| line.contains(text));
    (has(" bytes from ") && has(" time=") && has("% packet loss") && has("rtt min/avg/max")).then_some(block)
}

fn is_of_ping(line: &str) -> bool {
    [" bytes from ", " packets transmitted, ", "rtt min/avg/max"].iter().any(|text| line.contains(text))
}

/// BIND's lines for a name that one of `clients` asked for.
pub(crate) fn queries<'text>(log: &'text str, name: &str, clients: &[IpAddr]) -> Vec<&'text str> {
    let of_client = |line: &str| clients.iter().any(|client| line.contains(&format!(" {client}#")));
    log.lines().filter(|line| line.contains(&format!(": query: {name} IN ")) && of_client(line)).collect()
}

/// The addresses of one enclave in what `wg-server status --json` prints.
///
/// # Errors
/// Text that is not JSON.
pub(crate) fn leased_addresses(status: &str, cid: Cid) -> serde_json::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    collect_addresses(&serde_json::from_str(status)?, cid, &mut found);
    found.sort_by_key(IpAddr::is_ipv6);
    found.dedup();
    Ok(found)
}

/// What `wg-server status` says that an enclave proved: `PCR0: 00...` and so on.
pub(crate) fn attested(status: &str, cid: Cid) -> Option<Vec<&str>> {
    let of_enclave = status.split("\nenclave: ").find_map(|block| block.strip_prefix(&format!("CID {cid}\n")))?;
    let is_of_document =
        |line: &&str| ["module: ", "PCR", "configuration: "].iter().any(|start| line.starts_with(start));
    let lines: Vec<_> = of_enclave.lines().map(str::trim).filter(is_of_document).collect();
    (!lines.is_empty()).then_some(lines)
}

/// The attestation document of one enclave in what `wg-server status --json` prints, in base64.
pub(crate) fn document(status: &str, cid: Cid) -> Option<String> {
    let status: Value = serde_json::from_str(status).ok()?;
    let enclaves = status.get("enclaves")?.as_array()?;
    let enclave = enclaves.iter().find(|enclave| enclave.get("cid").and_then(Value::as_u64) == Some(cid.0.into()))?;
    Some(enclave.get("attested")?.get("document")?.as_str()?.to_owned())
}

/// The name of the enclave with this CID, if `nitro-cli describe-enclaves` has it as one that runs.
pub(crate) fn running_enclave(described: &str, cid: Cid) -> Option<String> {
    let described: Vec<Value> = serde_json::from_str(described).ok()?;
    let is_it = |enclave: &&Value| {
        enclave.get("EnclaveCID").and_then(Value::as_u64) == Some(cid.0.into())
            && enclave.get("State").and_then(Value::as_str) == Some("RUNNING")
    };
    Some(described.iter().find(is_it)?.get("EnclaveName")?.as_str()?.to_owned())
}

fn collect_addresses(value: &Value, cid: Cid, found: &mut Vec<IpAddr>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect_addresses(value, cid, found)),
        Value::Object(fields) => {
            if fields.get("cid").and_then(Value::as_u64) == Some(cid.0.into()) {
                let named = ["addresses", "ipv4", "ipv6"].iter().filter_map(|name| fields.get(*name));
                let texts = named.flat_map(|value| match value {
                    Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
                    Value::String(text) => vec![text.as_str()],
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
                });
                found.extend(texts.filter_map(|text| text.split('/').next()?.parse::<IpAddr>().ok()));
            }
            fields.values().for_each(|value| collect_addresses(value, cid, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "\
[    0.412345]  INFO boot: mounts
[    2.350000]  INFO first handshake with the gateway
interface: wg0
  public key: AAA=
  listening port: 51820

peer: BBB=
  endpoint: 127.0.0.1:51821
  latest handshake: Now

PING aws.com (198.51.100.80) 56 data bytes
64 bytes from 198.51.100.80: icmp_seq=1 ttl=63 time=1.2 ms
[    3.350000]  INFO something else
--- aws.com ping statistics ---
1 packets transmitted, 1 received, 0% packet loss
rtt min/avg/max = 1.2/1.2/1.2 ms

PING 203.0.113.1 (203.0.113.1) 56 data bytes
--- 203.0.113.1 ping statistics ---
3 packets transmitted, 0 received, 100% packet loss
";

    #[test]
    fn the_first_handshake_has_the_kernel_s_time() {
        assert_eq!(first_handshake(CONSOLE), Some(Duration::from_millis(2350)));
        assert_eq!(first_handshake("[    0.4] boot"), None);
    }

    #[test]
    fn the_verdict_is_the_first_refusal_or_what_shows_that_there_was_none() {
        let console = "boot\n[    3.0]  WARN relay: the gateway refuses this enclave: PCR2 is 00 lived=8.1ms\n[    4.0] first handshake";
        assert_eq!(gateway_verdict(console), Some(Ok("PCR2 is 00".into())));
        assert_eq!(gateway_verdict("impostor: refused: the nonce"), Some(Ok("the nonce".into())));
        assert_eq!(gateway_verdict("boot\nimpostor: accepted\n"), Some(Err("impostor: accepted".into())));
        assert_eq!(gateway_verdict(CONSOLE), Some(Err("[    2.350000]  INFO first handshake with the gateway".into())));
        assert_eq!(gateway_verdict("boot"), None);
    }

    #[test]
    fn the_wg_block_ends_where_the_next_text_begins() {
        let block = wg_show(CONSOLE).unwrap();
        assert!(block.starts_with("interface: wg0\n") && block.ends_with("latest handshake: Now\n"), "{block}");
        assert_eq!(wg_show(&CONSOLE.replace("latest handshake", "no handshake")), None);
    }

    #[test]
    fn a_ping_is_its_own_lines_from_start_to_statistics() {
        let lines = ping(CONSOLE, "aws.com").unwrap();
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(lines[0].starts_with("PING aws.com") && lines[4].starts_with("rtt "), "{lines:?}");
    }

    #[test]
    fn a_ping_that_nobody_answered_or_that_is_not_done_does_not_count() {
        assert_eq!(ping(CONSOLE, "203.0.113.1"), None);
        assert_eq!(ping(CONSOLE, "203.0.113.2"), None);
        assert_eq!(ping(&CONSOLE[..CONSOLE.find("rtt").unwrap()], "aws.com"), None);
    }

    #[test]
    fn a_query_of_another_client_or_name_does_not_count() {
        let log = "23-Nov-2026 client @0x7f 203.0.113.2#53211 (aws.com): query: aws.com IN A + (203.0.113.1)";
        let client = ["203.0.113.2".parse().unwrap()];
        assert_eq!(queries(log, "aws.com", &client), [log]);
        assert!(queries(log, "aws.com", &["203.0.113.22".parse().unwrap()]).is_empty());
        assert!(queries(log, "ws.com", &client).is_empty());
    }

    #[test]
    fn what_an_enclave_proved_is_not_another_s() {
        let status = "trust root: x\n\nenclave: CID 16\n  module: lab-16\n  PCR0: 00\n  relay: y\n\nenclave: CID 17\n  PCR0: 11\n";
        assert_eq!(attested(status, Cid(16)), Some(vec!["module: lab-16", "PCR0: 00"]));
        assert_eq!(attested(status, Cid(17)), Some(vec!["PCR0: 11"]));
        assert_eq!(attested(status, Cid(18)), None);
        let json = r#"{"enclaves":[{"cid":16,"attested":null},{"cid":17,"attested":{"document":"AA=="}}]}"#;
        assert_eq!((document(json, Cid(16)), document(json, Cid(17))), (None, Some("AA==".into())));
    }

    #[test]
    fn addresses_are_found_by_cid() {
        let json =
            r#"{"enclaves":[{"cid":16,"addresses":["fd3b::2/128","203.0.113.2/32"]},{"cid":17,"ipv4":"203.0.113.3"}]}"#;
        let of = |cid| leased_addresses(json, Cid(cid)).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of(16), ["203.0.113.2", "fd3b::2"]);
        assert_eq!(of(17), ["203.0.113.3"]);
        assert!(of(18).is_empty());
    }
}
