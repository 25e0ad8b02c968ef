//! A drained host: the gate to the enclaves, and the connections that are under way.

use super::*;
use crate::drain::{Drain, Draining};

#[test]
fn a_drained_host_refuses_new_connections_at_once_and_keeps_and_counts_those_that_are_under_way() {
    alone("firewall::tests::drain::inside_drain");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_drain() {
    // As in `inside_forwards`: no neighbours are asked for.
    sh("mount -t tmpfs none /run; mkdir /run/netns; ip link set lo up; ip netns add enclave; ip netns add internet
        end='wg0 address 02:00:00:00:00:01'; ip link add $end type veth peer name $end netns enclave
        ip link set wg0 arp off; ip -n enclave link set wg0 arp off
        ip link add uplink0 type veth peer name outer netns internet
        ip addr add 203.0.113.1/24 dev wg0; ip link set wg0 up
        ip addr add 198.51.100.2/24 dev uplink0; ip link set uplink0 up; echo 1 > /proc/sys/net/ipv4/ip_forward
        ip -n enclave addr add 203.0.113.2/24 dev wg0; ip -n enclave link set wg0 up
        ip -n enclave route add default via 203.0.113.1
        ip -n internet addr add 198.51.100.80/24 dev outer; ip -n internet link set outer up");
    let state_dir = tempfile::tempdir().unwrap();
    let toml = LAB.replace("/var/lib/wg-server", state_dir.path().to_str().unwrap());
    let (config, plan) = (Config::parse(&toml).unwrap(), plan(&toml));
    // A wg-server from its start on.
    let start = || {
        wait(async {
            let entrance = plan.entrance(Path::new(NFT)).unwrap();
            let drain = Drain::restore(&config, entrance.clone()).await.unwrap();
            (Firewall::apply_behind(entrance, Path::new(NFT), &plan, |_, _| true).await.unwrap(), drain)
        })
    };
    let (mut firewall, drain) = start();
    let listener = within("enclave", || TcpListener::bind("203.0.113.2:443").unwrap());
    let client = || within("internet", || connects("198.51.100.2:443"));
    let both = || (client().unwrap(), listener.accept().unwrap().0);
    let passes = |(client, enclave): &mut (TcpStream, TcpStream)| {
        let mut byte = [0];
        client.write_all(b"a").unwrap();
        enclave.read_exact(&mut byte).unwrap();
        enclave.write_all(b"b").unwrap();
        client.read_exact(&mut byte).unwrap();
    };
    let (mut first, second) = (both(), both());
    let state = |drain: &Drain| wait(drain.state()).unwrap();
    // From this host itself, as the watchdog's.
    let _direct = (connects("203.0.113.2:443").unwrap(), listener.accept().unwrap());
    assert_eq!(state(&drain), Draining { seconds: None, connections: 2 });

    assert_eq!(wait(drain.begin()).unwrap().connections, 2);
    let refused = |when: &str| {
        let error = client().expect_err(when);
        // Not after a timeout: clients and load balancers know at once.
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{when}");
    };
    refused("drained");
    passes(&mut first);
    drop(second);
    // The kernel sees the end of it within a moment.
    let end = std::time::Instant::now() + 5 * SOON;
    while state(&drain).connections != 1 {
        assert!(std::time::Instant::now() < end, "{:?}", state(&drain));
    }

    // It is put back with everything else, and another wg-server begins with it.
    assert_eq!(wait(firewall.restore()).unwrap(), []);
    sh("nft delete table inet wg_server_drain");
    assert_eq!(wait(firewall.restore()).unwrap(), [Found::Nothing("wg_server_drain")]);
    refused("restored");
    wait(firewall.remove()).unwrap();
    assert_eq!(sh("nft list tables"), "");
    let (_firewall, drain) = start();
    refused("started again");
    passes(&mut first);
    assert_eq!(state(&drain).connections, 1);

    assert_eq!(wait(drain.end()).unwrap(), Draining { seconds: None, connections: 1 });
    passes(&mut both());
    passes(&mut first);
    // A wg-server that is killed leaves its gate, and the next one is not drained.
    wait(drain.begin()).unwrap();
    std::fs::remove_file(state_dir.path().join("drain.json")).unwrap();
    start();
    passes(&mut both());
}

#[test]
fn without_a_forwarded_port_there_is_nothing_to_drain() {
    let without = LAB.replacen("[[nat.forwards]]\nport = 443\nto = \"203.0.113.2:443\"\n", "", 1);
    let config = Config::parse(&without).unwrap();
    let error = wait(async {
        // true(1) takes the place of nft.
        let entrance = plan(&without).entrance(Path::new("/bin/true")).unwrap();
        Drain::restore(&config, entrance).await.unwrap().begin().await.unwrap_err()
    });
    assert_eq!(error.to_string(), "nat.forwards: no port is forwarded, so there is nothing to drain");
}
