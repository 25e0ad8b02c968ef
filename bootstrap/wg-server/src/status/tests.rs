use super::client::exchange;
use super::*;

fn report() -> Report {
    Report {
        uptime: 3723,
        interface: "wg0".to_owned(),
        public_key: "own".to_owned(),
        trust_root: "a root".to_owned(),
        named: "running; AppArmor may stop it".to_owned(),
        is_named_up: true,
        dns: Some(DnsReport { questions: 8, denied: 6, failed: 7 }),
        dropped_questions: Some(4),
        egress: EgressReport {
            is_enforced: true,
            unlisted: Some(5),
            destinations: vec!["169.254.169.254:80".to_owned()],
            resolved: vec![ResolvedReport {
                address: "198.51.100.80".parse().unwrap(),
                name: "aws.com".to_owned(),
                until: unix_seconds(SystemTime::now()) + 3723,
            }],
            lists: Vec::new(),
        },
        refused_answers: 6,
        problems: vec!["a thing is wrong: mend it".to_owned()],
        repairs: [(Kind::Firewall, RepairsReport { count: 2, last: Some(0) }), (Kind::Peer, RepairsReport::default())]
            .into(),
        forwards: vec![
            ForwardReport { port: 443, to: "203.0.113.2:8443".parse().unwrap(), is_peer: true },
            ForwardReport { port: 444, to: "203.0.113.3:8443".parse().unwrap(), is_peer: false },
        ],
        drain: Some(DrainReport { seconds: Some(62), connections: Some(3) }),
        watchdogs: Vec::new(),
        enclaves: vec![EnclaveReport {
            via: None,
            cid: 16,
            state: "peer".to_owned(),
            addresses: vec!["203.0.113.2".parse().unwrap(), "fd3b::2".parse().unwrap()],
            lists: BTreeSet::new(),
            public_key: Some("theirs".to_owned()),
            endpoint: Some("127.0.0.1:40000".parse().unwrap()),
            allowed_ips: vec!["203.0.113.2/32".parse().unwrap(), "fd3b::2/128".parse().unwrap()],
            connected_since: None,
            connections: 2,
            data_stream: true,
            latest_handshake: None,
            attested: Some(AttestedReport {
                module_id: "i-0123-enc4567".to_owned(),
                image: Some("/etc/wg-server/measurements.json".to_owned()),
                pcrs: [(0, "aa".to_owned()), (2, "bb".to_owned())].into(),
                config_sha256: "cc".to_owned(),
                at: 0,
                document: "AA==".to_owned(),
            }),
            received_bytes: 1,
            sent_bytes: 2,
            relay: RelayReport { to_enclave_dropped: 3, ..RelayReport::default() },
        }],
    }
}

#[test]
fn the_table_names_what_an_operator_looks_for() {
    let table = report().to_string();
    for line in [
        "  up: 1 h 2 min\n",
        "enclave: CID 16\n",
        "  addresses: 203.0.113.2, fd3b::2\n",
        "  endpoint: 127.0.0.1:40000\n",
        "  latest handshake: (none yet)\n",
        "  questions: 8, 6 of them for names that are not on the list, 7 not answered\n",
        "  questions to other name servers: 4 packets dropped\n",
        "  packets to what is not open: 5 dropped\n",
        "  open: 169.254.169.254:80 (egress.destinations)\n",
        "  open: 198.51.100.80 (aws.com, for 1 h ",
        "  trust root: a root\n",
        "  module: i-0123-enc4567\n  PCR0: aa\n  PCR2: bb\n  configuration: sha256 cc\n  keys: proved ",
        "3 dropped, 0 refused",
        "  forward: TCP port 443 to 203.0.113.2:8443 (a peer)\n",
        "  forward: TCP port 444 to 203.0.113.3:8443 (not a peer now: clients get no answer)\n",
        "  repaired: firewall 2 times, last ",
        "  drained for 1 min 2 s: new connections are refused, 3 under way; `wg-server drain --undo` ends it\n",
        "  problem: a thing is wrong: mend it\n",
    ] {
        assert!(table.contains(line), "{line:?} in {table}");
    }
}

