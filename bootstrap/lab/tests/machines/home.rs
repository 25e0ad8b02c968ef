//! An enclave that no port leads to calls a hub in the lab's internet, and signs for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::shared_lab::{SharedLab, lab_with, wait};
use super::traffic::wait_answer;
use lab::{EnclaveId, Parent, URL, Wallet};
use parent_vm::paths::{KEY_POLICY_PATH, ROOT_PATH, WALLET};
use serde_json::{Value, json};

const VECTORS: &str = include_str!("../../../../orchestrator/signer/tests/vectors/ethereum-transactions.json");
const SECRET: &str = "test/home";
const PARENT_TOML: &str = "/etc/wg-server/parent.toml";
const ALLOW_LIST: &str = "/etc/wg-server/dns-allow-list.txt";
/// Files of the hub, on its host.
const HUB_DIR: &str = "/run/lab/hub";
/// What [`Wallet::trusting`] writes.
const MEASUREMENTS: &str = "/run/lab/wallet-measurements.json";
const PATIENCE: Duration = Duration::from_secs(120);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The lab's image, with a `[[home]]` of a hub with this key.
fn image(shared: &SharedLab, key_sha256: &str) -> PathBuf {
    let (dir, from) = (shared.lab.dir().join("home"), shared.lab.dir().join("eif/config"));
    let config_dir = dir.join("config");
    fs::create_dir_all(&config_dir).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), config_dir.join(entry.file_name())).unwrap();
    }
    let path = config_dir.join("enclave.toml");
    let home = format!(
        "\n[[home]]\nurl = \"https://hub.internet.example:8443\"\nkey_sha256 = \"{key_sha256}\"\nconnections = 2\n\
         longest_pause = \"2s\"\nsecret_ids = [\"{SECRET}\"]\n"
    );
    fs::write(&path, fs::read_to_string(&path).unwrap() + &home).unwrap();
    let image = Command::new(root().join("bootstrap/eif/image.sh")).args([&config_dir, &dir]).status();
    assert!(image.unwrap().success());
    dir.join("enclave.eif")
}

/// Makes the hub's key, and returns its digest.
fn make_key(parent: &Parent) -> String {
    let line = format!(
        "mkdir -p {HUB_DIR} && cd {HUB_DIR} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
         -days 30 -subj '/CN=hub/O=TEST ONLY lab' -keyout hub.key -out hub.pem 2>/dev/null && chmod 600 hub.key && \
         cp {MEASUREMENTS} measurements.json && \
         openssl x509 -in hub.pem -noout -pubkey | openssl pkey -pubin -outform der | sha256sum"
    );
    parent.shell(&line).unwrap().split(' ').next().unwrap().to_owned()
}

/// Starts the hub on its host.
fn start_hub(parent: &Parent) {
    let line = format!(
        "systemd-run --quiet --unit lab-hub --working-directory {HUB_DIR} \
         --property NetworkNamespacePath=/run/netns/internet {WALLET} hub --listen 198.51.100.10:8443 \
         --certificate hub.pem --key hub.key --measurements measurements.json --root {ROOT_PATH}"
    );
    parent.shell(&line).unwrap();
}

/// A request to the hub by a program on its host: the status, and the answer.
fn ask(parent: &Parent, path: &str, body: Option<&Value>) -> (u16, String) {
    let url = format!("http://127.0.0.1:8080{path}");
    let body = body.map(ToString::to_string);
    let base = ["ip", "netns", "exec", "internet", "curl", "--silent", "--max-time", "60", "--write-out"];
    let data: Vec<&str> = body.iter().flat_map(|body| ["--data", body.as_str()]).collect();
    let output = parent.output(&[&base[..], &["\n%{http_code}", &url], &data].concat()).unwrap_or_default();
    let (text, status) = output.rsplit_once('\n').unwrap_or_default();
    (status.parse().unwrap_or(0), text.to_owned())
}

