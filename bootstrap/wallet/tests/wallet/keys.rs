//! `keygen`, `verify`, `sign`, `generate-key` and `policy` on the command line.

use std::os::unix::fs::PermissionsExt as _;
use std::time::SystemTime;

use attestation::test_root::{Fields, TestRoot};
use ethereum::key::SecretKey;
use serde_json::{Value, json};

use crate::cloud::{Cloud, Twist};
use crate::command::{Host, Said, enclave_flags, line, secrets_flags};
use crate::enclave::{Enclave, Identity, SIGNED};
use crate::{ADDRESS, ADMIN, KEY, LAMBDA, ROLE};

async fn impostor() -> Enclave {
    let (genuine, middle) = (Identity::new(), Identity::new());
    let root = TestRoot::new(SystemTime::now());
    Enclave::speaking(root, middle.tls(), genuine.digest(), |root, fields: Fields| root.sign(&fields)).await
}

#[tokio::test]
async fn a_new_key_goes_into_a_file_and_its_address_is_printed() {
    let host = Host::new();
    let said = host.wallet(&["keygen", "--out", "new.key", "--json"]).await.json();
    assert_eq!(std::fs::metadata(host.path().join("new.key")).unwrap().permissions().mode() & 0o7777, 0o600);
    let key = host.read("new.key");
    let address = said["address"].as_str().unwrap();
    assert_eq!(SecretKey::parse(key.trim_end().as_bytes()).unwrap().address().to_string(), address);
    let again = host.wallet(&["keygen", "--out", "new.key"]).await;
    assert!(again.error().contains("write the secret key new.key: File exists"), "{again:?}");
    assert_eq!(host.read("new.key"), key);
    let default = host.wallet(&["keygen"]).await;
    let secret = host.read("ethereum.key");
    assert!(default.is_success && !default.out.contains(&secret[2..66]) && !default.err.contains(&secret[2..66]));
}

#[tokio::test]
async fn a_key_is_printed_only_when_asked_and_apart_from_its_address() {
    let said = Host::new().wallet(&["keygen", "--print"]).await;
    let key = SecretKey::parse(said.out.trim_end().as_bytes()).unwrap();
    assert_eq!(said.err, format!("address: {}\n", key.address()));
}

#[tokio::test]
async fn verify_prints_claims_and_verdict() {
    let enclave = Enclave::start().await;
    let (host, flags) = (Host::of(&enclave), enclave_flags(&enclave));
    let said = host.wallet(&line(&["verify"], &flags)).await;
    assert!(said.is_success, "{said:?}");
    for part in [
        &format!("enclave: {}\n", enclave.url_text()),
        &format!("PCR1: {}\n", "11".repeat(48)),
        &format!("configuration: sha256 {}\n", "09".repeat(32)),
        "trust root: NOT AWS's root but another, SHA-256 ",
        "verdict: right: genuine, of a named image, and this TLS connection ends in the enclave\n",
    ] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    let report = host.wallet(&line(&["verify", "--json"], &flags)).await.json();
    assert_eq!((&report["verdict"], &report["reason"]), (&json!("right"), &Value::Null));
    assert_eq!(report["claims"]["binding"]["tls_key_sha256"], report["connection_tls_key_sha256"]);
    assert_eq!(report["trust_root_is_aws"], false);
}

#[tokio::test]
async fn verify_fails_for_another_image_and_still_says_what_runs() {
    let enclave = Enclave::start().await;
    let host = Host::of(&enclave);
    host.write("right.json", &host.read("right.json").replace("1212", "eeee"));
    let said = host.wallet(&line(&["verify", "--json"], &enclave_flags(&enclave))).await;
    assert!(!said.is_success);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["verdict"], "refused");
    assert_eq!(report["claims"]["pcrs"]["2"], "12".repeat(48));
    assert!(said.err.contains("is not trusted, with NOT AWS's root"), "{}", said.err);
}

#[tokio::test]
async fn verify_shows_nothing_of_a_document_that_is_not_genuine() {
    let enclave = Enclave::start().await;
    let flags = ["--url".to_owned(), enclave.url_text(), "--measurements".to_owned(), "right.json".to_owned()];
    let said = Host::of(&enclave).wallet(&line(&["verify"], &flags)).await;
    assert!(!said.is_success && !said.out.contains("PCR"), "{said:?}");
    assert!(said.out.contains("verdict: refused: the attestation document: cabundle[0] is not the trusted root"));
}