#[test]
fn the_page_has_wireguards_metrics_by_their_usual_names_and_what_only_wg_server_knows() {
    let page = report().page();
    let peer =
        r#"{allowed_ips="203.0.113.2/32,fd3b::2/128",friendly_name="enclave@16",interface="wg0",public_key="theirs"}"#;
    let image = r#"{config_sha256="cc",enclave="16",image="/etc/wg-server/measurements.json",pcr0="aa"}"#;
    for line in [
        format!("wireguard_received_bytes_total{peer} 1"),
        format!("wireguard_sent_bytes_total{peer} 2"),
        format!("wireguard_latest_handshake_seconds{peer} 0"),
        format!("wg_server_enclave_image_info{image} 1"),
        r#"wg_server_enclave_state{enclave="16",state="peer"} 1"#.to_owned(),
        r#"wg_server_enclave_state{enclave="16",state="away"} 0"#.to_owned(),
        r#"wg_server_enclave_connections_total{enclave="16"} 2"#.to_owned(),
        r#"wg_server_enclave_proof_timestamp_seconds{enclave="16"} 0"#.to_owned(),
        r#"wg_server_relay_dropped_datagrams_total{cause="queue_full",enclave="16"} 3"#.to_owned(),
        r#"wg_server_forward_up{port="443",to="203.0.113.2:8443"} 1"#.to_owned(),
        r#"wg_server_forward_up{port="444",to="203.0.113.3:8443"} 0"#.to_owned(),
        r#"wg_server_repairs_total{kind="firewall"} 2"#.to_owned(),
        "wg_server_dns_dropped_packets_total 4".to_owned(),
        "wg_server_dns_questions_total 8".to_owned(),
        "wg_server_dns_denied_total 6".to_owned(),
        "wg_server_dns_failed_total 7".to_owned(),
        "wg_server_egress_unlisted_packets_total 5".to_owned(),
        "wg_server_refused_answers_total 6".to_owned(),
        "wg_server_named_up 1".to_owned(),
        "wg_server_problems 1".to_owned(),
        "wg_server_draining 1".to_owned(),
        "wg_server_up 1".to_owned(),
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in {page}");
    }
    let mut other = report();
    other.enclaves[0].via = Some("192.0.2.5".parse().unwrap());
    other.enclaves[0].public_key = None;
    other.unknown();
    let page = other.page();
    assert!(page.contains(r#"{enclave="192.0.2.5/16",state="peer"} 1"#), "{page}");
    assert!(!page.contains("wireguard_") && !page.contains("_packets_total"), "what is not known is not zero: {page}");
}

impl Report {
    /// As while the firewall cannot be read.
    fn unknown(&mut self) {
        (self.dropped_questions, self.egress.unlisted) = (None, None);
    }
}

#[test]
fn the_table_counts_the_addresses_that_it_leaves_out() {
    let mut report = report();
    let resolved = |at| ResolvedReport { address: std::net::Ipv4Addr::from(at).into(), name: "a".to_owned(), until: 0 };
    report.egress.resolved = (0..40_u32).map(resolved).collect();
    report.egress.is_enforced = false;
    let table = report.to_string();
    assert!(table.contains("open: 5 let through (egress.mode = \"observe\")\n"), "{table}");
    assert_eq!(table.matches("(a, for ").count(), 32, "{table}");
    assert!(table.contains("  open: 8 more addresses of names, see `wg-server status --json`\n"), "{table}");
}

#[test]
fn the_table_shows_for_each_enclave_what_its_lists_open_and_why() {
    let mut report = report();
    assert!(!report.to_string().contains("lists: "), "without lists there is nothing to say: {report}");
    let address = |address: &str, name: &str| ResolvedReport {
        address: address.parse().unwrap(),
        name: name.to_owned(),
        until: unix_seconds(SystemTime::now()) + 62,
    };
    report.egress.lists = [("a", "10.0.0.1:443", "198.51.100.90"), ("b", "10.0.0.2:443", "198.51.100.91")]
        .map(|(name, destination, resolved)| ListReport {
            name: name.to_owned(),
            destinations: vec![destination.to_owned()],
            resolved: vec![address(resolved, "kms.example")],
        })
        .into();
    assert!(report.to_string().ends_with("  lists: (none)\n"), "{report}");
    report.enclaves[0].lists.insert("b".to_owned());
    let table = report.to_string();
    let of_b = "  lists: b\n  open: 10.0.0.2:443 (list b)\n  open: 198.51.100.91 (list b: kms.example, for 1 min ";
    assert!(table.contains(of_b), "{table}");
    assert!(!table.contains("10.0.0.1") && !table.contains("198.51.100.90"), "another enclave's list: {table}");
}

#[test]
fn a_daemon_that_does_not_run_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let error = format!("{:#}", ask(&socket_path(dir.path())).unwrap_err());
    assert!(error.contains("wg-server does not run: `systemctl status wg-server`: No such file"), "{error}");
    drop(std::os::unix::net::UnixListener::bind(socket_path(dir.path())).unwrap());
    let error = format!("{:#}", ask(&socket_path(dir.path())).unwrap_err());
    assert!(error.contains("wg-server does not run: `systemctl status wg-server`: Connection refused"), "{error}");
}

#[test]
fn a_stopped_daemon_is_reported_within_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    // The kernel takes the connection and the request; nobody reads them.
    let _stopped = std::os::unix::net::UnixListener::bind(socket_path(dir.path())).unwrap();
    let asked = Instant::now();
    let error = format!("{:#}", ask(&socket_path(dir.path())).unwrap_err());
    assert!(asked.elapsed() < DEADLINE * 2, "{:?}", asked.elapsed());
    assert!(error.contains("wg-server runs, but has not answered within 5 s: it is stopped (SIGSTOP"), "{error}");
}

