//! named and wg-server's forwarder together.

use super::*;

/// The time to live of the last answer.
fn ttl(name: &str) -> u32 {
    let text = sh(&format!("dig -b 203.0.113.2 @203.0.113.1 +tries=1 +time=3 +noall +answer {name}"));
    text.lines().last().and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap()
}

#[test]
fn named_asks_through_wg_server_and_keeps_no_answer_longer_than_its_addresses_are_open() {
    alone_with_users("dns::tests::forwarding::inside_max_ttl");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_max_ttl() {
    for deny in ["nxdomain", "refused"] {
        let setup = setup(deny);
        setup.run(async |_| {
            assert_eq!(dig("long.wild.example"), "NOERROR 198.51.100.85");
            assert!((295..=300).contains(&ttl("long.wild.example")), "{}", ttl("long.wild.example"));
            let conf = std::fs::read_to_string(setup.dir.path().join("named/named.conf")).unwrap();
            for option in ["max-cache-ttl 300;", "stale-cache-enable no;", "stale-answer-enable no;"] {
                assert!(conf.contains(option), "{option}");
            }
            assert!(!conf.contains("198.51.100.53"), "named asks the resolver itself: {conf}");
        });
        drop(setup);
        sh("ip addr flush dev lo scope global");
    }
}

#[test]
fn an_answer_with_an_address_of_this_network_is_an_error() {
    alone_with_users("dns::tests::forwarding::inside_rebinding");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_rebinding() {
    let setup = setup("nxdomain");
    setup.run(async |_| {
        for name in ["private", "tunnel", "metadata", "mixed"] {
            assert_eq!(dig(&format!("{name}.wild.example")), "SERVFAIL ", "{name}");
        }
        // The default of egress.destinations.
        assert_eq!(dig("imds.wild.example"), "NOERROR 169.254.169.254");
    });
}

#[test]
fn an_alias_outlives_its_target_and_is_answered_all_its_life() {
    alone_with_users("dns::tests::forwarding::inside_alias");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_alias() {
    let setup = setup("nxdomain");
    let questions = |name: &str| {
        let asked = setup.log("upstream/query.log");
        asked.lines().filter(|line| line.contains(&format!("({name})"))).count()
    };
    setup.run(async |_| {
        let end = Instant::now() + Duration::from_secs(20);
        while questions("elsewhere.test") < 2 {
            assert_eq!(dig("moved.wild.example"), "NOERROR 198.51.100.86");
            assert!(Instant::now() < end, "named does not ask for the target");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(questions("moved.wild.example"), 1);
        assert_eq!(dig("elsewhere.test"), "NXDOMAIN ", "the target itself is not on the list");
    });
}
