//! `wallet proxy` as an operator runs it.

use std::sync::Arc;
use std::time::SystemTime;

use attestation::test_root::TestRoot;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::command::{Host, Program};
use crate::enclave::{Authority, Enclave, measurements_json};
use crate::program::{PATIENCE, ask, sign_body};
use crate::real_signer::{SECRET, Signer};

/// A proxy in front of these, and where it listens.
async fn start(root: &TestRoot, options: &[&str]) -> (Program, std::net::SocketAddr) {
    let host = Host::new();
    host.write("root.pem", &root.root_pem());
    let common = ["proxy", "--listen", "127.0.0.1:0", "--measurements", "right.json", "--root", "root.pem"];
    let mut program = Program::start(host, &[&common, options].concat());
    assert!(program.says("a root other than AWS's").await.contains("WARN"));
    let line = program.says("programs send requests to http://").await;
    let address = line.split_once("http://").unwrap().1.split(';').next().unwrap();
    assert!(line.ends_with(&format!("; try: curl http://{address}/health")), "{line}");
    let address = address.parse().unwrap();
    (program, address)
}

async fn status(front: std::net::SocketAddr, method: &str, path: &str, body: &str) -> u16 {
    ask(TcpStream::connect(front).await.unwrap(), method, path, "", body).await.0
}

#[tokio::test]
async fn a_proxy_says_what_it_verified_reads_its_list_again_and_ends_on_sigterm() {
    let root = Arc::new(TestRoot::new(SystemTime::now()));
    let signer = Signer::start(&root).await;
    let (mut program, front) = start(&root, &["--url", &signer.url()]).await;
    let line = program.says("verified").await;
    for part in
        [format!("url={}", signer.url()), "image=\"right.json\"".to_owned(), format!("pcr0={}", "10".repeat(48))]
    {
        assert!(line.contains(&part), "{line}");
    }
    assert_eq!(status(front, "POST", "/", &sign_body(0, SECRET)).await, 200);
    program.host.write("right.json", "not JSON");
    program.signal("HUP").await;
    program.says("everything stays as it was").await;
    assert_eq!(status(front, "POST", "/", &sign_body(1, SECRET)).await, 200);
    program.host.write("right.json", &measurements_json().replace("1212", "1313"));
    program.signal("HUP").await;
    program.says("dropped, it is not allowed any more: PCR2 is 1212").await;
    let line = program.says("failed attestation, and no request was sent").await;
    assert!(line.contains(&signer.url()) && line.contains("PCR2 is 1212"), "{line}");
    assert_eq!(status(front, "POST", "/", &sign_body(2, SECRET)).await, 503);
    program.host.write("right.json", &measurements_json());
    program.signal("HUP").await;
    program.says("verified").await;
    assert_eq!(status(front, "POST", "/", &sign_body(2, SECRET)).await, 200);
    program.signal("TERM").await;
    assert!(timeout(PATIENCE, program.child.wait()).await.expect("no end").unwrap().success());
}

#[tokio::test]
async fn a_new_client_certificate_is_read_on_sighup() {
    let (authority, other) = (Authority::new(), Authority::new());
    let enclave = Enclave::for_clients_of(&authority).await;
    let host = Host::of(&enclave);
    let write = |host: &Host, (certificate, key): (String, String)| {
        host.write("client.pem", &certificate);
        host.write("client.key", &key);
    };
    write(&host, other.client());
    let line = ["proxy", "--listen", "127.0.0.1:0", "--measurements", "right.json", "--root", "root.pem", "--url"];
    let url = enclave.url_text();
    let client = [url.as_str(), "--client-certificate", "client.pem", "--client-key", "client.key"];
    let mut program = Program::start(host, &[&line[..], &client].concat());
    assert!(program.says(&url).await.contains("WARN"));
    write(&program.host, authority.client());
    program.signal("HUP").await;
    program.says("verified").await;
}

#[tokio::test]
async fn a_key_that_systemd_has_put_there_may_have_its_mode() {
    let (host, authority) = (Host::new(), Authority::new());
    let (certificate, key) = authority.client();
    host.write("client.pem", &certificate);
    host.write("client.key", &key);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o440);
    std::fs::set_permissions(host.path().join("client.key"), mode).unwrap();
    let path = host.path().display().to_string();
    let key = format!("{path}/client.key");
    let line = ["verify", "--url", "https://127.0.0.1:1", "--measurements", "right.json", "--client-certificate"];
    let line = [&line[..], &["client.pem", "--client-key", &key]].concat();
    let said = host.wallet_with(&line, "", &[]).await;
    assert!(said.error().contains("mode 0440 lets others use it"), "{said:?}");
    let said = host.wallet_with(&line, "", &[("CREDENTIALS_DIRECTORY", &path)]).await;
    assert!(said.error().contains("connect to https://127.0.0.1:1"), "{said:?}");
}

#[tokio::test]
async fn options_that_cannot_be_right_are_named() {
    let host = Host::new();
    let right = ["proxy", "--url", "https://127.0.0.1:1", "--measurements", "right.json"];
    for (options, expected) in [
        (&["--listen", "0.0.0.0:0"][..], "reachable from other hosts without TLS, expected an address on loopback"),
        (&["--listen", "localhost:1"], "expected an address on loopback"),
        (&["--connections", "65"], "65 is not in 1..=64"),
        (&["--verify-every", "9"], "9 is not in 10..=840"),
        (&["--socket-mode", "0777"], "expected 0600, 0660 or 0666"),
        (&["--clients", "0"], "0 is not in 1..=4096"),
        (&["--client-key", "client.key"], "--client-certificate"),
    ] {
        let said = host.wallet(&[&right[..], options].concat()).await;
        assert!(said.error().contains(expected), "{said:?}");
    }
    let said = host.wallet(&["proxy", "--url", "https://127.0.0.1:1"]).await;
    assert!(said.error().contains("no enclave is allowed"), "{said:?}");
    let said = host.wallet(&["proxy", "--measurements", "right.json"]).await;
    assert!(said.error().contains("--url <URL>"), "{said:?}");
}
