//! A roll from one image to the next while clients sign: no request is lost, and each nonce has one payload across both.

mod load;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::shared_lab::{SharedLab, lab_with, restoring, wait};
use super::shared_ledger::{ADDRESSES, SharedLedger, end_variant};
use lab::{EnclaveId, More, Parent, Variant, Wallet};
use load::{Load, Outcome, VALUES, ask_again};
use serde_json::Value;

const LEDGER: SharedLedger = SharedLedger { bucket: "lab-upgrade", secret: "test/upgrade" };
/// The first enclave through the port that the parent forwards, which a drain closes. The second one in the tunnel, where the parent
/// stands for another host: a drain does not concern it.
const ENDPOINTS: [&str; 2] = ["internet/198.51.100.2", ADDRESSES[1]];
const PATIENCE: Duration = Duration::from_secs(90);
/// Nonces that are asked for again.
const SAMPLE: usize = 24;

fn tables(max_count: u32) -> String {
    let key =
        "[[signer.keys]]\nsecret_id = \"test/upgrade\"\naddress = \"0x2c7536E3605D9C16a7a3D7b1898e529396a65c23\"\n";
    format!("{}\n{key}", LEDGER.tables(max_count))
}

#[test]
fn a_roll_to_another_image_loses_no_request_and_signs_no_nonce_twice() {
    let shared = lab_with(1);
    let restore = || {
        let parent = shared.lab.parent().unwrap();
        parent.output(&["/usr/local/bin/wg-server", "drain", "--undo"]).unwrap();
        end_variant(&shared, 3);
    };
    restoring(|| upgrade(&shared), restore);
}

fn upgrade(shared: &SharedLab) {
    let parent = shared.lab.parent().unwrap();
    let old = LEDGER.variant(shared, &tables(100_000));
    let new = old.next(&More { tables: &tables(200_000), ..More::default() }).unwrap();
    assert_ne!(pcr0(old.eif_path()), pcr0(new.eif_path()));
    LEDGER.wallet(&old);
    LEDGER.administrator(&parent, "bucket", &[]);
    for id in EnclaveId::first(2) {
        old.boot(id).unwrap();
    }
    (0..2).for_each(|enclave| wait_ready(&parent, enclave));

    let load = Load::begin(&parent, LEDGER, ENDPOINTS);
    load.wait("two enclaves of the old image");
    new.open_key(&[&old]).unwrap();
    new.accept(&[&old]).unwrap();
    load.wait("while both images are accepted");
    let rolled = load.count();
    replace_after_a_drain(&parent, &load, &new);
    load.wait("an enclave of each image");
    // As a host that fails: what is under way is cut.
    new.boot(EnclaveId::SECOND).unwrap();
    wait_ready(&parent, 1);
    let ready = load.wait("two enclaves of the new image");
    // Nothing of the old image is left, so a person takes the key away from it.
    let wallet = Wallet::trusting(parent.clone(), new.eif_path()).unwrap().in_tunnel();
    for address in &ADDRESSES[..2] {
        wallet.verify(&format!("https://{address}")).unwrap();
    }
    new.open_key(&[]).unwrap();
    load.wait("the new image alone has the key");

    let outcomes = load.end();
    let signed = one_payload_of_each_nonce(&outcomes);
    for part in [&outcomes[..rolled], &outcomes[ready..]] {
        let has_signed = |endpoint| part.iter().any(|outcome| outcome.endpoint == endpoint && outcome.is_signed());
        assert!(ENDPOINTS.into_iter().all(has_signed), "an enclave has signed nothing: {part:?}");
        assert!(part.iter().any(|outcome| outcome.kind == "race"), "no race: {part:?}");
    }
    let straggler = old.boot(third()).unwrap();
    the_new_image_knows_what_the_old_one_has_signed(&parent, &signed);
    straggler.wait_tunnel().unwrap();
    let wallet = Wallet::trusting(parent.clone(), old.eif_path()).unwrap().in_tunnel();
    let error = LEDGER.refusal(&wallet, 2, 1, VALUES[0]);
    assert!(error.contains("key_refused") && error.contains("AccessDenied"), "{error}");
    new.accept(&[]).unwrap();
    let reason = straggler.wait_console("the gateway refuses this enclave: ", PATIENCE).unwrap();
    assert!(reason.contains("PCR"), "{reason}");
}

