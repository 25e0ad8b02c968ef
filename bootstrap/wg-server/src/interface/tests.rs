use super::*;
use crate::namespace::{alone, sh};

#[test]
fn a_network_s_route_is_seen_and_made_as_the_kernel_made_it() {
    alone("interface::tests::inside_routes");
}

#[tokio::test]
#[ignore = "run by the test above in a network of its own"]
async fn inside_routes() {
    let netlink = Netlink::open().unwrap();
    let nets: Vec<IpNet> = ["203.0.113.1/24", "fd3b::1/64"].map(|net| net.parse().unwrap()).to_vec();
    sh("ip link add wg0 type veth peer name other; ip link set other up; ip link set wg0 up
        ip addr add 203.0.113.1/24 dev wg0; ip addr add fd3b::1/64 dev wg0 nodad
        ip link add elsewhere type veth peer name more; ip link set elsewhere up");
    let listed = || sh("ip route show; ip -6 route show dev wg0");
    let routed = async || -> Vec<bool> {
        let mut routes = Vec::new();
        for version in IpVersion::ALL {
            routes.extend(netlink.routes("wg0", version).await.unwrap());
        }
        assert!(!routes.contains(&"192.0.2.0/24".parse().unwrap()), "that is behind a gateway");
        nets.iter().map(|net| routes.contains(&net.trunc())).collect()
    };
    let before = listed();
    sh("ip route add 192.0.2.0/24 via 203.0.113.9");
    assert_eq!(routed().await, [true, true]);
    sh("ip route del 192.0.2.0/24");
    for (change, expected) in [
        ("ip route flush dev wg0", [false, true]),
        ("ip -6 route del fd3b::/64 dev wg0", [true, false]),
        ("ip route replace 203.0.113.0/24 dev elsewhere", [false, true]),
        ("ip route replace blackhole 203.0.113.0/24", [false, true]),
    ] {
        sh(change);
        assert_eq!(routed().await, expected, "{change}");
        for (net, _) in nets.iter().zip(expected).filter(|(_, is_there)| !is_there) {
            netlink.route_network("wg0", *net).await.unwrap();
        }
        assert_eq!(routed().await, [true, true], "{change}");
        assert_eq!(listed(), before, "{change}");
    }
}
