//! What an enclave's console proves.

use std::time::Duration;

/// The kernel's time of the first handshake.
pub(crate) fn first_handshake(console: &str) -> Option<Duration> {
    let line = console.lines().find(|line| line.contains("first handshake"))?;
    stamp(line)
}

/// The time at the start of a line: `[    1.234567] ...`.
fn stamp(line: &str) -> Option<Duration> {
    let (time, _) = line.strip_prefix('[')?.split_once(']')?;
    Duration::try_from_secs_f64(time.trim().parse().ok()?).ok()
}

/// The reason of the gateway's first refusal, or, as an error, the line that shows that there was none.
pub(crate) fn gateway_verdict(console: &str) -> Option<Result<String, String>> {
    console.lines().find_map(|line| {
        let reason = ["the gateway refuses this enclave: ", "impostor: refused: "]
            .iter()
            .find_map(|start| line.split_once(start).map(|(_, reason)| reason))
            // The relay's line continues with the age of the stream.
            .map(|reason| reason.rsplit_once(" lived=").map_or(reason, |(reason, _)| reason));
        let is_end =
            ["impostor: accepted", "impostor: error: ", "first handshake"].iter().any(|text| line.contains(text));
        reason.map(|reason| Ok(reason.to_owned())).or_else(|| is_end.then(|| Err(line.to_owned())))
    })
}

/// The console's last `wg show` output with a handshake.
pub(crate) fn wg_show(console: &str) -> Option<String> {
    let lines: Vec<_> = console.lines().collect();
    let starts = lines.iter().enumerate().filter(|(_, line)| line.starts_with("interface: ")).map(|(index, _)| index);
    starts.filter_map(|start| block(lines.get(start..)?)).rfind(|block| block.contains("latest handshake: "))
}

/// An interface line with its fields, and its peers, which follow an empty line each.
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

/// The first finished and answered ping of `target`, from its `PING` line to its statistics.
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
}
