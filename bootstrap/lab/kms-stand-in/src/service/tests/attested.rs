//! Answers that only the enclave can decrypt.

use super::*;

#[test]
fn an_attested_answer_is_for_the_enclave_alone() {
    let scene = Scene::new();
    let reply = scene.decrypt(ATTESTED, &scene.encrypted(ATTESTED), &scene.recipient());
    assert_eq!(scene.open(&reply), SECRET_TEXT);
    assert_eq!(reply.text("KeyId"), ATTESTED);
    assert!(!reply.has("Plaintext"), "{reply:?}");
}

#[test]
fn an_attested_answer_holds_no_plaintext_even_if_the_policy_would_give_it() {
    let scene = Scene::new();
    let reply = scene.decrypt(WALLET, &scene.encrypted(WALLET), &scene.recipient());
    assert_eq!(scene.open(&reply), SECRET_TEXT);
    assert!(!reply.has("Plaintext"), "{reply:?}");
}

#[test]
fn a_key_for_an_image_decrypts_for_that_image_alone() {
    let scene = Scene::new();
    let blob = scene.encrypted(ATTESTED);
    let denied = "not authorized to perform: kms:Decrypt";
    scene.decrypt(ATTESTED, &blob, &json!({})).assert_error(400, "AccessDeniedException", denied);
    let mut other = fields(scene.client.time);
    other.pcrs.insert(0, Pcr([0x11; 48]));
    scene.decrypt(ATTESTED, &blob, &scene.recipient_of(&other)).assert_error(400, "AccessDeniedException", denied);
    other.pcrs.insert(0, Pcr([0; 48]));
    scene.decrypt(ATTESTED, &blob, &scene.recipient_of(&other)).assert_error(400, "AccessDeniedException", denied);
}

#[test]
fn a_document_that_does_not_verify_is_refused() {
    let scene = Scene::new();
    let blob = scene.encrypted(WALLET);
    let stranger = Scene { stand_in: Scene::new().stand_in, root: TestRoot::new(scene.client.time), ..Scene::new() };
    let old = fields(scene.client.time - Duration::from_mins(6));
    for recipient in [stranger.recipient(), scene.recipient_of(&old)] {
        scene.decrypt(WALLET, &blob, &recipient).assert_error(400, "ValidationException", "attestation document");
    }
    let mut other = scene.recipient();
    other["Recipient"]["KeyEncryptionAlgorithm"] = json!("RSAES_OAEP_SHA_1");
    scene.decrypt(WALLET, &blob, &other).assert_error(400, "ValidationException", "RSAES_OAEP_SHA_256");
}

#[test]
fn an_attested_data_key_is_for_the_enclave_alone() {
    let scene = Scene::new();
    let mut parameters = scene.recipient();
    parameters["KeyId"] = json!(ATTESTED);
    parameters["KeySpec"] = json!("AES_256");
    let reply = scene.ask("GenerateDataKey", &parameters);
    assert!(!reply.has("Plaintext"), "{reply:?}");
    let mut parameters = scene.recipient();
    parameters["KeyId"] = json!(ATTESTED);
    parameters["CiphertextBlob"] = json!(reply.text("CiphertextBlob"));
    assert_eq!(scene.open(&scene.ask("Decrypt", &parameters)), scene.open(&reply));
    let bare = scene.ask("GenerateDataKey", &json!({"KeyId": ATTESTED, "KeySpec": "AES_256"}));
    bare.assert_error(400, "AccessDeniedException", "kms:GenerateDataKey");
}