#[tokio::test]
async fn without_measurements_nobody_is_asked() {
    let enclave = Enclave::start().await;
    let host = Host::of(&enclave);
    let said = host.wallet(&["verify", "--url", &enclave.url_text(), "--root", "root.pem"]).await;
    assert!(said.error().contains("no enclave is allowed"), "{said:?}");
    let role = format!("3={}", "33".repeat(48));
    let said = host.wallet(&["sign", "right.json", "--url", &enclave.url_text(), "--pcr", &role]).await;
    assert!(said.error().contains("no enclave is allowed"), "{said:?}");
    assert_eq!(enclave.asked(), [""; 0]);
}

#[tokio::test]
async fn a_register_is_asked_for_beside_the_image() {
    let enclave = Enclave::start().await;
    let (host, flags) = (Host::of(&enclave), enclave_flags(&enclave));
    let role = format!("3={}", "33".repeat(48));
    let said = host.wallet(&line(&["verify", "--pcr", &role], &flags)).await;
    assert!(said.out.contains("verdict: refused: PCR3 is 0000"), "{said:?}");
    let release = format!("1={}", "11".repeat(48));
    assert!(host.wallet(&line(&["verify", "--pcr", &release], &flags)).await.is_success);
}

#[tokio::test]
async fn sign_sends_the_request_as_it_is_and_prints_the_answer() {
    let enclave = Enclave::start().await;
    let (host, flags) = (Host::of(&enclave), enclave_flags(&enclave));
    let request = r#"{"transaction_payload": {"value": 0.10}, "secret_id": "hot-wallet"}"#;
    host.write("request.json", request);
    let said = host.wallet(&line(&["sign", "request.json"], &flags)).await;
    assert_eq!(said.out.trim_end(), SIGNED, "{said:?}");
    assert!(said.err.contains("attestation documents are verified against a root other than AWS's"), "{said:?}");
    let said = host.wallet_with(&line(&["sign", "-"], &flags), request, &[]).await;
    assert_eq!(said.out.trim_end(), SIGNED, "{said:?}");
    assert_eq!([1, 3].map(|index| enclave.seen()[index].body.clone()), [request, request]);
}

