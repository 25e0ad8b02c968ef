//! `set-key` and `get-key` against KMS and Secrets Manager.

use std::time::{Duration, SystemTime};

use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::cloud::{ACCESS_KEY_ID, Cloud, KEY_ARN, OTHER_ARN, SECRET_ACCESS_KEY, SECRET_ARN, Twist, ciphertext};
use crate::command::{Host, Said, aws_flags, line, secrets_flags};
use crate::server::{Server, answer};
use crate::{ADDRESS, KEY};

const SET: [&str; 8] =
    ["set-key", "--secret-id", "hot-wallet", "--key-arn", KEY_ARN, "--context", "purpose=ethereum-signer", "key"];

async fn set(cloud: &Cloud, words: &[&str]) -> Said {
    let host = Host::new();
    host.write("key", &format!("{KEY}\n"));
    let said = host.wallet(&line(words, &aws_flags(cloud))).await;
    assert!(!said.out.contains(&KEY[..16]) && !said.err.contains(&KEY[..16]), "{said:?}");
    said
}

#[tokio::test]
async fn a_key_is_encrypted_with_its_context_and_stored() {
    let cloud = Cloud::start().await;
    let said = set(&cloud, &[&SET[..], &["--json"]].concat()).await.json();
    let arn = format!("{SECRET_ARN}hot-wallet");
    let expected = json!({ "secret_id": arn, "version_id": "version-1", "is_new_secret": true, "address": ADDRESS });
    assert_eq!(said, expected);
    let stored = ciphertext(KEY_ARN, &json!({ "purpose": "ethereum-signer" }), &format!("0x{KEY}"));
    assert_eq!(cloud.versions("hot-wallet"), [stored]);
    assert_eq!(cloud.bodies()[0]["KeyId"], KEY_ARN);
}

#[tokio::test]
async fn a_secret_that_is_there_gets_a_new_version() {
    let cloud = Cloud::start().await;
    cloud.store("hot-wallet", "b2xk");
    let said = set(&cloud, &SET).await;
    let expected = format!(
        "address: {ADDRESS}\nsecret, whose last version stays as AWSPREVIOUS: {SECRET_ARN}hot-wallet\nversion: version-2\n"
    );
    assert_eq!(said.out, expected);
    assert_eq!(cloud.versions("hot-wallet").len(), 2);
}

