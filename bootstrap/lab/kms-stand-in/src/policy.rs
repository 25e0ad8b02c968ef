//! A key policy: who may do what with a key, and under which conditions.
//!
//! Supports the subset of IAM's policy language that this project needs. Refuses the rest when it loads a policy: to
//! ignore part of a statement would change its meaning.

mod condition;
mod document;

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use serde::Deserialize;

use crate::arn::{AccountId, KeyArn, PrincipalArn};
use crate::context::EncryptionContext;
use condition::Condition;
pub(crate) use condition::Registers;
use document::{Document, Principal};

/// The current version of the policy language.
const VERSION: &str = "2012-10-17";

/// A key's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    text: String,
    statements: Vec<Statement>,
}

/// A request, as far as policies evaluate it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) caller: &'a Caller,
    /// For example `kms:Decrypt`.
    pub(crate) action: &'a str,
    pub(crate) context: &'a EncryptionContext,
    /// From the attestation document, if the request has one.
    pub(crate) registers: Option<&'a Registers>,
    /// Of `ReEncrypt`: whether both keys are the same.
    pub(crate) is_same_key: Option<bool>,
}

/// The principal of an access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) arn: PrincipalArn,
    /// Allowed by IAM policies in the caller's account. They apply to keys whose policy trusts the account.
    pub(crate) iam_actions: Vec<ActionPattern>,
}

/// `kms:Decrypt`, `kms:Describe*`, `kms:*` or `*`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct ActionPattern(String);

/// A policy's decision about a call. The texts are for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// By this statement.
    Allowed(String),
    /// By this statement, whatever others allow.
    Denied(String),
    /// No statement applies. Lists statements with conditions that the call does not meet.
    NotAllowed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    label: String,
    effect: Effect,
    principals: Principals,
    actions: Vec<ActionPattern>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Principals {
    Anybody,
    Some(Vec<PolicyPrincipal>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PolicyPrincipal {
    /// A whole account. Allowing it leaves the decision to the account's IAM policies.
    Account(AccountId),
    One(PrincipalArn),
}

impl Policy {
    /// Parses the policy of the key `arn`.
    pub(crate) fn parse(json: &str, arn: &KeyArn) -> Result<Self> {
        let document: Document = serde_json::from_str(json).context("expected a key policy of the supported subset")?;
        ensure!(document.version == VERSION, "Version {:?}, expected {VERSION:?}", document.version);
        ensure!(!document.statement.is_empty(), "Statement is empty, expected at least one");
        let statements = document.statement.into_iter().enumerate().map(|(index, statement)| {
            let label = statement.sid.clone().unwrap_or_else(|| format!("statement {}", index + 1));
            Statement::new(label.clone(), statement, arn).context(label)
        });
        Ok(Self { text: json.to_owned(), statements: statements.collect::<Result<_>>()? })
    }

    /// The JSON.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// A denial overrides every allowance.
    pub(crate) fn decide(&self, call: &Call<'_>) -> Decision {
        let mut allowed = None;
        let mut missed = Vec::new();
        for statement in self.statements.iter().filter(|statement| statement.matches(call)) {
            match (statement.effect, statement.unmet(call)) {
                (Effect::Deny, None) => return Decision::Denied(statement.label.clone()),
                (Effect::Allow, None) => allowed = allowed.or(Some(&statement.label)),
                (Effect::Allow, Some(condition)) => missed.push(format!("{}: {condition}", statement.label)),
                (Effect::Deny, Some(_)) => {}
            }
        }
        match allowed {
            Some(label) => Decision::Allowed(label.clone()),
            None if missed.is_empty() => Decision::NotAllowed("no statement matches this caller and action".to_owned()),
            None => Decision::NotAllowed(missed.join("; ")),
        }
    }
}

impl Statement {
    fn new(label: String, statement: document::Statement, arn: &KeyArn) -> Result<Self> {
        let resources = statement.resource.0;
        let is_this_key = |resource: &String| resource == "*" || resource == arn.as_str();
        ensure!(
            !resources.is_empty() && resources.iter().all(is_this_key),
            "Resource {resources:?}, expected \"*\" or the key's ARN"
        );
        let principals = match statement.principal {
            Principal::Anybody => Principals::Anybody,
            Principal::Aws(texts) => {
                ensure!(!texts.0.is_empty(), "Principal: the list is empty, expected at least one");
                let parse = |text: &String| PolicyPrincipal::parse(text).context("Principal");
                if texts.0 == ["*"] {
                    Principals::Anybody
                } else {
                    Principals::Some(texts.0.iter().map(parse).collect::<Result<_>>()?)
                }
            }
        };
        ensure!(!statement.action.0.is_empty(), "Action: the list is empty, expected at least one");
        let actions = statement.action.0.iter().map(|text| text.parse().context("Action")).collect::<Result<_>>()?;
        let conditions = statement.condition.map(Condition::all).transpose().context("Condition")?.unwrap_or_default();
        Ok(Self { label, effect: statement.effect, principals, actions, conditions })
    }

    fn matches(&self, call: &Call<'_>) -> bool {
        self.actions.iter().any(|pattern| pattern.matches(call.action)) && self.names(call)
    }

    fn names(&self, call: &Call<'_>) -> bool {
        let caller = call.caller;
        let is_named = |principal: &PolicyPrincipal| match principal {
            PolicyPrincipal::One(arn) => *arn == caller.arn,
            PolicyPrincipal::Account(account) => {
                let is_theirs = account == caller.arn.account();
                let has_leave = || caller.arn.is_root() || caller.iam_allows(call.action);
                is_theirs && (self.effect == Effect::Deny || has_leave())
            }
        };
        match &self.principals {
            Principals::Anybody => true,
            Principals::Some(principals) => principals.iter().any(is_named),
        }
    }

    /// The first condition that the call does not meet.
    fn unmet(&self, call: &Call<'_>) -> Option<String> {
        self.conditions.iter().find_map(|condition| condition.unmet(call))
    }
}

impl PolicyPrincipal {
    fn parse(text: &str) -> Result<Self> {
        if let Ok(account) = text.parse() {
            return Ok(Self::Account(account));
        }
        let arn: PrincipalArn = text.parse()?;
        Ok(if arn.is_root() { Self::Account(arn.account().clone()) } else { Self::One(arn) })
    }
}

impl Caller {
    pub(crate) fn iam_allows(&self, action: &str) -> bool {
        self.iam_actions.iter().any(|pattern| pattern.matches(action))
    }
}

impl ActionPattern {
    fn matches(&self, action: &str) -> bool {
        matches_pattern(self.0.to_ascii_lowercase().as_bytes(), action.to_ascii_lowercase().as_bytes())
    }
}

impl FromStr for ActionPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "*" {
            return Ok(Self(text.to_owned()));
        }
        let name = match text.split_once(':') {
            Some((service, name)) if service.eq_ignore_ascii_case("kms") => name,
            Some(_) | None => bail!("{text:?}, expected kms:NAME, kms:* or *"),
        };
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'*' || byte == b'?');
        ensure!(is_name, "{text:?}: {name:?} is not the name of an action");
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ActionPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error: Error| format!("{error:#}"))
    }
}

impl fmt::Display for ActionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `*` matches any number of characters, `?` one.
fn matches_pattern(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => matches_pattern(rest, text),
        (Some((b'*', rest)), Some((_, tail))) => matches_pattern(rest, text) || matches_pattern(pattern, tail),
        (Some((b'?', rest)), Some((_, tail))) => matches_pattern(rest, tail),
        (Some((one, rest)), Some((other, tail))) => one == other && matches_pattern(rest, tail),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests;
