use ethereum::transaction::Kind;

use super::*;

const KEY: Address = Address([1; 20]);
const TO: Address = Address([7; 20]);
const GOOD: &str = r#"
chain_ids = [1, 11155111]
recipients = ["0x0707070707070707070707070707070707070707"]
max_value = "1.5 ether"
max_fee_per_gas = "200 gwei"
max_gas = 500000
contract_creation = false
data_selectors = ["0xa9059cbb"]
nonce_reuse = false
"#;

fn policy(text: &str) -> anyhow::Result<Policy> {
    toml::from_str::<PolicyTable>(text)?.check("signer.policy")
}

fn transaction() -> Transaction {
    Transaction {
        chain_id: 1,
        nonce: 0,
        gas: 500_000,
        to: Some(TO),
        value: Wei(1_500_000_000_000_000_000),
        data: vec![0xa9, 0x05, 0x9c, 0xbb, 1],
        kind: Kind::Legacy { gas_price: Wei(200_000_000_000) },
    }
}

/// The rule that refuses, if any does.
fn broken(policy: &Policy, key: Address, transaction: &Transaction) -> Option<Rule> {
    policy.rules(key).check(&Signable::Transaction(transaction.clone())).err().map(|refusal| refusal.rule)
}

fn broken_by(change: impl FnOnce(&mut Transaction)) -> Option<Rule> {
    let mut transaction = transaction();
    change(&mut transaction);
    broken(&policy(GOOD).unwrap(), KEY, &transaction)
}

/// The error of the good table with `from` replaced.
fn refused(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from} is not in the table");
    let error = policy(&GOOD.replacen(from, to, 1)).expect_err("accepted");
    format!("{error:#}")
}

#[test]
fn what_every_rule_just_allows_is_allowed() {
    assert_eq!(broken_by(|_| ()), None);
    assert_eq!(broken_by(|transaction| transaction.chain_id = 11_155_111), None);
    assert_eq!(broken_by(|transaction| transaction.data.clear()), None);
}

#[test]
fn a_chain_that_is_not_listed_is_refused() {
    assert_eq!(broken_by(|transaction| transaction.chain_id = 2), Some(Rule::ChainIds));
}

#[test]
fn a_recipient_that_is_not_listed_is_refused() {
    assert_eq!(broken_by(|transaction| transaction.to = Some(KEY)), Some(Rule::Recipients));
}

#[test]
fn a_wei_too_much_is_refused() {
    assert_eq!(broken_by(|transaction| transaction.value.0 += 1), Some(Rule::MaxValue));
}

#[test]
fn a_fee_above_the_limit_is_refused_for_each_type() {
    let fee = Wei(200_000_000_001);
    for kind in [
        Kind::Legacy { gas_price: fee },
        Kind::AccessList { gas_price: fee, access_list: Vec::new() },
        Kind::DynamicFee { max_fee_per_gas: fee, max_priority_fee_per_gas: Wei(0), access_list: Vec::new() },
    ] {
        assert_eq!(broken_by(|transaction| transaction.kind = kind), Some(Rule::MaxFeePerGas));
    }
}

#[test]
fn gas_above_the_limit_is_refused() {
    assert_eq!(broken_by(|transaction| transaction.gas += 1), Some(Rule::MaxGas));
}

#[test]
fn a_contract_is_created_only_if_the_policy_says_so() {
    assert_eq!(broken_by(|transaction| transaction.to = None), Some(Rule::ContractCreation));
    let creating = policy(&GOOD.replace("contract_creation = false", "contract_creation = true")).unwrap();
    assert_eq!(broken(&creating, KEY, &Transaction { to: None, ..transaction() }), None);
}

#[test]
fn a_selector_that_is_not_listed_and_data_without_one_are_refused() {
    assert_eq!(broken_by(|transaction| transaction.data = vec![0xa9, 0x05, 0x9c, 0xbc]), Some(Rule::DataSelectors));
    assert_eq!(broken_by(|transaction| transaction.data = vec![0xa9, 0x05, 0x9c]), Some(Rule::DataSelectors));
}

