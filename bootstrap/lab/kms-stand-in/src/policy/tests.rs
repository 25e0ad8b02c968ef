use attestation::Pcr;
use serde_json::{Value, json};

use super::*;

const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef";
const ENCLAVE: &str = "arn:aws:iam::111122223333:role/enclave";
const LAMBDA: &str = "arn:aws:iam::111122223333:role/lambda";
const ACCOUNT: &str = "arn:aws:iam::111122223333:root";

fn caller(arn: &str) -> Caller {
    Caller { arn: arn.parse().unwrap(), iam_actions: Vec::new() }
}

fn with_iam(arn: &str, action: &str) -> Caller {
    Caller { iam_actions: vec![action.parse().unwrap()], ..caller(arn) }
}

fn parse(policy: &Value) -> Result<Policy> {
    Policy::parse(&policy.to_string(), &KEY.parse().unwrap())
}

fn policy(statements: &[Value]) -> Policy {
    parse(&json!({"Version": "2012-10-17", "Id": "test", "Statement": statements})).unwrap()
}

fn allow(principal: &Value, action: &Value) -> Value {
    json!({"Effect": "Allow", "Principal": principal, "Action": action, "Resource": "*"})
}

/// A policy that allows the enclave's role to decrypt under a condition.
fn under(condition: &Value) -> Value {
    let mut statement = allow(&json!({"AWS": ENCLAVE}), &json!("kms:Decrypt"));
    statement["Condition"] = condition.clone();
    statement
}

fn context(json: &Value) -> EncryptionContext {
    serde_json::from_value(json.clone()).unwrap()
}

fn registers(entries: &[(u8, u8)]) -> Registers {
    entries.iter().map(|&(index, byte)| (index, Pcr([byte; Pcr::LEN]))).collect()
}

fn is_allowed_with(
    policy: &Policy,
    caller: &Caller,
    action: &str,
    context: &EncryptionContext,
    registers: Option<&Registers>,
) -> bool {
    matches!(policy.decide(&Call { caller, action, context, registers, is_same_key: None }), Decision::Allowed(_))
}

fn is_allowed(policy: &Policy, caller: &Caller, action: &str) -> bool {
    is_allowed_with(policy, caller, action, &EncryptionContext::empty(), None)
}

/// Whether the enclave's role may decrypt.
fn may_decrypt(condition: &Value, context: &Value, registers: Option<&Registers>) -> bool {
    let context = serde_json::from_value(context.clone()).unwrap();
    is_allowed_with(&policy(&[under(condition)]), &caller(ENCLAVE), "kms:Decrypt", &context, registers)
}

#[test]
fn null_asks_whether_the_call_has_it() {
    for (truth, context, expected) in [
        ("true", json!({"a": "b"}), true),
        ("true", json!({"ledger": "x"}), false),
        ("false", json!({"ledger": "x"}), true),
        ("false", json!({}), false),
    ] {
        let condition = json!({"Null": {"kms:EncryptionContext:ledger": truth}});
        assert_eq!(may_decrypt(&condition, &context, None), expected, "{truth} {context}");
    }
}

#[test]
fn only_a_re_encryption_has_two_keys_to_compare() {
    let policy = policy(&[under(&json!({"Bool": {"kms:ReEncryptOnSameKey": "true"}}))]);
    let (caller, context) = (caller(ENCLAVE), EncryptionContext::empty());
    for (is_same_key, expected) in [(Some(true), true), (Some(false), false), (None, false)] {
        let call = Call { caller: &caller, action: "kms:Decrypt", context: &context, registers: None, is_same_key };
        assert_eq!(matches!(policy.decide(&call), Decision::Allowed(_)), expected, "{is_same_key:?}");
    }
}

fn refusal(policy: &Value) -> String {
    format!("{:#}", parse(policy).unwrap_err())
}

/// The error for a policy in which this part was replaced.
fn refusal_of(pointer: &str, value: &Value) -> String {
    let mut policy = json!({
        "Version": "2012-10-17",
        "Statement": [under(&json!({"StringEquals": {"kms:EncryptionContext:a": "b"}}))]
    });
    parse(&policy).unwrap();
    match (pointer.rsplit_once('/'), value) {
        (Some((parent, name)), _) if policy.pointer(pointer).is_none() => {
            policy.pointer_mut(parent).unwrap()[name] = value.clone();
        }
        _ => *policy.pointer_mut(pointer).unwrap() = value.clone(),
    }
    refusal(&policy)
}

