//! wg-server adds only enclaves that prove, now, that they run the image that the operator accepts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::shared_lab::{SharedLab, lab_with};
use lab::{EnclaveId, Parent, Rogue};

const ROOT: [&str; 2] = ["--root", "/etc/wg-server/lab-root.pem"];

fn peers(parent: &Parent) -> String {
    parent.output(&["wg", "show", "wg0", "peers"]).unwrap()
}

/// Boots a rogue as the second enclave; the gateway's reason on the console, and wg-server's log line.
fn refused(shared: &SharedLab, rogue: Rogue) -> (String, String) {
    let parent = shared.lab.parent().unwrap();
    let logged = parent.wg_server_log().unwrap().len();
    let reason = shared.lab.enclave(EnclaveId::SECOND).replace(rogue).unwrap();
    let log = parent.wg_server_log().unwrap().split_off(logged);
    shared.lab.enclave(EnclaveId::SECOND).stop().unwrap();
    let line = log.lines().find(|line| line.contains("CID 17") && line.contains("refused: "));
    (reason, line.expect("wg-server says whom it refused").to_owned())
}

#[test]
fn one_changed_letter_of_configuration_is_refused_by_pcr2() {
    let shared = lab_with(1);
    let parent = shared.lab.parent().unwrap();
    let before = peers(&parent);
    let (reason, logged) = refused(&shared, Rogue::ChangedConfig);
    for text in [&reason, &logged] {
        assert!(text.contains("PCR2 is ") && text.contains("another configuration"), "{text}");
    }
    // An enclave of another test may have ended in the meantime.
    let after = peers(&parent);
    let is_new = |key: &&str| !before.lines().any(|known| known == *key);
    assert_eq!(after.lines().find(is_new), None, "a new peer: {after}");
}

#[test]
fn a_genuine_document_of_another_image_is_refused_by_its_pcrs() {
    let shared = lab_with(1);
    let (reason, logged) = refused(&shared, Rogue::OtherImage);
    for text in [&reason, &logged] {
        assert!(text.contains("PCR"), "{text}");
    }
}

#[test]
fn what_an_enclave_once_answered_is_refused_for_its_nonce() {
    let shared = lab_with(2);
    let (reason, logged) = refused(&shared, Rogue::Replay);
    for text in [&reason, &logged] {
        assert!(text.contains("nonce") && !text.contains("PCR"), "{text}");
    }
}

#[test]
fn the_document_of_a_running_enclave_has_the_pcrs_that_the_build_computed() {
    let shared = lab_with(1);
    let parent = shared.lab.parent().unwrap();
    let said = parent.attest(EnclaveId::FIRST, &ROOT).unwrap().unwrap();
    let measurements = parent.output(&["cat", "/etc/wg-server/measurements.json"]).unwrap();
    for name in ["PCR0", "PCR1", "PCR2"] {
        let computed = measurements.split(&format!("\"{name}\": \"")).nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(computed.len(), 96);
        assert!(said.contains(computed), "{name} is not {computed}:\n{said}");
    }
    assert!(said.contains("NOT AWS"), "{said}");
}

#[test]
fn aws_s_root_vouches_for_no_document_of_the_lab_s() {
    let shared = lab_with(1);
    let parent = shared.lab.parent().unwrap();
    let refusal = parent.attest(EnclaveId::FIRST, &[]).unwrap().unwrap_err();
    assert!(refusal.contains("root"), "{refusal}");
}

#[test]
fn an_enclave_whose_module_cannot_sign_gets_no_document_and_no_tunnel() {
    let shared = lab_with(1);
    let enclave = shared.lab.enclave(EnclaveId::SECOND);
    let key = shared.lab.dir().join("signer/key.pem");
    let away = key.with_extension("away");
    fs::rename(&key, &away).unwrap();
    enclave.start(None).unwrap();
    let line = enclave.wait_console("answer the gateway's offer", Duration::from_secs(60)).unwrap();
    fs::rename(&away, &key).unwrap();
    assert!(line.contains("InternalError"), "{line}");
    let said = fs::read_to_string(shared.lab.dir().join("log/enclave-17.log")).unwrap();
    assert!(said.contains("virtio-nsm: no document: signer ") && said.contains("key.pem"), "{said}");
    // The module reads the key again for each document.
    enclave.wait_tunnel().unwrap();
    enclave.stop().unwrap();
}

#[test]
fn the_lab_boots_the_kernel_and_init_that_ship() {
    let shared = lab_with(1);
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut image = Command::new(root.join("bootstrap/eif/image.sh"));
    let built = image.arg(root.join("config/enclave")).arg(dir.path()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let measurements =
        |path: PathBuf| -> serde_json::Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let ships = measurements(dir.path().join("measurements.json"));
    let lab = measurements(shared.lab.dir().join("eif/measurements.json"));
    assert!(ships["PCR1"].is_string() && ships["PCR1"] == lab["PCR1"], "{ships} {lab}");
    assert_ne!(ships["PCR2"], lab["PCR2"]);
}
