//! Lists that are for some enclaves only.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use nix::sys::time::{TimeVal, TimeValLike};

use super::sets::{NETWORK, addresses, open_to};
use super::*;
use crate::config::ListName;
use crate::config::lists::name;
use crate::dns::Reasons;

const LISTS: &str = r#"[[egress.lists]]
name = "a"
names = ["a.example"]
destinations = ["198.51.100.66:443"]
cids = [16]
[[egress.lists]]
name = "b"
names = ["b.example"]
destinations = ["[2001:db8::66]:443"]
cids = [17]
"#;
const FIRST: [&str; 2] = ["203.0.113.2", "fd3b:74ac:9d21::2"];
const SECOND: [&str; 2] = ["203.0.113.3", "fd3b:74ac:9d21::3"];

fn toml() -> String {
    LAB.replacen("[dns]", &format!("{LISTS}[dns]"), 1)
}

fn apply_lists() -> Firewall {
    wait(Firewall::apply(Path::new(NFT), &plan(&toml()), |list, name| match list {
        ListId::Every => true,
        ListId::Some(_) => name == "a.example",
    }))
    .unwrap()
}

fn id(list: &str) -> ListId {
    ListId::Some(name(list))
}

fn members(of: &[(&str, [&str; 2])]) -> Members {
    let mut members = Members::default();
    for (list, addresses) in of {
        addresses.iter().for_each(|address| members.insert(&name(list), address.parse().unwrap()));
    }
    members
}

/// Whether an enclave with this address gets there, over either IP version.
fn reaches(from: [&str; 2], to: &str) -> bool {
    let from = if to.starts_with('[') { format!("[{}]:0", from[1]) } else { format!("{}:0", from[0]) };
    within("enclave", || connects_from(&from, to).is_ok())
}

fn connects_from(from: &str, to: &str) -> std::io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket, sockopt};
    let address = |text: &str| SockaddrStorage::from(text.parse::<SocketAddr>().unwrap());
    let family = if to.starts_with('[') { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // Also the deadline of connect(2).
    nix::sys::socket::setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(1))?;
    bind(socket.as_raw_fd(), &address(from))?;
    Ok(connect(socket.as_raw_fd(), &address(to))?)
}

