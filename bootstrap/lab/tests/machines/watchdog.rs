//! `wg-watchdog.service`: an enclave that hangs is replaced and signs again, and one that AWS or an operator leaves alone is not.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::shared_lab::{SharedLab, fault, restoring, wait};
use super::signing::{client, request, vector};
use lab::{EnclaveId, Lab, URL, Wallet};

/// From the fault to the record of the restart: three looks, each with the signer's time, or the time for the tunnel.
const FOUND: Duration = Duration::from_secs(40);
/// From the record to another VM.
const REPLACED: Duration = Duration::from_secs(60);
const SECRET: &str = "test/watchdog";
/// The file says so itself.
const SHORT: &str = "# Shortened for the tests of the watchdog. Only the watchdog reads this file.
[watchdog]
interval = \"1s\"
tunnel_within = \"8s\"
ready_within = \"2s\"
backoff = \"1s\"
";
const CONFIG: &str = "/run/lab/watchdog.toml";
const DROP_IN: &str = "/run/systemd/system/wg-watchdog.service.d/short.conf";
const COMMAND: &str =
    "/usr/local/bin/wg-server watch --config /run/lab/watchdog.toml --unit enclave.service --cid ${ENCLAVE_CID}";

/// Runs a test with short times, and the watchdog as it ships afterwards.
fn with_short_times(shared: &SharedLab, test: impl FnOnce()) {
    let parent = shared.lab.parent().unwrap();
    let start = |drop_in: &str| {
        let begin = "rm -f /run/wg-watchdog/*.json; systemctl daemon-reload && systemctl restart wg-watchdog";
        parent.shell(&format!("{drop_in}; {begin}")).unwrap();
    };
    let config =
        format!("sed '/^\\[watchdog\\]/,$d' /etc/wg-server/parent.toml >{CONFIG}; printf '%s' '{SHORT}' >>{CONFIG}");
    let unit = format!("[Service]\\nExecStart=\\nExecStart={COMMAND}\\n");
    start(&format!("{config}; mkdir -p $(dirname {DROP_IN}); printf '{unit}' >{DROP_IN}"));
    restoring(test, || start(&format!("rm {DROP_IN}")));
}

/// The watchdog's part of `wg-server status --json`. On an overloaded host, wg-server may be late.
fn watchdog(lab: &Lab) -> Value {
    let parent = lab.parent().unwrap();
    let mut status = None;
    wait("wg-server's status", Duration::from_secs(60), || {
        status = parent.output(&["/usr/local/bin/wg-server", "status", "--json"]).ok();
        status.is_some()
    });
    serde_json::from_str::<Value>(&status.unwrap()).unwrap()["watchdogs"][0].clone()
}

fn restarts(lab: &Lab) -> Vec<String> {
    let watchdog = watchdog(lab);
    let restarts = watchdog["restarts"].as_array().map(Vec::as_slice).unwrap_or_default();
    restarts.iter().map(|restart| restart["fault"].as_str().unwrap().to_owned()).collect()
}

/// Waits for one more restart; its fault.
fn wait_restart(lab: &Lab, before: usize) -> String {
    wait("a restart", FOUND, || restarts(lab).len() > before);
    restarts(lab)[before].clone()
}

/// The pid of the enclave's QEMU.
fn machine(lab: &Lab) -> Option<i32> {
    let pieces = lab.status().unwrap().pieces;
    pieces.into_iter().find(|piece| piece.name == "enclave-16").and_then(|piece| piece.pid)
}

/// Waits for another VM than `before`, and for its signature.
fn wait_signature(lab: &Lab, wallet: &Wallet, before: i32, nonce: u32) {
    wait("another VM", REPLACED, || machine(lab).is_some_and(|now| now != before));
    lab.enclave(EnclaveId::FIRST).wait_tunnel().unwrap();
    sign(wallet, nonce);
}

fn sign(wallet: &Wallet, nonce: u32) {
    let (mut payload, _) = vector("seed README example");
    payload["nonce"] = json!(nonce);
    // The first packets of a new tunnel may come too early.
    wait("a signature", Duration::from_secs(20), || wallet.sign(URL, &request(&payload, SECRET)).is_ok());
}