#[tokio::test]
async fn a_key_from_standard_input_is_taken() {
    let cloud = Cloud::start().await;
    let flags = aws_flags(&cloud);
    let words: Vec<_> = SET.iter().map(|word| if *word == "key" { "-" } else { word }).collect();
    let variables = [("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)];
    let said = Host::new().wallet_with(&line(&words, &flags), KEY, &variables).await;
    assert!(said.is_success && said.out.contains(ADDRESS), "{said:?}");
}

#[tokio::test]
async fn a_ciphertext_of_another_key_is_not_stored() {
    let cloud = Cloud::with(Twist::OtherKey).await;
    let said = set(&cloud, &SET).await;
    assert!(said.error().contains(&format!("KMS used key {OTHER_ARN:?}, which is another")), "{said:?}");
    assert_eq!(cloud.bodies().len(), 1, "nothing was stored");
}

#[tokio::test]
async fn aws_refusals_are_named_with_what_was_attempted() {
    let said = set(&Cloud::with(Twist::Denied).await, &SET).await;
    let expected = format!(
        "encrypt the key of {ADDRESS} with KMS key {KEY_ARN}: AccessDeniedException (HTTP 400), \"this AWS says \"no\"\\u{{1b}}[31m\"; the role,"
    );
    assert!(said.error().contains(&expected), "{said:?}");
    let said = set(&Cloud::with(Twist::StoreDenied).await, &SET).await;
    assert!(
        said.error().contains("store the encrypted key in secret \"hot-wallet\": AccessDeniedException"),
        "{said:?}"
    );
}

#[tokio::test]
async fn an_arn_is_never_created() {
    let cloud = Cloud::start().await;
    let arn = format!("{SECRET_ARN}missing");
    let words: Vec<_> = SET.iter().map(|word| if *word == "hot-wallet" { &arn } else { *word }).collect();
    let said = set(&cloud, &words).await;
    assert!(said.error().contains("there is no such secret, and an ARN cannot be given to a new one"), "{said:?}");
}

#[tokio::test]
async fn without_a_context_or_with_an_alias_nothing_is_asked() {
    let cloud = Cloud::start().await;
    let said = set(&cloud, &["set-key", "--secret-id", "hot-wallet", "--key-arn", KEY_ARN, "key"]).await;
    assert!(said.error().contains("--context"), "{said:?}");
    let words: Vec<_> = SET.iter().map(|word| if *word == KEY_ARN { "alias/wallet" } else { word }).collect();
    let said = set(&cloud, &words).await;
    assert!(said.error().contains("'alias/wallet' for '--key-arn <ARN>': not of the form arn:"), "{said:?}");
    assert_eq!(cloud.bodies(), [Value::Null; 0]);
}

#[tokio::test]
async fn an_aws_that_the_ca_does_not_vouch_for_gets_no_key() {
    let (cloud, other) = (Cloud::start().await, Cloud::start().await);
    let mut flags = aws_flags(&cloud);
    flags[3] = other.ca_path().display().to_string();
    let host = Host::new();
    host.write("key", KEY);
    let said = host.wallet(&line(&SET, &flags)).await;
    assert!(said.error().contains("invalid peer certificate"), "{said:?}");
    assert_eq!(cloud.bodies(), [Value::Null; 0]);
}

#[tokio::test]
async fn get_key_prints_the_ciphertext_that_is_stored() {
    let cloud = Cloud::start().await;
    cloud.store("hot-wallet", "b2xk");
    let flags = secrets_flags(&cloud);
    let get = ["get-key", "--secret-id", "hot-wallet", "--region", "eu-central-1"];
    let said = Host::new().wallet(&line(&get, &flags)).await;
    assert_eq!(said.out, "b2xk\n", "{said:?}");
    let said = Host::new().wallet(&line(&[&get[..], &["--json"]].concat(), &flags)).await.json();
    assert_eq!(said["encrypted_key"], "b2xk");
    let said = Host::new().wallet(&line(&get[..3], &flags)).await;
    assert!(said.error().contains("which region?"), "{said:?}");
}

#[tokio::test]
async fn a_secret_that_holds_no_ciphertext_is_not_shown() {
    let cloud = Cloud::start().await;
    cloud.store("plain", &format!("0x{KEY}!"));
    let get = ["get-key", "--secret-id", "plain", "--region", "eu-central-1"];
    let said = Host::new().wallet(&line(&get, &secrets_flags(&cloud))).await;
    assert!(said.error().contains("read secret \"plain\": its SecretString is not the base64"), "{said:?}");
    assert!(!said.err.contains(&KEY[..8]), "{said:?}");
}

#[tokio::test]
async fn the_instances_role_is_asked_when_the_environment_has_no_credentials() {
    let cloud = Cloud::start().await;
    cloud.store("hot-wallet", "b2xk");
    let expiry = time::OffsetDateTime::from(SystemTime::now() + Duration::from_hours(1));
    let expiry = expiry.format(&time::format_description::well_known::Rfc3339).unwrap();
    let imds = Server::start(None, move |request: Request<Bytes>| {
        let token = request.headers().get("x-aws-ec2-metadata-token").map(|token| token.to_str().unwrap());
        match (request.method().as_str(), request.uri().path(), token) {
            ("PUT", "/latest/api/token", None) => answer(200, "a-token"),
            ("GET", "/latest/meta-data/iam/security-credentials/", Some("a-token")) => answer(200, "WalletRole"),
            ("GET", "/latest/meta-data/iam/security-credentials/WalletRole", Some("a-token")) => answer(
                200,
                json!({
                    "Code": "Success", "AccessKeyId": ACCESS_KEY_ID, "SecretAccessKey": SECRET_ACCESS_KEY,
                    "Token": "an-example-of-a-session-token", "Expiration": expiry,
                }),
            ),
            _ => answer(401, ""),
        }
    });
    let imds = imds.await;
    let endpoint = format!("http://{}", imds.address);
    let get = ["get-key", "--secret-id", "hot-wallet", "--region", "eu-central-1"];
    let flags = secrets_flags(&cloud);
    let host = Host::new();
    let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint.as_str())];
    let said = host.wallet_with(&line(&get, &flags), "", &variables).await;
    assert_eq!(said.out, "b2xk\n", "{said:?}");
    drop(imds);
    let said = host.wallet_with(&line(&get, &flags), "", &variables).await;
    assert!(said.error().contains("no AWS credentials in the environment"), "{said:?}");
    assert!(said.err.contains("reach the instance metadata service at 127.0.0.1:"), "{said:?}");
}
