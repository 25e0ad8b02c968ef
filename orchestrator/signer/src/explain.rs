//! Which rule decides about a request: for a policy that is being written, on a host without keys.
//!
//! It asks what the service asks, in its order, of the same code. What the service remembers of earlier requests is not there, and neither
//! is the ledger: nonces and windows are judged as if nothing had been signed.

mod question;

use std::fmt;

use anyhow::{Result, bail, ensure};
use ethereum::address::Address;
use ethereum::amount::{ETHER, GWEI, Wei};
use ethereum::hex;
use ethereum::number::Uint;
use ethereum::signable::{Signable, Unsigned};
use ethereum::transaction::Kind;
use serde::Serialize;
use tokio::time::Instant;

use crate::config::Config;
use crate::nonces::Payer;
use crate::permission::{Access, Caller};
use crate::policy::{Judges, Refusal, Rule, Rules, Window};
use crate::pool;
use crate::windows::Windows;

use question::{Key, Question};

/// Who asks, and with which key.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The address of the key; none for a key without rules of its own.
    pub key: Option<Address>,
    /// The name of the client, or of a hub; none leaves out permissions and rules of clients.
    pub client: Option<String>,
}

/// What all rules say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether nothing refuses it.
    pub would_be_signed: bool,
    /// What the client would be told: the first that refuses.
    pub refusal: Option<String>,
    /// The request in a line.
    pub request: String,
    /// In the order in which the signer asks.
    pub rules: Vec<Step>,
    /// What is not judged here.
    pub notes: Vec<String>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Where it stands: `signer.policy`, or a client.
    pub of: String,
    /// Its name.
    pub rule: &'static str,
    /// Whether it lets the request through.
    pub passes: bool,
    /// What it allows, or the problem.
    pub text: String,
}

/// Explains what the signer of this configuration would do with a request body.
///
/// # Errors
/// A body that is no request, or a client that is not configured.
pub fn explain(config: &Config, body: &[u8], asked: &Asked) -> Result<Explanation> {
    let request = Question::read(config, body)?;
    let caller = caller(config, asked.client.as_deref())?;
    let address = match (&request.key, asked.key) {
        (Key::Account(from), Some(other)) => {
            ensure!(*from == other, "--key {other}: the request is from {from}, expected that account or no --key");
            Some(other)
        }
        (Key::Account(from), None) => Some(*from),
        (Key::Reference(_), other) => other,
    };
    // No key has this address.
    let key = address.unwrap_or(Address([0; 20]));
    let mut steps = Steps::default();
    let (subject, unsigned) = (&request.subject, Unsigned::new(&request.subject));
    steps.ask(
        "request",
        "accepted by nodes",
        pool_check(config, subject, unsigned.max_signed_len()),
        "gas, data and fees",
    );
    if matches!(caller, Caller::Client { .. }) {
        steps.ask(caller.name(), "may sign", caller.may_sign(), "yes");
        if let Key::Reference(reference) = &request.key {
            steps.ask(caller.name(), "may ask for the key", caller.may_ask(reference), "yes");
            if address.is_some() {
                steps.ask(caller.name(), "may use the key", caller.may_use(reference, key), "yes");
            }
        }
    }
    let judges = Judges::new(&config.policy, key, &caller);
    let refusal = judges.check(subject).err();
    let of_key =
        if config.policy.names(key) { format!("signer.policy.keys.{key}") } else { "signer.policy".to_owned() };
    steps.add_rules(&of_key, config.policy.rules(key), subject);
    if let Some((client, rules)) = caller.rules() {
        steps.add_rules(&format!("policy of {client}"), rules, subject);
    }
    steps.add_refusal(refusal);
    let payer = Payer { client: caller.name(), is_key_brought: false };
    if let Some(spending) = judges.spending(payer, subject) {
        for (owner, windows) in &spending.windows {
            let of = if owner.client().is_some() { format!("policy of {}", caller.name()) } else { of_key.clone() };
            for window in *windows {
                let one = crate::windows::Spending {
                    windows: vec![(owner.clone(), std::slice::from_ref(window))],
                    ..spending.clone()
                };
                let refusal = Windows::new(1, []).plan(&one, Instant::now()).err().map(|error| Refusal {
                    rule: Rule::Windows,
                    problem: error.to_string(),
                    client: error.client().map(str::to_owned),
                });
                let problem = refusal.as_ref().map(|refusal| refusal.problem.clone());
                steps.add(&of, Rule::Windows.name(), problem.map_or_else(|| Ok(share(window, &one.amounts)), Err));
                steps.add_refusal(refusal);
            }
        }
    }
    let notes = notes(config, asked, &request.key, &judges);
    Ok(Explanation {
        would_be_signed: steps.refusal.is_none(),
        refusal: steps.refusal,
        request: described(subject),
        rules: steps.all,
        notes,
    })
}

#[derive(Default)]
struct Steps {
    all: Vec<Step>,
    refusal: Option<String>,
}

impl Steps {
    fn ask<T, E: fmt::Display>(&mut self, of: &str, rule: &'static str, outcome: Result<T, E>, allowed: &str) {
        let problem = outcome.err().map(|problem| problem.to_string());
        self.refusal = self.refusal.take().or(problem.clone());
        self.add(of, rule, problem.map_or_else(|| Ok(allowed.to_owned()), Err));
    }

    fn add(&mut self, of: &str, rule: &'static str, outcome: Result<String, String>) {
        let (passes, text) = match outcome {
            Ok(allowed) => (true, allowed),
            Err(problem) => (false, problem),
        };
        self.all.push(Step { of: of.to_owned(), rule, passes, text });
    }

