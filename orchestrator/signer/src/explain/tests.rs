use super::*;
use crate::config::SignerTable;

const KEY: &str = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23";
const USDC: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";
const REST: &str = r#"
[policy]
chain_ids = [1]
recipients = ["0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"]
max_value = "1 ether"
max_fee_per_gas = "200 gwei"
max_gas = 500000
contract_creation = false
data_selectors = []
nonce_reuse = false
[policy.calls.0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48]
"transfer(address to, uint256 amount)" = { to = "any", amount = { max = "1000", decimals = 6 } }
[[policy.windows]]
period = "24h"
max_value = "0.5 ether"
[policy.keys.0x2c7536E3605D9C16a7a3D7b1898e529396a65c23]
max_value = "20 ether"
"#;

fn config(head: &str) -> Config {
    let text = format!("port = 443\nkey_cache_time = \"10m\"\n{head}{REST}");
    toml::from_str::<SignerTable>(&text).unwrap().check().unwrap()
}

fn with_clients() -> Config {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    config(&format!(
        "client_ca = \"\"\"\n{pem}\"\"\"\n[[clients]]\nname = \"pay.example\"\nsecret_ids = [\"prod/wallet\"]\n[clients.policy]\n\
         max_value = \"0.1 ether\"\n[[clients.policy.windows]]\nperiod = \"1h\"\nmax_count = 5\n[[clients]]\nname = \"metrics.example\"\n"
    ))
}

fn body(value: &str, more: &str) -> String {
    format!(
        r#"{{"transaction_payload": {{"value": {value}, "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "nonce": 3, "type": 2,
        "chainId": 1, "gas": 100000, "maxFeePerGas": 100000000000, "maxPriorityFeePerGas": 3000000000{more}}}, "secret_id": "prod/wallet"}}"#
    )
}

fn asked(key: Option<&str>, client: Option<&str>) -> Asked {
    Asked { key: key.map(|key| key.parse().unwrap()), client: client.map(str::to_owned) }
}

fn refused(config: &Config, body: &str, asked: &Asked) -> String {
    let explanation = explain(config, body.as_bytes(), asked).unwrap();
    assert!(!explanation.would_be_signed);
    explanation.refusal.unwrap()
}

#[test]
fn each_rule_is_shown_with_what_it_allows() {
    let explanation = explain(&config("open = true\n"), body("0.25", "").as_bytes(), &Asked::default()).unwrap();
    assert!(explanation.would_be_signed);
    let expected = "\
transaction of type 2 on chain 1, nonce 3: 0.25 ether to 0xa5D3241A1591061F2a4bB69CA0215F66520E67cf; 100000 gas at up to 100 gwei

request
  accepted by nodes  passes   gas, data and fees

signer.policy
  chain_ids          passes   1
  recipients         passes   0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48, 0xa5D3241A1591061F2a4bB69CA0215F66520E67cf
  max_value          passes   at most 1 ether
  max_fee_per_gas    passes   at most 200 gwei
  max_gas            passes   at most 500000
  contract_creation  passes   false
  data_selectors     passes   none
  calls              passes   the rules for arguments
  windows            passes   0.25 ether of 0.5 ether in 1day, if nothing else is signed

note: keys with rules of their own are not judged: name one with --key
note: the signer also refuses a nonce that it has signed something else for since it started
would be signed
";
    assert_eq!(explanation.to_string(), expected);
}

#[test]
fn with_a_ledger_its_name_stands_beside_what_all_enclaves_count() {
    let text = format!(
        "port = 443\nkey_cache_time = \"10m\"\nopen = true\n{REST}[ledger]\nbucket = \"example-ledger\"\nowner = \"111122223333\"\nretention_years = 10\n"
    );
    let config = toml::from_str::<SignerTable>(&text).unwrap().check().unwrap();
    let explanation = explain(&config, body("0.25", "").as_bytes(), &asked(Some(KEY), None)).unwrap();
    let expected = [
        "the signer also refuses a nonce that an enclave of the ledger has signed something else for",
        "nonces and windows are counted in the ledger 111122223333/example-ledger, by all enclaves",
    ];
    assert_eq!(explanation.notes, expected);
}