#[test]
fn a_renewal_says_what_it_did_and_what_stands_in_its_way() {
    let said = |enclaves, problems: &[&str]| {
        let problems = problems.iter().map(|problem| (*problem).to_owned()).collect();
        Renewing { enclaves, problems }.to_string()
    };
    assert_eq!(said(1, &[]), "renewing the keys of 1 enclave");
    assert_eq!(said(2, &["wg0 is missing"]), "renewing the keys of 2 enclaves\nproblem: wg0 is missing");
}

#[test]
fn an_enclave_that_an_earlier_daemon_let_in_is_said_so() {
    let mut report = report();
    report.enclaves[0].attested = None;
    assert!(report.to_string().contains("  measurements: (proved to an earlier wg-server;"), "{report}");
    report.enclaves[0].public_key = None;
    assert!(report.to_string().contains("  measurements: (none yet)\n"), "{report}");
}

#[test]
fn requests_have_this_form() {
    let json = |request| serde_json::to_string(&request).unwrap();
    assert_eq!(json(Request::Status), r#""status""#);
    assert_eq!(json(Request::Renew { cid: Some(16) }), r#"{"renew":{"cid":16}}"#);
    assert_eq!(json(Request::Refused { first: 7 }), r#"{"refused":{"first":7}}"#);
    assert_eq!(json(Request::Drain { is_on: true }), r#"{"drain":{"is_on":true}}"#);
    assert!(serde_json::from_str::<Request>(r#"{"renew":{"cid":16,"all":true}}"#).is_err());
}

#[test]
fn what_the_daemon_writes_is_what_the_client_reads() {
    let json = serde_json::to_string(&report()).unwrap();
    let back: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), json);
}

#[test]
fn an_enclave_elsewhere_is_shown_with_its_parent_and_without_a_relay() {
    let mut report = report();
    report.enclaves[0].via = Some("192.0.2.2".parse().unwrap());
    let table = report.to_string();
    assert!(table.contains("enclave: CID 16\n  via: 192.0.2.2\n"), "{table}");
    assert!(table.ends_with("  relay: (the parent's)\n"), "{table}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["enclaves"][0]["via"], "192.0.2.2");
}

#[tokio::test]
async fn clients_that_say_or_read_nothing_keep_nobody_else_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::bind(dir.path()).unwrap();
    let path = socket_path(dir.path());
    let ask = || {
        let path = path.clone();
        tokio::task::spawn_blocking(move || exchange(&path, Request::Renew { cid: Some(7) }).unwrap())
    };
    // More than a socket holds.
    let answer = async |request| {
        assert_eq!(request, Request::Renew { cid: Some(7) });
        Ok(vec![b'a'; 1 << 20])
    };
    let asked = async {
        let mut others = Vec::new();
        for _ in 0..3 {
            let mut unread = UnixStream::connect(&path).await.unwrap();
            unread.write_all(&serde_json::to_vec(&Request::Renew { cid: Some(7) }).unwrap()).await.unwrap();
            unread.shutdown().await.unwrap();
            others.push(unread);
        }
        let first_silent = others.len();
        for silent in [1, 10 * MAX_CLIENTS] {
            for _ in 0..silent {
                others.push(UnixStream::connect(&path).await.unwrap());
            }
            let answer = timeout(Duration::from_secs(2), ask()).await.expect("no answer").unwrap();
            assert_eq!(answer.len(), 1 << 20);
        }
        let read = timeout(Duration::from_secs(2), others[first_silent].read(&mut [0])).await;
        assert_eq!(read.expect("kept for as long as it likes").unwrap_or(0), 0);
    };
    tokio::select! {
        never = server.answer_each(answer) => match never {},
        () = asked => {}
    }
}