#[test]
fn only_the_principal_that_is_named_is_allowed() {
    let policy = policy(&[allow(&json!({"AWS": ENCLAVE}), &json!("kms:Decrypt"))]);
    assert!(is_allowed(&policy, &caller(ENCLAVE), "kms:Decrypt"));
    assert!(!is_allowed(&policy, &caller(LAMBDA), "kms:Decrypt"));
    assert!(!is_allowed(&policy, &caller("arn:aws:iam::999922223333:role/enclave"), "kms:Decrypt"));
}

#[test]
fn one_of_several_principals_is_enough() {
    let policy = policy(&[allow(&json!({"AWS": [LAMBDA, ENCLAVE]}), &json!("kms:Decrypt"))]);
    assert!(is_allowed(&policy, &caller(ENCLAVE), "kms:Decrypt"));
    assert!(is_allowed(&policy, &caller(LAMBDA), "kms:Decrypt"));
}

#[test]
fn a_star_is_every_principal() {
    for principal in [json!("*"), json!({"AWS": "*"})] {
        assert!(is_allowed(&policy(&[allow(&principal, &json!("kms:Decrypt"))]), &caller(LAMBDA), "kms:Decrypt"));
    }
}

#[test]
fn only_the_action_that_is_named_is_allowed() {
    let policy = policy(&[allow(&json!({"AWS": ENCLAVE}), &json!(["kms:Decrypt", "kms:DescribeKey"]))]);
    assert!(is_allowed(&policy, &caller(ENCLAVE), "kms:DescribeKey"));
    assert!(!is_allowed(&policy, &caller(ENCLAVE), "kms:Encrypt"));
}

#[test]
fn wildcards_stand_for_characters_and_case_does_not_matter() {
    for (pattern, action, matches) in [
        ("kms:*", "kms:Decrypt", true),
        ("*", "kms:Decrypt", true),
        ("kms:De*", "kms:Decrypt", true),
        ("kms:De*", "kms:Encrypt", false),
        ("kms:*crypt", "kms:Decrypt", true),
        ("kms:*crypt", "kms:DescribeKey", false),
        ("kms:??crypt", "kms:Decrypt", true),
        ("kms:?crypt", "kms:Decrypt", false),
        ("kms:Generate*Key*", "kms:GenerateDataKey", true),
        ("KMS:decrypt", "kms:Decrypt", true),
        ("kms:Decryp", "kms:Decrypt", false),
        ("kms:Decrypts", "kms:Decrypt", false),
    ] {
        assert_eq!(pattern.parse::<ActionPattern>().unwrap().matches(action), matches, "{pattern} {action}");
    }
}

#[test]
fn an_account_allows_what_its_own_iam_policies_allow() {
    for principal in [json!({"AWS": ACCOUNT}), json!({"AWS": "111122223333"})] {
        let policy = policy(&[allow(&principal, &json!("kms:*"))]);
        assert!(is_allowed(&policy, &caller(ACCOUNT), "kms:Decrypt"));
        assert!(is_allowed(&policy, &with_iam(LAMBDA, "kms:De*"), "kms:Decrypt"));
        assert!(!is_allowed(&policy, &with_iam(LAMBDA, "kms:De*"), "kms:Encrypt"));
        assert!(!is_allowed(&policy, &caller(LAMBDA), "kms:Decrypt"));
        let foreign = with_iam("arn:aws:iam::999922223333:role/lambda", "kms:*");
        assert!(!is_allowed(&policy, &foreign, "kms:Decrypt"));
    }
}

#[test]
fn iam_policies_alone_allow_nothing() {
    let policy = policy(&[allow(&json!({"AWS": ENCLAVE}), &json!("kms:Decrypt"))]);
    assert!(!is_allowed(&policy, &with_iam(LAMBDA, "kms:*"), "kms:Decrypt"));
}

