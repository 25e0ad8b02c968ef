//! The sets of addresses that answers have opened.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;
use crate::dns::Reasons;
use crate::health::Health;
use crate::refused::Refused;

/// An enclave, the gateway, and hosts of the internet behind it.
pub(super) const NETWORK: &str = "mount -t tmpfs none /run; mkdir /run/netns; ip link set lo up
    ip netns add enclave; ip netns add internet
    end='wg0 mtu 9000 address 02:00:00:00:00:01'; ip link add $end type veth peer name $end netns enclave
    ip link set wg0 arp off; ip -n enclave link set wg0 arp off
    ip link add uplink0 type veth peer name outer netns internet
    ip addr add 203.0.113.1/24 dev wg0; ip addr add fd3b:74ac:9d21::1/64 dev wg0 nodad; ip link set wg0 up
    ip addr add 198.51.100.2/24 dev uplink0; ip addr add 2001:db8::2/64 dev uplink0 nodad; ip link set uplink0 up
    echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
    ip -n enclave addr add 203.0.113.2/24 dev wg0; ip -n enclave link set wg0 up
    ip -n enclave addr add fd3b:74ac:9d21::2/64 dev wg0 nodad
    ip -n enclave route add default via 203.0.113.1; ip -n enclave route add default via fd3b:74ac:9d21::1
    for a in 53 66 80 90; do ip -n internet addr add 198.51.100.$a/24 dev outer; done
    for a in 66 80 90; do ip -n internet addr add 2001:db8::$a/64 dev outer nodad; done
    ip -n internet addr add 169.254.169.254/32 dev outer; ip route add 169.254.169.254 dev uplink0
    ip -n internet link set outer up; ip -n internet link set lo up";

pub(super) fn addresses(ttls: &[(&str, u64)]) -> BTreeMap<IpAddr, Duration> {
    ttls.iter().map(|(address, ttl)| (address.parse().unwrap(), Duration::from_secs(*ttl))).collect()
}

pub(super) fn open_to(firewall: &Firewall, list: ListId, name: &str, ttls: &[(&str, u64)]) {
    wait(firewall.sets().open(&Reasons::from([(list, name.into())]), &addresses(ttls))).unwrap();
}

fn every(name: &str) -> Reasons {
    Reasons::from([(ListId::Every, name.into())])
}

fn open(firewall: &Firewall, name: &str, ttls: &[(&str, u64)]) {
    open_to(firewall, ListId::Every, name, ttls);
}

/// The elements as nft shows them: address, seconds until they end, name.
fn elements() -> Vec<(String, u64, String)> {
    let table = serde_json::from_str(&sh("nft -j list table inet wg_server")).unwrap();
    let listed = crate::firewall::sets::elements(&table, &[]).into_iter();
    listed.map(|it| (it.address.to_string(), it.expires.unwrap().as_secs(), it.comment)).collect()
}

/// Whether nft shows these elements, with at most ten seconds less: a busy machine needs some.
fn are(expected: &[(&str, u64, &str)]) -> bool {
    let elements = elements();
    elements.len() == expected.len()
        && expected.iter().all(|(address, seconds, name)| {
            elements.iter().any(|(known, left, comment)| {
                known == address && comment == name && (*seconds..=seconds + 10).contains(&(left + 10))
            })
        })
}