fn third() -> EnclaveId {
    EnclaveId::first(3).last().unwrap()
}

fn pcr0(eif: &Path) -> String {
    let measurements = fs::read(eif.with_file_name("measurements.json")).unwrap();
    serde_json::from_slice::<Value>(&measurements).unwrap()["PCR0"].as_str().unwrap().to_owned()
}

/// Waits until the enclave is a peer, has its key and reaches the ledger.
fn wait_ready(parent: &Parent, enclave: usize) {
    let url = format!("https://{}/ready", ADDRESSES[enclave]);
    let ask = ["curl", "-s", "-k", "-f", "-o", "/dev/null", "--max-time", "5", &url];
    wait(&url, PATIENCE, || parent.output(&ask).is_ok());
}

/// The first enclave leaves as an instance of a fleet does: what is under way is answered.
fn replace_after_a_drain(parent: &Parent, load: &Load, new: &Variant<'_>) {
    let begun = load.count();
    let said = parent.output(&["/usr/local/bin/wg-server", "drain", "--wait", "60s"]).unwrap();
    assert!(said.ends_with("no connection is under way\n"), "{said}");
    let drained = load.count();
    load.wait("one enclave while the other is drained");
    new.boot(EnclaveId::FIRST).unwrap();
    wait_ready(parent, 0);
    for (at, outcome) in load.so_far().iter().enumerate().skip(begun).filter(|(_, outcome)| outcome.began >= begun) {
        let is_cut = |failure: &&String| ["IncompleteReadError", "ConnectionResetError"].contains(&failure.as_str());
        assert_eq!(outcome.failures.iter().find(is_cut), None, "a drain cuts nothing: {outcome:?}");
        let is_drained = at >= drained && outcome.began >= drained;
        assert!(!is_drained || outcome.endpoint == ENDPOINTS[1], "drained: {outcome:?}");
    }
    parent.output(&["/usr/local/bin/wg-server", "drain", "--undo"]).unwrap();
}

/// What was signed for each nonce: the value and the hash.
fn one_payload_of_each_nonce(outcomes: &[Outcome]) -> BTreeMap<u64, (String, String)> {
    let mut nonces = BTreeMap::<u64, Vec<&Outcome>>::new();
    for outcome in outcomes {
        assert!(outcome.is_signed() || outcome.is_spent(), "neither signed nor refused for its nonce: {outcome:?}");
        nonces.entry(outcome.nonce).or_default().push(outcome);
    }
    let signed = nonces.into_iter().map(|(nonce, outcomes)| {
        let asked = if outcomes[0].kind == "race" { 2 } else { 1 };
        assert_eq!(outcomes.len(), asked, "{outcomes:?}");
        let signed: Vec<_> = outcomes.iter().filter(|outcome| outcome.is_signed()).collect();
        let [signed] = signed[..] else { panic!("expected one signed payload of the nonce: {outcomes:?}") };
        (nonce, (signed.value.clone(), signed.outcome.clone()))
    });
    signed.collect()
}

/// The same payload has the same signature, and another one is refused.
fn the_new_image_knows_what_the_old_one_has_signed(parent: &Parent, signed: &BTreeMap<u64, (String, String)>) {
    let every = signed.len().div_ceil(SAMPLE);
    let sample: Vec<u64> = signed.keys().copied().step_by(every).collect();
    let outcomes = ask_again(parent, LEDGER, &sample, [ADDRESSES[0], ADDRESSES[1]]);
    assert_eq!(outcomes.len(), sample.len() * VALUES.len() * 2);
    for outcome in outcomes {
        let (value, hash) = &signed[&outcome.nonce];
        let is_right = if outcome.value == *value { outcome.outcome == *hash } else { outcome.is_spent() };
        assert!(is_right, "signed before: {value} {hash}: {outcome:?}");
    }
}
