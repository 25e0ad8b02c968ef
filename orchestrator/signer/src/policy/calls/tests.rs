//! Rules for arguments, over a whole policy.

use ethereum::abi::{Function, Value};
use ethereum::amount::Wei;
use ethereum::number::Uint;
use ethereum::signable::Signable;
use ethereum::transaction::{Kind, Transaction};

use super::super::{Policy, PolicyTable, Refusal, Rule};
use super::*;

const USDC: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";
const OTHER: &str = "0xdAC17F958D2ee523a2206206994597C13D831ec7";
const TO: Address = Address([7; 20]);
const TRANSFER: &str = "transfer(address to, uint256 amount)";

fn policy(calls: &str) -> Result<Policy> {
    let text = format!(
        "chain_ids = [1]\nrecipients = \"any\"\nmax_value = \"1 ether\"\nmax_fee_per_gas = \"1 gwei\"\nmax_gas = 500000\n\
         contract_creation = false\ndata_selectors = [\"0x095ea7b3\"]\nnonce_reuse = false\n{calls}"
    );
    toml::from_str::<PolicyTable>(&text)?.check("signer.policy")
}

fn usdc(rule: &str) -> String {
    format!("[calls.{USDC}]\n\"{TRANSFER}\" = {rule}\n")
}

/// The error of a table of calls.
fn refused(calls: &str) -> String {
    format!("{:#}", policy(calls).expect_err(calls))
}

/// The error of the rules of one function.
fn rule_refused(function: &str, rule: &str) -> String {
    let error = refused(&format!("[calls]\n\"{function}\" = {rule}\n"));
    let path = format!("signer.policy.calls.\"{function}\"");
    error.strip_prefix(&path).unwrap_or_else(|| panic!("{error} does not start with {path}")).to_owned()
}

fn word(number: u128) -> Vec<u8> {
    [[0; 16], number.to_be_bytes()].concat()
}

fn address(of: Address) -> Vec<u8> {
    [&[0; 12][..], &of.0].concat()
}

fn data(function: &str, words: &[Vec<u8>]) -> Vec<u8> {
    [&function.parse::<Function>().unwrap().selector[..], &words.concat()].concat()
}

fn transfer(amount: u128) -> Vec<u8> {
    data(TRANSFER, &[address(TO), word(amount)])
}

fn call(to: &str, data: Vec<u8>) -> Signable {
    let kind = Kind::Legacy { gas_price: Wei(1) };
    let to = Some(to.parse().unwrap());
    Signable::Transaction(Transaction { chain_id: 1, nonce: 0, gas: 100_000, to, value: Wei(0), data, kind })
}

fn judge(policy: &Policy, to: &str, data: Vec<u8>) -> Result<(), Refusal> {
    policy.rules(Address([1; 20])).check(&call(to, data))
}

fn problem(policy: &Policy, to: &str, data: Vec<u8>) -> String {
    let refusal = judge(policy, to, data).expect_err("allowed");
    assert_eq!(refusal.rule, Rule::Calls);
    refusal.problem
}

#[test]
fn a_transfer_is_judged_by_its_recipient_and_its_amount() {
    let rule = format!("{{ to = [\"{TO}\"], amount = {{ max = \"1000\", decimals = 6 }} }}");
    let policy = policy(&usdc(&rule)).unwrap();
    assert_eq!(judge(&policy, USDC, transfer(1_000_000_000)), Ok(()));
    assert_eq!(
        problem(&policy, USDC, transfer(1_000_000_001)),
        format!("transfer(address,uint256) of {USDC}: amount: 1000.000001, at most 1000")
    );
    let other = data(TRANSFER, &[address(Address([8; 20])), word(1)]);
    assert_eq!(
        problem(&policy, USDC, other),
        format!("transfer(address,uint256) of {USDC}: to: {}, expected {TO}", Address([8; 20]))
    );
    let refusal = judge(&policy, USDC, transfer(u128::MAX)).unwrap_err();
    assert!(refusal.to_string().starts_with("policy rule calls: transfer(address,uint256) of 0xA0b8"), "{refusal}");
}

