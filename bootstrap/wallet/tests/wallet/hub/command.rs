//! `wallet hub` as an operator runs it.

use std::sync::Arc;
use std::time::SystemTime;

use attestation::test_root::TestRoot;
use home::message::Message;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::site::{Authority, Site};
use crate::command::{Host, Program};
use crate::enclave::{measurements_json, trust};
use crate::program::PATIENCE;

/// A hub that was started on the command line, with free ports.
async fn start() -> (Program, Site) {
    let (host, authority, root) = (Host::new(), Authority::new(), TestRoot::new(SystemTime::now()));
    host.write("root.pem", &root.root_pem());
    let identity = authority.identity(host.path(), "hub");
    let line = "hub --listen 127.0.0.1:0 --serve 127.0.0.1:0 --certificate hub.pem --key hub.key \
                --measurements right.json --root root.pem";
    let mut program = Program::start(host, &line.split_whitespace().collect::<Vec<_>>());
    assert!(program.says("a root other than AWS's").await.contains("WARN"));
    let line = program.says("enclaves call here").await;
    assert!(line.contains(&identity.key_sha256()), "{line}");
    let address = |line: &str, before: &str| {
        line.split_once(before).unwrap().1.split([' ', '"', ';']).next().unwrap().parse().unwrap()
    };
    let calls = address(&line, "address=");
    let front = address(&program.says("programs send requests to").await, "http://");
    let (identity, trust) = (watch::channel(identity).0, watch::channel(Arc::new(trust(root.trust_root()))).0);
    let site = Site {
        authority,
        root: Arc::new(root),
        calls,
        front,
        identity,
        trust,
        dir: tempfile::tempdir().unwrap(),
        stop: CancellationToken::new(),
        hub: JoinSet::new(),
    };
    (program, site)
}

#[tokio::test]
async fn a_hub_reads_its_list_again_on_sighup_and_ends_on_sigterm() {
    let (mut program, site) = start().await;
    let _enclave = site.enclave();
    site.has(1).await;
    assert!(site.ask("GET", "/enclaves", "").await.1.contains("\"image\":\"right.json\""));
    program.host.write("right.json", "not JSON");
    program.signal("HUP").await;
    program.says("everything stays as it was").await;
    site.has(1).await;
    program.host.write("right.json", &measurements_json().replace("1212", "1313"));
    program.signal("HUP").await;
    program.says("dropped, it is not allowed any more: PCR2 is 1212").await;
    site.has(0).await;
    program.signal("TERM").await;
    assert!(timeout(PATIENCE, program.child.wait()).await.expect("no end").unwrap().success());
}

#[tokio::test]
async fn a_refused_document_is_logged_with_its_reason() {
    let (mut program, site) = start().await;
    let mut call = site.call().await;
    let mut fields = call.fields();
    fields.pcrs.insert(1, attestation::Pcr([0; 48]));
    let Message::Refused(_) = call.send(site.root.sign(&fields)).await else { panic!("accepted") };
    let line = program.says("refused").await;
    assert!(line.contains("PCR1 is zero: the enclave runs in debug mode"), "{line}");
}

#[tokio::test]
async fn options_that_cannot_be_right_are_named() {
    let host = Host::new();
    let authority = Authority::new();
    authority.issue(host.path(), "hub");
    authority.issue(host.path(), "other");
    let right = ["hub", "--certificate", "hub.pem", "--key", "hub.key", "--measurements", "right.json"];
    let with = |from: &'static str, to: &'static str| right.map(|word| if word == from { to } else { word });
    for (line, expected) in [
        (with("hub.pem", "none.pem"), "read the hub's certificate none.pem"),
        (with("hub.key", "other.key"), "other.key is not the key of hub.pem"),
        (with("right.json", "none.json"), "read none.json"),
    ] {
        assert!(host.wallet(&line).await.error().contains(expected), "{line:?}");
    }
    for (option, value, expected) in [
        ("--serve", "0.0.0.0:8080", "reachable from other hosts without TLS, expected an address on loopback"),
        ("--renew", "9", "9 is not in 10..=3000"),
        ("--pcr", "1", "N=HEX"),
    ] {
        let line = [right.as_slice(), &["--listen", "127.0.0.1:0", option, value]].concat();
        assert!(host.wallet(&line).await.error().contains(expected), "{option} {value}");
    }
    let nothing = ["hub", "--certificate", "hub.pem", "--key", "hub.key"];
    let said = host.wallet(&nothing).await;
    assert!(said.error().contains("no enclave is allowed"), "{said:?}");
}