#[test]
fn what_refuses_is_the_first_that_the_signer_asks_and_the_others_are_shown_too() {
    let config = config("open = true\n");
    let both = body("2", "").replace("\"chainId\": 1", "\"chainId\": 5");
    let explanation = explain(&config, both.as_bytes(), &Asked::default()).unwrap();
    assert_eq!(explanation.refusal.as_deref(), Some("policy rule chain_ids: chain 5 is not among them"));
    let refusing: Vec<_> = explanation.rules.iter().filter(|step| !step.passes).map(|step| step.rule).collect();
    assert_eq!(refusing, ["chain_ids", "max_value", "windows"]);
    let text = explanation.to_string();
    assert!(
        text.contains("  max_value          REFUSES  2000000000000000000 wei, at most 1000000000000000000 wei\n"),
        "{text}"
    );
    assert!(text.ends_with("refused: policy rule chain_ids: chain 5 is not among them\n"), "{text}");
    let low = body("2", "").replace("100000,", "20000,");
    assert!(refused(&config, &low, &Asked::default()).starts_with("transaction_payload.gas: 20000"));
}

#[test]
fn a_key_has_its_own_rules_and_a_windows_whole_limit_may_be_too_little() {
    let config = config("open = true\n");
    let key = asked(Some(KEY), None);
    let explanation = explain(&config, body("2", "").as_bytes(), &key).unwrap();
    assert!(
        explanation
            .rules
            .iter()
            .any(|step| step.of == format!("signer.policy.keys.{KEY}") && step.text == "at most 20 ether")
    );
    let refusal = explanation.refusal.unwrap();
    assert!(
        refusal.starts_with("policy rule windows: 2 ether more on chain 1 would be 2 ether in 1day, at most 0.5 ether"),
        "{refusal}"
    );
}

#[test]
fn a_client_has_permissions_rules_and_windows() {
    let config = with_clients();
    let client = |name| asked(Some(KEY), Some(name));
    let explanation = explain(&config, body("0.05", "").as_bytes(), &client("pay.example")).unwrap();
    assert!(explanation.would_be_signed, "{explanation}");
    let of: Vec<_> = explanation.rules.iter().map(|step| (step.of.as_str(), step.rule)).collect();
    for step in [
        ("pay.example", "may use the key"),
        ("policy of pay.example", "max_value"),
        ("policy of pay.example", "windows"),
    ] {
        assert!(of.contains(&step), "{step:?} is not in {of:?}");
    }
    let refusal = refused(&config, &body("0.2", ""), &client("pay.example"));
    assert!(refusal.starts_with("policy rule max_value of client pay.example: "), "{refusal}");
    assert_eq!(
        refused(&config, &body("0.05", ""), &client("metrics.example")),
        "metrics.example may not sign with any key"
    );
    let other = body("0.05", "").replace("prod/wallet", "prod/other");
    assert_eq!(refused(&config, &other, &client("pay.example")), "pay.example may not use this key");
    let error =
        |config: &Config, name| format!("{:#}", explain(config, body("0", "").as_bytes(), &client(name)).unwrap_err());
    assert_eq!(error(&config, "x"), "client `x` is not configured, expected one of metrics.example, pay.example");
    let open = self::config("open = true\n");
    assert_eq!(error(&open, "x"), "client `x` is not configured: signer.open lets everyone in, expected no client");
}

#[test]
fn calls_are_judged_by_their_arguments() {
    let config = config("open = true\n");
    let call = |amount: u64, selector: &str| {
        let data = format!(", \"data\": \"0x{selector}{:064x}{amount:064x}\"", 7);
        body("0", &data).replace("0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", USDC)
    };
    assert!(explain(&config, call(1_000_000_000, "a9059cbb").as_bytes(), &Asked::default()).unwrap().would_be_signed);
    let refusal = refused(&config, &call(2_000_000_000, "a9059cbb"), &Asked::default());
    assert_eq!(refusal, format!("policy rule calls: transfer(address,uint256) of {USDC}: amount: 2000, at most 1000"));
    let explanation = explain(&config, call(1, "095ea7b3").as_bytes(), &Asked::default()).unwrap();
    let refusing: Vec<_> = explanation.rules.iter().filter(|step| !step.passes).map(|step| step.rule).collect();
    assert_eq!(refusing, ["calls"]);
    let elsewhere = call(1, "095ea7b3").replace(USDC, "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf");
    assert_eq!(
        refused(&config, &elsewhere, &Asked::default()),
        "policy rule data_selectors: 0x095ea7b3 is not among them"
    );
}