#[test]
fn a_denial_wins_wherever_it_stands() {
    let allow = allow(&json!("*"), &json!("kms:*"));
    let deny = json!({"Effect": "Deny", "Principal": {"AWS": LAMBDA}, "Action": "kms:Decrypt", "Resource": "*"});
    for statements in [[allow.clone(), deny.clone()], [deny, allow]] {
        let policy = policy(&statements);
        assert!(!is_allowed(&policy, &caller(LAMBDA), "kms:Decrypt"));
        assert!(is_allowed(&policy, &caller(LAMBDA), "kms:Encrypt"));
        assert!(is_allowed(&policy, &caller(ENCLAVE), "kms:Decrypt"));
    }
}

#[test]
fn denying_an_account_denies_every_principal_in_it() {
    let deny = json!({"Effect": "Deny", "Principal": {"AWS": ACCOUNT}, "Action": "kms:Decrypt", "Resource": "*"});
    let policy = policy(&[allow(&json!("*"), &json!("kms:*")), deny]);
    assert!(!is_allowed(&policy, &caller(LAMBDA), "kms:Decrypt"));
    assert!(is_allowed(&policy, &caller("arn:aws:iam::999922223333:role/lambda"), "kms:Decrypt"));
}

#[test]
fn a_denial_applies_only_under_its_condition() {
    let mut deny = json!({"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*"});
    deny["Condition"] = json!({"StringEquals": {"kms:EncryptionContext:purpose": "test"}});
    let policy = policy(&[allow(&json!("*"), &json!("kms:*")), deny]);
    let test = context(&json!({"purpose": "test"}));
    assert!(!is_allowed_with(&policy, &caller(LAMBDA), "kms:Decrypt", &test, None));
    assert!(is_allowed(&policy, &caller(LAMBDA), "kms:Decrypt"));
}

#[test]
fn an_image_s_condition_is_met_by_its_pcr0_alone() {
    let condition = json!({"StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": "AA".repeat(48)}});
    let right = registers(&[(0, 0xaa), (1, 0xbb)]);
    assert!(may_decrypt(&condition, &json!({}), Some(&right)));
    assert!(!may_decrypt(&condition, &json!({}), Some(&registers(&[(0, 0xab), (1, 0xaa)]))));
    assert!(!may_decrypt(&condition, &json!({}), Some(&registers(&[(1, 0xaa)]))));
    assert!(!may_decrypt(&condition, &json!({}), None));
}

#[test]
fn every_register_of_a_meaning_can_be_a_condition() {
    for index in [0, 1, 2, 3, 4, 8] {
        let name = format!("kms:RecipientAttestation:PCR{index}");
        let condition = json!({"StringEqualsIgnoreCase": {name: "cc".repeat(48)}});
        assert!(may_decrypt(&condition, &json!({}), Some(&registers(&[(index, 0xcc)]))), "{index}");
        let others: Vec<_> = (0..16).filter(|other| *other != index).map(|other| (other, 0xcc)).collect();
        let wrong = registers(&[others.as_slice(), &[(index, 0xcd)]].concat());
        assert!(!may_decrypt(&condition, &json!({}), Some(&wrong)), "{index}");
    }
}

#[test]
fn registers_are_in_lower_case_when_case_matters() {
    let registers = registers(&[(0, 0xaa)]);
    for (value, is_met) in [("aa", true), ("AA", false)] {
        let condition = json!({"StringEquals": {"kms:RecipientAttestation:PCR0": value.repeat(48)}});
        assert_eq!(may_decrypt(&condition, &json!({}), Some(&registers)), is_met);
    }
}

#[test]
fn all_conditions_have_to_be_met() {
    let condition = json!({
        "StringEqualsIgnoreCase": {
            "kms:RecipientAttestation:PCR1": "11".repeat(48),
            "kms:RecipientAttestation:PCR2": "22".repeat(48)
        },
        "StringEquals": {"kms:EncryptionContext:purpose": "signing"}
    });
    let right = registers(&[(1, 0x11), (2, 0x22)]);
    let purpose = json!({"purpose": "signing"});
    assert!(may_decrypt(&condition, &purpose, Some(&right)));
    assert!(!may_decrypt(&condition, &purpose, Some(&registers(&[(1, 0x11), (2, 0x23)]))));
    assert!(!may_decrypt(&condition, &purpose, Some(&registers(&[(1, 0x12), (2, 0x22)]))));
    assert!(!may_decrypt(&condition, &json!({}), Some(&right)));
}

