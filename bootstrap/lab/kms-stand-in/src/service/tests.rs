mod attested;
mod decrypt;
mod faults;
mod re_encrypt;
mod request;

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
const ADOPTING: &str = "arn:aws:kms:eu-central-1:111122223333:key/66666666-89ab-cdef-0123-456789abcdef";
const SECRET_TEXT: &[u8] = b"TEST ONLY: a hex string";

/// A service, a client and an enclave.
struct Scene {
    stand_in: StandIn,
    client: Client,
    root: TestRoot,
    rsa: PrivateDecryptingKey,
}

/// An answer.
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

    /// A recipient whose PCR0 consists of bytes 0x10.
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

/// Every byte of PCR0 is 0x10.
fn fields(time: SystemTime) -> Fields {
    Fields { user_data: Some(Vec::new()), nonce: Some(Vec::new()), ..Fields::new(time) }
}

/// A key in each state and with each kind of policy.
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
    let same_key = json!({"kms:ReEncryptOnSameKey": "true"});
    let adopting = json!({
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": ENCLAVE}, "Action": ["kms:Encrypt", "kms:Decrypt"], "Resource": "*"},
            {
                "Effect": "Allow", "Principal": {"AWS": ENCLAVE}, "Action": "kms:ReEncryptFrom", "Resource": "*",
                "Condition": {"Bool": same_key, "Null": {"kms:EncryptionContext:ledger": "true"}}
            },
            {
                "Effect": "Allow", "Principal": {"AWS": ENCLAVE}, "Action": "kms:ReEncryptTo", "Resource": "*",
                "Condition": {"Bool": same_key, "StringEquals": {"kms:EncryptionContext:ledger": "x"}}
            }
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
        (ADOPTING, "enabled", &adopting, "[]"),
    ] {
        text += &format!("[[keys]]\narn = '{arn}'\nstate = '{state}'\npolicy = '{policy}'\naliases = {aliases}\n");
    }
    text
}

#[test]
fn a_denial_is_reported_as_one() {
    let scene = Scene::new();
    let reply = scene.decrypt(DENIED, &scene.encrypted(DENIED), &json!({}));
    reply.assert_error(400, "AccessDeniedException", "explicit deny in a resource-based policy");
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
fn a_key_s_policy_is_returned_unchanged_to_callers_that_may_read_it() {
    let scene = Scene::new();
    let id = WALLET.rsplit('/').next().unwrap();
    for parameters in [json!({"KeyId": WALLET}), json!({"KeyId": id, "PolicyName": "default"})] {
        let reply = scene.ask("GetKeyPolicy", &parameters);
        assert_eq!((reply.status, reply.text("PolicyName")), (200, "default"), "{reply:?}");
        let written = scene.stand_in.key(WALLET).unwrap().policy.text();
        assert_eq!(reply.text("Policy"), written);
        assert!(written.contains("kms:*"), "{written}");
    }
    let denied = scene.ask("GetKeyPolicy", &json!({"KeyId": ATTESTED}));
    denied.assert_error(400, "AccessDeniedException", "kms:GetKeyPolicy");
    let other = scene.ask("GetKeyPolicy", &json!({"KeyId": WALLET, "PolicyName": "other"}));
    other.assert_error(400, "NotFoundException", "other");
}

#[test]
fn there_are_no_grants_and_listing_them_needs_permission() {
    let scene = Scene::new();
    let reply = scene.ask("ListGrants", &json!({"KeyId": WALLET}));
    assert_eq!((reply.status, &reply.body), (200, &json!({"Grants": [], "Truncated": false})));
    scene.ask("ListGrants", &json!({"KeyId": ATTESTED})).assert_error(400, "AccessDeniedException", "kms:ListGrants");
    scene.ask("CreateGrant", &json!({})).assert_error(400, "UnsupportedOperationException", "CreateGrant");
}

#[test]
fn management_operations_accept_no_alias() {
    let scene = Scene::new();
    for operation in ["GetKeyPolicy", "ListGrants"] {
        for name in ["alias/wallet", "arn:aws:kms:eu-central-1:111122223333:alias/wallet", "no such key"] {
            scene.ask(operation, &json!({"KeyId": name})).assert_error(400, "NotFoundException", name);
        }
    }
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
fn random_bytes_need_an_iam_permission() {
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