#[test]
fn a_body_that_is_no_request_is_an_error_with_its_field() {
    let error = |body: &str| {
        format!("{:#}", explain(&config("open = true\n"), body.as_bytes(), &Asked::default()).unwrap_err())
    };
    assert!(error("{}").starts_with("the request: transaction_payload: missing"), "{}", error("{}"));
    assert!(error(&body("0", ", \"x\": 1")).starts_with("the request: transaction_payload.x: "));
}

fn call(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc": "2.0", "id": 1, "method": "{method}", "params": {params}}}"#)
}

/// Of that many wei, from the key with rules of its own.
fn transaction(value: u128) -> String {
    format!(
        r#"[{{"from": "{KEY}", "to": "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf", "nonce": "0x3", "value": "{value:#x}", "gas": "0x186a0",
        "maxFeePerGas": "0x174876e800", "maxPriorityFeePerGas": "0xb2d05e00"}}]"#
    )
}

#[test]
fn a_call_of_json_rpc_names_its_account_and_is_of_the_only_chain() {
    let config = config("open = true\n");
    for method in ["eth_signTransaction", "eth_sendTransaction", "account_signTransaction"] {
        let body = call(method, &transaction(400_000_000_000_000_000));
        let explanation = explain(&config, body.as_bytes(), &Asked::default()).unwrap();
        assert!(explanation.would_be_signed, "{explanation}");
        assert!(
            explanation.request.starts_with("transaction of type 2 on chain 1, nonce 3: 0.4 ether"),
            "{explanation}"
        );
        assert!(explanation.rules.iter().any(|step| step.of == format!("signer.policy.keys.{KEY}")), "{explanation}");
        assert!(explanation.notes[0].contains("see eth_accounts"), "{explanation}");
    }
    let refusal =
        refused(&config, &call("eth_signTransaction", &transaction(600_000_000_000_000_000)), &Asked::default());
    assert!(refusal.starts_with("policy rule windows: 0.6 ether more"), "{refusal}");
    let message = call("personal_sign", &format!(r#"["hi", "{KEY}"]"#));
    assert_eq!(refused(&config, &message, &Asked::default()), "policy rule personal_sign: no messages are signed");
    let client = asked(None, Some("pay.example"));
    let refusal =
        refused(&with_clients(), &call("eth_signTransaction", &transaction(200_000_000_000_000_000)), &client);
    assert!(refusal.starts_with("policy rule max_value of client pay.example: "), "{refusal}");
}

#[test]
fn a_call_that_signs_nothing_is_an_error() {
    let error = |body: &str, asked: &Asked| {
        format!("{:#}", explain(&config("open = true\n"), body.as_bytes(), asked).unwrap_err())
    };
    let signing = call("eth_signTransaction", &transaction(0));
    for (body, expected) in [
        (call("eth_accounts", "[]"), "the request, eth_accounts: it signs nothing, expected a method that does"),
        (format!("[{signing}]"), "the request: a batch of 1, expected one call"),
        (signing.replace("2.0", "1.0"), "the request: jsonrpc: "),
        (signing.replace("\"nonce\"", "\"nonse\""), "the request, eth_signTransaction: params[0].nonse: unknown field"),
        (call("personal_sign", "[]"), "the request, personal_sign: params[0]: missing"),
    ] {
        let error = error(&body, &Asked::default());
        assert!(error.starts_with(expected), "{error}");
    }
    let other = asked(Some(USDC), None);
    assert_eq!(
        error(&signing, &other),
        format!("--key {USDC}: the request is from {KEY}, expected that account or no --key")
    );
}

#[test]
fn the_explanation_is_json_for_programs() {
    let explanation = explain(&config("open = true\n"), body("2", "").as_bytes(), &Asked::default()).unwrap();
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["would_be_signed"], false);
    assert_eq!(json["refusal"], "policy rule max_value: 2000000000000000000 wei, at most 1000000000000000000 wei");
    let step = &json["rules"][3];
    assert_eq!(
        (step["of"].as_str(), step["rule"].as_str(), step["passes"].as_bool()),
        (Some("signer.policy"), Some("max_value"), Some(false))
    );
}