#[test]
fn enclaves_reach_the_addresses_of_names_and_what_is_listed_and_nothing_else() {
    alone("firewall::tests::sets::inside_reach");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_reach() {
    sh(NETWORK);
    let firewall = apply();
    let _listeners: Vec<_> = [
        "198.51.100.66",
        "198.51.100.80",
        "198.51.100.90",
        "[2001:db8::66]",
        "[2001:db8::80]",
        "[2001:db8::90]",
        "169.254.169.254",
    ]
    .iter()
    .flat_map(|address| [80, 443].map(|port| format!("{address}:{port}")))
    .map(|at| within("internet", || TcpListener::bind(at).unwrap()))
    .collect();
    let reaches = |to: &str| within("enclave", || connects(to)).is_ok();
    let pings = |to: &str| within("enclave", || sh(&format!("ping -c1 -W1 {to} >&2 && echo yes || true"))) == "yes\n";
    // tests/parent.toml lists them.
    assert!(reaches("198.51.100.80:443") && reaches("[2001:db8::80]:443") && reaches("169.254.169.254:80"));
    assert!(!reaches("169.254.169.254:443"), "only the port that is listed");
    for to in ["198.51.100.66:443", "198.51.100.90:443", "[2001:db8::66]:443", "[2001:db8::90]:443"] {
        assert!(!reaches(to), "{to}");
    }
    assert!(!pings("198.51.100.90"), "a tunnel of ICMP packets");
    open(&firewall, "kms.example", &[("198.51.100.90", 60), ("2001:db8::90", 60)]);
    assert!(reaches("198.51.100.90:443") && reaches("[2001:db8::90]:443") && pings("198.51.100.90"));
    for to in ["198.51.100.66:443", "[2001:db8::66]:443"] {
        assert!(!reaches(to), "{to}");
    }
    assert!(wait(firewall.drops().unlisted()).unwrap() >= 6);
}

#[test]
fn an_element_is_extended_and_never_shortened_and_a_known_one_costs_nothing() {
    alone("firewall::tests::sets::inside_extended");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_extended() {
    let firewall = apply();
    open(&firewall, "aws.com", &[("198.51.100.80", 60), ("2001:db8::80", 0)]);
    assert!(are(&[("198.51.100.80", 122, "aws.com"), ("2001:db8::80", 62, "aws.com")]), "{:?}", elements());
    let before = generation::read().unwrap();
    open(&firewall, "aws.com", &[("198.51.100.80", 30), ("2001:db8::80", 0)]);
    // Rounded to milliseconds, the second one would end later.
    assert!(are(&[("198.51.100.80", 122, "aws.com"), ("2001:db8::80", 62, "aws.com")]), "{:?}", elements());
    open(&firewall, "aws.com", &[("198.51.100.80", 30)]);
    assert!(generation::read().unwrap() - before <= 1);
    open(&firewall, "alias.example", &[("198.51.100.80", 300), ("198.51.100.81", 0)]);
    let expected = [
        ("198.51.100.80", 362, "alias.example"),
        ("198.51.100.81", 62, "alias.example"),
        ("2001:db8::80", 62, "aws.com"),
    ];
    assert!(are(&expected), "{:?}", elements());
    // The kernel knows an element that wg-server does not, as one that is just about to end.
    sh("nft add element inet wg_server resolved_ipv4 '{ 198.51.100.82 timeout 5s }'");
    open(&firewall, "aws.com", &[("198.51.100.82", 60)]);
    assert!(elements().iter().any(|(address, left, _)| address == "198.51.100.82" && *left > 100), "{:?}", elements());
    // All of an answer's.
    let many: Vec<String> = (0..256).map(|at| format!("198.18.0.{at}")).collect();
    open(&firewall, "aws.com", &many.iter().map(|address| (address.as_str(), 60)).collect::<Vec<_>>());
    assert_eq!(elements().len(), 4 + 256);
    // A name that is longer than a comment.
    open(&firewall, &["a"; 70].join("."), &[("198.51.100.83", 60)]);
    assert!(elements().iter().any(|(address, _, comment)| address == "198.51.100.83" && comment.is_empty()));
}

#[test]
fn an_element_that_is_there_gets_its_new_time_also_on_kernels_that_ignore_it() {
    alone("firewall::tests::sets::inside_longer");
}

/// Also run by bootstrap/lab/debian-12/test.sh, on an emulated and slow machine.
#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_longer() {
    let mut firewall = apply();
    let left = || elements().iter().map(|(_, left, _)| *left).collect::<Vec<_>>();
    open(&firewall, "aws.com", &[("198.51.100.80", 0), ("2001:db8::80", 0)]);
    assert!(left().iter().all(|left| *left <= 62), "{:?}", elements());
    open(&firewall, "aws.com", &[("198.51.100.80", 300), ("2001:db8::80", 300)]);
    let extended = || left().len() == 2 && left().iter().all(|left| *left > 200);
    assert!(extended(), "{:?}", elements());
    sh("nft flush ruleset");
    wait(firewall.restore()).unwrap();
    assert!(extended(), "{:?}", elements());
}

#[test]
fn the_sets_hold_as_many_addresses_as_may_be_open_and_each_is_open_within_two_milliseconds() {
    alone("firewall::tests::sets::inside_full");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_full() {
    let mut firewall = apply();
    let mut times = Vec::new();
    for at in 0..200_u32 {
        let address = std::net::Ipv4Addr::from(0xc612_0000 + at).to_string();
        let started = std::time::Instant::now();
        open(&firewall, "aws.com", &[(&address, 60)]);
        times.push(started.elapsed());
    }
    times.sort_unstable();
    assert!(times[100] < Duration::from_millis(2), "{:?}", times[100]);
    let max = u32::try_from(crate::firewall::opened::MAX_ADDRESSES).unwrap() - 200;
    let answer = |first: u32, ttl: u64| -> BTreeMap<IpAddr, Duration> {
        let address = |at| std::net::Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(at)).into();
        (first..max.min(first + 256)).map(|at| (address(at), Duration::from_secs(ttl))).collect()
    };
    // Added, and extended.
    for ttl in [0, 60] {
        for first in (0..max).step_by(256) {
            wait(firewall.sets().open(&every("aws.com"), &answer(first, ttl))).unwrap();
        }
    }
    let more = addresses(&[("2001:db8:1::", 0)]);
    let error = wait(firewall.sets().open(&every("aws.com"), &more)).unwrap_err().to_string();
    assert_eq!(error, "16384 addresses are open, the maximum");
    assert_eq!(elements().len(), 16_384);
    sh("nft flush ruleset");
    assert_eq!(wait(firewall.restore()).unwrap(), [Found::Nothing("wg_server")]);
    assert_eq!(wait(firewall.restore()).unwrap(), []);
    assert_eq!(elements().len(), 16_384);
}

#[test]
fn a_table_comes_back_with_its_elements_and_elements_are_no_change_of_it() {
    alone("firewall::tests::sets::inside_comes_back");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_comes_back() {
    let mut firewall = apply();
    let handles = || sh("nft -a list table inet wg_server | grep -v 198.51.100");
    let before = handles();
    open(&firewall, "aws.com", &[("198.51.100.80", 60)]);
    open(&firewall, "kms.example", &[("2001:db8::80", 60)]);
    assert_eq!(firewall.seen, Some(wait(firewall.sets.lock()).generation().unwrap()), "as if nothing had changed");
    assert_eq!(wait(firewall.restore()).unwrap(), []);
    sh("nft add table inet other");
    assert_eq!(wait(firewall.restore()).unwrap(), []);
    assert_eq!(handles().matches("chain").count(), before.matches("chain").count());
    let expected = [("198.51.100.80", 122, "aws.com"), ("2001:db8::80", 122, "kms.example")];
    for (change, found) in [
        ("nft flush ruleset", Found::Nothing("wg_server")),
        ("nft flush set inet wg_server resolved_ipv4", Found::Changed("wg_server")),
        ("nft delete element inet wg_server resolved_ipv6 '{ 2001:db8::80 }'", Found::Changed("wg_server")),
        ("nft add element inet wg_server resolved_ipv4 '{ 198.51.100.66 }'", Found::Changed("wg_server")),
        ("nft add element inet wg_server resolved_ipv4 '{ 198.51.100.66 timeout 1h }'", Found::Changed("wg_server")),
        ("nft flush chain inet wg_server from_enclaves", Found::Changed("wg_server")),
    ] {
        sh(change);
        assert_eq!(wait(firewall.restore()).unwrap(), [found], "{change}");
        assert!(are(&expected), "{change}: {:?}", elements());
        assert_eq!(wait(firewall.restore()).unwrap(), [], "{change}");
    }
    // An answer while the table is missing.
    sh("nft flush ruleset");
    open(&firewall, "aws.com", &[("198.51.100.81", 60)]);
    assert_eq!(wait(firewall.restore()).unwrap(), [Found::Nothing("wg_server")]);
    assert_eq!(elements().len(), 3);
    let resolved = wait(firewall.sets().resolved());
    assert_eq!(resolved.len(), 3);
    assert_eq!((resolved[1].address.to_string().as_str(), &*resolved[1].name), ("198.51.100.81", "aws.com"));
}

#[test]
fn after_a_crash_connections_go_on_and_names_that_are_still_listed_stay_open() {
    alone("firewall::tests::sets::inside_crash");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_crash() {
    sh(NETWORK);
    let firewall = apply();
    let listeners =
        ["198.51.100.66:443", "198.51.100.90:443"].map(|at| within("internet", || TcpListener::bind(at).unwrap()));
    open(&firewall, "kms.example", &[("198.51.100.90", 60)]);
    open(&firewall, "off-list.example", &[("198.51.100.66", 60)]);
    let mut connections =
        ["198.51.100.66:443", "198.51.100.90:443"].map(|to| within("enclave", || connects(to)).unwrap());
    // As SIGKILL ends it.
    drop(firewall);
    assert!(within("enclave", || connects("198.51.100.90:443")).is_ok());
    let plan = plan(LAB);
    let _firewall = wait(Firewall::apply(Path::new(NFT), &plan, |_, name| name == "kms.example")).unwrap();
    assert!(are(&[("198.51.100.90", 122, "kms.example")]), "{:?}", elements());
    assert!(within("enclave", || connects("198.51.100.90:443")).is_ok());
    assert!(within("enclave", || connects("198.51.100.66:443")).is_err());
    for (connection, listener) in connections.iter_mut().zip(&listeners) {
        connection.write_all(b"still here").unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.set_read_timeout(Some(SOON)).unwrap();
        accepted.read_exact(&mut [0; 10]).unwrap();
    }
}

#[test]
fn a_packet_to_what_is_not_open_is_reported_and_passes_where_wg_server_only_observes() {
    alone("firewall::tests::sets::inside_observe");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_observe() {
    sh(NETWORK);
    let _listeners =
        ["198.51.100.66:443", "[2001:db8::66]:443"].map(|at| within("internet", || TcpListener::bind(at).unwrap()));
    for mode in ["observe", "enforce"] {
        let toml = LAB.replacen("[egress]\n", &format!("[egress]\nmode = \"{mode}\"\n"), 1);
        let config = Config::parse(&toml).unwrap();
        let firewall = wait(Firewall::apply(Path::new(NFT), &plan(&toml), |_, _| true)).unwrap();
        let (refused, health) =
            (Refused::new(&config.egress, firewall.sets().members(), firewall.is_logged), Health::default());
        let report = wait(async {
            tokio::select! {
                never = refused.watch(&health) => match never {},
                report = async {
                    // The subscription is there at the first poll.
                    tokio::task::yield_now().await;
                    for to in ["198.51.100.66:443", "[2001:db8::66]:443"] {
                        assert_eq!(within("enclave", || connects(to)).is_ok(), mode == "observe", "{mode}: {to}");
                    }
                    within("enclave", || {
                        UdpSocket::bind("203.0.113.2:0").unwrap().send_to(b"x", "198.51.100.66:123").unwrap()
                    });
                    let end = tokio::time::Instant::now() + Duration::from_secs(10);
                    while refused.report(0).destinations.len() < 3 {
                        assert!(tokio::time::Instant::now() < end, "{:?}", refused.report(0));
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    refused.report(0)
                } => report,
            }
        });
        assert_eq!(health.problems(), [""; 0]);
        let destinations: Vec<&str> = report.destinations.keys().map(String::as_str).collect();
        assert_eq!(destinations, ["198.51.100.66:123/udp", "198.51.100.66:443", "[2001:db8::66]:443"], "{mode}");
        assert_eq!(report.is_enforced, mode == "enforce");
        assert!(report.events.iter().any(|event| event.from.to_string() == "203.0.113.2"), "{report:?}");
        assert!(wait(firewall.drops().unlisted()).unwrap() >= 3);
        // A destination that is listed is no event.
        let _listener = within("internet", || TcpListener::bind("198.51.100.80:443").unwrap());
        let before = wait(firewall.drops().unlisted()).unwrap();
        within("enclave", || connects("198.51.100.80:443")).unwrap();
        assert_eq!(wait(firewall.drops().unlisted()).unwrap(), before);
    }
}
