//! `[signer.ledger]`, beside the other tables.

use super::{SAMPLE, SIGNER, parse, reach, sample};

fn error(text: &str) -> String {
    format!("{:#}", parse(text).unwrap_err())
}

#[test]
fn the_sample_is_read_and_binds_the_keys_to_the_ledger() {
    let config = parse(&format!("{SAMPLE}\n{SIGNER}\n{}", sample("[signer.ledger]"))).unwrap();
    let signing = config.signing.as_ref().unwrap();
    let bound = signing.kms.encryption_context.get("ledger").map(String::as_str);
    assert_eq!(bound, Some("111122223333/example-ledger"));
    assert_eq!(
        signing.ledger(),
        "  signer keeps its ledger in the bucket example-ledger of account 111122223333, for 3660 days; all versions are listed\n"
    );
    assert_eq!(signing.nonce_memory(), "nonces: in the ledger");
    assert!(
        reach(&config, "signer").contains(" example-ledger.s3.eu-central-1.amazonaws.com:443 "),
        "{}",
        reach(&config, "signer")
    );
    let without = parse(&format!("{SAMPLE}\n{SIGNER}")).unwrap();
    assert!(!without.signing.unwrap().kms.encryption_context.contains_key("ledger"));
}

#[test]
fn the_ledger_s_entry_of_the_context_and_its_endpoint_are_checked() {
    let context = SIGNER.replacen("purpose = \"ethereum-signer\"", "ledger = \"111122223333/example-ledger\"", 1);
    assert!(context != SIGNER);
    let found = error(&format!("{SAMPLE}\n{context}"));
    assert!(found.starts_with("kms.encryption_context: has an entry `ledger`"), "{found}");
    let ledger = format!("{}endpoint = \"http://s3.example\"\n", sample("[signer.ledger]"));
    let found = error(&format!("{SAMPLE}\n{SIGNER}\n{ledger}"));
    assert!(found.starts_with("signer.ledger.endpoint: `http://s3.example` is not a server"), "{found}");
}