#[test]
fn a_contract_with_functions_gets_no_other_call_and_others_go_on() {
    let policy = policy(&usdc("{ to = \"any\", amount = \"any\" }")).unwrap();
    // approve is a selector that other contracts may get.
    let approve = data("approve(address spender, uint256 amount)", &[address(TO), word(1)]);
    assert_eq!(judge(&policy, OTHER, approve.clone()), Ok(()));
    assert_eq!(
        problem(&policy, USDC, approve),
        format!("0x095ea7b3 is no call that {USDC} may get, expected transfer(address,uint256)")
    );
    assert!(problem(&policy, USDC, vec![0xa9, 0x05]).starts_with("0xa905 is no call that"));
    assert_eq!(judge(&policy, OTHER, transfer(1)).unwrap_err().rule, Rule::DataSelectors);
    assert_eq!(judge(&policy, USDC, Vec::new()), Ok(()), "a call without data is a payment of ether");
}

#[test]
fn rules_without_a_contract_are_for_all_that_have_none() {
    let general = format!("[calls]\n\"{TRANSFER}\" = {{ to = \"any\", amount = {{ max = 5 }} }}\n\"pause()\" = {{}}\n");
    let both = policy(&format!("{general}{}", usdc("{ to = \"any\", amount = { max = 9 } }"))).unwrap();
    assert_eq!(judge(&both, OTHER, transfer(5)), Ok(()));
    assert!(problem(&both, OTHER, transfer(6)).ends_with("amount: 6, at most 5"));
    assert_eq!(judge(&both, USDC, transfer(9)), Ok(()));
    assert!(problem(&both, USDC, transfer(10)).ends_with("amount: 10, at most 9"));
    assert_eq!(judge(&both, OTHER, data("pause()", &[])), Ok(()));
    assert!(problem(&both, USDC, data("pause()", &[])).contains("is no call that"));
}

#[test]
fn data_that_is_not_its_arguments_encoding_is_refused_even_where_any_argument_is_allowed() {
    let policy = policy(&usdc("{ to = \"any\", amount = \"any\" }")).unwrap();
    let good = transfer(5);
    let mut dirty = good.clone();
    dirty[4] = 1;
    for data in [good[..67].to_vec(), [&good[..], &[0; 32]].concat(), dirty] {
        let problem = problem(&policy, USDC, data);
        assert!(problem.contains("the data cannot be judged: "), "{problem}");
    }
}

#[test]
fn a_key_has_calls_of_its_own_and_otherwise_those_of_all() {
    let key = "[keys.0x0101010101010101010101010101010101010101]\n";
    let base = usdc("{ to = \"any\", amount = { max = 5 } }");
    let inherits = policy(&format!("{base}{key}max_gas = 400000\n")).unwrap();
    assert!(problem(&inherits, USDC, transfer(6)).ends_with("at most 5"));
    let own =
        policy(&format!("{base}{key}[keys.0x0101010101010101010101010101010101010101.calls]\n\"pause()\" = {{}}\n"))
            .unwrap();
    assert_eq!(judge(&own, USDC, transfer(1)).unwrap_err().rule, Rule::DataSelectors);
}

#[test]
fn every_type_has_rules() {
    for (ty, rule, good, bad) in [
        ("bool on", "true", word(1), word(0)),
        ("uint8 n", "[1, \"2\"]", word(2), word(3)),
        ("uint8 n", "{ equal = 2 }", word(2), word(3)),
        ("uint256 n", "{ one_of = [\"0.5\", \"1\"], decimals = 1 }", word(5), word(1)),
        ("int8 n", "{ max = -5 }", [vec![0xff; 31], vec![0xfb]].concat(), word(0)),
        ("int8 n", "-1", vec![0xff; 32], word(1)),
        ("bytes2 b", "\"0x0102\"", [vec![1, 2], vec![0; 30]].concat(), word(0)),
        (
            "bytes b",
            "[\"0x\", \"0x05\"]",
            [word(32), word(1), vec![5], vec![0; 31]].concat(),
            [word(32), word(1), vec![6], vec![0; 31]].concat(),
        ),
        ("string s", "\"a\"", [word(32), word(1), vec![b'a'], vec![0; 31]].concat(), [word(32), word(0)].concat()),
        (
            "string s",
            "{ equal = \"any\" }",
            [word(32), word(3), b"any".to_vec(), vec![0; 29]].concat(),
            [word(32), word(0)].concat(),
        ),
        (
            "uint8[] list",
            "{ every = { max = 3 } }",
            [word(32), word(2), word(3), word(0)].concat(),
            [word(32), word(2), word(3), word(4)].concat(),
        ),
        ("uint8[2] list", "{ every = [3] }", [word(3), word(3)].concat(), [word(3), word(4)].concat()),
        (
            "(uint8 a, bool b)[] list",
            "{ every = { a = 1, b = \"any\" } }",
            [word(32), word(1), word(1), word(0)].concat(),
            [word(32), word(1), word(2), word(0)].concat(),
        ),
        (
            "(uint8 max, address to) p",
            "{ max = { max = 3 }, to = \"any\" }",
            [word(3), address(TO)].concat(),
            [word(4), address(TO)].concat(),
        ),
    ] {
        let function = format!("f({ty})");
        let policy =
            policy(&format!("[calls]\n\"{function}\" = {{ {} = {rule} }}\n", ty.split(' ').next_back().unwrap()))
                .unwrap();
        assert_eq!(judge(&policy, USDC, data(&function, &[good])), Ok(()), "{ty}: {rule}");
        let problem = problem(&policy, USDC, data(&function, &[bad]));
        assert!(problem.starts_with("f("), "{problem}");
    }
    let nested = policy(
        "[calls]\n\"f((uint8 a, uint8[] b)[] list)\" = { list = { every = { a = \"any\", b = { every = 1 } } } }\n",
    )
    .unwrap();
    let bad = [word(32), word(1), word(32), word(5), word(64), word(2), word(1), word(9)].concat();
    assert!(
        problem(&nested, USDC, data("f((uint8 a, uint8[] b)[] list)", &[bad])).ends_with("list[0].b[1]: 9, expected 1")
    );
}