#[test]
fn any_recipient_and_any_data_have_to_be_written_out() {
    let any = GOOD
        .replace("[\"0x0707070707070707070707070707070707070707\"]", "\"any\"")
        .replace("[\"0xa9059cbb\"]", "\"any\"");
    let policy = policy(&any).unwrap();
    assert_eq!(broken(&policy, KEY, &Transaction { to: Some(KEY), data: vec![1], ..transaction() }), None);
    assert!(
        refused("recipients = [\"0x0707070707070707070707070707070707070707\"]", "").contains("recipients: missing")
    );
}

#[test]
fn an_empty_list_of_recipients_allows_none() {
    let text = GOOD.replace("\"0x0707070707070707070707070707070707070707\"", "");
    assert_eq!(broken(&policy(&text).unwrap(), KEY, &transaction()), Some(Rule::Recipients));
}

#[test]
fn a_key_has_its_own_rules_and_the_rest_from_above() {
    let text = format!(
        "{GOOD}[keys.0x0101010101010101010101010101010101010101]\nmax_value = \"20 ether\"\nnonce_reuse = true\n"
    );
    let policy = policy(&text).unwrap();
    let large = Transaction { value: Wei(20_000_000_000_000_000_000), ..transaction() };
    assert_eq!(broken(&policy, KEY, &large), None);
    assert_eq!(broken(&policy, TO, &large), Some(Rule::MaxValue));
    assert_eq!(broken(&policy, KEY, &Transaction { chain_id: 2, ..large }), Some(Rule::ChainIds));
    assert!(policy.rules(KEY).allows_nonce_reuse() && !policy.rules(TO).allows_nonce_reuse());
}

#[test]
fn a_refusal_names_its_rule() {
    let subject = Signable::Transaction(Transaction { gas: 600_000, ..transaction() });
    let refusal = policy(GOOD).unwrap().rules(KEY).check(&subject).unwrap_err();
    assert_eq!(refusal.to_string(), "policy rule max_gas: 600000, at most 500000");
}

#[test]
fn fees_are_bumped_only_for_the_keys_that_the_policy_says() {
    let has = |text: &str, key: Address| policy(text).unwrap().rules(key).allows_fee_bump();
    let of_key = "[keys.0x0101010101010101010101010101010101010101]\n";
    assert!(!has(GOOD, KEY));
    let on = format!("{GOOD}fee_bump = true\n");
    assert!(has(&on, KEY) && has(&format!("{on}{of_key}"), KEY));
    let off_for_key = format!("{on}{of_key}fee_bump = false\n");
    assert!(!has(&off_for_key, KEY) && has(&off_for_key, TO));
    let on_for_key = format!("{GOOD}{of_key}fee_bump = true\n");
    assert!(has(&on_for_key, KEY) && !has(&on_for_key, TO));
}

#[test]
fn a_chain_has_gas_rules_of_its_own_where_the_policy_says_so() {
    let chains = |text: &str| policy(&format!("{text}{GOOD}"));
    assert!(chains("").unwrap().has_ethereums_gas_rules(1));
    let own = chains("own_gas_rules = [42161]").unwrap();
    assert!(own.has_ethereums_gas_rules(1) && !own.has_ethereums_gas_rules(42161));
    for (list, problem) in
        [("[]", "an empty list allows no"), ("[0]", "0 is not a chain id"), ("[7, 7]", "an entry is written")]
    {
        let error = format!("{:#}", chains(&format!("own_gas_rules = {list}")).unwrap_err());
        assert!(error.starts_with(&format!("signer.policy.own_gas_rules: {problem}")), "{error}");
    }
}

#[test]
fn every_rule_has_to_be_written() {
    let optional = Rule::ALL.into_iter().skip_while(|rule| *rule != Rule::FeeBump).collect::<Vec<_>>();
    for rule in Rule::ALL.into_iter().filter(|rule| !optional.contains(rule)) {
        let line = GOOD.lines().find(|line| line.starts_with(&format!("{rule} = "))).unwrap();
        let error = refused(line, "");
        assert!(error.starts_with(&format!("signer.policy.{rule}: missing, expected ")), "{error}");
    }
}

