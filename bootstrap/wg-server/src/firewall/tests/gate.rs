//! The way to port 53, which is closed while somebody else answers there.

use super::*;

#[test]
fn a_closed_gate_keeps_enclaves_from_port_53_and_from_nothing_else() {
    alone("firewall::tests::gate::inside_gate");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_gate() {
    sh("mount -t tmpfs none /run; mkdir /run/netns; ip link set lo up; ip netns add enclave
        ip link add wg0 type veth peer name wg0 netns enclave
        ip addr add 203.0.113.1/24 dev wg0; ip link set wg0 up
        ip -n enclave addr add 203.0.113.2/24 dev wg0; ip -n enclave link set wg0 up");
    let gate = Gate::to_port_53(NFT.into(), "wg0").unwrap();
    let _listeners = ["203.0.113.1:53", "203.0.113.1:54"].map(|at| TcpListener::bind(at).unwrap());
    let asks = |port: u16| within("enclave", || connects(&format!("203.0.113.1:{port}"))).is_ok();
    assert!(asks(53));
    for _ in 0..2 {
        wait(gate.close()).unwrap();
        assert!(!asks(53) && asks(54));
        assert!(connects("203.0.113.1:53").is_ok(), "wg-server's own questions");
    }
    wait(gate.open()).unwrap();
    assert!(asks(53));
    wait(gate.open()).unwrap();
    assert_eq!(sh("nft list tables"), "");
    // It is put back with everything else, for as long as it should be closed.
    let mut firewall = apply();
    let gate = firewall.gate();
    wait(gate.close()).unwrap();
    let [table, closed] = ["wg_server", "wg_server_dns"];
    for (change, found) in [
        ("nft flush ruleset", vec![Found::Nothing(table), Found::Nothing(closed)]),
        ("nft delete table inet wg_server_dns", vec![Found::Nothing(closed)]),
        ("nft flush chain inet wg_server_dns closed", vec![Found::Changed(closed)]),
    ] {
        assert_eq!(wait(firewall.restore()).unwrap(), [], "before {change}");
        sh(change);
        assert_eq!(wait(firewall.restore()).unwrap(), found, "{change}");
        assert!(!asks(53), "{change}");
    }
    wait(gate.open()).unwrap();
    assert!(asks(53));
    assert_eq!(wait(firewall.restore()).unwrap(), []);
    assert_eq!(sh("nft list tables"), "table inet wg_server\n");
}