#[test]
fn payments_are_amounts_of_the_contract_or_of_a_token_beside_them() {
    let (token, amount) = (Address([3; 20]), |amount: u128| Uint::from(amount));
    let pays = |function: &str, rule: &str, words: &[Vec<u8>]| {
        let policy = policy(&format!("[calls]\n\"{function}\" = {rule}\n")).unwrap();
        policy.rules(TO).payments(&call(USDC, data(function, words)))
    };
    let usdc: Address = USDC.parse().unwrap();
    let is_payment = "{ any = true, is_payment = true }";
    let own = pays(TRANSFER, &format!("{{ to = \"any\", amount = {is_payment} }}"), &[address(TO), word(5)]);
    assert_eq!(own, [Payment { token: usdc, amount: amount(5) }]);
    assert_eq!(pays(TRANSFER, "{ to = \"any\", amount = { max = 9 } }", &[address(TO), word(5)]), []);
    let beside = "{ token = \"any\", amount = { max = 9, is_payment = true, token = \"token\" } }";
    let deposit = pays("deposit(address token, uint256 amount)", beside, &[address(token), word(5)]);
    assert_eq!(deposit, [Payment { token, amount: amount(5) }]);
    let many = pays(
        "f(uint256[] amounts)",
        &format!("{{ amounts = {{ every = {is_payment} }} }}"),
        &[word(32), word(2), word(5), word(6)],
    );
    assert_eq!(many, [Payment { token: usdc, amount: amount(5) }, Payment { token: usdc, amount: amount(6) }]);
    let tuples =
        "{ p = { every = { token = \"any\", amount = { any = true, is_payment = true, token = \"token\" } } } }";
    let tuples = pays("f((address token, uint256 amount)[] p)", tuples, &[word(32), word(1), address(token), word(7)]);
    assert_eq!(tuples, [Payment { token, amount: amount(7) }]);
}