/// One test, because the short times and the client's key take as long as a boot.
#[test]
fn an_enclave_that_hangs_is_replaced_and_signs_again_and_one_that_does_not_hang_is_left_alone() {
    let (shared, wallet) = client(SECRET);
    let lab = &shared.lab;
    with_short_times(&shared, || {
        wait("a look", FOUND, || watchdog(lab)["ready"] == json!({"answered": 200}));
        without_kms(lab);
        stopped_by_an_operator(lab, &wallet);
        stopped_and_without_documents(lab, &wallet);
        without_a_relay(lab, &wallet);
        with_a_silent_signer(lab, &wallet);
    });
}

/// Waits for looks that the watchdog makes in this time.
fn look_for(lab: &Lab, seconds: u64) {
    let looked = || watchdog(lab)["looked_at"].as_u64().unwrap();
    let first = looked();
    wait("looks", Duration::from_secs(60), || looked() >= first + seconds);
}

/// Nothing happens.
fn without_kms(lab: &Lab) {
    let (parent, before) = (lab.parent().unwrap(), machine(lab));
    parent.hold("internet-kms").unwrap();
    restoring(|| look_for(lab, 5), || parent.release("internet-kms").unwrap());
    assert_eq!((restarts(lab), machine(lab)), (Vec::new(), before));
}

/// It stays stopped, and is started by the operator alone.
fn stopped_by_an_operator(lab: &Lab, wallet: &Wallet) {
    let (parent, before) = (lab.parent().unwrap(), machine(lab).unwrap());
    parent.output(&["systemctl", "stop", "enclave"]).unwrap();
    // More than `tunnel_within`.
    look_for(lab, 9);
    let state = parent.shell("systemctl is-active enclave; true").unwrap();
    assert_eq!((state.trim(), restarts(lab)), ("inactive", Vec::new()));
    assert_eq!(watchdog(lab)["excuse"], "not watched while the unit is inactive");
    parent.output(&["systemctl", "start", "enclave"]).unwrap();
    wait_signature(lab, wallet, before, 8000);
    assert_eq!(restarts(lab), Vec::<String>::new());
}

/// The VM stops, and the next one has an NSM that fails.
fn stopped_and_without_documents(lab: &Lab, wallet: &Wallet) {
    let (key, away) = (lab.dir().join("signer/key.pem"), lab.dir().join("signer/key.pem.away"));
    let before = machine(lab).unwrap();
    fs::rename(&key, &away).unwrap();
    let mended = || fs::rename(&away, &key).unwrap();
    let mut second = before;
    restoring(
        || {
            kill(Pid::from_raw(before), Signal::SIGSTOP).unwrap();
            assert_eq!(wait_restart(lab, 0), "ready");
            wait("another VM", REPLACED, || machine(lab).is_some_and(|now| now != before));
            second = machine(lab).unwrap();
            let fault = wait_restart(lab, 1);
            assert!(["control", "proof"].contains(&fault.as_str()), "{fault}");
        },
        mended,
    );
    wait_signature(lab, wallet, second, 8001);
}

/// Its data stream is gone, and does not come back.
fn without_a_relay(lab: &Lab, wallet: &Wallet) {
    let before = machine(lab).unwrap();
    fault(lab, "refuse --port 820");
    fault(lab, "reset --port 820");
    restoring(|| assert_eq!(wait_restart(lab, 2), "data"), || fault(lab, "clear"));
    wait_signature(lab, wallet, before, 8002);
}

/// The watchdog's requests to the signer get no answer.
fn with_a_silent_signer(lab: &Lab, wallet: &Wallet) {
    let before = machine(lab).unwrap();
    let parent = lab.parent().unwrap();
    let drop = "nft 'table inet silent { chain output { type filter hook output priority 0; ip daddr 203.0.113.2 tcp dport 443 drop; }; }'";
    parent.shell(drop).unwrap();
    restoring(
        || assert_eq!(wait_restart(lab, 3), "ready"),
        || parent.shell("nft delete table inet silent").map(std::mem::drop).unwrap(),
    );
    wait_signature(lab, wallet, before, 8003);
}