#[test]
fn one_of_several_values_is_enough() {
    let values = json!(["11".repeat(48), "22".repeat(48)]);
    let condition = json!({"StringEquals": {"kms:RecipientAttestation:PCR0": values}});
    assert!(may_decrypt(&condition, &json!({}), Some(&registers(&[(0, 0x22)]))));
    assert!(!may_decrypt(&condition, &json!({}), Some(&registers(&[(0, 0x33)]))));
}

#[test]
fn a_context_s_condition_looks_at_the_value_of_that_name() {
    let condition = json!({"StringEquals": {"kms:EncryptionContext:purpose": "signing"}});
    for (context, is_met) in [
        (json!({"purpose": "signing", "more": "1"}), true),
        (json!({"purpose": "Signing"}), false),
        (json!({"Purpose": "signing"}), false),
        (json!({"other": "signing"}), false),
        (json!({}), false),
    ] {
        assert_eq!(may_decrypt(&condition, &context, None), is_met, "{context}");
    }
    let condition = json!({"StringEqualsIgnoreCase": {"kms:EncryptionContext:purpose": "SIGNING"}});
    assert!(may_decrypt(&condition, &json!({"purpose": "signing"}), None));
}

#[test]
fn the_log_learns_which_condition_was_missed() {
    let condition = json!({"StringEquals": {"kms:EncryptionContext:purpose": "signing"}});
    let mut statement = under(&condition);
    statement["Sid"] = json!("Enclave");
    let (caller, none) = (caller(ENCLAVE), EncryptionContext::empty());
    let call = Call { caller: &caller, action: "kms:Decrypt", context: &none, registers: None, is_same_key: None };
    let expected = "Enclave: the call has no kms:EncryptionContext:purpose".to_owned();
    assert_eq!(policy(&[statement]).decide(&call), Decision::NotAllowed(expected));
}

#[test]
fn an_unsupported_policy_is_refused() {
    let statement = allow(&json!("*"), &json!("kms:*"));
    for (policy, part) in [
        (json!({"Version": "2008-10-17", "Statement": [statement]}), "Version \"2008-10-17\""),
        (json!({"Statement": [statement]}), "missing field `Version`"),
        (json!({"Version": "2012-10-17", "Statement": []}), "Statement is empty"),
        (json!({"Version": "2012-10-17", "Statement": statement}), "expected a sequence"),
        (json!({"Version": "2012-10-17", "Statement": [statement], "X": 1}), "unknown field `X`"),
    ] {
        let refusal = refusal(&policy);
        assert!(refusal.contains(part), "{refusal}");
    }
}

