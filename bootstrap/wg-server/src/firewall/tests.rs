mod cost;
mod drain;
mod gate;
mod lists;
mod logging;
mod names;
mod remote;
mod sets;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::*;
use crate::config::{Config, InterfaceName};
use crate::entry_port::{EntryPort, TunnelPorts};
use crate::namespace::{alone, sh};

const NFT: &str = "/usr/sbin/nft";
const LAB: &str = include_str!("../../tests/parent.toml");
const ENTRY: u16 = 40_001;
/// Where WireGuard listens if its datagrams come from elsewhere.
const BEHIND: u16 = 40_002;
const SOON: Duration = Duration::from_secs(1);

fn plan(toml: &str) -> Plan {
    let config = Config::parse(toml).unwrap();
    let listen_port = config.wireguard.listen_port;
    let tunnel_ports = match config.remote {
        None => TunnelPorts { entry: ENTRY, wireguard: listen_port },
        Some(_) => TunnelPorts { entry: listen_port, wireguard: BEHIND },
    };
    Plan::new(&config, InterfaceName::parse("uplink0").unwrap(), tunnel_ports)
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn apply() -> Firewall {
    wait(Firewall::apply(Path::new(NFT), &plan(LAB), |_, _| true)).unwrap()
}

#[test]
fn the_table_is_replaced_whole_and_removed_and_other_tables_stay() {
    alone("firewall::tests::inside_replaced_whole");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_replaced_whole() {
    sh("nft add table inet other; nft add chain inet other mine; nft add rule inet other mine counter");
    let other = sh("nft list table inet other");
    apply();
    sh("nft add rule inet wg_server from_enclaves accept");
    let firewall = apply();
    let table = sh("nft list table inet wg_server");
    assert_eq!(table.matches("masquerade").count(), 2, "{table}");
    assert!(table.contains("ip saddr 203.0.113.2-203.0.113.254 masquerade"), "{table}");
    assert!(table.contains("tcp option maxseg size set rt mtu"), "{table}");
    assert_eq!(table.matches("\t\taccept\n").count(), 0, "the rule that was added by hand is gone: {table}");
    wait(firewall.remove()).unwrap();
    assert_eq!(sh("nft list tables"), "table inet other\n");
    assert_eq!(sh("nft list table inet other"), other);
    wait(firewall.remove()).unwrap();
}

#[test]
fn a_table_that_somebody_changed_is_put_back_whole_and_one_that_nobody_changed_is_left_alone() {
    alone("firewall::tests::inside_restored");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_restored() {
    let mut firewall = apply();
    let listed = || sh("nft -s list table inet wg_server");
    let restore = |firewall: &mut Firewall| wait(firewall.restore()).unwrap();
    let whole = listed();
    assert_eq!(restore(&mut firewall), []);
    for (change, found) in [
        ("nft flush ruleset", Found::Nothing("wg_server")),
        ("nft delete table inet wg_server", Found::Nothing("wg_server")),
        ("nft flush chain inet wg_server input", Found::Changed("wg_server")),
        ("nft add rule inet wg_server from_enclaves accept", Found::Changed("wg_server")),
        (
            "nft delete rule inet wg_server output handle $(nft -a list chain inet wg_server output | sed -n 's/.*# handle //p' | sed -n 2p)",
            Found::Changed("wg_server"),
        ),
        ("nft add chain inet wg_server forward '{ policy drop; }'", Found::Changed("wg_server")),
        ("nft add set inet wg_server more '{ type ipv4_addr; }'", Found::Changed("wg_server")),
    ] {
        sh(change);
        assert_ne!(sh("nft -s list ruleset"), whole, "{change}");
        assert_eq!(restore(&mut firewall), [found], "{change}");
        assert_eq!(listed(), whole, "{change}");
        assert_eq!(restore(&mut firewall), [], "{change}");
    }
    // What others do is theirs, and what passes is only counted.
    sh("nft add table inet other; ip link set lo up; ping -c1 -W1 127.0.0.1");
    let handles = || sh("nft -a list table inet wg_server");
    let before = handles();
    assert_eq!(restore(&mut firewall), []);
    assert_eq!(handles(), before, "the table was replaced without a reason");
}

#[test]
fn an_nft_that_hangs_or_is_gone_is_an_error_and_the_table_counts_as_missing_until_it_was_seen() {
    alone("firewall::tests::inside_broken_nft");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_broken_nft() {
    let dir = tempfile::tempdir().unwrap();
    let nft = dir.path().join("nft");
    std::os::unix::fs::symlink(NFT, &nft).unwrap();
    let mut firewall = wait(Firewall::apply(&nft, &plan(LAB), |_, _| true)).unwrap();
    std::fs::remove_file(&nft).unwrap();
    assert_eq!(wait(firewall.restore()).unwrap(), [], "nothing has changed: nft is not needed");
    sh("nft flush ruleset");
    for _ in 0..2 {
        let error = format!("{:#}", wait(firewall.restore()).unwrap_err());
        assert!(error.contains("run ") && error.contains("No such file"), "{error}");
    }
    std::os::unix::fs::symlink(NFT, &nft).unwrap();
    assert_eq!(wait(firewall.restore()).unwrap(), [Found::Nothing("wg_server")]);
}

#[test]
fn without_the_table_no_datagram_gets_to_wireguard_or_from_it() {
    alone("firewall::tests::inside_entry_port");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_entry_port() {
    sh("ip link set lo up");
    let mut firewall = apply();
    let wireguard = UdpSocket::bind("0.0.0.0:51820").unwrap();
    let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
    [&wireguard, &relay].into_iter().for_each(|socket| socket.set_read_timeout(Some(SOON)).unwrap());
    let mut buffer = [0; 2048];
    let entry = std::net::SocketAddr::from(([127, 0, 0, 1], ENTRY));

    relay.send_to(&[7; 1400], entry).unwrap();
    let (len, from) = wireguard.recv_from(&mut buffer).unwrap();
    assert_eq!((len, from), (1400, relay.local_addr().unwrap()));
    wireguard.send_to(b"answer", from).unwrap();
    assert_eq!(relay.recv_from(&mut buffer).unwrap(), (6, entry));

    sh("nft flush ruleset");
    relay.send_to(b"in", entry).unwrap();
    assert!(wireguard.recv_from(&mut buffer).is_err(), "a datagram got in without the table");
    wireguard.send_to(b"out", from).unwrap();
    assert_ne!(relay.recv_from(&mut buffer).unwrap().1, entry, "the relay takes it for WireGuard's");

    wait(firewall.restore()).unwrap();
    relay.send_to(b"again", entry).unwrap();
    assert_eq!(wireguard.recv_from(&mut buffer).unwrap().0, 5);
}

#[test]
fn a_full_connection_table_cuts_neither_the_tunnel_nor_the_question_whether_named_is_there() {
    alone("firewall::tests::inside_untracked");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_untracked() {
    sh(
        "ip link set lo up; ip link add wg0 type veth peer name other; ip addr add 203.0.113.1/24 dev wg0; ip link set wg0 up",
    );
    apply();
    let tracked = || sh("cat /proc/sys/net/netfilter/nf_conntrack_count").trim().parse::<u32>().unwrap();
    let before = tracked();
    let entry = std::net::SocketAddr::from(([127, 0, 0, 1], ENTRY));
    let named = UdpSocket::bind("203.0.113.1:53").unwrap();
    let mut buffer = [0; 8];
    for _ in 0..3 {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", entry).unwrap();
        let probe = UdpSocket::bind("203.0.113.1:0").unwrap();
        probe.send_to(b"x", "203.0.113.1:53").unwrap();
        let (_, from) = named.recv_from(&mut buffer).unwrap();
        named.send_to(b"y", from).unwrap();
        probe.recv(&mut buffer).unwrap();
    }
    assert_eq!(tracked(), before);
}

#[test]
fn a_program_that_is_not_nft_is_named() {
    let error = wait(Firewall::apply(Path::new("/nonexistent/nft"), &plan(LAB), |_, _| true)).unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.starts_with("set the firewall table inet wg_server: ") && error.contains("/nonexistent/nft"),
        "{error}"
    );
}

#[test]
fn enclaves_may_only_be_connected_to_each_other_where_configured() {
    let rules = |text: &str| serde_json::to_string(&plan(text).replacement(true)).unwrap();
    assert!(!rules(LAB).contains(r#"{"match":{"left":{"payload":{"protocol":"ip","field":"daddr"}},"right":{"set""#));
    let open = LAB.replacen("[enclaves]", "[enclaves]\nenclave_to_enclave = true", 1);
    assert!(rules(&open).contains(r#"{"match":{"left":{"payload":{"protocol":"ip","field":"daddr"}},"right":{"set""#));
}

#[test]
fn packets_go_where_they_may_and_nowhere_else() {
    alone("firewall::tests::inside_packets");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_packets() {
    // wg0 is a veth here: the rules know it by its name.
    sh("mount -t tmpfs none /run; mkdir /run/netns; ip link set lo up
        ip netns add enclave; ip netns add internet
        ip link add wg0 mtu 9000 type veth peer name wg0 mtu 9000 netns enclave
        ip link add uplink0 mtu 1400 type veth peer name outer mtu 9000 netns internet
        ip addr add 203.0.113.1/24 dev wg0; ip addr add 198.51.100.2/24 dev uplink0
        ip link set wg0 up; ip link set uplink0 up; echo 1 > /proc/sys/net/ipv4/ip_forward
        ip -n enclave addr add 203.0.113.2/24 dev wg0; ip -n enclave link set wg0 up
        ip -n enclave route add default via 203.0.113.1
        ip -n internet addr add 198.51.100.80/24 dev outer; ip -n internet link set outer up; ip -n internet link set lo up
        ip -n internet route add 203.0.113.0/24 via 198.51.100.2");
    let firewall = apply();

    // Out: translated, and with segments that the uplink carries.
    let server = within("internet", || TcpListener::bind("198.51.100.80:443").unwrap());
    let mut client = within("enclave", || TcpStream::connect("198.51.100.80:443").unwrap());
    let (mut accepted, source) = server.accept().unwrap();
    assert_eq!(source.ip().to_string(), "198.51.100.2");
    let segment = nix::sys::socket::getsockopt(&accepted, nix::sys::socket::sockopt::TcpMaxSeg).unwrap();
    assert!(segment <= 1360, "{segment}");
    accepted.write_all(b"answer").unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).unwrap();

    // In: nobody may start a connection to an enclave.
    let enclave = within("enclave", || TcpListener::bind("203.0.113.2:7").unwrap());
    assert!(within("internet", || connects("203.0.113.2:7")).is_err());
    assert!(connects("203.0.113.2:7").is_ok(), "the parent itself may");
    drop(enclave);

    // To the parent: DNS and ping only, and only at the gateway's address.
    let listeners = ["203.0.113.1:53", "203.0.113.1:22", "198.51.100.2:53"].map(|at| TcpListener::bind(at).unwrap());
    assert!(within("enclave", || connects("203.0.113.1:53")).is_ok());
    assert!(within("enclave", || connects("203.0.113.1:22")).is_err());
    assert!(within("enclave", || connects("198.51.100.2:53")).is_err());
    sh("ip netns exec enclave ping -c1 -W1 203.0.113.1");
    // The gateway's address is the enclaves': not for the outside.
    sh("ip -n internet route replace 203.0.113.0/24 via 198.51.100.2");
    assert!(within("internet", || connects("203.0.113.1:53")).is_err());
    drop(listeners);

    // WireGuard's port hears this host only.
    let wireguard = UdpSocket::bind("0.0.0.0:51820").unwrap();
    wireguard.set_read_timeout(Some(SOON)).unwrap();
    within("internet", || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", "198.51.100.2:51820").unwrap());
    assert!(wireguard.recv(&mut [0; 8]).is_err());
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", "127.0.0.1:51820").unwrap();
    assert!(wireguard.recv(&mut [0; 8]).is_ok());

    // Other name servers, and names over TLS or QUIC: dropped and counted, unless the enclave answers a client.
    let outside = ["198.51.100.80:53", "198.51.100.80:853"].map(|at| {
        let udp = within("internet", || UdpSocket::bind(at).unwrap());
        udp.set_read_timeout(Some(SOON)).unwrap();
        (udp, within("internet", || TcpListener::bind(at).unwrap()))
    });
    let before = wait(firewall.drops().dropped_questions()).unwrap();
    for (udp, tcp) in &outside {
        let to = tcp.local_addr().unwrap().to_string();
        within("enclave", || UdpSocket::bind("203.0.113.2:0").unwrap().send_to(b"x", &to).unwrap());
        assert!(udp.recv(&mut [0; 8]).is_err(), "{to}");
        assert!(within("enclave", || connects(&to)).is_err(), "{to}");
    }
    let dropped = wait(firewall.drops().dropped_questions()).unwrap() - before;
    assert!(dropped >= 4, "{dropped} of two datagrams and two connections");
    drop(outside);

    // An address that was not given to any enclave does not get out.
    sh("ip -n enclave addr add 203.0.114.2/24 dev wg0; ip route add 203.0.114.0/24 dev wg0");
    let spoofing = within("enclave", || UdpSocket::bind("203.0.114.2:9").unwrap());
    let outside = within("internet", || UdpSocket::bind("198.51.100.80:9").unwrap());
    outside.set_read_timeout(Some(SOON)).unwrap();
    spoofing.send_to(b"x", "198.51.100.80:9").unwrap();
    assert!(outside.recv(&mut [0; 8]).is_err());
}

#[test]
fn a_forwarded_port_is_the_only_way_in() {
    alone("firewall::tests::inside_forwards");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_forwards() {
    // WireGuard asks for no neighbours, and the rules would let no answer in: with one address for both ends none is needed.
    sh("mount -t tmpfs none /run; mkdir /run/netns; ip link set lo up
        ip netns add enclave; ip netns add internet; ip netns add office
        end='wg0 mtu 9000 address 02:00:00:00:00:01'; ip link add $end type veth peer name $end netns enclave
        ip link set wg0 arp off; ip -n enclave link set wg0 arp off
        ip link add uplink0 mtu 1400 type veth peer name outer mtu 9000 netns internet
        ip link add office0 type veth peer name desk netns office
        ip addr add 203.0.113.1/24 dev wg0; ip addr add fd3b:74ac:9d21::1/64 dev wg0 nodad; ip link set wg0 up
        ip addr add 198.51.100.2/24 dev uplink0; ip addr add 2001:db8::2/64 dev uplink0 nodad; ip link set uplink0 up
        ip addr add 192.0.2.1/24 dev office0; ip link set office0 up
        echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
        ip -n enclave addr add 203.0.113.2/24 dev wg0; ip -n enclave addr add 203.0.113.3/24 dev wg0
        ip -n enclave addr add fd3b:74ac:9d21::2/64 dev wg0 nodad; ip -n enclave link set wg0 up
        ip -n enclave route add default via 203.0.113.1; ip -n enclave route add default via fd3b:74ac:9d21::1
        ip -n internet addr add 198.51.100.80/24 dev outer; ip -n internet addr add 2001:db8::80/64 dev outer nodad
        ip -n internet link set outer up; ip -n internet route add default via 198.51.100.2
        ip -n internet route add default via 2001:db8::2
        ip -n office addr add 192.0.2.9/24 dev desk; ip -n office link set desk up
        ip -n office route add default via 192.0.2.1");
    let forwards = r#"[nat]
        forwards = [
            { port = 443, to = "203.0.113.2:8443" },
            { port = 443, to = "[fd3b:74ac:9d21::2]:8443" },
            { port = 80, to = "[fd3b:74ac:9d21::2]:8443" },
        ]"#;
    let without = LAB.replacen("[[nat.forwards]]\nport = 443\nto = \"203.0.113.2:443\"\n", "", 1);
    let plan = plan(&without.replacen("[nat]", forwards, 1));
    let firewall = wait(Firewall::apply(Path::new(NFT), &plan, |_, _| true)).unwrap();
    let listen = |at: &'static str| within("enclave", || TcpListener::bind(at).unwrap());
    let refuses = |from: &str, to: &str| assert!(within(from, || connects(to)).is_err(), "{from} reaches {to}");

    // The enclave sees who connects, and the client the address that it asked for.
    let (ipv4, ipv6) = (listen("203.0.113.2:8443"), listen("[fd3b:74ac:9d21::2]:8443"));
    for (listener, to, client) in [
        (&ipv4, "198.51.100.2:443", "198.51.100.80"),
        (&ipv6, "[2001:db8::2]:443", "2001:db8::80"),
        (&ipv6, "[2001:db8::2]:80", "2001:db8::80"),
    ] {
        let mut outside = within("internet", || connects(to)).unwrap();
        let (mut inside, source) = listener.accept().unwrap();
        assert_eq!(source.ip().to_string(), client);
        for end in [&outside, &inside] {
            let segment = nix::sys::socket::getsockopt(end, nix::sys::socket::sockopt::TcpMaxSeg).unwrap();
            assert!(segment <= 1360, "{segment} over an uplink of 1400 bytes");
        }
        inside.write_all(b"answer").unwrap();
        let mut answer = [0; 6];
        outside.set_read_timeout(Some(SOON)).unwrap();
        outside.read_exact(&mut answer).unwrap();
    }

    // A client's own port may be a name server's. Questions to others go nowhere, over IPv6 as well.
    let mut named_port = within("internet", || from_port("198.51.100.80:53", "198.51.100.2:443"));
    let (mut inside, _) = ipv4.accept().unwrap();
    inside.write_all(b"answer").unwrap();
    named_port.read_exact(&mut [0; 6]).unwrap();
    for to in ["[2001:db8::80]:53", "[2001:db8::80]:853"] {
        let udp = within("internet", || UdpSocket::bind(to).unwrap());
        udp.set_read_timeout(Some(SOON)).unwrap();
        within("enclave", || UdpSocket::bind("[fd3b:74ac:9d21::2]:0").unwrap().send_to(b"x", to).unwrap());
        assert!(udp.recv(&mut [0; 8]).is_err(), "{to}");
        let _listener = within("internet", || TcpListener::bind(to).unwrap());
        refuses("enclave", to);
    }
    assert!(wait(firewall.drops().dropped_questions()).unwrap() >= 4);

    // Another port, or that of the other IP version only.
    let _others = [listen("203.0.113.2:7"), listen("203.0.113.3:8443"), listen("[fd3b:74ac:9d21::2]:7")];
    for to in ["198.51.100.2:7", "198.51.100.2:8443", "198.51.100.2:80", "[2001:db8::2]:7", "[2001:db8::2]:8443"] {
        refuses("internet", to);
    }
    // The enclave's own address, from who has a route to it.
    for to in ["203.0.113.2:8443", "203.0.113.2:443", "203.0.113.2:7", "[fd3b:74ac:9d21::2]:8443"] {
        refuses("internet", to);
    }
    // Addresses that are not the uplink's: the gateway's, another interface's, and one that this host only routes to.
    for to in ["203.0.113.1:443", "[fd3b:74ac:9d21::1]:443", "192.0.2.1:443", "192.0.2.9:443"] {
        refuses("internet", to);
    }
    // Another interface than the uplink, the tunnel too.
    refuses("office", "192.0.2.1:443");
    refuses("office", "198.51.100.2:443");
    refuses("enclave", "198.51.100.2:443");
    // What somebody else's table makes of a packet opens no other enclave and no other port.
    sh("nft add table ip other; nft add chain ip other in '{ type nat hook prerouting priority -101; }'
        nft add rule ip other in tcp dport 1 dnat to 203.0.113.2:7
        nft add rule ip other in tcp dport 2 dnat to 203.0.113.3:8443");
    refuses("internet", "198.51.100.2:1");
    refuses("internet", "198.51.100.2:2");

    // A table without the port lets nobody new in, and takes the connections over.
    let mut outside = within("internet", || connects("198.51.100.2:443")).unwrap();
    let (mut inside, _) = ipv4.accept().unwrap();
    apply();
    refuses("internet", "198.51.100.2:443");
    outside.set_read_timeout(Some(SOON)).unwrap();
    inside.write_all(b"answer").unwrap();
    outside.read_exact(&mut [0; 6]).unwrap();

    wait(firewall.remove()).unwrap();
    assert_eq!(sh("nft list tables"), "table ip other\n");
    refuses("internet", "198.51.100.2:443");
    refuses("internet", "[2001:db8::2]:443");
    sh("nft delete table ip other");
    assert!(within("internet", || connects("203.0.113.2:8443")).is_ok(), "it was the table that stood in the way");
}

#[test]
fn other_tables_are_read_when_they_change_and_those_that_drop_are_named() {
    alone("firewall::tests::inside_foreign");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_foreign() {
    let mut firewall = apply();
    let mut next = || {
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            if let Some(problems) = wait(firewall.foreign()).unwrap() {
                return Some(problems);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    };
    assert_eq!(next(), Some(vec![]));
    assert_eq!(next(), None, "nothing has changed");
    sh("nft add table ip mine; nft 'add chain ip mine onward { type filter hook forward priority 0; policy drop; }'");
    let problems = next().unwrap();
    assert!(problems.len() == 1 && problems[0].contains("the chain onward of the table ip mine drops"), "{problems:?}");
    sh("nft delete table ip mine");
    assert_eq!(next(), Some(vec![]));
}

#[test]
fn a_host_that_changes_its_rules_all_the_time_has_the_table_all_the_same() {
    alone("firewall::tests::inside_busy");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_busy() {
    let dir = tempfile::tempdir().unwrap();
    let busy = |name: &str, change: &str| {
        let path = dir.path().join(name);
        sh(&format!("printf '#!/bin/sh\\n{NFT} \"$@\" || exit\\n{change}\\n' > {0}; chmod +x {0}", path.display()));
        path
    };
    // Whatever wg-server does, something else is changed at once.
    let other = busy("other", &format!("{NFT} add table inet other; {NFT} delete table inet other"));
    let mut firewall = wait(Firewall::apply(&other, &plan(LAB), |_, _| true)).unwrap();
    assert_eq!(wait(firewall.restore()).unwrap(), []);
    for change in ["nft flush ruleset", "nft flush chain inet wg_server input"] {
        sh(change);
        assert_eq!(wait(firewall.restore()).unwrap().len(), 1, "{change}");
        assert_eq!(wait(firewall.restore()).unwrap(), [], "{change}");
    }
    // The table itself is changed at once: it cannot be said to be in place.
    let own = busy("own", &format!("{NFT} add rule inet wg_server from_enclaves accept"));
    let error = format!("{:#}", wait(Firewall::apply(&own, &plan(LAB), |_, _| true)).unwrap_err());
    assert!(error.contains("expected it to be left alone: `nft monitor`"), "{error}");
}

fn from_port(from: &str, to: &str) -> TcpStream {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
    use std::os::fd::AsRawFd;
    let address = |text: &str| SockaddrStorage::from(text.parse::<std::net::SocketAddr>().unwrap());
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &address(from)).unwrap();
    connect(socket.as_raw_fd(), &address(to)).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn connects(to: &str) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&to.parse().unwrap(), SOON)
}

/// Sockets belong to the network that they were made in.
fn within<T: Send>(namespace: &str, make: impl FnOnce() -> T + Send) -> T {
    let file = std::fs::File::open(format!("/run/netns/{namespace}")).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            make()
        });
        thread.join().unwrap()
    })
}
