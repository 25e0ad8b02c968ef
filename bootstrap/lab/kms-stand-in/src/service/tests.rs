use std::path::Path;
use std::time::Duration;

use attestation::Pcr;
use attestation::test_root::{Fields, TestRoot};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};

use super::*;
use crate::test_client::{Client, ID, REGION, SECRET};

const ENCLAVE: &str = "arn:aws:iam::111122223333:role/enclave";
const WALLET: &str = "arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef";
const OTHER: &str = "arn:aws:kms:eu-central-1:111122223333:key/11111111-89ab-cdef-0123-456789abcdef";
const ATTESTED: &str = "arn:aws:kms:eu-central-1:111122223333:key/22222222-89ab-cdef-0123-456789abcdef";
const DISABLED: &str = "arn:aws:kms:eu-central-1:111122223333:key/33333333-89ab-cdef-0123-456789abcdef";
const DOOMED: &str = "arn:aws:kms:eu-central-1:111122223333:key/44444444-89ab-cdef-0123-456789abcdef";
const DENIED: &str = "arn:aws:kms:eu-central-1:111122223333:key/55555555-89ab-cdef-0123-456789abcdef";
const SECRET_TEXT: &[u8] = b"TEST ONLY: a hex string";

/// A service, somebody who asks it, and an enclave.
struct Scene {
    stand_in: StandIn,
    client: Client,
    root: TestRoot,
    rsa: PrivateDecryptingKey,
}

/// What came back.
#[derive(Debug)]
struct Reply {
    status: u16,
    body: Value,
}

impl Scene {
    fn new() -> Self {
        let now = SystemTime::now();
        let root = TestRoot::new(now);
        let config = Config::parse(&config(), Path::new("")).unwrap();
        let stand_in = StandIn::new(config).unwrap().trusting(root.trust_root());
        Self { stand_in, client: Client::new(), root, rsa: PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap() }
    }

    fn ask(&self, operation: &str, parameters: &Value) -> Reply {
        self.ask_bytes(operation, parameters.to_string().as_bytes())
    }

    fn ask_bytes(&self, operation: &str, body: &[u8]) -> Reply {
        let request = self.client.sign(&format!("TrentService.{operation}"), body);
        self.reply(&request, body)
    }

    fn reply(&self, request: &Parts, body: &[u8]) -> Reply {
        let Answer::Response(response) = self.stand_in.answer(request, body, self.client.time) else {
            panic!("no response");
        };
        assert_eq!(response.headers()["content-type"], JSON);
        assert_eq!(response.headers()["x-amzn-requestid"].len(), 36);
        Reply { status: response.status().as_u16(), body: serde_json::from_slice(response.body()).unwrap() }
    }

    /// A ciphertext of [`SECRET_TEXT`] with the context `purpose: test`.
    fn encrypted(&self, key: &str) -> String {
        let reply = self.ask(
            "Encrypt",
            &json!({
                "KeyId": key, "Plaintext": STANDARD.encode(SECRET_TEXT), "EncryptionContext": {"purpose": "test"}
            }),
        );
        assert_eq!((reply.status, reply.text("KeyId")), (200, key), "{reply:?}");
        reply.text("CiphertextBlob").to_owned()
    }

    fn decrypt(&self, key: &str, blob: &str, more: &Value) -> Reply {
        let mut parameters = json!({"KeyId": key, "CiphertextBlob": blob, "EncryptionContext": {"purpose": "test"}});
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.ask("Decrypt", &parameters)
    }

    /// Of an enclave whose PCR0 is 0x10 throughout.
    fn recipient(&self) -> Value {
        self.recipient_of(&fields(self.client.time))
    }

    fn recipient_of(&self, fields: &Fields) -> Value {
        let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(&self.rsa.public_key()).unwrap().as_ref().to_vec();
        let document = self.root.sign(&Fields { public_key: Some(spki), ..fields.clone() });
        json!({
            "Recipient": {
                "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": STANDARD.encode(document)
            }
        })
    }

    fn open(&self, reply: &Reply) -> Vec<u8> {
        let ber = STANDARD.decode(reply.text("CiphertextForRecipient")).unwrap();
        crate::cms::tests::open(&ber, &self.rsa)
    }
}