#[test]
fn an_unsupported_statement_is_refused() {
    let pcr = "aa".repeat(48);
    let condition = "/Statement/0/Condition";
    for (pointer, value, part) in [
        ("/Statement/0/NotAction", json!("kms:*"), "unknown field `NotAction`"),
        ("/Statement/0/NotPrincipal", json!("*"), "unknown field `NotPrincipal`"),
        ("/Statement/0/NotResource", json!("*"), "unknown field `NotResource`"),
        ("/Statement/0/Effect", json!("Maybe"), "unknown variant `Maybe`"),
        ("/Statement/0/Principal", json!("someone"), "\"someone\", expected a Principal"),
        ("/Statement/0/Principal", json!({}), "missing field `AWS`"),
        ("/Statement/0/Principal", json!({"Service": "s3.amazonaws.com"}), "unknown field `Service`"),
        ("/Statement/0/Principal", json!({"AWS": []}), "Principal: the list is empty"),
        ("/Statement/0/Principal", json!({"AWS": ["*", ENCLAVE]}), "Principal: \"*\", expected arn:aws:iam::"),
        ("/Statement/0/Principal", json!({"AWS": "arn:aws:iam::111122223333:role/e*"}), "expected arn:aws:iam::"),
        ("/Statement/0/Action", json!([]), "Action: the list is empty"),
        ("/Statement/0/Action", json!("s3:GetObject"), "\"s3:GetObject\", expected kms:NAME"),
        ("/Statement/0/Action", json!("kms:"), "is not the name of an action"),
        ("/Statement/0/Action", json!(1), "expected a text or a list of texts"),
        (
            "/Statement/0/Resource",
            json!("arn:aws:kms:eu-central-1:111122223333:key/*"),
            "expected \"*\" or the key's ARN",
        ),
        ("/Statement/0/Resource", json!([]), "expected \"*\" or the key's ARN"),
        (condition, json!({}), "Condition: empty"),
        (condition, json!({"StringEquals": {}}), "StringEquals is empty"),
        (condition, json!({"StringLike": {"kms:EncryptionContext:a": "*"}}), "\"StringLike\", expected StringEquals"),
        (condition, json!({"StringNotEquals": {"kms:EncryptionContext:a": "b"}}), "\"StringNotEquals\", expected"),
        (condition, json!({"StringEqualsIfExists": {"kms:EncryptionContext:a": "b"}}), "expected StringEquals,"),
        (condition, json!({"Bool": {"kms:EncryptionContext:a": "true"}}), "expected kms:ReEncryptOnSameKey with it"),
        (condition, json!({"Bool": {"kms:ReEncryptOnSameKey": "yes"}}), "expected \"true\" or \"false\""),
        (condition, json!({"Null": {"kms:EncryptionContext:a": "b"}}), "expected \"true\" or \"false\""),
        (condition, json!({"StringEquals": {"kms:ReEncryptOnSameKey": "true"}}), "expected Bool with it"),
        (
            condition,
            json!({"StringEquals": {"kms:ViaService": "s3"}}),
            "kms:ViaService: expected kms:RecipientAttestation",
        ),
        (condition, json!({"StringEquals": {"kms:EncryptionContext:": "b"}}), "expected a name after"),
        (condition, json!({"StringEquals": {"kms:EncryptionContext:a": []}}), "no values"),
        (condition, json!({"StringEquals": {"kms:RecipientAttestation:PCR5": pcr}}), "PCR5: expected"),
        (condition, json!({"StringEquals": {"kms:RecipientAttestation:PCR00": pcr}}), "PCR00: expected"),
        (condition, json!({"StringEquals": {"kms:RecipientAttestation:PCR0": "aa"}}), "expected the 96 hex digits"),
    ] {
        let refusal = refusal_of(pointer, &value);
        assert!(refusal.contains(part), "{pointer} {value}: {refusal}");
    }
}

#[test]
fn a_statement_without_its_parts_is_refused() {
    for name in ["Effect", "Principal", "Action", "Resource"] {
        let mut statement = allow(&json!("*"), &json!("kms:*"));
        statement.as_object_mut().unwrap().remove(name);
        let refusal = refusal(&json!({"Version": "2012-10-17", "Statement": [statement]}));
        assert!(refusal.contains(&format!("missing field `{name}`")), "{refusal}");
    }
}

#[test]
fn a_duplicate_name_is_refused() {
    for (once, twice) in [
        (r#""Effect": "Allow""#, r#""Effect": "Deny", "Effect": "Allow""#),
        (r#""AWS": "*""#, r#""AWS": "111122223333", "AWS": "*""#),
        (r#""kms:EncryptionContext:a": "b""#, r#""kms:EncryptionContext:a": "c", "kms:EncryptionContext:a": "b""#),
    ] {
        let policy = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"},
            "Action": "kms:*", "Resource": "*", "Condition": {"StringEquals": {"kms:EncryptionContext:a": "b"}}}]}"#;
        Policy::parse(policy, &KEY.parse().unwrap()).unwrap();
        Policy::parse(&policy.replace(once, twice), &KEY.parse().unwrap()).unwrap_err();
    }
}

#[test]
fn the_key_s_own_arn_is_its_resource_too() {
    let mut statement = allow(&json!("*"), &json!("kms:*"));
    statement["Resource"] = json!([KEY]);
    assert!(is_allowed(&policy(&[statement]), &caller(LAMBDA), "kms:Decrypt"));
}
