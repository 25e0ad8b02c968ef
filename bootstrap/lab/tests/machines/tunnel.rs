//! Enclaves boot, bring up kernel WireGuard over vsock, and reach the internet.

use super::shared_lab::lab_with;
use lab::{EnclaveId, Report, Test, Transport};

#[test]
fn all_steps_of_the_transcript_happen() {
    let shared = lab_with(1);
    let output = shared.run(&["run"]);
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("All 13 steps passed"), "{said}");
}

#[test]
fn two_enclaves_of_one_image_have_their_own_addresses_and_both_reach_the_internet() {
    let shared = lab_with(2);
    let ids: [EnclaveId; 2] = ["16".parse().unwrap(), "17".parse().unwrap()];
    let [first, second] = ids.map(|id| shared.lab.enclave(id).addresses().unwrap());
    assert_eq!((first.len(), second.len()), (2, 2), "an IPv4 and an IPv6 address each");
    assert!(first.iter().all(|address| !second.contains(address)), "{first:?} {second:?}");
    for (id, seed) in ids.into_iter().zip(1..) {
        for server in ["198.51.100.10:7008", "[2001:db8:100::10]:7008"] {
            let test = Test::Tcp { server: server.parse().unwrap(), bytes: 1 << 20, seed };
            let report = shared.lab.enclave(id).self_test(&test).unwrap();
            assert!(matches!(report, Report::Transfer(_)), "{report:?}");
        }
    }
}

#[test]
fn a_name_that_is_not_on_the_list_does_not_resolve_and_is_logged() {
    let shared = lab_with(1);
    let resolve = |name: &str| {
        let report = shared.lab.enclave(EnclaveId::FIRST).self_test(&Test::Resolve { name: name.into() }).unwrap();
        let Report::Resolved(resolved) = report else { panic!("{report:?}") };
        resolved.addresses
    };
    assert!(!resolve("aws.com.").is_empty());
    assert!(resolve("off-list.example.").is_empty());
    assert!(shared.lab.parent().unwrap().query_log().unwrap().contains("query: off-list.example IN A"));
}

#[test]
fn an_address_is_open_because_its_name_resolved_and_others_are_not() {
    let shared = lab_with(1);
    let enclave = shared.lab.enclave(EnclaveId::FIRST);
    enclave.self_test(&Test::Resolve { name: "aws.com.".into() }).unwrap();
    let status = || shared.lab.parent().unwrap().output(&["/usr/local/bin/wg-server", "status"]).unwrap();
    let dropped = || {
        let status = status();
        let packets = status.lines().find_map(|line| line.trim().strip_prefix("packets to what is not open: "));
        packets.and_then(|packets| packets.strip_suffix(" dropped")?.parse::<u64>().ok()).expect("a number of packets")
    };
    for line in ["  open: 169.254.169.254:80 (egress.destinations)\n", "  open: 198.51.100.80 (aws.com, for "] {
        assert!(status().contains(line), "{line}: {}", status());
    }
    let before = dropped();
    // The name server's own address: no name on the list has it.
    let test =
        Test::Rtt { server: "198.51.100.53:7008".parse().unwrap(), transport: Transport::Udp, count: 2, size: 64 };
    drop(enclave.self_test(&test));
    assert!(dropped() >= before + 2, "{before} before: {}", status());
}

#[test]
fn an_enclave_that_is_restarted_comes_up_again_with_the_same_address() {
    let shared = lab_with(1);
    let enclave = shared.lab.enclave(EnclaveId::FIRST);
    let before = enclave.addresses().unwrap();
    assert!(enclave.stop().unwrap());
    assert!(!enclave.is_running().unwrap());
    enclave.start(None).unwrap();
    enclave.wait_tunnel().unwrap();
    assert_eq!(enclave.addresses().unwrap(), before);
}