#[test]
fn an_enclave_reaches_what_is_on_its_lists_and_on_that_of_every_enclave_and_nothing_else() {
    alone("firewall::tests::lists::inside_reach");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_reach() {
    sh(NETWORK);
    sh("ip -n enclave addr add 203.0.113.3/24 dev wg0; ip -n enclave addr add fd3b:74ac:9d21::3/64 dev wg0 nodad");
    let mut firewall = apply_lists();
    let _listeners: Vec<_> =
        ["198.51.100.66", "198.51.100.80", "198.51.100.90", "[2001:db8::66]", "[2001:db8::80]", "[2001:db8::90]"]
            .map(|address| within("internet", || TcpListener::bind(format!("{address}:443")).unwrap()))
            .into();
    let nothing = |of: [&str; 2], why: &str| {
        for to in ["198.51.100.66:443", "198.51.100.90:443", "[2001:db8::66]:443", "[2001:db8::90]:443"] {
            assert!(!reaches(of, to), "{why}: {of:?} {to}");
        }
        assert!(reaches(of, "198.51.100.80:443") && reaches(of, "[2001:db8::80]:443"), "{why}: what every enclave may");
    };
    // An answer comes before its enclave has proved itself.
    open_to(&firewall, id("a"), "a.example", &[("198.51.100.90", 60)]);
    open_to(&firewall, id("b"), "b.example", &[("2001:db8::90", 60)]);
    nothing(FIRST, "not yet known");
    nothing(SECOND, "not yet known");

    let of_a = |of: [&str; 2]| (reaches(of, "198.51.100.66:443"), reaches(of, "198.51.100.90:443"));
    let of_b = |of: [&str; 2]| (reaches(of, "[2001:db8::66]:443"), reaches(of, "[2001:db8::90]:443"));
    wait(firewall.sets().admit(members(&[("a", FIRST), ("b", SECOND)]))).unwrap();
    for _ in 0..2 {
        assert_eq!((of_a(FIRST), of_b(FIRST)), ((true, true), (false, false)));
        assert_eq!((of_a(SECOND), of_b(SECOND)), ((false, false), (true, true)));
        assert_eq!(wait(firewall.restore()).unwrap(), [], "members are no change of the table");
        // The second time after the table was put back.
        sh("nft flush ruleset");
        assert!(!wait(firewall.restore()).unwrap().is_empty());
    }
    // A name on both lists, and an enclave that both are for.
    let both = Reasons::from([(id("a"), "both.example".into()), (id("b"), "both.example".into())]);
    wait(firewall.sets().open(&both, &addresses(&[("2001:db8::90", 60), ("198.51.100.90", 60)]))).unwrap();
    assert!(reaches(FIRST, "[2001:db8::90]:443") && reaches(SECOND, "198.51.100.90:443"));
    wait(firewall.sets().admit(members(&[("a", FIRST), ("b", FIRST)]))).unwrap();
    assert_eq!((of_a(FIRST), of_b(FIRST)), ((true, true), (true, true)));
    nothing(SECOND, "gone");
    wait(firewall.sets().admit(Members::default())).unwrap();
    nothing(FIRST, "gone");
}

#[test]
fn what_is_closed_to_an_enclave_is_closed_before_anything_opens() {
    alone("firewall::tests::lists::inside_narrow");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_narrow() {
    let firewall = apply_lists();
    let sets = firewall.sets();
    wait(sets.admit(members(&[("a", FIRST), ("b", FIRST)]))).unwrap();
    let listed = || sh("nft list table inet wg_server");
    let before = generation::read().unwrap();
    wait(sets.narrow(&members(&[("b", FIRST), ("a", SECOND)]))).unwrap();
    assert_eq!(*sets.members().borrow(), members(&[("b", FIRST)]));
    assert_eq!(listed().matches("elements = { 203.0.113.2 }").count(), 1, "{}", listed());
    assert!(!listed().contains("203.0.113.3 }"), "{}", listed());
    assert_eq!(generation::read().unwrap(), before + 1);
    wait(sets.narrow(&members(&[("b", FIRST)]))).unwrap();
    let locked = wait(sets.lock());
    wait(async { tokio::time::timeout(SOON, sets.admit(members(&[("b", FIRST)]))).await }).unwrap().unwrap();
    drop(locked);
    assert_eq!(generation::read().unwrap(), before + 1, "what is there costs nothing, and waits for nobody");
}

#[test]
fn a_list_s_elements_and_members_come_back_with_the_table_and_changes_of_them_are_noticed() {
    alone("firewall::tests::lists::inside_comes_back");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_comes_back() {
    let mut firewall = apply_lists();
    let lists: Vec<ListName> = ["a", "b"].map(name).into();
    open_to(&firewall, id("a"), "a.example", &[("198.51.100.90", 60), ("2001:db8::90", 60)]);
    open_to(&firewall, id("b"), "b.example", &[("198.51.100.90", 60)]);
    let wanted = members(&[("a", FIRST), ("b", FIRST), ("b", SECOND)]);
    wait(firewall.sets().admit(wanted.clone())).unwrap();
    let are_there = || {
        let table = serde_json::from_str(&sh("nft -j list table inet wg_server")).unwrap();
        let elements = crate::firewall::sets::elements(&table, &lists);
        let of: Vec<_> = elements.iter().map(|it| (it.list.clone(), it.address.to_string(), &*it.comment)).collect();
        let right = [
            (id("a"), "198.51.100.90".to_owned(), "a.example"),
            (id("b"), "198.51.100.90".to_owned(), "b.example"),
            (id("a"), "2001:db8::90".to_owned(), "a.example"),
        ];
        of.len() == right.len() && right.iter().all(|it| of.contains(it)) && wanted.are_in(&table, &lists)
    };
    assert!(are_there());
    assert_eq!(wait(firewall.restore()).unwrap(), []);
    let changed = Found::Changed("wg_server");
    for (change, found) in [
        ("nft flush ruleset", Found::Nothing("wg_server")),
        ("nft flush set inet wg_server resolved_b_ipv4", changed),
        ("nft add element inet wg_server resolved_b_ipv6 '{ 2001:db8::90 timeout 1m }'", changed),
        ("nft flush set inet wg_server enclaves_a_ipv6", changed),
        ("nft add element inet wg_server enclaves_a_ipv4 '{ 203.0.113.3 }'", changed),
        ("nft delete element inet wg_server enclaves_b_ipv4 '{ 203.0.113.3 }'", changed),
    ] {
        sh(change);
        assert_eq!(wait(firewall.restore()).unwrap(), [found], "{change}");
        assert!(are_there(), "{change}");
        assert_eq!(wait(firewall.restore()).unwrap(), [], "{change}");
    }
    // Peers that come while the table is missing.
    wait(firewall.sets().admit(Members::default())).unwrap();
    sh("nft flush ruleset");
    wait(firewall.sets().admit(wanted.clone())).unwrap();
    assert_eq!(wait(firewall.restore()).unwrap(), [Found::Nothing("wg_server")]);
    assert!(are_there());
}

#[test]
fn after_a_crash_a_list_s_names_stay_open_and_its_enclaves_have_to_prove_themselves_again() {
    alone("firewall::tests::lists::inside_crash");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_crash() {
    let firewall = apply_lists();
    open_to(&firewall, id("a"), "a.example", &[("198.51.100.90", 60)]);
    open_to(&firewall, id("b"), "b.example", &[("198.51.100.91", 60)]);
    wait(firewall.sets().admit(members(&[("a", FIRST)]))).unwrap();
    // As SIGKILL ends it.
    drop(firewall);
    let firewall = apply_lists();
    let resolved = wait(firewall.sets().resolved());
    assert_eq!(resolved.len(), 1, "the name is no longer on list b: {resolved:?}");
    assert_eq!((&resolved[0].list, &*resolved[0].name), (&id("a"), "a.example"));
    assert_eq!(*firewall.sets().members().borrow(), Members::default());
    assert!(!sh("nft list table inet wg_server").contains("elements = { 203.0.113.2 }"));
    // Without the list, its sets are gone.
    drop(firewall);
    let firewall = apply();
    assert_eq!(wait(firewall.sets().resolved()), []);
    assert!(!sh("nft list table inet wg_server").contains("_a_ipv4"));
}

#[test]
fn a_set_that_cannot_be_filled_is_an_error_and_is_filled_at_the_next_try() {
    alone("firewall::tests::lists::inside_refused");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_refused() {
    let firewall = apply_lists();
    let sets = firewall.sets();
    wait(sets.admit(members(&[("a", FIRST), ("a", SECOND)]))).unwrap();
    let wanted = members(&[("a", FIRST)]);
    // A set of the same name with other keys refuses addresses.
    let table = sh("nft -j list table inet wg_server");
    sh("nft delete table inet wg_server; nft add table inet wg_server
        nft add set inet wg_server enclaves_a_ipv4 '{ type ether_addr; }'
        nft add set inet wg_server enclaves_a_ipv6 '{ type ipv6_addr; }'");
    let error = format!("{:#}", wait(sets.admit(wanted.clone())).unwrap_err());
    assert!(error.starts_with("set for which enclaves the lists are: "), "{error}");
    sh("nft delete table inet wg_server");
    std::fs::write("/tmp/wg_server_table", table).unwrap();
    sh("nft -j -f /tmp/wg_server_table");
    wait(sets.admit(wanted.clone())).unwrap();
    let table = serde_json::from_str(&sh("nft -j list table inet wg_server")).unwrap();
    assert!(wanted.are_in(&table, &[name("a"), name("b")]), "the same members again: {table}");
}
