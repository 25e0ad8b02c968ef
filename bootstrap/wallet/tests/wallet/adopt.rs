//! `adopt-ledger`, and the key policy under which it works.

use std::net::{Ipv4Addr, TcpListener};

use serde_json::{Value, json};

use crate::cloud::{Cloud, KEY_ARN, OTHER_ARN, Twist, ciphertext};
use crate::command::{Host, Said, aws_flags, line};
use crate::enclave::Enclave;
use crate::{ADDRESS, ADMIN, KEY, LAMBDA, ROLE};

const ADOPTER: &str = "arn:aws:iam::111122223333:role/KeyAdopter";
const LEDGER: &str = "ledger=111122223333/example-ledger";
const WHO: [&str; 10] = [
    "--role",
    ROLE,
    "--admin",
    ADMIN,
    "--encryptor",
    LAMBDA,
    "--measurements",
    "right.json",
    "--context",
    "purpose=test",
];
const WHAT: [&str; 11] = [
    "adopt-ledger",
    "--secret-id",
    "hot",
    "--replace",
    ADDRESS,
    "--key-arn",
    KEY_ARN,
    "--context",
    "purpose=test",
    "--ledger",
    "111122223333/example-ledger",
];

fn old() -> String {
    ciphertext(KEY_ARN, &json!({ "purpose": "test" }), &format!("0x{KEY}"))
}

fn new() -> String {
    ciphertext(KEY_ARN, &json!({ "purpose": "test", "ledger": "111122223333/example-ledger" }), &format!("0x{KEY}"))
}

/// A port of this host on which nobody listens, for as long as nobody else takes it.
fn nowhere() -> String {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    format!("https://127.0.0.1:{port}")
}

async fn policy(more: &[&str]) -> String {
    let said = Host::new().wallet(&[&["policy"][..], &WHO, more].concat()).await;
    assert!(said.is_success, "{said:?}");
    said.out
}

async fn adopting() -> String {
    policy(&["--context", LEDGER, "--adopter", ADOPTER]).await
}

/// A secret whose key has its address, under a policy.
async fn cloud(twist: Twist, policy: &str) -> Cloud {
    let cloud = Cloud::with(twist).await;
    cloud.set_key_policy(policy);
    cloud.store("hot", &old());
    cloud.label("hot", &format!("address-{ADDRESS}"));
    cloud
}

async fn adopt(host: &Host, cloud: &Cloud, words: &[&str]) -> Said {
    host.wallet(&line(words, &aws_flags(cloud))).await
}

#[tokio::test]
async fn a_key_is_bound_to_the_ledger_and_stored_in_place_of_the_old() {
    let cloud = cloud(Twist::Nothing, &adopting().await).await;
    let said = adopt(&Host::new(), &cloud, &[&WHAT[..], &["--gone", &nowhere(), "--json"]].concat()).await.json();
    assert_eq!((&said["address"], &said["ledger"]), (&json!(ADDRESS), &json!("111122223333/example-ledger")));
    assert_eq!(cloud.versions("hot"), [old(), new()]);
    assert_eq!(said["version_id"], cloud.current("hot"));
    let again = adopt(&Host::new(), &cloud, &[&WHAT[..], &["--never-opened"]].concat()).await;
    assert!(
        again.error().contains("bound to another encryption context: compare --key-arn and --context"),
        "{again:?}"
    );
}

#[tokio::test]
async fn a_ciphertext_in_no_secret_is_printed() {
    let cloud = cloud(Twist::Nothing, &adopting().await).await;
    let host = Host::new();
    host.write("key.txt", &old());
    let words = [&WHAT[..1], &["--encrypted-key", "key.txt", "--never-opened"], &WHAT[5..]].concat();
    assert_eq!(adopt(&host, &cloud, &words).await.out.trim(), new());
    assert_eq!(cloud.versions("hot"), [old()]);
}

#[tokio::test]
async fn a_policy_that_opens_the_key_without_the_ledger_stops_it() {
    let right = adopting().await;
    let nobody = right.replace("kms:Decrypt", "kms:DescribeKey");
    for (policy, expected) in [
        (policy(&[]).await, "an image without the ledger could open the key again"),
        (policy(&["--context", "ledger=111122223333/another"]).await, "expected ledger=111122223333/example-ledger"),
        (right.replace("StringEqualsIgnoreCase", "StringLike"), "decrypts, and no attestation is asked for"),
        (right.replace("\"kms:Encrypt\"", "\"kms:CreateGrant\""), "expected attestation and ledger="),
        (right.replace("\"Null\"", "\"StringLike\""), "expected attestation and ledger="),
        (nobody, "it lets no enclave decrypt"),
        ("{}".to_owned(), "expected a key policy"),
    ] {
        let cloud = cloud(Twist::Nothing, &policy).await;
        let said = adopt(&Host::new(), &cloud, &[&WHAT[..], &["--never-opened"]].concat()).await;
        assert!(said.error().contains(expected) && said.err.contains(KEY_ARN), "{expected}: {said:?}");
        assert_eq!(cloud.bodies().len(), 1, "more than the policy was asked for: {expected}");
    }
}

