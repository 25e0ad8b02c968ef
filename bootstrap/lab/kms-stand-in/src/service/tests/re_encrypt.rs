//! What becomes of a ciphertext with another key or context.

use super::*;

fn re_encrypted(scene: &Scene, keys: [&str; 2], blob: &str, old: &Value, new: &Value) -> Reply {
    let parameters = json!({
        "CiphertextBlob": blob, "SourceKeyId": keys[0], "SourceEncryptionContext": old,
        "DestinationKeyId": keys[1], "DestinationEncryptionContext": new
    });
    scene.ask("ReEncrypt", &parameters)
}

#[test]
fn the_same_secret_has_another_key_and_context() {
    let scene = Scene::new();
    let (old, new) = (json!({"purpose": "test"}), json!({"purpose": "test", "ledger": "x"}));
    for destination in [WALLET, OTHER] {
        let reply = re_encrypted(&scene, [WALLET, destination], &scene.encrypted(WALLET), &old, &new);
        assert_eq!((reply.text("SourceKeyId"), reply.text("KeyId")), (WALLET, destination));
        let blob = reply.text("CiphertextBlob");
        let opened = scene.decrypt(destination, blob, &json!({"EncryptionContext": new}));
        assert_eq!(STANDARD.decode(opened.text("Plaintext")).unwrap(), SECRET_TEXT);
        scene.decrypt(destination, blob, &json!({})).assert_error(400, "InvalidCiphertextException", "");
    }
    let wrong = re_encrypted(&scene, [WALLET; 2], &scene.encrypted(WALLET), &new, &old);
    wrong.assert_error(400, "InvalidCiphertextException", "");
}

#[test]
fn both_contexts_and_both_keys_are_judged() {
    let scene = Scene::new();
    let (old, new) = (json!({"purpose": "test"}), json!({"purpose": "test", "ledger": "x"}));
    let blob = scene.encrypted(ADOPTING);
    let adopted = re_encrypted(&scene, [ADOPTING; 2], &blob, &old, &new);
    assert_eq!(adopted.status, 200, "{adopted:?}");
    for (keys, blob, old, new, action) in [
        ([ADOPTING; 2], adopted.text("CiphertextBlob"), &new, &old, "kms:ReEncryptFrom"),
        ([ADOPTING; 2], &blob, &old, &old, "kms:ReEncryptTo"),
        ([ADOPTING, WALLET], &blob, &old, &new, "kms:ReEncryptFrom"),
        ([WALLET, ADOPTING], &scene.encrypted(WALLET), &old, &new, "kms:ReEncryptTo"),
    ] {
        let denied = format!("to perform: {action} on resource");
        re_encrypted(&scene, keys, blob, old, new).assert_error(400, "AccessDeniedException", &denied);
    }
}