fn metric(parent: &Parent, name: &str) -> u64 {
    let (_, page) = ask(parent, "/hub/metrics", None);
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

/// Leaves the parent without a forwarded port, and lets enclaves look up the hub.
fn close_the_port(parent: &Parent) {
    let line = format!(
        "cp {PARENT_TOML} {PARENT_TOML}.right && cp {ALLOW_LIST} {ALLOW_LIST}.right && \
         sed -i '/^\\[\\[nat.forwards\\]\\]/,/^to = /d' {PARENT_TOML} && \
         echo hub.internet.example >>{ALLOW_LIST}"
    );
    parent.shell(&line).unwrap();
    assert_eq!(parent.shell(&format!("grep -c '^\\[\\[nat.forwards' {PARENT_TOML} || true")).unwrap(), "0\n");
}

/// Undoes everything.
fn restore(shared: &SharedLab, key_policy: &str) {
    let parent = shared.lab.parent().unwrap();
    let line = format!(
        "systemctl stop lab-hub 2>/dev/null; for file in {PARENT_TOML} {ALLOW_LIST}; do \
         [ ! -e $file.right ] || mv $file.right $file; done"
    );
    parent.shell(&line).unwrap();
    let enclave = shared.lab.enclave(EnclaveId::FIRST);
    enclave.stop().unwrap();
    let eif = shared.lab.dir().join("eif/enclave.eif");
    parent.set_key_policy(key_policy).unwrap();
    parent.trust(&eif).unwrap();
    enclave.start(None).unwrap();
    enclave.wait_tunnel().unwrap();
}

#[test]
fn an_enclave_that_calls_home_signs_while_no_port_leads_to_it() {
    let shared = lab_with(1);
    let key_policy = shared.lab.parent().unwrap().output(&["cat", KEY_POLICY_PATH]).unwrap();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| signs_for_a_hub(&shared)));
    restore(&shared, &key_policy);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn signs_for_a_hub(shared: &SharedLab) {
    let parent = shared.lab.parent().unwrap();
    let wallet = Wallet::trusting(shared.lab.parent().unwrap(), &shared.lab.eif_path().unwrap()).unwrap();
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    wallet.import(vectors["private_key"].as_str().unwrap()).unwrap();
    wallet.set_key(SECRET).unwrap();
    let eif = image(shared, &make_key(&parent));
    let wallet = Wallet::trusting(shared.lab.parent().unwrap(), &eif).unwrap();
    wallet.set_policy().unwrap();
    parent.shell(&format!("cp {MEASUREMENTS} {HUB_DIR}/measurements.json")).unwrap();

    let enclave = shared.lab.enclave(EnclaveId::FIRST);
    enclave.stop().unwrap();
    close_the_port(&parent);
    parent.trust(&eif).unwrap();
    start_hub(&parent);
    enclave.start(Some(&eif)).unwrap();
    enclave.wait_console("home: connected, the hub has accepted this enclave", PATIENCE).unwrap();
    wait("two connections", PATIENCE, || metric(&parent, "hub_connections ") == 2);

    // A signature, while the enclave cannot be reached.
    let (status, answer) = ask(&parent, "/", Some(&request(8000)));
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(wallet.signer_of(answer["transaction_signed"].as_str().unwrap()).unwrap(), vectors["address"]);
    let error = format!("{:#}", wallet.sign(URL, &request(8001)).expect_err("a port leads to the enclave"));
    assert!(error.contains("connect to https://198.51.100.2"), "{error}");

    // The connections outlive the tunnel's keys.
    let peers = || parent.output(&["wg", "show", "wg0", "peers"]).unwrap_or_default();
    let before = peers();
    parent.shell("/usr/local/bin/wg-server renew").unwrap();
    wait("other keys", PATIENCE, || peers() != before && peers().lines().count() == 1);
    wait_answer(&shared.lab, PATIENCE);
    let (status, answer) = ask(&parent, "/", Some(&request(8002)));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(metric(&parent, "hub_proofs_total{outcome=\"accepted\"} "), 2, "the enclave has called again");

    // An image that is not on the hub's list any more.
    let change = format!("sed -i 's/\"PCR2\": *\"...../\"PCR2\": \"00000/' {HUB_DIR}/measurements.json");
    parent.shell(&format!("{change} && systemctl kill --signal HUP lab-hub")).unwrap();
    enclave.wait_console("the hub refuses this enclave: PCR2 is", PATIENCE).unwrap();
    let (status, answer) = ask(&parent, "/", Some(&request(8003)));
    assert!(status == 503 && answer.contains("no_enclave"), "{status} {answer}");
}
