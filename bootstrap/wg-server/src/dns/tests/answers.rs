//! What named answers.

use super::*;

#[test]
fn names_on_the_list_are_answered_and_others_do_not_exist() {
    alone_with_users("dns::tests::answers::inside_nxdomain");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_nxdomain() {
    let setup = setup("nxdomain");
    setup.run(async |named| {
        assert_eq!(dig("aws.com"), "NOERROR 198.51.100.80");
        assert_eq!(dig("+tcp aws.com"), "NOERROR 198.51.100.80");
        assert_eq!(dig("AWS.com"), "NOERROR 198.51.100.80");
        assert_eq!(dig("alias.example"), "NOERROR 198.51.100.80");
        assert_eq!(dig("a.wild.example"), "NOERROR 198.51.100.82");
        assert_eq!(dig("b.a.wild.example"), "NOERROR 198.51.100.83");
        for name in ["x.aws.com", "evil.com", "com", "evil.test", "wild.example", "example", "a.alias.example"] {
            assert_eq!(dig(name), "NXDOMAIN ", "{name}");
            assert_eq!(dig(&format!("+dnssec {name} TXT")), "NXDOMAIN ", "{name}");
        }
        let counts = named.counts().await.unwrap();
        // wg-server itself has asked for a name of the list.
        assert!((21..=22).contains(&counts.questions) && (counts.denied, counts.failed) == (14, 0), "{counts:?}");
        // Nothing that was denied has left the host.
        let asked = setup.log("upstream/query.log");
        assert!(
            asked.contains("(a.wild.example)") && !asked.contains("evil") && !asked.contains("x.aws.com"),
            "{asked}"
        );

        let log = setup.log("log/query.log");
        let line = log.lines().find(|line| line.contains("query: aws.com IN A")).unwrap();
        assert!(line.contains(" client @0x") && line.contains(" 203.0.113.2#"), "{line}");
        assert!(line.contains(" (aws.com): query: aws.com IN A +") && line.ends_with("(203.0.113.1)"), "{line}");

        assert_eq!(dig("-c CH -t TXT version.bind"), "NOERROR ");
        assert_eq!(dig("-t AXFR wg-policy"), "none ");
        assert_eq!(dig("wg-policy SOA"), "REFUSED ");
        // From outside of the enclaves' networks.
        let outside = sh("dig -b 198.51.100.53 @203.0.113.1 +tries=1 +time=3 aws.com");
        assert!(outside.contains("status: REFUSED"), "{outside}");
        // Only where the enclaves are.
        let listening = sh("ss -Hlnu sport = 53; ss -Hlnt sport = 53");
        assert!(!listening.contains("127.0.0.1") && !listening.contains("0.0.0.0:53"), "{listening}");
        assert!(sh("ss -Hlnt sport = 953").is_empty(), "no control channel");
    });
}

#[test]
fn a_question_for_what_is_cached_is_judged_by_the_list_too() {
    alone_with_users("dns::tests::answers::inside_cached");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_cached() {
    let setup = setup("nxdomain");
    setup.run(async |_| {
        // An allowed alias puts the address of a denied name into the cache.
        assert_eq!(dig("front.example"), "NOERROR 198.51.100.66");
        for question in ["+norecurse hidden.example", "+norecurse +tcp hidden.example", "hidden.example"] {
            assert_eq!(dig(question), "NXDOMAIN ", "{question}");
        }
        assert_eq!(dig("+norecurse front.example"), "NOERROR 198.51.100.66");
    });
}

#[test]
fn questions_beyond_the_limit_are_truncated_and_not_lost() {
    alone_with_users("dns::tests::answers::inside_limit");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_limit() {
    const QUESTIONS: u16 = 1000;
    let setup = setup("nxdomain");
    setup.run(async |_| {
        assert_eq!(dig("aws.com"), "NOERROR 198.51.100.80");
        for name in ["aws.com", "evil.com"] {
            let socket = std::net::UdpSocket::bind("203.0.113.2:0").unwrap();
            socket.connect("203.0.113.1:53").unwrap();
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &(4 << 20)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            for id in 0..QUESTIONS {
                socket.send(&message::address_question(id.to_be_bytes(), name, false).unwrap()).unwrap();
                std::thread::sleep(Duration::from_micros(500));
            }
            let (mut answered, mut truncated, mut answer) = (0, 0, [0; 512]);
            while socket.recv(&mut answer).is_ok() {
                if answer[2] & 2 == 0 { answered += 1 } else { truncated += 1 }
            }
            assert_eq!(answered + truncated, QUESTIONS, "{name}: {answered} answered, {truncated} truncated");
        }
    });
}

#[test]
fn forwarders_without_dnssec_records_are_named_where_signatures_are_checked() {
    alone_with_users("dns::tests::answers::inside_dnssec");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_dnssec() {
    let mut setup = setup("nxdomain");
    setup.config.dns.dnssec = true;
    setup.run(async |named| {
        let state = named.states().wait_for(|state| state.problem.is_some()).await.unwrap().clone();
        assert_eq!(state.phase, Phase::Running, "a fault elsewhere ends nothing");
        let problem = state.problem.unwrap();
        assert!(problem.starts_with("alias.example: SERVFAIL, but an answer without DNSSEC"), "{problem}");
    });
}

#[test]
fn lookup_tells_an_answer_from_what_is_in_the_way_of_one() {
    alone_with_users("dns::tests::answers::inside_lookup");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_lookup() {
    let setup = setup("nxdomain");
    let list = AllowList::load(&setup.config.dns.allow_list_path).unwrap();
    let problem = async |name: &str| {
        let looked_up = crate::lookup::look_up(&setup.config, &list, &Name::parse(name).unwrap()).await;
        looked_up.map_or_else(|error| format!("{error:#}"), |()| "none".to_owned())
    };
    setup.run(async |_| {
        assert_eq!(problem("aws.com").await, "none");
        assert_eq!(problem("a.wild.example").await, "none");
        let unknown = problem("unknown.wild.example").await;
        assert!(unknown.starts_with("unknown.wild.example: NXDOMAIN: dns.forwarders do not know this name"), "{unknown}");
        assert!(unknown.contains("`dig @198.51.100.53 unknown.wild.example`; if it answers, restart"), "{unknown}");

        sh(&format!("kill -KILL {}", setup.upstream.0.id()));
        let failed = problem("b.a.wild.example").await;
        let expected = "b.a.wild.example: SERVFAIL: dns.forwarders do not answer, or refuse; expected name servers that this host \
                        can reach: ask one as wg-server does, `dig @198.51.100.53 b.a.wild.example`; if it answers, wg-server's log \
                        says why wg-server refused the answer";
        assert_eq!(failed, expected);
        assert_eq!(problem("x.aws.com").await, "x.aws.com is not on dns.allow_list_path: add it and restart wg-server");
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let nobody = runtime.block_on(problem("aws.com"));
    assert!(nobody.starts_with("aws.com: named does not answer at 203.0.113.1: Connection refused"), "{nobody}");
}

#[test]
fn names_off_the_list_are_refused_where_configured() {
    alone_with_users("dns::tests::answers::inside_refused");
}

#[test]
#[ignore = "run by the test above in a network of its own"]
fn inside_refused() {
    let setup = setup("refused");
    setup.run(async |_| {
        assert_eq!(dig("aws.com"), "NOERROR 198.51.100.80");
        assert_eq!(dig("alias.example"), "NOERROR 198.51.100.80");
        assert_eq!(dig("b.a.wild.example"), "NOERROR 198.51.100.83");
        for name in ["evil.com", "com", "evil.test", "example", "."] {
            assert_eq!(dig(name), "REFUSED ", "{name}");
            assert_eq!(dig(&format!("+norecurse {name}")), "REFUSED ", "{name}");
        }
        // Below a listed name the policy zone decides, which cannot refuse.
        for name in ["x.aws.com", "wild.example", "a.alias.example"] {
            assert_eq!(dig(name), "NXDOMAIN ", "{name}");
        }
        let asked = setup.log("upstream/query.log");
        assert!(asked.contains("aws.com") && !asked.contains("evil") && !asked.contains("x.aws.com"), "{asked}");
    });
}