impl Reply {
    fn text(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    fn has(&self, name: &str) -> bool {
        self.body.get(name).is_some()
    }

    #[track_caller]
    fn assert_error(&self, status: u16, kind: &str, part: &str) {
        assert_eq!((self.status, self.text("__type")), (status, kind), "{self:?}");
        assert!(self.text("message").contains(part), "{self:?}");
    }
}

/// PCR0 is 0x10 throughout.
fn fields(time: SystemTime) -> Fields {
    Fields { user_data: Some(Vec::new()), nonce: Some(Vec::new()), ..Fields::new(time) }
}

/// One key for each thing that a key can be.
fn config() -> String {
    let all = json!({
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": ENCLAVE}, "Action": "kms:*", "Resource": "*"}]
    });
    let attested = json!({
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": ENCLAVE}, "Action": "kms:Encrypt", "Resource": "*"},
            {
                "Sid": "only the image",
                "Effect": "Allow",
                "Principal": {"AWS": ENCLAVE},
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                "Resource": "*",
                "Condition": {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": "10".repeat(48)}}
            }
        ]
    });
    let denied = json!({
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"},
            {"Effect": "Deny", "Principal": {"AWS": ENCLAVE}, "Action": "kms:Decrypt", "Resource": "*"}
        ]
    });
    let mut text = format!(
        "region = '{REGION}'\n[[access_keys]]\nid = '{ID}'\nsecret = '{SECRET}'\nprincipal = '{ENCLAVE}'\n\
         iam_actions = ['kms:GenerateRandom']\n\
         [[access_keys]]\nid = 'AKIANOIAM'\nsecret = '{SECRET}'\nprincipal = '{ENCLAVE}'\n"
    );
    for (arn, state, policy, aliases) in [
        (WALLET, "enabled", &all, "['alias/wallet']"),
        (OTHER, "enabled", &all, "[]"),
        (ATTESTED, "enabled", &attested, "[]"),
        (DISABLED, "disabled", &all, "[]"),
        (DOOMED, "pending-deletion", &all, "[]"),
        (DENIED, "enabled", &denied, "[]"),
    ] {
        text += &format!("[[keys]]\narn = '{arn}'\nstate = '{state}'\npolicy = '{policy}'\naliases = {aliases}\n");
    }
    text
}

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
fn a_key_for_an_image_opens_for_nobody_else() {
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
fn a_denial_is_said_to_be_one() {
    let scene = Scene::new();
    let reply = scene.decrypt(DENIED, &scene.encrypted(DENIED), &json!({}));
    reply.assert_error(400, "AccessDeniedException", "explicit deny in a resource-based policy");
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
fn another_key_s_ciphertext_is_an_incorrect_key() {
    let scene = Scene::new();
    let reply = scene.decrypt(OTHER, &scene.encrypted(WALLET), &json!({}));
    reply.assert_error(400, "IncorrectKeyException", "does not identify");
}

#[test]
fn what_is_no_ciphertext_or_has_another_context_is_an_invalid_ciphertext() {
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
fn a_key_is_not_found_by_a_name_that_it_has_not() {
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

#[test]
fn a_key_that_is_not_enabled_is_not_used() {
    let scene = Scene::new();
    let blob = scene.encrypted(WALLET);
    for (key, kind) in [(DISABLED, "DisabledException"), (DOOMED, "KMSInvalidStateException")] {
        scene.decrypt(key, &blob, &json!({})).assert_error(400, kind, key);
        let plaintext = STANDARD.encode("x");
        scene.ask("Encrypt", &json!({"KeyId": key, "Plaintext": plaintext})).assert_error(400, kind, key);
        scene.ask("GenerateDataKey", &json!({"KeyId": key, "KeySpec": "AES_256"})).assert_error(400, kind, key);
    }
}

#[test]
fn a_key_s_description_says_its_state() {
    let scene = Scene::new();
    for (key, state, is_enabled) in
        [(WALLET, "Enabled", true), (DISABLED, "Disabled", false), (DOOMED, "PendingDeletion", false)]
    {
        let metadata = &scene.ask("DescribeKey", &json!({"KeyId": key})).body["KeyMetadata"];
        assert_eq!(metadata["Arn"], key);
        assert_eq!((&metadata["KeyState"], &metadata["Enabled"]), (&json!(state), &json!(is_enabled)));
        assert_eq!(
            (&metadata["AWSAccountId"], &metadata["KeyUsage"]),
            (&json!("111122223333"), &json!("ENCRYPT_DECRYPT"))
        );
    }
    let denied = scene.ask("DescribeKey", &json!({"KeyId": ATTESTED}));
    denied.assert_error(400, "AccessDeniedException", "kms:DescribeKey");
}

#[test]
fn a_data_key_comes_in_the_clear_and_encrypted() {
    let scene = Scene::new();
    for (length, bytes) in [
        (json!({"KeySpec": "AES_128"}), 16),
        (json!({"KeySpec": "AES_256"}), 32),
        (json!({"NumberOfBytes": 1024}), 1024),
    ] {
        let mut parameters = json!({"KeyId": WALLET, "EncryptionContext": {"purpose": "test"}});
        parameters.as_object_mut().unwrap().extend(length.as_object().unwrap().clone());
        let reply = scene.ask("GenerateDataKey", &parameters);
        let plaintext = STANDARD.decode(reply.text("Plaintext")).unwrap();
        assert_eq!(plaintext.len(), bytes);
        let again = scene.decrypt(WALLET, reply.text("CiphertextBlob"), &json!({}));
        assert_eq!(again.text("Plaintext"), reply.text("Plaintext"));
    }
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

#[test]
fn random_bytes_are_for_those_whom_iam_allows() {
    let mut scene = Scene::new();
    let reply = scene.ask("GenerateRandom", &json!({"NumberOfBytes": 32}));
    assert_eq!(STANDARD.decode(reply.text("Plaintext")).unwrap().len(), 32);
    let mut parameters = scene.recipient();
    parameters["NumberOfBytes"] = json!(32);
    let reply = scene.ask("GenerateRandom", &parameters);
    assert_eq!((scene.open(&reply).len(), reply.has("Plaintext")), (32, false));
    scene.client.id = "AKIANOIAM";
    let reply = scene.ask("GenerateRandom", &json!({"NumberOfBytes": 32}));
    reply.assert_error(400, "AccessDeniedException", "no identity-based policy allows");
}

#[test]
fn parameters_have_limits() {
    let scene = Scene::new();
    let long = STANDARD.encode([0; 4097]);
    for (operation, parameters, part) in [
        ("Encrypt", json!({"KeyId": WALLET, "Plaintext": ""}), "Plaintext of 0 bytes, expected 1 to 4096"),
        ("Encrypt", json!({"KeyId": WALLET, "Plaintext": long}), "Plaintext of 4097 bytes"),
        ("Encrypt", json!({"KeyId": WALLET, "Plaintext": "a"}), "not a text in Base64"),
        ("Encrypt", json!({"KeyId": WALLET}), "missing field `Plaintext`"),
        ("Encrypt", json!({"KeyId": WALLET, "Plaintext": "AA==", "GrantTokens": []}), "unknown field `GrantTokens`"),
        ("Encrypt", json!({"KeyId": WALLET, "Plaintext": "AA==", "EncryptionAlgorithm": "SM2PKE"}), "SM2PKE"),
        ("Encrypt", json!({"KeyId": WALLET, "Plaintext": "AA==", "Recipient": {}}), "unknown field `Recipient`"),
        ("Decrypt", json!({"KeyId": WALLET}), "missing field `CiphertextBlob`"),
        ("Decrypt", json!({"CiphertextBlob": ""}), "CiphertextBlob of 0 bytes, expected 1 to 6144"),
        ("Decrypt", json!({"CiphertextBlob": STANDARD.encode([0; 6145])}), "CiphertextBlob of 6145 bytes"),
        ("Decrypt", json!({"CiphertextBlob": "AA==", "DryRun": true}), "unknown field `DryRun`"),
        ("Decrypt", json!({"CiphertextBlob": "AA==", "EncryptionContext": {"a": 1}}), "expected a string"),
        ("Decrypt", json!({"CiphertextBlob": "AA==", "Recipient": {}}), "missing field `KeyEncryptionAlgorithm`"),
        ("GenerateDataKey", json!({"KeyId": WALLET}), "either number of bytes or key spec"),
        ("GenerateDataKey", json!({"KeyId": WALLET, "KeySpec": "AES_256", "NumberOfBytes": 1}), "either"),
        ("GenerateDataKey", json!({"KeyId": WALLET, "KeySpec": "AES_512"}), "AES_512"),
        ("GenerateDataKey", json!({"KeyId": WALLET, "NumberOfBytes": 0}), "NumberOfBytes 0, expected 1 to 1024"),
        ("GenerateDataKey", json!({"KeyId": WALLET, "NumberOfBytes": 1025}), "NumberOfBytes 1025"),
        ("GenerateRandom", json!({}), "number of bytes"),
        ("GenerateRandom", json!({"NumberOfBytes": -1}), "-1"),
        ("DescribeKey", json!({}), "missing field `KeyId`"),
    ] {
        scene.ask(operation, &parameters).assert_error(400, "ValidationException", part);
    }
}

#[test]
fn a_refusal_does_not_quote_what_may_be_secret() {
    let scene = Scene::new();
    for plaintext in [json!(31_415_926), json!("31415926=x"), json!([31_415_926]), json!({"31415926": 1})] {
        let reply = scene.ask("Encrypt", &json!({"KeyId": WALLET, "Plaintext": plaintext}));
        reply.assert_error(400, "ValidationException", "not a text in Base64");
        assert!(!reply.text("message").contains("31415926"), "{reply:?}");
    }
}

#[test]
fn what_is_no_json_is_a_serialization_error() {
    let scene = Scene::new();
    let deep = "[".repeat(10_000);
    for body in ["", "{", "[\"alias/wallet\"]", "null", deep.as_str(), "\u{0}"] {
        scene.ask_bytes("Decrypt", body.as_bytes()).assert_error(400, "SerializationException", "");
    }
    let deep = format!("{{\"EncryptionContext\": {deep}");
    assert_eq!(scene.ask_bytes("Decrypt", deep.as_bytes()).status, 400);
    let twice = br#"{"CiphertextBlob": "AA==", "CiphertextBlob": "AA=="}"#;
    scene.ask_bytes("Decrypt", twice).assert_error(400, "ValidationException", "duplicate field");
}

#[test]
fn an_operation_that_is_not_there_is_named() {
    let scene = Scene::new();
    scene.ask("CreateKey", &json!({})).assert_error(400, "UnsupportedOperationException", "CreateKey");
    scene.ask("Sign", &json!({})).assert_error(400, "UnknownOperationException", "Sign");
    let request = scene.client.sign("Decrypt", b"{}");
    scene.reply(&request, b"{}").assert_error(400, "UnknownOperationException", "Decrypt");
}

#[test]
fn only_json_posted_to_the_root_is_a_request() {
    let scene = Scene::new();
    let target = "TrentService.DescribeKey";
    for (content_type, method, path, kind) in [
        ("application/json", "POST", "/", "SerializationException"),
        (JSON, "GET", "/", "UnknownOperationException"),
        (JSON, "POST", "/key", "UnknownOperationException"),
        (JSON, "POST", "/?a=b", "UnknownOperationException"),
    ] {
        let request = scene.client.sign_with(target, content_type, method, path, b"{}");
        scene.reply(&request, b"{}").assert_error(400, kind, "");
    }
}

#[test]
fn who_does_not_prove_who_they_are_learns_nothing() {
    let mut scene = Scene::new();
    scene.client.secret = "TEST ONLY other";
    scene.ask("Sign", &json!({})).assert_error(400, "InvalidSignatureException", "does not match");
    scene.client.id = "AKIAOTHER";
    scene.ask("Sign", &json!({})).assert_error(400, "UnrecognizedClientException", "is invalid");
}

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
fn on_command_it_says_what_kms_never_says() {
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