#[tokio::test]
async fn sign_says_nothing_to_who_is_not_the_enclave() {
    let enclave = impostor().await;
    let host = Host::of(&enclave);
    host.write("request.json", r#"{"transaction_payload": {}, "secret_id": "hot-wallet"}"#);
    let said = host.wallet(&line(&["sign", "request.json"], &enclave_flags(&enclave))).await;
    assert!(!said.is_success && said.out.is_empty(), "{said:?}");
    assert!(said.err.contains("failed attestation, and no request was sent"), "{said:?}");
    assert_eq!(enclave.asked(), ["GET /attestation"]);
    assert!(enclave.seen().iter().all(|seen| seen.body.is_empty()));
}

#[tokio::test]
async fn what_is_no_request_is_not_sent_and_not_shown() {
    let enclave = Enclave::start().await;
    let (host, flags) = (Host::of(&enclave), enclave_flags(&enclave));
    for text in ["", "31337x", "[\"31337\"]", "{\"31337\"", &format!("{{\"31337\": \"{}\"}}", "x".repeat(512 << 10))] {
        host.write("request.json", text);
        let said = host.wallet(&line(&["sign", "request.json"], &flags)).await;
        assert!(said.error().contains("request.json: ") && !said.err.contains("31337"), "{said:?}");
    }
    assert_eq!(enclave.asked(), [""; 0]);
}

#[tokio::test]
async fn a_key_that_the_enclave_made_is_printed_or_stored() {
    let (enclave, cloud) = (Enclave::start().await, Cloud::start().await);
    let (host, flags) = (Host::of(&enclave), enclave_flags(&enclave));
    let said = host.wallet(&line(&["generate-key", "--json"], &flags)).await.json();
    assert_eq!(said, json!({ "address": ADDRESS, "encrypted_key": "YW4gZW5jcnlwdGVkIGtleQ==" }));
    let flags = [flags.as_slice(), &secrets_flags(&cloud)].concat();
    let store = ["generate-key", "--json", "--secret-id", "made", "--region", "eu-central-1"];
    let said = host.wallet(&line(&store, &flags)).await.json();
    assert_eq!((&said["address"], &said["is_new_secret"]), (&json!(ADDRESS), &json!(true)));
    assert_eq!(cloud.versions("made"), ["YW4gZW5jcnlwdGVkIGtleQ=="]);
    let asked = enclave.asked().len();
    let said = host.wallet(&line(&store, &flags)).await;
    assert!(said.error().contains(&format!("it holds the key {ADDRESS}; expected --replace {ADDRESS}")), "{said:?}");
    assert_eq!(enclave.asked().len(), asked, "no key is made that has no place");
    let said = host.wallet(&line(&[&store[..], &["--replace", ADDRESS]].concat(), &flags)).await.json();
    assert_eq!((&said["is_new_secret"], &said["replaced"]), (&json!(false), &json!(ADDRESS)));
}

#[tokio::test]
async fn a_key_that_cannot_be_stored_is_not_lost() {
    let (enclave, cloud) = (Enclave::start().await, Cloud::with(Twist::StoreDenied).await);
    let flags = [enclave_flags(&enclave).as_slice(), &secrets_flags(&cloud)].concat();
    let store = ["generate-key", "--secret-id", "made", "--region", "eu-central-1"];
    let said = Host::of(&enclave).wallet(&line(&store, &flags)).await;
    assert!(!said.is_success && said.err.contains("encrypted: YW4gZW5jcnlwdGVkIGtleQ=="), "{said:?}");
}

#[tokio::test]
async fn generate_key_asks_nothing_of_who_is_not_the_enclave() {
    let enclave = impostor().await;
    let said = Host::of(&enclave).wallet(&line(&["generate-key"], &enclave_flags(&enclave))).await;
    assert!(!said.is_success && said.err.contains("no request was sent"), "{said:?}");
    assert_eq!(enclave.asked(), ["GET /attestation"]);
}

#[tokio::test]
async fn policy_prints_what_aws_takes() {
    let host = Host::new();
    let who = ["policy", "--role", ROLE, "--admin", ADMIN, "--encryptor", LAMBDA];
    let plain = host.wallet(&[&who[..], &["--measurements", "right.json"]].concat()).await;
    assert_eq!(plain.out, include_str!("../../src/key_policy/plain.json"), "{plain:?}");
    let role = "13".repeat(48);
    let rest = ["--measurements", "right.json", "--pcr1", "--pcr2", "--pcr3", &role, "--allow-generate"];
    let context = ["--context", "purpose=ethereum-signer"];
    let everything = host.wallet(&[&who[..], &rest, &context].concat()).await;
    assert_eq!(everything.out, include_str!("../../src/key_policy/everything.json"), "{everything:?}");
}

/// What `check-policy` says of a policy in which a text is replaced.
async fn checked(written: &str, from: &str, to: &str, arguments: &[&str]) -> Said {
    assert!(written.contains(from), "{from} is not in the policy");
    let host = Host::new();
    host.write("policy.json", &written.replace(from, to));
    host.wallet(&[&["check-policy", "policy.json"], arguments].concat()).await
}

/// A policy as `policy` writes it, and the arguments with which it is right.
async fn written() -> (String, [&'static str; 10]) {
    let host = Host::new();
    let right = [
        "--role",
        ROLE,
        "--admin",
        ADMIN,
        "--encryptor",
        LAMBDA,
        "--measurements",
        "right.json",
        "--context",
        "purpose=ethereum-signer",
    ];
    let said = host.wallet(&[&["policy"][..], &right].concat()).await;
    assert!(said.err.contains(&format!("can decrypt by changing the policy: {ADMIN}")), "{said:?}");
    (said.out, right)
}

#[tokio::test]
async fn a_written_policy_is_as_it_was_asked_for() {
    let (policy, right) = written().await;
    let said = checked(&policy, "Manage", "Manage", &right).await;
    assert!(said.is_success && !said.out.contains("NOT EXPECTED") && !said.out.contains("WIDE"), "{said:?}");
    assert!(said.out.contains(&format!("statement Manage: {ADMIN} opens the key: it writes a policy")), "{said:?}");
    let encrypt = format!("statement Encrypt: {LAMBDA} uses the key (kms:Encrypt), with purpose=ethereum-signer\n");
    assert!(said.out.contains(&encrypt), "{said:?}");
    let said = checked("{}", "{}", "{}", &[]).await;
    assert!(said.error().contains("expected a key policy, as `aws kms get-key-policy` prints it"), "{said:?}");
}

#[tokio::test]
async fn whoever_was_not_asked_for_is_named() {
    let (policy, right) = written().await;
    // Each pair of arguments left out.
    for (at, expected) in [
        (0, "statement DecryptInTheEnclaveOnly: "),
        (2, "statement Manage: "),
        (4, "statement Encrypt: "),
        (6, "statement DecryptInTheEnclaveOnly: "),
    ] {
        let arguments = [&right[..at], &right[at + 2..]].concat();
        let said = checked(&policy, "Manage", "Manage", &arguments).await;
        assert!(!said.is_success && said.out.contains(&format!("NOT EXPECTED: {expected}")), "{at}: {said:?}");
    }
    let (lambda, role) = (format!("\"{LAMBDA}\""), format!("\"{ROLE}\""));
    let account = "\"arn:aws:iam::111122223333:root\"";
    for (from, to, expected, why) in [
        (
            "\"kms:Encrypt\"",
            "[\"kms:Encrypt\", \"kms:CreateG*\"]",
            "Encrypt",
            "(kms:CreateGrant), with purpose=ethereum-signer: expected for no principal",
        ),
        (&lambda, "\"arn:aws:iam::111122223333:role/Other\"", "Encrypt", "expected only for --encryptor"),
        (&lambda, "\"*\"", "Encrypt: everybody", "expected a role or user by its name"),
        (&lambda, account, "Encrypt: everybody", "expected a role or user by its name"),
        (&role, "\"arn:aws:iam::111122223333:role/Other\"", "DecryptInTheEnclaveOnly", "expected only for --role"),
        (&role, "\"*\"", "DecryptInTheEnclaveOnly: everybody", "expected a role or user by its name"),
        (&role, account, "DecryptInTheEnclaveOnly: everybody", "expected a role or user by its name"),
    ] {
        let said = checked(&policy, from, to, &right).await;
        let is_said =
            |line: &str| line.starts_with(&format!("NOT EXPECTED: statement {expected}")) && line.ends_with(why);
        assert!(!said.is_success && said.out.lines().any(is_said), "{to}: {said:?}");
        assert!(said.err.contains("1 not expected"), "{said:?}");
    }
}

#[tokio::test]
async fn a_statement_without_the_encryption_context_is_named() {
    let (policy, right) = written().await;
    let condition = "\"kms:EncryptionContext:purpose\": \"ethereum-signer\"";
    for (to, arguments, wrong) in [
        (condition, &right[..8], 0),
        ("\"kms:EncryptionContext:purpose\": \"other\"", &right[..8], 0),
        ("\"kms:EncryptionContext:purpose\": \"other\"", &right[..], 2),
        ("\"kms:EncryptionContext:purpose\": [\"ethereum-signer\", \"other\"]", &right[..], 2),
        ("", &right[..8], 2),
        ("", &right[..], 2),
    ] {
        let said = checked(&policy, condition, to, arguments).await;
        assert_eq!(said.out.matches("NOT EXPECTED: ").count(), wrong, "{to}: {said:?}");
        assert_eq!(said.out.matches("expected a condition on the encryption context").count(), wrong, "{to}: {said:?}");
        assert_eq!(said.is_success, wrong == 0, "{to}: {said:?}");
    }
}

#[tokio::test]
async fn an_account_that_manages_the_key_is_marked_even_if_it_was_asked_for() {
    let (policy, right) = written().await;
    let account = "arn:aws:iam::111122223333:root";
    let right: Vec<&str> = right.iter().map(|argument| if *argument == ADMIN { account } else { argument }).collect();
    let said = checked(&policy, ADMIN, account, &right).await;
    assert!(said.is_success && said.out.contains("WIDE: statement Manage: everybody whom IAM lets"), "{said:?}");
}

#[tokio::test]
async fn the_role_that_makes_keys_encrypts_only_if_it_may() {
    let (policy, right) = written().await;
    let both = format!("\"{LAMBDA}\",\"{ROLE}\"");
    let said = checked(&policy, &format!("\"{LAMBDA}\""), &both, &right).await;
    assert!(!said.is_success && said.out.contains(&format!("NOT EXPECTED: statement Encrypt: {ROLE}")), "{said:?}");
    let said = checked(&policy, &format!("\"{LAMBDA}\""), &both, &[&right[..], &["--allow-generate"]].concat()).await;
    assert!(said.is_success, "{said:?}");
}

#[tokio::test]
async fn the_instances_role_never_manages_the_key() {
    let host = Host::new();
    let (account, rest) = ("arn:aws:iam::111122223333:root", ["--encryptor", LAMBDA, "--measurements", "right.json"]);
    for [role, admin] in [[ROLE, ROLE], [account, ADMIN], ["arn:aws:iam::111122223333:user/a", ADMIN]] {
        let said = host.wallet(&[&["policy", "--role", role, "--admin", admin][..], &rest].concat()).await;
        assert!(said.error().contains("--role: expected a role that is not an --admin"), "{said:?}");
    }
    let said = host.wallet(&[&["policy", "--role", ROLE, "--admin", account][..], &rest].concat()).await;
    assert!(said.is_success && said.out.contains(account), "{said:?}");
}

#[tokio::test]
async fn a_debug_enclaves_policy_has_to_be_asked_for_and_is_warned_of() {
    let host = Host::new();
    let zeros = "0".repeat(96);
    host.write("zero.json", &format!(r#"{{"PCR0": "{zeros}", "PCR1": "{zeros}", "PCR2": "{zeros}"}}"#));
    let who = ["policy", "--role", ROLE, "--admin", ADMIN, "--encryptor", LAMBDA];
    let said = host.wallet(&[&who[..], &["--measurements", "zero.json"]].concat()).await;
    assert!(said.error().contains("--allow-debug") && said.err.contains("PCR0 is zero"), "{said:?}");
    let said = host.wallet(&[&who[..], &["--measurements", "right.json", "--pcr3", &zeros]].concat()).await;
    assert!(said.error().contains("PCR3 is zero"), "{said:?}");
    let said = host.wallet(&who).await;
    assert!(said.error().contains("--measurements"), "{said:?}");
    let said = host.wallet(&[&who[..], &["--allow-debug"]].concat()).await;
    assert!(said.is_success && said.out.contains(&zeros), "{said:?}");
    assert!(said.err.contains("THIS POLICY PROTECTS NOTHING"), "{said:?}");
}

#[tokio::test]
async fn help_names_every_verb_and_no_secret_is_an_argument() {
    let host = Host::new();
    let said = host.wallet(&["--help"]).await;
    for verb in
        "keygen set-key get-key restore-key adopt-ledger generate-key sign verify policy check-policy".split(' ')
    {
        assert!(said.out.contains(&format!("\n  {verb} ")), "{verb}: {}", said.out);
        assert!(host.wallet(&[verb, "--help"]).await.is_success);
    }
    let said = host.wallet(&["set-key", KEY]).await;
    assert!(!said.is_success);
}

#[tokio::test]
async fn the_sample_of_a_key_policy_is_what_the_documents_command_prints() {
    let host = Host::new();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config");
    let read = |name: &str| std::fs::read_to_string(format!("{sample}/{name}")).unwrap();
    let admins = ["KeyAdmin", "cdk-hnb659fds-cfn-exec-role-111122223333-eu-central-1"];
    let admins = admins.map(|name| format!("arn:aws:iam::111122223333:role/{name}"));
    // The same who's who as in the settings beside it.
    assert!(admins.iter().all(|admin| read("aws.toml").contains(admin)));
    let said = host
        .wallet(&[
            "policy",
            "--measurements",
            "right.json",
            "--role",
            "arn:aws:iam::111122223333:role/enclave-signer-instance",
            "--encryptor",
            "arn:aws:iam::111122223333:role/KeySetter",
            "--admin",
            &admins[0],
            "--admin",
            &admins[1],
            "--context",
            "purpose=ethereum-signer",
        ])
        .await;
    assert!(said.is_success, "{said:?}");
    assert_eq!(said.out, read("key-policy.json"));
}
