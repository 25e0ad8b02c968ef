//! `set-key` and `get-key` against KMS and Secrets Manager.

use std::time::{Duration, SystemTime};

use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::cloud::{
    ACCESS_KEY_ID, Cloud, KEY_ARN, OTHER_ARN, SECRET_ACCESS_KEY, SECRET_ARN, Twist, ciphertext, version_id,
};
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

/// The published key and a context, as the tests' KMS encrypts them.
fn sealed() -> String {
    ciphertext(KEY_ARN, &json!({ "purpose": "ethereum-signer" }), &format!("0x{KEY}"))
}

fn label() -> String {
    format!("address-{ADDRESS}")
}

#[tokio::test]
async fn a_key_is_encrypted_with_its_context_and_stored_under_its_address() {
    let cloud = Cloud::start().await;
    let said = set(&cloud, &[&SET[..], &["--json"]].concat()).await.json();
    let expected = json!({
        "secret_id": format!("{SECRET_ARN}hot-wallet"), "version_id": cloud.current("hot-wallet"), "is_new_secret": true,
        "address": ADDRESS, "label": label(), "replaced": null,
    });
    assert_eq!(said, expected);
    assert_eq!(cloud.labelled("hot-wallet"), [(sealed(), vec!["AWSCURRENT".to_owned(), label()])]);
    assert_eq!(cloud.bodies()[1]["KeyId"], KEY_ARN);
}

#[tokio::test]
async fn a_key_that_is_there_is_not_replaced_unless_it_is_named() {
    let cloud = Cloud::start().await;
    cloud.store("hot-wallet", "b2xk");
    let said = set(&cloud, &SET).await;
    let version = version_id(1);
    let expected =
        format!("look for a key in secret \"hot-wallet\": it holds the key {version}; expected --replace {version}");
    assert!(said.error().contains(&expected), "{said:?}");
    let other = version_id(2);
    for (name, expected) in [(other.as_str(), format!("and the key to be replaced is {other}; expected {version}"))] {
        let said = set(&cloud, &[&SET[..], &["--replace", name]].concat()).await;
        assert!(said.error().contains(&expected), "{said:?}");
    }
    assert_eq!(cloud.versions("hot-wallet"), ["b2xk"]);
    assert!(
        cloud.bodies().iter().all(|body| *body == json!({ "SecretId": "hot-wallet" })),
        "KMS was asked for nothing"
    );
    assert!(set(&cloud, &[&SET[..], &["--replace", &version]].concat()).await.is_success);
    let said = set(&cloud, &SET).await;
    assert!(said.error().contains(&format!("it holds the key {ADDRESS}; expected --replace {ADDRESS}")), "{said:?}");
}

