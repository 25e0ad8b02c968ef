//! Reads any KMS key policy: whom it allows to decrypt, use or delete the key.
//!
//! Deny statements are ignored: they only remove permissions, so the result is the worst case.

use std::collections::BTreeMap;
use std::fmt;

use attestation::Pcr;
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{LEDGER, SAME_KEY};

/// What comes of an action on the key
/// (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_awskeymanagementservice.html>). Others only look or name.
const ACTIONS: [(&str, Way); 17] = [
    ("kms:Decrypt", Way::Opens("decrypts, and no attestation is asked for")),
    ("kms:PutKeyPolicy", Way::Opens("writes a policy that lets it decrypt")),
    ("kms:CreateGrant", Way::Opens("grants itself or others to decrypt, which asks for no attestation")),
    (
        "kms:ReEncryptFrom",
        Way::Opens("has KMS encrypt anew, for another key or context, what was encrypted for this one"),
    ),
    ("kms:ReplicateKey", Way::Opens("makes a copy of the key with a policy of its own")),
    ("kms:DeriveSharedSecret", Way::Opens("derives secrets of the key")),
    ("kms:Encrypt", Way::Uses),
    ("kms:ReEncryptTo", Way::Uses),
    ("kms:GenerateDataKey", Way::Uses),
    ("kms:GenerateDataKeyPair", Way::Uses),
    ("kms:GenerateDataKeyPairWithoutPlaintext", Way::Uses),
    ("kms:GenerateDataKeyWithoutPlaintext", Way::Uses),
    ("kms:GenerateMac", Way::Uses),
    ("kms:Sign", Way::Uses),
    ("kms:DisableKey", Way::Ends),
    ("kms:DeleteImportedKeyMaterial", Way::Ends),
    ("kms:ScheduleKeyDeletion", Way::Ends),
];

/// What somebody may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Decrypts what the key protects, and how.
    Opens(&'static str),
    /// Decrypts only with the attestation of one of these images.
    Attested(Vec<Pcr>),
    /// Has KMS bind to a ledger what is bound to none, for the same key.
    Adopts,
    /// Encrypts.
    Uses,
    /// Deletes or disables the key.
    Ends,
}

/// A principal and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The statement's Sid, or its number.
    pub statement: String,
    /// As the policy names them, or everybody.
    pub principal: String,
    /// Such as `kms:Decrypt`.
    pub action: &'static str,
    /// What comes of it.
    pub way: Way,
    /// The encryption context without which the statement does not let it: to each name the values that do.
    pub context: Context,
}

/// What a statement asks of a request's encryption context.
pub type Context = BTreeMap<String, Vec<String>>;

