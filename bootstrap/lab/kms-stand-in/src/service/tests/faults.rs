//! Faults on command.

use super::*;

#[test]
fn on_command_it_is_throttled_or_broken() {
    let scene = Scene::new();
    let faults = scene.stand_in.faults();
    faults.set(Fault::Throttling, Some(1));
    scene.ask("DescribeKey", &json!({"KeyId": WALLET})).assert_error(400, "ThrottlingException", "Rate exceeded");
    faults.set(Fault::InternalError, Some(1));
    scene.ask("DescribeKey", &json!({"KeyId": WALLET})).assert_error(500, "KMSInternalException", "");
    assert_eq!(scene.ask("DescribeKey", &json!({"KeyId": WALLET})).status, 200);
}

#[test]
fn on_command_it_does_not_answer() {
    let scene = Scene::new();
    let body = json!({"KeyId": WALLET}).to_string();
    let answer = |fault| {
        scene.stand_in.faults().set(fault, Some(1));
        let request = scene.client.sign("TrentService.DescribeKey", body.as_bytes());
        scene.stand_in.answer(&request, body.as_bytes(), scene.client.time)
    };
    assert!(matches!(answer(Fault::Stall), Answer::Stall));
    assert!(matches!(answer(Fault::HangUp), Answer::HangUp));
}

#[test]
fn on_command_it_sends_answers_that_kms_never_sends() {
    let scene = Scene::new();
    let blob = scene.encrypted(WALLET);
    let decrypt = |fault| {
        scene.stand_in.faults().set(fault, Some(1));
        scene.decrypt(WALLET, &blob, &scene.recipient())
    };
    let reply = decrypt(Fault::Plaintext);
    assert_eq!((reply.has("Plaintext"), reply.has("CiphertextForRecipient")), (true, true));
    let reply = decrypt(Fault::PlaintextOnly);
    assert_eq!((reply.has("Plaintext"), reply.has("CiphertextForRecipient")), (true, false));
    assert_eq!(decrypt(Fault::WrongKeyId).text("KeyId"), UNRELATED_KEY);
}

#[test]
fn on_command_its_cms_is_wrong() {
    let scene = Scene::new();
    let blob = scene.encrypted(WALLET);
    for fault in [Fault::TruncatedCms, Fault::WrongAlgorithm, Fault::BadPadding, Fault::BadKey] {
        scene.stand_in.faults().set(fault, Some(1));
        let reply = scene.decrypt(WALLET, &blob, &scene.recipient());
        let ber = STANDARD.decode(reply.text("CiphertextForRecipient")).unwrap();
        assert_eq!(crate::cms::tests::try_open(&ber, &scene.rsa), None, "{fault:?}");
    }
}

#[test]
fn a_fault_s_file_that_cannot_be_read_breaks_every_request() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("fault.toml"), "fault = 1").unwrap();
    let text = format!("fault_path = 'fault.toml'\n{}", config());
    let stand_in = StandIn::new(Config::parse(&text, dir.path()).unwrap()).unwrap();
    let scene = Scene { stand_in, ..Scene::new() };
    scene.ask("DescribeKey", &json!({"KeyId": WALLET})).assert_error(500, "KMSInternalException", "");
}