#[tokio::test]
async fn a_key_that_was_replaced_keeps_a_label_and_comes_back() {
    let cloud = Cloud::start().await;
    cloud.store("hot-wallet", "b2xk");
    let said = set(&cloud, &[&SET[..], &["--replace", &version_id(1)]].concat()).await;
    let lines = format!(
        "address: {ADDRESS}\nsecret: {SECRET_ARN}hot-wallet\nversion: {}\nlabel: {}\nreplaced: {}; it stays in the secret, and \
         `wallet restore-key` restores it\n",
        cloud.current("hot-wallet"),
        label(),
        version_id(1)
    );
    assert_eq!(said.out, lines, "{said:?}");
    // The same key once more, and then a third: AWS's own labels are of the last two.
    assert!(set(&cloud, &[&SET[..], &["--replace", ADDRESS]].concat()).await.is_success);
    let labels: Vec<_> = cloud.labelled("hot-wallet").into_iter().map(|(_, labels)| labels).collect();
    let kept = format!("version-{}", version_id(1));
    let [current, previous] = ["AWSCURRENT", "AWSPREVIOUS"].map(str::to_owned);
    assert_eq!(labels, [vec![kept], vec![previous, label()], vec![current, label() + "-2"]]);

    let flags = secrets_flags(&cloud);
    let restore = |key: String, replace: &str| {
        let words = ["restore-key", "--secret-id", "hot-wallet", "--region", "eu-central-1", "--key"];
        [&words[..], &[&key, "--replace", replace]].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let host = Host::new();
    let wallet = async |words: Vec<String>| {
        host.wallet(&line(&words.iter().map(String::as_str).collect::<Vec<_>>(), &flags)).await
    };
    let said = wallet(restore(version_id(1), &version_id(1))).await;
    assert!(said.error().contains(&format!("it holds the key {ADDRESS}, and the key to be replaced is")), "{said:?}");
    let said = wallet(restore("0xa5D3241A1591061F2a4bB69CA0215F66520E67cf".to_owned(), ADDRESS)).await;
    assert!(
        said.error().contains("none of its versions is the key 0xa5D3241A1591061F2a4bB69CA0215F66520E67cf"),
        "{said:?}"
    );
    let said = wallet(restore(version_id(1), ADDRESS)).await;
    assert!(said.is_success && said.out.contains(&format!("replaced: {ADDRESS}; ")), "{said:?}");
    assert_eq!(cloud.current("hot-wallet"), version_id(1));
    let said = wallet(restore(ADDRESS.to_owned(), &version_id(1))).await;
    assert!(said.is_success && said.out.contains(&format!("label: {}-2\n", label())), "{said:?}");
    assert_eq!(cloud.versions("hot-wallet").len(), 3, "nothing was made anew");
}

#[tokio::test]
async fn a_key_that_somebody_else_stores_meanwhile_stays_the_current_one() {
    for (secret, replace) in [(None, None), (Some("b2xk"), Some(version_id(1)))] {
        let cloud = Cloud::with(Twist::Raced).await;
        match secret {
            Some(text) => cloud.store("hot-wallet", text),
            None => cloud.store_nothing("hot-wallet"),
        }
        let flags: Vec<_> = replace.iter().flat_map(|version| ["--replace", version]).collect();
        let said = set(&cloud, &[&SET[..], &flags].concat()).await;
        let expected = format!("it is not the current one: version {} is, since somebody else changed", version_id(90));
        assert!(
            said.error().contains(&expected) && said.err.contains(&format!("has it, with label {}", label())),
            "{said:?}"
        );
        assert_eq!(cloud.current("hot-wallet"), version_id(90));
        assert!(cloud.labelled("hot-wallet").contains(&(sealed(), vec![label()])), "and the new one is not lost");
    }
}

#[tokio::test]
async fn requests_that_are_sent_twice_store_one_version() {
    let cloud = Cloud::with(Twist::Unsure).await;
    cloud.store("hot-wallet", "b2xk");
    let said = set(&cloud, &[&SET[..], &["--replace", &version_id(1)]].concat()).await;
    assert!(said.is_success, "{said:?}");
    assert_eq!(cloud.versions("hot-wallet"), ["b2xk".to_owned(), sealed()]);
    assert_ne!(cloud.current("hot-wallet"), version_id(1));
}

#[tokio::test]
async fn a_secret_of_another_region_is_named_before_anybody_is_asked() {
    let cloud = Cloud::start().await;
    let arn = "arn:aws:secretsmanager:us-east-1:111122223333:secret:hot-wallet-AbCdEf";
    let expected = "it is in us-east-1, and eu-central-1 is asked; expected a secret of eu-central-1";
    let words: Vec<_> = SET.iter().map(|word| if *word == "hot-wallet" { arn } else { word }).collect();
    let said = set(&cloud, &words).await;
    assert!(said.error().contains(expected), "{said:?}");
    let get = ["get-key", "--secret-id", arn, "--region", "eu-central-1"];
    let said = Host::new().wallet(&line(&get, &secrets_flags(&cloud))).await;
    assert!(said.error().contains(expected), "{said:?}");
    let get = ["get-key", "--secret-id", "arn:aws:kms:eu-central-1:111122223333:key/a", "--region", "eu-central-1"];
    let said = Host::new().wallet(&line(&get, &secrets_flags(&cloud))).await;
    assert!(said.error().contains("or an ARN such as arn:aws:secretsmanager:"), "{said:?}");
    assert_eq!(cloud.bodies(), [Value::Null; 0]);
}

#[tokio::test]
async fn a_ciphertext_in_lines_is_read_and_json_is_named_and_not_shown() {
    let cloud = Cloud::start().await;
    let get = ["get-key", "--secret-id", "hot-wallet", "--region", "eu-central-1"];
    for text in ["b2xkb2xk\n", "b2xk\r\nb2xk\r\n", " b2xk\n b2xk", "b2xkb2xk"] {
        cloud.store("hot-wallet", text);
        let said = Host::new().wallet(&line(&get, &secrets_flags(&cloud))).await;
        assert_eq!(said.out, "b2xkb2xk\n", "{text:?}: {said:?}");
    }
    for (text, expected) in [
        ("{\"key\": \"31337\"}", "its SecretString is JSON, expected the base64"),
        ("\"b2xkMzEzMzc=\"", "its SecretString is in quotes, expected the base64"),
        ("\u{feff}{\"key\": \"31337\"}", "its SecretString starts with a byte order mark, expected"),
        ("\u{feff}b2xk", "its SecretString starts with a byte order mark"),
        ("", "its SecretString is 0 bytes long, expected 1 to 6144"),
    ] {
        cloud.store("hot-wallet", text);
        let said = Host::new().wallet(&line(&get, &secrets_flags(&cloud))).await;
        assert!(said.error().contains(expected) && !said.err.contains("31337"), "{text:?}: {said:?}");
    }
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
    assert!(said.error().contains(&format!("KMS used another key, {OTHER_ARN:?}")), "{said:?}");
    assert_eq!(cloud.bodies().len(), 2, "nothing was stored");
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
async fn an_aws_that_cannot_be_reached_is_named_with_what_would_reach_it() {
    // Nobody listens on a port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("https://localhost:{free}");
    let get = ["get-key", "--secret-id", "hot-wallet", "--region", "eu-central-1", "--secrets-endpoint", &endpoint];
    let said = Host::new().wallet(&get).await;
    let expected = format!(
        "read secret \"hot-wallet\": ask {endpoint}; expected a way to it: the internet, or an endpoint in the VPC: "
    );
    assert!(said.error().contains(&expected) && said.err.contains("Connection refused"), "{said:?}");
}

#[tokio::test]
async fn an_arn_is_never_created() {
    let cloud = Cloud::start().await;
    let arn = format!("{SECRET_ARN}missing");
    let words: Vec<_> = SET.iter().map(|word| if *word == "hot-wallet" { &arn } else { *word }).collect();
    let said = set(&cloud, &words).await;
    assert!(said.error().contains("there is no such secret, and a new one cannot have a given ARN"), "{said:?}");
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
    assert!(said.error().contains("no region, expected --region"), "{said:?}");
}

#[tokio::test]
async fn a_secret_that_holds_no_ciphertext_is_not_shown() {
    let cloud = Cloud::start().await;
    cloud.store("plain", &format!("0x{KEY}!"));
    let get = ["get-key", "--secret-id", "plain", "--region", "eu-central-1"];
    let said = Host::new().wallet(&line(&get, &secrets_flags(&cloud))).await;
    assert!(said.error().contains("read secret \"plain\": its SecretString is not base64"), "{said:?}");
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