#[test]
fn a_rule_that_cannot_be_is_refused_with_its_path_and_what_is_expected() {
    for (function, rule, expected) in [
        ("transfer(address to", "{}", ": unexpected `end`, expected a function such as"),
        ("transfer(address to, uint257 amount)", "{}", ": `uint257` is not a type of an argument"),
        ("transfer(address, uint256)", "{}", ": the address without a name"),
        (TRANSFER, "true", ": true, expected a table with a rule for each argument"),
        (
            TRANSFER,
            "{ to = \"any\" }",
            ".amount: missing, expected a limit such as { max = \"1000\", decimals = 6 } or \"any\"",
        ),
        (TRANSFER, "{ to = \"any\", amout = 1 }", ".amout: not declared, expected one of to, amount"),
        ("pause()", "{ to = \"any\" }", ".to: not declared, expected no argument"),
        ("f(address to)", "{ to = [] }", ".to: an empty list allows no value, expected a list of addresses or \"any\""),
        ("f(address to)", "{ to = { one_of = [] } }", ".to.one_of: an empty list allows no value"),
        ("f(address to)", "{ to = \"0x01\" }", ".to: \"0x01\": expected 0x and 40 hex digits"),
        ("f(address to)", "{ to = { max = 1 } }", ".to.max: address has no order"),
        ("f(address to)", "{ to = { equal = \"any\" } }", ".to.equal: \"any\": expected 0x and 40 hex digits"),
        ("f(address to)", "{ to = { decimals = 6, any = true } }", ".to.decimals: address has none"),
        ("f(address to)", "{ to = { any = true, is_payment = true } }", ".to.is_payment: address is no amount"),
        ("f(bool b)", "{ b = \"true\" }", ".b: \"true\", expected a value of bool"),
        ("f(bool b)", "{ b = [true, true] }", ".b: an entry is written twice"),
        ("f(uint8 n)", "{ n = 256 }", ".n: 256: out of range of uint8, expected at most 2^8 - 1"),
        ("f(uint8 n)", "{ n = { max = \"256\" } }", ".n.max: \"256\": out of range of uint8"),
        ("f(uint8 n)", "{ n = -1 }", ".n: -1: expected a decimal number"),
        ("f(uint8 n)", "{ n = 1.5 }", ".n: 1.5, expected a value of uint8"),
        (
            "f(uint256 n)",
            "{ n = { max = \"2\", decimals = 77 } }",
            ".n.max: \"2\": out of range, expected at most 2^256 - 1 units",
        ),
        ("f(uint256 n)", "{ n = { max = \"1\", decimals = 78 } }", ".n.decimals: 78, expected 0 to 77"),
        ("f(uint256 n)", "{ n = { max = \"1\", decimals = \"6\" } }", ".n.decimals: \"6\", expected 0 to 77"),
        (
            "f(uint256 n)",
            "{ n = { max = \"0.1234567\", decimals = 6 } }",
            ".n.max: \"0.1234567\": finer than a unit, expected at most 6",
        ),
        (
            "f(uint256 n)",
            "{ n = { maximum = 1 } }",
            ".n.maximum: unknown, expected one of equal, one_of, max, any, decimals",
        ),
        ("f(uint256 n)", "{ n = { max = 1, equal = 1 } }", ".n: expected exactly one of equal, one_of, max and any"),
        ("f(uint256 n)", "{ n = { decimals = 6 } }", ".n: expected exactly one of"),
        ("f(uint256 n)", "{ n = { any = false } }", ".n: expected exactly one of"),
        ("f(uint256 n)", "{ n = { one_of = 1 } }", ".n.one_of: 1, expected a list"),
        ("f(uint256 n)", "{ n = { any = true, is_payment = 1 } }", ".n.is_payment: 1, expected true or false"),
        ("f(uint256 n)", "{ n = { any = true, token = \"t\" } }", ".n.token: needs is_payment = true"),
        (
            "f(uint256 n)",
            "{ n = { any = true, is_payment = true, token = \"n\" } }",
            ".n.token: \"n\", expected the name of an address beside",
        ),
        ("f(int8 n)", "{ n = 128 }", ".n: 128: out of range of int8"),
        ("f(int8 n)", "{ n = { max = 1, decimals = 1 } }", ".n.decimals: int8 has none"),
        ("f(bytes2 b)", "{ b = \"0x01\" }", ".b: \"0x01\", expected 0x and 4 hex digits"),
        ("f(bytes b)", "{ b = \"01\" }", ".b: \"01\", expected 0x and pairs of hex digits"),
        (
            "f(uint8[] n)",
            "{ n = [1, 2] }",
            ".n: a list for uint8[], expected { every = RULE }, a rule for all elements",
        ),
        ("f(uint8[] n)", "{ n = { max = 1 } }", ".n: uint8[] is an array, expected { every = RULE }"),
        ("f(uint8[] n)", "{ n = { every = { max = 256 } } }", ".n.every.max: 256: out of range of uint8"),
        ("f((uint8 a, bool b) p)", "{ p = 1 }", ".p: 1 for (uint8,bool), expected { a = RULE, b = RULE }"),
        ("f((uint8 a, bool b) p)", "{ p = { a = 1 } }", ".p.b: missing, expected true or false or \"any\""),
        ("f((uint8 a) p)", "{ p = { a = 1, c = 1 } }", ".p.c: not declared, expected one of a"),
    ] {
        let error = rule_refused(function, rule);
        assert!(error.starts_with(expected), "{function} {rule}: {error}");
    }
}