#[tokio::test]
async fn an_enclave_that_still_answers_stops_it_unless_it_has_the_ledger() {
    let enclave = Enclave::start().await;
    let (host, url) = (Host::of(&enclave), enclave.url_text());
    let words = [&WHAT[..], &["--root", "root.pem", "--gone", &url]].concat();
    let named = [&words[..], &["--measurements", "right.json"]].concat();
    let cloud = cloud(Twist::Nothing, &adopting().await).await;
    let said = adopt(&host, &cloud, &words).await;
    assert!(said.error().contains("something answers there. End every enclave without the ledger"), "{said:?}");
    host.write("other.json", &host.read("right.json").replace("1010", "eeee"));
    let said = adopt(&host, &cloud, &[&words[..], &["--measurements", "other.json"]].concat()).await;
    assert!(said.error().contains("name its --measurements: PCR0 is 1010"), "{said:?}");
    assert_eq!(cloud.versions("hot"), [old()]);

    // Whoever it is.
    let silent = Cloud::start().await;
    let endpoint = silent.endpoint();
    let at_aws = [&named[..], &["--gone", &endpoint]].concat();
    let said = adopt(&host, &cloud, &at_aws).await;
    assert!(said.error().contains("something answers there"), "{said:?}");

    let said = adopt(&host, &cloud, &named).await;
    assert!(said.is_success && said.out.contains("next: put the key policy again without its --adopter"), "{said:?}");
    assert_eq!(cloud.versions("hot"), [old(), new()]);
}

#[tokio::test]
async fn what_is_wrong_is_named_and_nothing_is_stored() {
    let right = adopting().await;
    let nowhere = nowhere();
    let gone = ["--gone", &nowhere];
    let swapped = |from: &str, to: &'static str| WHAT.map(|word| if word == from { to } else { word });
    for (twist, words, expected) in [
        (Twist::OtherKey, WHAT, format!("KMS used another key, \"{OTHER_ARN}\"")),
        (Twist::Raced, WHAT, "somebody else changes the secret".to_owned()),
        (
            Twist::Nothing,
            swapped("purpose=test", LEDGER),
            "expected the present context, which has no ledger".to_owned(),
        ),
        (Twist::Nothing, swapped("purpose=test", "purpose=other"), "InvalidCiphertextException".to_owned()),
        (Twist::Nothing, swapped(WHAT[10], "example-ledger"), "expected OWNER/BUCKET".to_owned()),
        (Twist::Nothing, swapped(WHAT[10], "111122223333/EXAMPLE"), "expected OWNER/BUCKET".to_owned()),
        (Twist::Nothing, swapped(ADDRESS, "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf"), ADDRESS.to_owned()),
    ] {
        let cloud = cloud(twist, &right).await;
        let said = adopt(&Host::new(), &cloud, &[&words[..], &gone].concat()).await;
        assert!(said.error().contains(&expected), "{expected}: {said:?}");
        assert!(!cloud.versions("hot").contains(&new()), "{expected}");
    }
    let cloud = Cloud::start().await;
    cloud.set_key_policy(&right);
    cloud.store("hot", &old());
    let by_version = swapped(ADDRESS, "00000000000000000000000000000001");
    let said = adopt(&Host::new(), &cloud, &[&by_version[..], &gone].concat()).await;
    assert!(said.error().contains("--version-stage address-ADDRESS --move-to-version-id 0000"), "{said:?}");
    let said = adopt(&Host::new(), &cloud, &[&WHAT[..], &["--gone", "https://no-such-host.invalid"]].concat()).await;
    assert!(said.error().contains("this does not tell whether it has ended"), "{said:?}");
    let said = adopt(&Host::new(), &cloud, &WHAT).await;
    assert!(said.error().contains("--gone <URL>"), "{said:?}");
}

#[tokio::test]
async fn only_the_ledger_of_the_context_can_be_adopted_and_only_for_the_same_key() {
    let policy: Value = serde_json::from_str(&adopting().await).unwrap();
    let condition = |sid: &str| {
        let statements = policy["Statement"].as_array().unwrap();
        statements.iter().find(|statement| statement["Sid"] == sid).unwrap()["Condition"].clone()
    };
    let same_key = json!({ "kms:ReEncryptOnSameKey": "true" });
    let purpose = json!({ "kms:EncryptionContext:purpose": "test" });
    let none = json!({ "kms:EncryptionContext:ledger": "true" });
    let from = json!({ "Bool": same_key, "Null": none, "StringEquals": purpose });
    assert_eq!(condition("AdoptLedgerFrom"), from);
    let mut both = purpose;
    both["kms:EncryptionContext:ledger"] = json!("111122223333/example-ledger");
    assert_eq!(condition("AdoptLedgerTo"), json!({ "Bool": same_key, "StringEquals": both }));
    let said = Host::new().wallet(&[&["policy", "--adopter", ADOPTER][..], &WHO].concat()).await;
    assert!(said.error().contains("--adopter: expected the ledger, --context ledger=OWNER/BUCKET"), "{said:?}");
}

#[tokio::test]
async fn whoever_adopts_is_expected_or_named() {
    let written = adopting().await;
    let with_ledger = [&WHO[..], &["--context", LEDGER]].concat();
    let right = [&with_ledger[..], &["--adopter", ADOPTER]].concat();
    let host = Host::new();
    host.write("policy.json", &written);
    let said = host.wallet(&[&["check-policy", "policy.json"][..], &right].concat()).await;
    assert!(
        said.is_success && said.out.contains(&format!("{ADOPTER} binds to a ledger what is bound to none")),
        "{said:?}"
    );
    let said = host.wallet(&[&["check-policy", "policy.json"][..], &with_ledger].concat()).await;
    assert_eq!(said.out.matches("NOT EXPECTED").count(), 2, "{said:?}");
    for (from, to) in [("kms:ReEncryptOnSameKey", "kms:ViaService"), ("\"Null\"", "\"StringLike\"")] {
        host.write("policy.json", &written.replace(from, to));
        let said = host.wallet(&[&["check-policy", "policy.json"][..], &right].concat()).await;
        let expected =
            "NOT EXPECTED: statement AdoptLedgerFrom: arn:aws:iam::111122223333:role/KeyAdopter opens the key";
        assert!(said.out.contains(expected), "{from}: {said:?}");
    }
}
