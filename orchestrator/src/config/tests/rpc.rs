//! `[[signer.keys]]` and `[signer.upstream]`, beside the other tables.

use super::{SAMPLE, SIGNER, parse, reach, sample};

fn error(text: &str) -> String {
    format!("{:#}", parse(text).unwrap_err())
}

#[test]
fn the_samples_are_read_and_an_upstream_needs_no_line_of_egress() {
    let tables = [sample("[[signer.keys]]"), sample("[signer.upstream.1]")].join("\n");
    let config = parse(&format!("{SAMPLE}\n{SIGNER}\n{tables}")).unwrap();
    let signing = config.signing.as_ref().unwrap();
    assert_eq!(signing.service.keys[0].name, "secret prod/hot-wallet");
    assert_eq!(
        signing.servers(),
        "  signer asks https://node.example:443 about chain 1, known by a certificate of a public authority; methods for clients: 14\n"
    );
    assert!(reach(&config, "signer").contains(" 169.254.169.254:80 node.example:443 127.0.53.2:53/udp "));
    assert!(!reach(&config, "probe").contains("node.example"));
}

#[test]
fn a_key_s_secret_that_the_signer_cannot_reach_is_refused() {
    let elsewhere = "arn:aws:secretsmanager:us-east-1:111122223333:secret:x-AbCdEf";
    let key = sample("[[signer.keys]]").replace("prod/hot-wallet", elsewhere);
    let error = error(&format!("{SAMPLE}\n{SIGNER}\n{key}"));
    assert!(error.starts_with(&format!("signer.keys: secret_id: `{elsewhere}`")), "{error}");
}
