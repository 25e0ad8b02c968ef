use super::*;

fn report() -> Report {
    Report {
        uptime: 3723,
        interface: "wg0".to_owned(),
        public_key: "own".to_owned(),
        named: "running".to_owned(),
        enclaves: vec![EnclaveReport {
            cid: 16,
            state: "peer".to_owned(),
            addresses: vec!["203.0.113.2".parse().unwrap(), "fd3b::2".parse().unwrap()],
            public_key: Some("theirs".to_owned()),
            endpoint: Some("127.0.0.1:40000".parse().unwrap()),
            connected_since: None,
            data_stream: true,
            latest_handshake: None,
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
        "3 dropped, 0 refused",
    ] {
        assert!(table.contains(line), "{line:?} in {table}");
    }
}

#[test]
fn a_daemon_that_does_not_run_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let error = format!("{:#}", ask(&socket_path(dir.path())).unwrap_err());
    assert!(error.contains("(does wg-server run?): No such file or directory"), "{error}");
}

#[test]
fn what_the_daemon_writes_is_what_the_client_reads() {
    let json = serde_json::to_string(&report()).unwrap();
    let back: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), json);
}
