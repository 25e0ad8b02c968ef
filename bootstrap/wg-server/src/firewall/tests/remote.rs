//! A gateway with `[remote]`: what parents elsewhere send.

use super::*;

#[test]
fn a_gateway_of_enclaves_elsewhere_hears_them() {
    alone("firewall::tests::remote::inside_remote");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_remote() {
    sh("mount -t tmpfs none /run; mkdir /run/netns; ip link set lo up; ip netns add internet
        ip link add wg0 type veth peer name inner netns internet
        ip link add uplink0 type veth peer name outer netns internet
        ip addr add 203.0.113.1/24 dev wg0; ip addr add 192.0.2.10/24 dev uplink0
        ip link set wg0 up; ip link set uplink0 up
        ip -n internet addr add 203.0.113.2/24 dev inner; ip -n internet addr add 192.0.2.2/24 dev outer
        ip -n internet link set inner up; ip -n internet link set outer up");
    let remote = "[remote]\nlisten = \"192.0.2.10:821\"\nparents = [\"192.0.2.2\"]\n[nat]";
    let plan = plan(&LAB.replacen("[nat]", remote, 1));
    wait(Firewall::apply(Path::new(NFT), &plan, |_, _| true)).unwrap();
    let _entry_port = EntryPort::hold_everywhere(51_820).unwrap();
    let wireguard = UdpSocket::bind(("0.0.0.0", BEHIND)).unwrap();
    wireguard.set_read_timeout(Some(SOON)).unwrap();
    within("internet", || UdpSocket::bind("192.0.2.2:0").unwrap().send_to(b"x", "192.0.2.10:51820").unwrap());
    assert!(wireguard.recv(&mut [0; 8]).is_ok());
    // Whoever is no parent is not heard, of either IP version, and nobody past the entry port.
    sh("ip -n internet addr add 192.0.2.3/24 dev outer
        ip addr add 2001:db8:2::10/64 dev uplink0 nodad; ip -n internet addr add 2001:db8:2::2/64 dev outer nodad");
    let wireguard6 = UdpSocket::bind(("2001:db8:2::10", BEHIND)).unwrap();
    wireguard6.set_read_timeout(Some(SOON)).unwrap();
    let behind = format!("192.0.2.10:{BEHIND}");
    within("internet", || UdpSocket::bind("192.0.2.3:0").unwrap().send_to(b"x", "192.0.2.10:51820").unwrap());
    within("internet", || UdpSocket::bind("192.0.2.2:0").unwrap().send_to(b"x", &behind).unwrap());
    UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", &behind).unwrap();
    within("internet", || UdpSocket::bind("[::]:0").unwrap().send_to(b"x", "[2001:db8:2::10]:51820").unwrap());
    assert!(wireguard.recv(&mut [0; 8]).is_err());
    assert!(wireguard6.recv(&mut [0; 8]).is_err());
    // Networks that hold each other, and one of the other IP version.
    let parents = "[\"192.0.2.0/24\", \"192.0.2.2\", \"2001:db8:2::/64\"]";
    wait(Firewall::apply(
        Path::new(NFT),
        &super::plan(&LAB.replacen("[nat]", &remote.replacen("[\"192.0.2.2\"]", parents, 1), 1)),
        |_, _| true,
    ))
    .unwrap();
    within("internet", || UdpSocket::bind("192.0.2.3:0").unwrap().send_to(b"x", "192.0.2.10:51820").unwrap());
    within("internet", || UdpSocket::bind("[::]:0").unwrap().send_to(b"x", "[2001:db8:2::10]:51820").unwrap());
    assert!(wireguard.recv(&mut [0; 8]).is_ok());
    assert!(wireguard6.recv(&mut [0; 8]).is_ok());
    // Parents connect from the outside; what comes out of the tunnel is an enclave, and no parent.
    let _parents = TcpListener::bind("0.0.0.0:821").unwrap();
    assert!(within("internet", || connects("192.0.2.10:821")).is_ok());
    assert!(within("internet", || connects("203.0.113.1:821")).is_err());
}

#[test]
fn without_the_table_no_datagram_of_a_parent_gets_to_wireguard_or_from_it() {
    alone("firewall::tests::remote::inside_remote_entry_port");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_remote_entry_port() {
    sh("mount -t tmpfs none /run; mkdir /run/netns; ip link set lo up; ip netns add parent
        ip link add uplink0 type veth peer name outer netns parent
        ip addr add 192.0.2.10/24 dev uplink0; ip addr add 2001:db8:2::10/64 dev uplink0 nodad; ip link set uplink0 up
        ip -n parent addr add 192.0.2.2/24 dev outer; ip -n parent addr add 2001:db8:2::2/64 dev outer nodad
        ip -n parent link set outer up");
    let remote = "[remote]\nlisten = \"192.0.2.10:821\"\nparents = [\"192.0.2.2\", \"2001:db8:2::2\"]\n[nat]";
    let mut firewall =
        wait(Firewall::apply(Path::new(NFT), &plan(&LAB.replacen("[nat]", remote, 1)), |_, _| true)).unwrap();
    // The host's own rules speak of the configured port.
    sh("nft add table inet filter
        nft add chain inet filter input '{ type filter hook input priority 0; policy drop; }'
        nft add rule inet filter input meta l4proto icmpv6 accept; nft add rule inet filter input udp dport 51820 accept
        nft add chain inet filter output '{ type filter hook output priority 0; policy drop; }'
        nft add rule inet filter output meta l4proto icmpv6 accept
        nft add rule inet filter output udp sport 51820 ct state established accept");
    let _entry_port = EntryPort::hold_everywhere(51_820).unwrap();
    for [gateway, parent] in [["192.0.2.10", "192.0.2.2"], ["2001:db8:2::10", "2001:db8:2::2"]] {
        let wireguard = UdpSocket::bind((gateway, BEHIND)).unwrap();
        let relay = within("parent", || UdpSocket::bind((parent, 0)).unwrap());
        [&wireguard, &relay].into_iter().for_each(|socket| socket.set_read_timeout(Some(SOON)).unwrap());
        let (mut buffer, entry) = ([0; 2048], std::net::SocketAddr::new(gateway.parse().unwrap(), 51_820));

        relay.send_to(&[7; 1400], entry).unwrap();
        let (len, from) = wireguard.recv_from(&mut buffer).unwrap();
        assert_eq!((len, from), (1400, relay.local_addr().unwrap()));
        wireguard.send_to(b"answer", from).unwrap();
        assert_eq!(relay.recv_from(&mut buffer).unwrap(), (6, entry));

        // Of what went through before, the kernel knows the connection still.
        sh("nft delete table inet wg_server");
        relay.send_to(b"in", entry).unwrap();
        assert!(wireguard.recv_from(&mut buffer).is_err(), "a datagram got in without the table");
        sh("nft insert rule inet filter output accept");
        wireguard.send_to(b"out", from).unwrap();
        assert_ne!(relay.recv_from(&mut buffer).unwrap().1, entry, "the relay takes it for WireGuard's");
        sh(
            "nft delete rule inet filter output handle $(nft -a list chain inet filter output | sed -n 's/^\\t\\taccept # handle //p')",
        );

        assert_eq!(wait(firewall.restore()).unwrap(), [Found::Nothing("wg_server")]);
        relay.send_to(b"again", entry).unwrap();
        assert_eq!(wireguard.recv_from(&mut buffer).unwrap().0, 5);
    }
}