#[test]
fn tables_of_calls_are_not_empty_and_have_each_selector_once() {
    assert_eq!(refused("[calls]\n"), "signer.policy.calls: empty, expected functions or contracts with functions");
    let error = refused(&format!("[calls.{USDC}]\n"));
    assert!(
        error.starts_with(&format!("signer.policy.calls.{USDC}: a table, expected a table of functions")),
        "{error}"
    );
    assert!(
        refused("[calls.0x01]\n\"pause()\" = {}\n")
            .starts_with("signer.policy.calls.0x01: expected 0x and 40 hex digits")
    );
    let lower = USDC.to_lowercase();
    let error = refused(&format!("[calls.{USDC}]\n\"pause()\" = {{}}\n[calls.{lower}]\n\"pause()\" = {{}}\n"));
    assert!(error.ends_with(": written twice, expected once"), "{error}");
    let twice = "[calls]\n\"f(uint256 a)\" = { a = 1 }\n\"f(uint b)\" = { b = 1 }\n";
    let error = refused(twice);
    assert!(
        error.contains("f(uint256) and f(uint256) have the same selector 0xb3de648b, expected one of them"),
        "{error}"
    );
    // Two names with one selector.
    let collision =
        "[calls]\n\"burn(uint256 a)\" = { a = 1 }\n\"collate_propagate_storage(bytes16 b)\" = { b = \"any\" }\n";
    assert!(refused(collision).contains("have the same selector 0x42966c68"), "{}", refused(collision));
}

#[test]
fn selectors_do_not_get_around_the_rules_for_arguments() {
    let any = "{ to = \"any\", amount = \"any\" }";
    let calls = usdc(any);
    let with = |selectors: &str| {
        let text = toml_with(selectors, &calls);
        format!("{:#}", toml::from_str::<PolicyTable>(&text).unwrap().check("signer.policy").expect_err(selectors))
    };
    assert!(with("\"any\"").starts_with("signer.policy.data_selectors: \"any\" beside calls would allow every call"));
    let error = with("[\"0xa9059cbb\"]");
    assert!(
        error.starts_with("signer.policy.data_selectors: `0xa9059cbb` is transfer(address,uint256) of calls and would"),
        "{error}"
    );
}

#[test]
fn what_can_never_be_of_use_is_warned_of() {
    let calls = usdc("{ to = \"any\", amount = \"any\" }");
    let windows = format!("[[windows]]\nperiod = \"1h\"\ntoken = \"{USDC}\"\nmax = \"1\"\n");
    let warnings = |text: &str| toml::from_str::<PolicyTable>(text).unwrap().check("signer.policy").unwrap().warnings();
    let all = toml_with("[]", &format!("{windows}{calls}"));
    let unpaid = "signer.policy.windows[0].token: no rule declares a payment, so nothing counts; expected is_payment = true in \
                  signer.policy.calls";
    assert_eq!(warnings(&all), [unpaid]);
    assert_eq!(
        warnings(&all.replace("amount = \"any\"", "amount = { any = true, is_payment = true }")),
        Vec::<String>::new()
    );
    let elsewhere = all.replace("recipients = \"any\"", &format!("recipients = [\"{OTHER}\"]"));
    let unreachable = format!(
        "signer.policy.calls.{USDC}: no transaction may be to this contract; expected its address in signer.policy.recipients"
    );
    assert_eq!(warnings(&elsewhere), [unreachable.as_str(), unpaid]);
    let key = format!("{all}[keys.0x0101010101010101010101010101010101010101]\nmax_gas = 400000\n");
    assert_eq!(warnings(&key).len(), 1, "not again for a key");
    let own = format!("{key}recipients = [\"{OTHER}\"]\n");
    assert!(warnings(&own)[1].starts_with("signer.policy.keys.0x0101010101010101010101010101010101010101.calls."));
}

fn toml_with(selectors: &str, calls: &str) -> String {
    format!(
        "chain_ids = [1]\nrecipients = \"any\"\nmax_value = \"1 ether\"\nmax_fee_per_gas = \"1 gwei\"\nmax_gas = 500000\n\
         contract_creation = false\ndata_selectors = {selectors}\nnonce_reuse = false\n{calls}"
    )
}

#[test]
fn values_are_compared_as_their_types_are() {
    assert!(Value::Uint(Uint::from(9)) < Value::Uint(Uint::from(10)));
    let int = |text: &str| Value::Int(ethereum::number::Int::from_decimal(text).unwrap());
    assert!(int("-10") < int("-9") && int("-1") < int("0"));
}
