//! An enclave that no port leads to calls a hub in the lab's internet, and signs for it.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::pages::commands;
use super::services::root;
use super::shared_lab::{SharedLab, lab_with, restoring, wait};
use super::traffic::wait_answer;
use lab::{EnclaveId, Hub, More, Parent, URL, Wallet};
use parent_vm::paths::ROOT_PATH;
use serde_json::{Value, json};

const VECTORS: &str = include_str!("../../../../orchestrator/signer/tests/vectors/ethereum-transactions.json");
const SECRET: &str = "test/home";
/// A service, and a hub that asks it.
const FOR_A_SERVICE: &str = r#"
[[services]]
name = "hello"
program = "hello"
arguments = ["8088"]
memory_mib = 16
listen = [8088]

[[home]]
url = "https://hub.internet.example:8444"
key_sha256 = "HUB_KEY"
longest_pause = "2s"
service = "hello"
port = 8088
"#;
const PATIENCE: Duration = Duration::from_secs(120);

fn metric(hub: &Hub<'_>, name: &str) -> u64 {
    let (_, page) = hub.ask("/hub/metrics", None).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).trim().parse().unwrap()
}

/// A request of the published key's first test vector with another nonce.
fn request(nonce: u64) -> Value {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let mut payload = vectors["transactions"][0]["request"].clone();
    payload["nonce"] = json!(nonce);
    json!({"transaction_payload": payload, "secret_id": SECRET})
}

#[test]
fn an_enclave_that_calls_home_signs_while_no_port_leads_to_it() {
    let shared = lab_with(1);
    let restore = || {
        let enclave = shared.lab.enclave(EnclaveId::FIRST);
        enclave.stop().unwrap();
        Hub::end(&shared.lab).unwrap();
        enclave.start(None).unwrap();
        enclave.wait_tunnel().unwrap();
    };
    restoring(|| signs_for_a_hub(&shared), restore);
}

/// Runs the commands of docs/home.md beside the hub; `orchestrator --check` on the host.
fn runs_the_page(parent: &Parent, hub: &Hub<'_>, request: &Value) {
    let dir = "/run/lab/home-page";
    let copy = "rm -rf $1 && mkdir -p $1 && cp /run/lab/hub/measurements.json $1 && printf %s \"$2\" >$1/request.json";
    parent.output(&["sh", "-ec", copy, "sh", dir, &request.to_string()]).unwrap();
    let commands = commands(&fs::read_to_string(root().join("docs/home.md")).unwrap());
    assert_eq!(commands.len(), 6, "{commands:?}");
    for (command, _) in commands {
        let (command, expected): (_, &[&str]) = match command.split(' ').next().unwrap() {
            // Beside the hub that is running, for as long as it takes to start.
            "wallet" => (
                format!(
                    "timeout 10 /payload/bin/{command} --root {ROOT_PATH} --listen 198.51.100.10:9443 \
                     --serve 127.0.0.1:9080 2>&1 || true"
                ),
                &["enclaves call here address=198.51.100.10:9443 key_sha256=", "programs send requests to http://"],
            ),
            "curl" if command.ends_with("/enclaves") => (command, &["\"image\":\"measurements.json\""]),
            "curl" => (command, &["\"transaction_signed\":\"0x"]),
            "openssl" | "chmod" => (command, &[]),
            _ => {
                let config = hub.variant().eif_path().with_file_name("config/enclave.toml");
                let command = command.replace("config/enclave/enclave.toml", config.to_str().unwrap());
                let output = Command::new("sh").args(["-ec", &command]).current_dir(root()).output().unwrap();
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success(), "{command}: {output:?}");
                assert!(said.contains("signer calls https://hub.internet.example:8443, known by its key"), "{said}");
                continue;
            }
        };
        let line = format!("cd {dir} && {command}");
        let said = parent.output(&["timeout", "60", "ip", "netns", "exec", "internet", "sh", "-ec", &line]).unwrap();
        for text in expected {
            assert!(said.contains(text), "{command}: no `{text}` in {said}");
        }
    }
}

fn signs_for_a_hub(shared: &SharedLab) {
    let parent = shared.lab.parent().unwrap();
    let wallet = Wallet::trusting(shared.lab.parent().unwrap(), &shared.lab.eif_path().unwrap()).unwrap();
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    wallet.import(vectors["private_key"].as_str().unwrap()).unwrap();
    wallet.set_key(SECRET).unwrap();
    shared.lab.enclave(EnclaveId::FIRST).stop().unwrap();
    let hello = shared.lab.dir().join("hello");
    let compiled = Command::new("rustc")
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o"])
        .args([&hello, &root().join("bootstrap/lab/hello/hello.rs")])
        .status();
    assert!(compiled.unwrap().success());
    let more = More { tables: FOR_A_SERVICE, programs: &[("hello", &hello)], ..More::default() };
    let hub = Hub::begin(&shared.lab, SECRET, &more).unwrap();
    hub.listen("lab-hub-of-service", 8444, 8081).unwrap();
    let wallet = Wallet::trusting(shared.lab.parent().unwrap(), hub.variant().eif_path()).unwrap();
    let enclave = hub.variant().boot(EnclaveId::FIRST).unwrap();
    enclave.wait_console("home: connected, the hub has accepted this enclave", PATIENCE).unwrap();
    wait("two connections", PATIENCE, || metric(&hub, "hub_connections ") == 2);

    // A signature, while the enclave cannot be reached.
    let (status, answer) = hub.ask("/", Some(&request(8000))).unwrap();
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(wallet.signer_of(answer["transaction_signed"].as_str().unwrap()).unwrap(), vectors["address"]);
    let error = format!("{:#}", wallet.sign(URL, &request(8001)).expect_err("a port leads to the enclave"));
    assert!(error.contains("connect to https://198.51.100.2"), "{error}");

    // The other hub has the service, and the signer only carries its requests.
    let ask = |path: &str, body: Option<&Value>| hub.ask_at(8081, path, body).unwrap();
    wait("an answer of the service", PATIENCE, || ask("/", None).0 == 200);
    let hello = (200, "hello from an enclave\n".to_owned());
    assert_eq!((ask("/metrics", None), ask("/", Some(&request(8001)))), (hello.clone(), hello));
    let (_, metrics) = hub.ask("/metrics", None).unwrap();
    assert!(metrics.contains("signer_signatures_total 1\n"), "the service's hub had a signature: {metrics}");
    enclave.wait_console("hello: [::ffff:127.0.0.1]:", PATIENCE).unwrap();

    runs_the_page(&parent, &hub, &request(8000));

    // The connections outlive the tunnel's keys.
    let peers = || parent.output(&["wg", "show", "wg0", "peers"]).unwrap_or_default();
    let before = peers();
    parent.shell("/usr/local/bin/wg-server renew").unwrap();
    wait("other keys", PATIENCE, || peers() != before && peers().lines().count() == 1);
    wait_answer(&shared.lab, PATIENCE);
    let (status, answer) = hub.ask("/", Some(&request(8002))).unwrap();
    assert_eq!(status, 200, "{answer}");
    assert_eq!(metric(&hub, "hub_proofs_total{outcome=\"accepted\"} "), 2, "the enclave has called again");

    // An image that is not on the hub's list any more.
    hub.distrust().unwrap();
    enclave.wait_console("the hub refuses this enclave: PCR2 is", PATIENCE).unwrap();
    let (status, answer) = hub.ask("/", Some(&request(8003))).unwrap();
    assert!(status == 503 && answer.contains("no_enclave"), "{status} {answer}");
}