#[test]
fn a_wrong_value_is_named_with_its_key_and_what_is_expected() {
    for (from, to, start) in [
        ("chain_ids = [1, 11155111]", "chain_ids = []", "signer.policy.chain_ids: "),
        (
            "chain_ids = [1, 11155111]",
            "chain_ids = [0]",
            "signer.policy.chain_ids: 0 is not a chain id, expected 1 to ",
        ),
        (
            "chain_ids = [1, 11155111]",
            "chain_ids = [1, 1]",
            "signer.policy.chain_ids: an entry is written twice, expected",
        ),
        ("0x07", "0x", "signer.policy.recipients: `0x07"),
        ("1.5 ether", "1.5", "signer.policy.max_value: `1.5`: expected a number and its unit"),
        ("200 gwei", "-1 gwei", "signer.policy.max_fee_per_gas: `-1 gwei`: negative, expected"),
        ("200 gwei", "0.1 wei", "signer.policy.max_fee_per_gas: `0.1 wei`: finer than a wei, expected"),
        ("500000", "20999", "signer.policy.max_gas: 20999 allows no transaction, expected at least 21000"),
        ("0xa9059cbb", "0xa9059c", "signer.policy.data_selectors: `0xa9059c`: expected 0x and 8 hex digits"),
        ("0xa9059cbb", "a9059cbb", "signer.policy.data_selectors: `a9059cbb`: expected"),
    ] {
        let error = refused(from, to);
        assert!(error.starts_with(start), "{error}");
    }
    assert!(refused("[\"0xa9059cbb\"]", "\"all\"").contains("expected \"any\" or a list of strings"));
    assert!(refused("max_gas", "max_gass").contains("unknown field `max_gass`"));
}

#[test]
fn the_rules_of_a_key_are_checked_as_the_others() {
    let key = |table: &str| format!("{:#}", policy(&format!("{GOOD}{table}")).expect_err("accepted"));
    let address = "0x0101010101010101010101010101010101010101";
    assert!(key("[keys.0x01]\n").starts_with("signer.policy.keys.0x01: expected 0x and 40 hex digits"));
    let error = key(&format!("[keys.{address}]\nmax_gas = 1\n"));
    assert!(error.starts_with(&format!("signer.policy.keys.{address}.max_gas: 1 allows no transaction")), "{error}");
    let error = key(&format!("[keys.{address}.keys.{address}]\n"));
    assert!(error.starts_with(&format!("signer.policy.keys.{address}.keys: ")), "{error}");
    let error = key(&format!("[keys.{address}]\nown_gas_rules = [1]\n"));
    assert!(error.starts_with(&format!("signer.policy.keys.{address}.own_gas_rules: a key has no chains")), "{error}");
    let twice =
        "[keys.0xabcdefabcdefabcdefabcdefabcdefabcdefabcd]\n[keys.0xABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCD]\n";
    let error = key(twice);
    assert!(error.ends_with(": written twice, expected once"), "{error}");
}

#[test]
fn more_gas_than_a_transaction_may_have_is_warned_of() {
    let warnings = |from: &str, to: &str, more: &str| {
        assert!(GOOD.contains(from), "{from} is not in the table");
        policy(&format!("{}{more}", GOOD.replacen(from, to, 1))).unwrap().warnings()
    };
    let more = "max_gas = 16777217";
    assert_eq!(warnings("max_gas = 500000", "max_gas = 16777216", ""), Vec::<String>::new());
    let [warning] = &warnings("max_gas = 500000", more, "")[..] else { panic!("expected one") };
    assert_eq!(
        warning,
        "signer.policy.max_gas: 16777217 is more than a transaction may have on chain 1 and 11155111 (EIP-7825); expected at most \
         16777216, or the chain in signer.policy.own_gas_rules"
    );
    let [warning] = &warnings("max_gas = 500000", &format!("{more}\nown_gas_rules = [1]"), "")[..] else { panic!() };
    assert!(warning.contains("on chain 11155111 (EIP-7825)"), "{warning}");
    assert_eq!(
        warnings("max_gas = 500000", &format!("{more}\nown_gas_rules = [1, 11155111]"), ""),
        Vec::<String>::new()
    );
    let key = "[keys.0x0101010101010101010101010101010101010101]\n";
    let [warning] = &warnings("", "", &format!("{key}{more}"))[..] else { panic!("expected one") };
    assert!(
        warning.starts_with("signer.policy.keys.0x0101010101010101010101010101010101010101.max_gas: "),
        "{warning}"
    );
    assert_eq!(
        warnings("max_gas = 500000", more, &format!("{key}max_value = \"1 ether\"")).len(),
        1,
        "not again for a key"
    );
}
