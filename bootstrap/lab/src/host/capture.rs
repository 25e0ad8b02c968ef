//! Packets that tcpdump captured on the parent and on the gateway of blind mode at the same time.

use std::collections::BTreeMap;

/// Two captures of the same traffic.
#[derive(Clone, Debug)]
pub struct Captures {
    /// Packets on all interfaces of the parent as tcpdump prints them, without those of the lab's own commands.
    pub parent: String,
    /// How often the text occurs in the parent's packets.
    pub seen_by_parent: usize,
    /// How often the text occurs in the packets of the gateway's wg0.
    pub seen_by_gateway: usize,
}

impl Captures {
    /// The parent's conversations, such as `UDP 198.51.100.2 > 192.0.2.10 port 51820`, with their number of packets.
    pub fn conversations(&self) -> Vec<(String, usize)> {
        let mut found = BTreeMap::new();
        for line in self.parent.lines() {
            *found.entry(conversation(line)).or_insert(0) += 1;
        }
        found.into_iter().collect()
    }

    /// The parent's conversations other than WireGuard datagrams and a control stream with the gateway.
    pub fn unexpected(&self) -> Vec<String> {
        let is_expected = |what: &str| {
            let is_between = what.contains("198.51.100.2") && what.contains("192.0.2.10");
            let is_ours = what.starts_with("UDP ") && what.contains("192.0.2.10 port 51820")
                || what.starts_with("TCP ") && what.contains("192.0.2.10 port 821");
            let is_neighbours = what.contains(" ARP, ") || what.starts_with("ICMP6 ");
            is_between && is_ours || is_neighbours
        };
        self.conversations().into_iter().map(|(what, _)| what).filter(|what| !is_expected(what)).collect()
    }
}

/// The conversation of a line such as `uplink0 Out IP 198.51.100.2.40000 > 192.0.2.10.51820: UDP, length 148`,
/// without the ports that the kernel chose.
fn conversation(line: &str) -> String {
    let Some((ends, what)) = line.split_once(": ") else { return line.to_owned() };
    let Some((from, to)) = ends.split_once(" > ") else { return line.to_owned() };
    let from = from.rsplit_once(' ').map_or(from, |(_, from)| from);
    let protocol: String = what.chars().take_while(char::is_ascii_alphanumeric).collect();
    format!("{} {} > {}", protocol.to_uppercase(), well_known(from), well_known(to))
}

/// `ADDRESS.PORT` as tcpdump prints it, with its port only if a server listens there.
fn well_known(end: &str) -> String {
    let port_dots = if end.contains(':') { 1 } else { 4 };
    match end.rsplit_once('.').filter(|_| end.matches('.').count() == port_dots) {
        Some((address, port)) if port == "51820" || port.len() < 5 => format!("{address} port {port}"),
        Some((address, _)) => address.to_owned(),
        None => end.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_one_conversation_are_one_line() {
        let parent = "\
uplink0 Out IP 198.51.100.2.40123 > 192.0.2.10.51820: UDP, length 148
uplink0 Out IP 198.51.100.2.40123 > 192.0.2.10.51820: UDP, length 96
uplink0 In  IP 192.0.2.10.51820 > 198.51.100.2.40123: UDP, length 92
uplink0 Out IP 198.51.100.2.38000 > 192.0.2.10.821: tcp 8
uplink0 Out ARP, Request who-has 198.51.100.1 tell 198.51.100.2, length 28
uplink0 In  IP 192.0.2.1 > 198.51.100.2: ICMP host unreachable
";
        let captures = Captures { parent: parent.to_owned(), seen_by_parent: 0, seen_by_gateway: 1 };
        let found = captures.conversations();
        assert_eq!(captures.unexpected().len(), 1, "the ICMP: {found:?}");
        for expected in [
            ("UDP 198.51.100.2 > 192.0.2.10 port 51820", 2),
            ("UDP 192.0.2.10 port 51820 > 198.51.100.2", 1),
            ("TCP 198.51.100.2 > 192.0.2.10 port 821", 1),
            ("ICMP 192.0.2.1 > 198.51.100.2", 1),
        ] {
            assert!(found.contains(&(expected.0.to_owned(), expected.1)), "{expected:?} in {found:?}");
        }
    }
}
