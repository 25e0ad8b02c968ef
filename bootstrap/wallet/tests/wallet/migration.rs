//! `docs/migration.md`: its commands, as far as they are the wallet's and need no AWS of Amazon's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::cloud::{ACCESS_KEY_ID, Cloud, KEY_ARN, SECRET_ACCESS_KEY, ciphertext};
use crate::command::{Host, Said, aws_flags, line};
use crate::{ADDRESS, KEY};

/// The command line in the page that starts with `wallet VERB` and ends with `last`.
fn documented(verb: &str, last: &str) -> Vec<&'static str> {
    let page = include_str!("../../../../docs/migration.md");
    let commands = page.lines().map(|line| line.trim_start_matches(['$', ' ']));
    let found = commands
        .filter_map(|line| line.strip_prefix("wallet "))
        .find(|line| line.starts_with(verb) && line.ends_with(last));
    let words = found.unwrap_or_else(|| panic!("no `wallet {verb} ... {last}` in the page")).split(' ');
    words.map(|word| if word == "KEY_ARN" { KEY_ARN } else { word }).collect()
}

async fn run(cloud: &Cloud, words: &[&str], input: &str) -> Said {
    let host = Host::new();
    host.write("ethereum.key", input);
    let variables = [("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)];
    let said = host.wallet_with(&line(words, &aws_flags(cloud)), input, &variables).await;
    assert!(!said.out.contains(&KEY[..16]) && !said.err.contains(&KEY[..16]), "{said:?}");
    said
}

async fn is_stored(words: &[&str], input: &str) {
    let cloud = Cloud::start().await;
    let said = run(&cloud, words, input).await;
    assert!(said.is_success && said.out.contains(ADDRESS), "{input}: {said:?}");
    let stored = ciphertext(KEY_ARN, &json!({ "purpose": "ethereum-signer" }), &format!("0x{KEY}"));
    assert_eq!(cloud.versions("prod/hot-wallet"), [stored], "{input}");
}

#[tokio::test]
async fn a_key_that_somebody_still_has_is_stored_with_its_context() {
    let words = documented("set-key", " ethereum.key");
    for text in [KEY.to_owned(), format!("0x{KEY}\n"), format!("{KEY}\r\n")] {
        is_stored(&words, &text).await;
    }
}

#[tokio::test]
async fn what_aws_kms_decrypt_prints_is_stored_as_it_is() {
    let words = documented("set-key", " -");
    for plaintext in [KEY.to_owned(), format!("0x{KEY}"), format!("{KEY}\n")] {
        is_stored(&words, &format!("{}\n", STANDARD.encode(plaintext))).await;
    }
}

#[tokio::test]
async fn a_plaintext_that_is_no_key_is_refused_and_not_shown() {
    let words = documented("set-key", " -");
    let short = STANDARD.encode(&KEY[2..]);
    let raw = STANDARD.encode([0x4c; 32]);
    let nested = STANDARD.encode(STANDARD.encode(KEY));
    for text in [&short, &raw, &nested, &STANDARD.encode("not a key at all"), "None", "null"] {
        let cloud = Cloud::start().await;
        let said = run(&cloud, &words, text).await;
        assert!(said.error().contains("not a secret key, expected 64 hex digits"), "{text}: {said:?}");
        assert!(!said.err.contains(&text[..4]), "{said:?}");
        assert!(cloud.bodies().is_empty(), "AWS was asked");
    }
}
