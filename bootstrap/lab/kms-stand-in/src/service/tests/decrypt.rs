//! Which ciphertexts a key decrypts.

use super::*;

#[test]
fn what_was_encrypted_is_decrypted() {
    let scene = Scene::new();
    let reply = scene.decrypt(WALLET, &scene.encrypted(WALLET), &json!({"EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}));
    assert_eq!(STANDARD.decode(reply.text("Plaintext")).unwrap(), SECRET_TEXT);
    assert_eq!((reply.text("KeyId"), reply.text("EncryptionAlgorithm")), (WALLET, "SYMMETRIC_DEFAULT"));
    assert!(!reply.has("CiphertextForRecipient"));
}

#[test]
fn a_key_has_four_names_and_a_ciphertext_knows_its_key() {
    let scene = Scene::new();
    let blob = scene.encrypted(WALLET);
    let alias_arn = "arn:aws:kms:eu-central-1:111122223333:alias/wallet";
    for name in [WALLET, "01234567-89ab-cdef-0123-456789abcdef", "alias/wallet", alias_arn] {
        assert_eq!(scene.decrypt(name, &blob, &json!({})).text("KeyId"), WALLET, "{name}");
    }
    let reply = scene.ask("Decrypt", &json!({"CiphertextBlob": blob, "EncryptionContext": {"purpose": "test"}}));
    assert_eq!(reply.text("KeyId"), WALLET);
}

#[test]
fn another_key_s_ciphertext_is_an_incorrect_key() {
    let scene = Scene::new();
    let reply = scene.decrypt(OTHER, &scene.encrypted(WALLET), &json!({}));
    reply.assert_error(400, "IncorrectKeyException", "does not identify");
}

#[test]
fn other_bytes_and_another_context_are_an_invalid_ciphertext() {
    let scene = Scene::new();
    let blob = scene.encrypted(WALLET);
    let context = json!({"EncryptionContext": {"purpose": "tost"}});
    scene.decrypt(WALLET, &blob, &context).assert_error(400, "InvalidCiphertextException", "");
    scene.decrypt(WALLET, &blob, &json!({"EncryptionContext": null})).assert_error(
        400,
        "InvalidCiphertextException",
        "",
    );
    let garbage = STANDARD.encode([7; 60]);
    scene.decrypt(WALLET, &garbage, &json!({})).assert_error(400, "InvalidCiphertextException", "");
    let reply = scene.ask("Decrypt", &json!({"CiphertextBlob": garbage}));
    reply.assert_error(400, "InvalidCiphertextException", "");
    let mut changed = STANDARD.decode(&blob).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    let changed = STANDARD.encode(changed);
    scene.decrypt(WALLET, &changed, &json!({})).assert_error(400, "InvalidCiphertextException", "");
}

#[test]
fn an_unknown_name_is_not_found() {
    let scene = Scene::new();
    let blob = scene.encrypted(WALLET);
    for name in ["alias/other", &WALLET.replace("111122223333", "999922223333"), &WALLET.replace('0', "9"), ""] {
        scene.decrypt(name, &blob, &json!({})).assert_error(400, "NotFoundException", "does not exist");
    }
}

#[test]
fn a_ciphertext_of_an_unknown_key_does_not_tell_whether_the_key_exists() {
    let scene = Scene::new();
    let mut blob = STANDARD.decode(scene.encrypted(WALLET)).unwrap();
    blob[1] ^= 1;
    let reply = scene.ask("Decrypt", &json!({"CiphertextBlob": STANDARD.encode(blob)}));
    reply.assert_error(400, "AccessDeniedException", "or you are not allowed to access");
}