/// Why a text is not a policy.
#[derive(Debug, Error)]
pub enum AuditError {
    /// Not JSON, or not a policy's.
    #[error("expected a key policy, as `aws kms get-key-policy` prints it")]
    Json(#[from] serde_json::Error),
    /// A part that is not known here may mean anything.
    #[error("statement {0}: {1}")]
    Statement(String, &'static str),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    statement: Many<Statement>,
}

/// IAM's lists of one may be without brackets.
#[derive(Deserialize)]
#[serde(untagged)]
enum Many<T> {
    List(Vec<T>),
    One(T),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Statement {
    sid: Option<String>,
    effect: Effect,
    principal: Option<Principals>,
    not_principal: Option<Principals>,
    action: Option<Many<String>>,
    not_action: Option<Many<String>>,
    #[serde(default, rename = "Resource")]
    _resource: Value,
    #[serde(default, rename = "NotResource")]
    _not_resource: Value,
    #[serde(default)]
    condition: Map<String, Value>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Principals {
    Everybody(Star),
    Of(BTreeMap<String, Many<String>>),
}

/// The only text in place of a table.
#[derive(Deserialize)]
enum Star {
    #[serde(rename = "*")]
    Star,
}

/// How those are called whom a policy does not name one by one.
const EVERYBODY: &str = "everybody";

/// Everyone whom the policy allows to decrypt, use or delete its key.
///
/// # Errors
/// A text that is not a policy, or has unknown parts.
pub fn audit(json: &str) -> Result<Vec<Finding>, AuditError> {
    let document: Document = serde_json::from_str(json)?;
    let mut found = Vec::new();
    for (index, statement) in document.statement.into_vec().into_iter().enumerate() {
        let label = statement.sid.clone().unwrap_or_else(|| (index + 1).to_string());
        if statement.effect == Effect::Deny {
            continue;
        }
        let principals = statement.principals().map_err(|cause| AuditError::Statement(label.clone(), cause))?;
        let actions = statement.actions().map_err(|cause| AuditError::Statement(label.clone(), cause))?;
        for (action, way) in actions {
            let way = match statement.images() {
                Some(images) if action == "kms:Decrypt" => Way::Attested(images),
                Some(_) | None if action == "kms:ReEncryptFrom" && statement.adopts() => Way::Adopts,
                Some(_) | None => way,
            };
            found.extend(principals.iter().map(|principal| Finding {
                statement: label.clone(),
                principal: principal.clone(),
                action,
                way: way.clone(),
                context: statement.context(),
            }));
        }
    }
    Ok(found)
}

impl Finding {
    /// Whether this role, user or account is meant.
    #[must_use]
    pub fn is_of(&self, arn: &str) -> bool {
        self.principal == Principals::name("AWS", arn)
    }

    /// Whether more than one role, user or service is meant.
    #[must_use]
    pub fn is_wide(&self) -> bool {
        self.principal.starts_with(EVERYBODY) || self.principal.contains(['*', '?'])
    }
}

impl Statement {
    fn principals(&self) -> Result<Vec<String>, &'static str> {
        match (&self.principal, &self.not_principal) {
            (Some(principals), None) => Ok(principals.names()),
            (None, Some(others)) => Ok(vec![format!("{EVERYBODY} but {}", others.names().join(" and "))]),
            (Some(_), Some(_)) | (None, None) => Err("expected Principal or NotPrincipal, one of them"),
        }
    }

    /// Those of the table that it allows.
    fn actions(&self) -> Result<Vec<(&'static str, Way)>, &'static str> {
        let (patterns, is_listed) = match (&self.action, &self.not_action) {
            (Some(patterns), None) => (patterns, true),
            (None, Some(patterns)) => (patterns, false),
            (Some(_), Some(_)) | (None, None) => return Err("expected Action or NotAction, one of them"),
        };
        let is_matched = |action: &str| patterns.as_slice().iter().any(|pattern| matches(pattern, action));
        Ok(ACTIONS.into_iter().filter(|(action, _)| is_matched(action) == is_listed).collect())
    }

    /// The encryption context that the condition asks for, exactly: with `IfExists` a request without one meets it, and with `Like` a
    /// pattern does.
    fn context(&self) -> Context {
        const PREFIX: &str = "kms:EncryptionContext:";
        let entries = self.condition.get("StringEquals").and_then(Value::as_object).into_iter().flatten();
        let bound = entries.filter_map(|(key, values)| {
            let (prefix, name) = key.split_at_checked(PREFIX.len())?;
            let values = values.as_array().map_or(std::slice::from_ref(values), Vec::as_slice);
            let values: Option<Vec<String>> = values.iter().map(|value| value.as_str().map(str::to_owned)).collect();
            prefix.eq_ignore_ascii_case(PREFIX).then(|| Some((name.to_owned(), values?)))?
        });
        bound.collect()
    }

    /// Whether the condition lets it re-encrypt only for the same key, and only what is bound to no ledger.
    fn adopts(&self) -> bool {
        let asks = |operator, asked: &str| {
            let entries = self.condition.get(operator).and_then(Value::as_object).into_iter().flatten();
            let mut values = entries.filter(|(key, _)| key.eq_ignore_ascii_case(asked)).map(|(_, value)| value);
            values.any(|value| *value == Value::Bool(true) || value.as_str() == Some("true"))
        };
        asks("Bool", SAME_KEY) && asks("Null", LEDGER)
    }

    /// The images whose enclaves alone the condition lets in; `None`: it does not ask for one.
    fn images(&self) -> Option<Vec<Pcr>> {
        // With `IfExists`, a request without a document meets the condition; with `Like`, a pattern does.
        let operators = ["StringEquals", "StringEqualsIgnoreCase"];
        let keys = ["kms:RecipientAttestation:ImageSha384", "kms:RecipientAttestation:PCR0"];
        let asked = self.condition.iter().filter(|(operator, _)| operators.contains(&operator.as_str()));
        let asked = asked.filter_map(|(_, entries)| entries.as_object()).flatten();
        let mut images = asked.filter(|(key, _)| keys.iter().any(|known| known.eq_ignore_ascii_case(key)));
        let (_, values) = images.next()?;
        let values = values.as_array().map_or(std::slice::from_ref(values), Vec::as_slice);
        let pcrs: Option<Vec<Pcr>> = values.iter().map(|value| value.as_str()?.parse().ok()).collect();
        pcrs.filter(|pcrs| !pcrs.is_empty() && pcrs.iter().all(|pcr| !pcr.is_zero()))
    }
}

impl Principals {
    fn names(&self) -> Vec<String> {
        match self {
            Self::Everybody(Star::Star) => vec![EVERYBODY.to_owned()],
            Self::Of(kinds) => kinds
                .iter()
                .flat_map(|(kind, names)| names.as_slice().iter().map(move |name| Self::name(kind, name)))
                .collect(),
        }
    }

    fn name(kind: &str, name: &str) -> String {
        match kind {
            "AWS" if name == "*" => EVERYBODY.to_owned(),
            "AWS" if name.ends_with(":root") || name.bytes().all(|byte| byte.is_ascii_digit()) => {
                format!("{EVERYBODY} whom IAM lets in account {name}")
            }
            "AWS" => name.to_owned(),
            other => format!("{other} {name}"),
        }
    }
}

impl<T> Many<T> {
    fn as_slice(&self) -> &[T] {
        match self {
            Self::List(list) => list,
            Self::One(one) => std::slice::from_ref(one),
        }
    }

    fn into_vec(self) -> Vec<T> {
        match self {
            Self::List(list) => list,
            Self::One(one) => vec![one],
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { statement, principal, action, way, context } = self;
        write!(f, "statement {statement}: {principal} ")?;
        match way {
            Way::Opens(how) => write!(f, "opens the key: it {how} ({action})"),
            Way::Attested(images) => {
                let images: Vec<_> = images.iter().map(ToString::to_string).collect();
                write!(f, "decrypts as an enclave with PCR0 {} ({action})", images.join(" or "))
            }
            Way::Adopts => write!(f, "binds to a ledger what is bound to none ({action})"),
            Way::Uses => write!(f, "uses the key ({action})"),
            Way::Ends => write!(f, "ends the key ({action})"),
        }?;
        for (name, values) in context {
            write!(f, ", with {name}={}", values.join(" or "))?;
        }
        Ok(())
    }
}

/// `*` is any number of characters, `?` is one, and case counts for nothing.
fn matches(pattern: &str, text: &str) -> bool {
    fn is_match(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), None) => is_match(rest, text),
            (Some((b'*', rest)), Some((_, tail))) => is_match(rest, text) || is_match(pattern, tail),
            (Some((b'?', rest)), Some((_, tail))) => is_match(rest, tail),
            (Some((one, rest)), Some((other, tail))) => one.eq_ignore_ascii_case(other) && is_match(rest, tail),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
    is_match(pattern.as_bytes(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WRITTEN: &str = include_str!("plain.json");
    const ROLE: &str = "arn:aws:iam::111122223333:role/Other";

    fn opening(policy: &str) -> Vec<(String, &'static str)> {
        let found = audit(policy).unwrap().into_iter();
        let opening = found.filter(|finding| matches!(finding.way, Way::Opens(_)));
        opening.map(|finding| (finding.principal, finding.action)).collect()
    }

    fn statement(more: &Value) -> String {
        let mut statement =
            json!({"Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": "kms:Decrypt", "Resource": "*"});
        for (key, value) in more.as_object().unwrap() {
            if value.is_null() {
                statement.as_object_mut().unwrap().remove(key);
            } else {
                statement[key] = value.clone();
            }
        }
        json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
    }

    #[test]
    fn of_a_written_policy_the_administrators_open_the_key_and_the_enclave_decrypts_attested() {
        let admin = "arn:aws:iam::111122223333:role/KeyAdmin".to_owned();
        assert_eq!(opening(WRITTEN), [(admin, "kms:PutKeyPolicy")]);
        let attested = Way::Attested(vec![Pcr([0x10; Pcr::LEN])]);
        let found = audit(WRITTEN).unwrap();
        let [enclave] = found.iter().filter(|finding| finding.way == attested).collect::<Vec<_>>()[..] else {
            panic!()
        };
        assert_eq!(enclave.principal, "arn:aws:iam::111122223333:role/EnclaveInstance");
        let ends = found.iter().filter(|finding| finding.way == Way::Ends).map(|finding| finding.action);
        assert_eq!(
            ends.collect::<Vec<_>>(),
            ["kms:DisableKey", "kms:DeleteImportedKeyMaterial", "kms:ScheduleKeyDeletion"]
        );
    }

    #[test]
    fn each_action_and_pattern_that_leads_to_the_key_is_found() {
        for (action, expected) in [
            (json!("kms:PutKeyPolicy"), &["kms:PutKeyPolicy"][..]),
            (json!("kms:Put*"), &["kms:PutKeyPolicy"]),
            (json!("KMS:?utkeypolicy"), &["kms:PutKeyPolicy"]),
            (json!(["kms:CreateGrant", "kms:DescribeKey"]), &["kms:CreateGrant"]),
            (json!("kms:ReEncrypt*"), &["kms:ReEncryptFrom"]),
            (json!("kms:ReplicateKey"), &["kms:ReplicateKey"]),
            (json!("kms:Decrypt"), &["kms:Decrypt"]),
            (json!("kms:GenerateDataKey*"), &[]),
            (json!(["kms:Encrypt", "kms:List*", "kms:UpdateKeyDescription"]), &[]),
        ] {
            let found: Vec<_> =
                opening(&statement(&json!({"Action": action}))).into_iter().map(|(_, name)| name).collect();
            assert_eq!(found, expected, "{action}");
        }
        for everything in
            [json!({"Action": "kms:*"}), json!({"Action": "*"}), json!({"Action": null, "NotAction": "kms:Encrypt"})]
        {
            assert_eq!(opening(&statement(&everything)).len(), 6, "{everything}");
        }
    }

    #[test]
    fn each_principal_is_named() {
        for (who, expected) in [
            (json!({"Principal": "*"}), "everybody"),
            (json!({"Principal": {"AWS": "*"}}), "everybody"),
            (json!({"Principal": null, "NotPrincipal": {"AWS": ROLE}}), &format!("everybody but {ROLE}")),
            (json!({"Principal": {"AWS": "111122223333"}}), "everybody whom IAM lets in account 111122223333"),
            (
                json!({"Principal": {"AWS": ["arn:aws:iam::111122223333:root"]}}),
                "everybody whom IAM lets in account arn:aws:iam::111122223333:root",
            ),
            (json!({"Principal": {"Service": "lambda.amazonaws.com"}}), "Service lambda.amazonaws.com"),
        ] {
            assert_eq!(opening(&statement(&who)), [(expected.to_owned(), "kms:Decrypt")], "{who}");
        }
    }

    #[test]
    fn only_an_image_in_a_strict_condition_is_an_attestation() {
        let (image, zero) = ("10".repeat(48), "0".repeat(96));
        let key = "kms:RecipientAttestation:ImageSha384";
        for (condition, is_attested) in [
            (json!({"StringEqualsIgnoreCase": {key: image}}), true),
            (json!({"StringEquals": {"kms:recipientattestation:pcr0": [image, image]}}), true),
            (json!({"StringEquals": {key: zero}}), false),
            (json!({"StringEquals": {key: [image, zero]}}), false),
            (json!({"StringEquals": {key: []}}), false),
            (json!({"StringEqualsIfExists": {key: image}}), false),
            (json!({"StringNotEquals": {key: image}}), false),
            (json!({"StringLike": {key: "*"}}), false),
            (json!({"StringEquals": {"kms:RecipientAttestation:PCR3": image}}), false),
            (json!({"Bool": {"aws:MultiFactorAuthPresent": "true"}}), false),
            (json!({}), false),
        ] {
            let found = opening(&statement(&json!({"Condition": condition})));
            assert_eq!(found.is_empty(), is_attested, "{condition}");
            // Nothing attests these.
            assert_eq!(opening(&statement(&json!({"Action": "kms:CreateGrant", "Condition": condition}))).len(), 1);
        }
    }

    #[test]
    fn only_exact_values_of_a_strict_condition_are_an_encryption_context() {
        let key = "kms:EncryptionContext:purpose";
        let bound = |values: &[&str]| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            Context::from([("purpose".to_owned(), values)])
        };
        for (condition, expected) in [
            (json!({"StringEquals": {key: "signer"}}), bound(&["signer"])),
            (json!({"StringEquals": {"KMS:encryptioncontext:purpose": ["signer"]}}), bound(&["signer"])),
            (json!({"StringEquals": {key: ["signer", "other"]}}), bound(&["signer", "other"])),
            (json!({"StringLike": {key: "*"}}), Context::new()),
            (json!({"StringEqualsIfExists": {key: "signer"}}), Context::new()),
            (json!({"StringEqualsIgnoreCase": {key: "signer"}}), Context::new()),
            (json!({"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": "purpose"}}), Context::new()),
            (json!({"StringEquals": {"kms:ViaService": "signer"}}), Context::new()),
            (json!({"StringEquals": {"kms:RecipientAttestation:ImageSha384": "signer"}}), Context::new()),
            (json!({}), Context::new()),
        ] {
            let found = audit(&statement(&json!({"Condition": condition}))).unwrap();
            assert_eq!(found[0].context, expected, "{condition}");
        }
    }

    #[test]
    fn whoever_is_not_named_one_by_one_is_wide() {
        for (who, is_wide) in [
            (json!({"Principal": "*"}), true),
            (json!({"Principal": {"AWS": "*"}}), true),
            (json!({"Principal": null, "NotPrincipal": {"AWS": ROLE}}), true),
            (json!({"Principal": {"AWS": "111122223333"}}), true),
            (json!({"Principal": {"AWS": "arn:aws:iam::111122223333:root"}}), true),
            (json!({"Principal": {"AWS": "arn:aws:iam::111122223333:role/*"}}), true),
            (json!({"Principal": {"AWS": ROLE}}), false),
            (json!({"Principal": {"Service": "lambda.amazonaws.com"}}), false),
        ] {
            assert_eq!(audit(&statement(&who)).unwrap()[0].is_wide(), is_wide, "{who}");
        }
    }

    #[test]
    fn what_is_not_known_is_no_policy_without_findings() {
        for text in [
            "",
            "{}",
            "[]",
            &statement(&json!({"More": 1})),
            &statement(&json!({"Effect": "allow"})),
            &statement(&json!({"Principal": ROLE})),
        ] {
            assert!(matches!(audit(text), Err(AuditError::Json(_))), "{text}");
        }
        for more in [json!({"Action": null}), json!({"Principal": null}), json!({"NotAction": "kms:Decrypt"})] {
            assert!(matches!(audit(&statement(&more)), Err(AuditError::Statement(..))), "{more}");
        }
        assert_eq!(audit(&statement(&json!({"Effect": "Deny"}))).unwrap(), []);
    }
}