    fn add_rules(&mut self, of: &str, rules: &Rules, subject: &Signable) {
        for verdict in rules.verdicts(subject) {
            self.add(of, verdict.rule.name(), verdict.outcome);
        }
    }

    fn add_refusal(&mut self, refusal: Option<Refusal>) {
        self.refusal = self.refusal.take().or(refusal.map(|refusal| refusal.to_string()));
    }
}

fn pool_check(config: &Config, subject: &Signable, max_signed_len: usize) -> Result<(), signer_api::RequestError> {
    match subject {
        Signable::Transaction(transaction) if config.policy.has_ethereums_gas_rules(transaction.chain_id) => {
            pool::check(transaction, max_signed_len)
        }
        Signable::Transaction(_) | Signable::Authorization(_) | Signable::Message(_) | Signable::TypedData(_) => Ok(()),
    }
}

fn caller(config: &Config, client: Option<&str>) -> Result<Caller> {
    let Some(client) = client else { return Ok(Caller::Anyone) };
    let homes = || config.homes.iter().map(crate::home::Home::caller);
    if let Some(home) = homes().find(|home| home.name() == client) {
        return Ok(home);
    }
    let mut names: Vec<String> = homes().map(|home| home.name().to_owned()).collect();
    if let Access::Clients { permissions, .. } = &config.access {
        if permissions.contains_key(client) {
            return Ok(config.access.caller(std::iter::once(client)));
        }
        names.extend(permissions.keys().cloned());
    }
    let client = client.escape_debug();
    if names.is_empty() {
        bail!("client `{client}` is not configured: signer.open lets everyone in, expected no client");
    }
    bail!("client `{client}` is not configured, expected one of {}", names.join(", "))
}

fn share(window: &Window, amounts: &crate::policy::Amounts) -> String {
    format!("{} of {window}, if nothing else is signed", window.shown(window.part(amounts)))
}

fn notes(config: &Config, asked: &Asked, key: &Key, judges: &Judges<'_>) -> Vec<String> {
    let is_account = matches!(key, Key::Account(_));
    let own = !is_account && asked.key.is_none() && config.policy.all_rules().nth(1).is_some();
    let clients = asked.client.is_none() && !matches!(config.access, Access::Open);
    let nonce = match (judges.allow_nonce_reuse(), &config.ledger) {
        (true, _) => "nonce_reuse is on: the nonce may have been used",
        (false, None) => "the signer also refuses a nonce that it has signed something else for since it started",
        (false, Some(_)) => {
            "the signer also refuses a nonce that an enclave of the ledger has signed something else for"
        }
    };
    let notes = [
        (own, "keys with rules of their own are not judged: name one with --key"),
        (clients, "permissions and rules of clients are not judged: name one with --client"),
        (
            is_account,
            "whether the account is one of the caller's is known only when the keys are loaded: see eth_accounts",
        ),
        (true, nonce),
    ];
    let notes = notes.into_iter().filter(|(is_true, _)| *is_true).map(|(_, note)| note.to_owned());
    let ledger = config
        .ledger
        .as_ref()
        .map(|ledger| format!("nonces and windows are counted in the ledger {}, by all enclaves", ledger.identity()));
    notes.chain(ledger).collect()
}

/// The request in a line.
fn described(subject: &Signable) -> String {
    match subject {
        Signable::Transaction(transaction) => {
            let to = transaction.to.map_or_else(|| "a new contract".to_owned(), |to| to.to_string());
            let kind = match transaction.kind {
                Kind::Legacy { .. } => 0,
                Kind::AccessList { .. } => 1,
                Kind::DynamicFee { .. } => 2,
                Kind::Blob { .. } => 3,
                Kind::SetCode { .. } => 4,
            };
            let data = match &transaction.data[..] {
                [] => String::new(),
                data => format!(", {} bytes of data from {}", data.len(), hex::prefixed(data.get(..4).unwrap_or(data))),
            };
            format!(
                "transaction of type {kind} on chain {}, nonce {}: {} to {to}{data}; {} gas at up to {}",
                transaction.chain_id,
                transaction.nonce,
                units(transaction.value, ETHER, "ether"),
                transaction.gas,
                units(transaction.max_fee_per_gas(), GWEI, "gwei")
            )
        }
        Signable::Authorization(authorization) => {
            format!("authorisation of {} on chain {}", authorization.contract, authorization.chain_id)
        }
        Signable::Message(_) => "message".to_owned(),
        Signable::TypedData(data) => format!("typed data: {}", data.description()),
    }
}

fn units(Wei(wei): Wei, decimals: u32, unit: &str) -> String {
    format!("{} {unit}", Uint::from(wei).in_units(u8::try_from(decimals).unwrap_or_default()))
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.request)?;
        let width = self.rules.iter().map(|step| step.rule.len()).max().unwrap_or_default();
        let mut of = "";
        for step in &self.rules {
            if step.of != of {
                of = &step.of;
                writeln!(f, "\n{of}")?;
            }
            let outcome = if step.passes { "passes " } else { "REFUSES" };
            writeln!(f, "  {:width$}  {outcome}  {}", step.rule, step.text)?;
        }
        writeln!(f)?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        match &self.refusal {
            Some(refusal) => writeln!(f, "refused: {refusal}"),
            None => writeln!(f, "would be signed"),
        }
    }
}

#[cfg(test)]
mod tests;
