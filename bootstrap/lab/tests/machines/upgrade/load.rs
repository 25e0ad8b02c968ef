//! Clients on the parent that know two endpoints, and repeat a request that has failed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::super::shared_lab::wait;
use super::super::shared_ledger::SharedLedger;
use lab::Parent;
use serde::Deserialize;

/// What two clients ask for with one nonce.
pub(super) const VALUES: [&str; 2] = ["0.01", "0.02"];
const FIRST_NONCE: &str = "1000";
/// Outcomes that [`Load::wait`] waits for.
const ENOUGH: usize = 16;
/// For those. A connection to an enclave that has ended takes ten seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// What came of a request, with all its attempts.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Outcome {
    /// `alone`, or `race` for one of two clients with the same nonce.
    pub(super) kind: String,
    pub(super) nonce: u64,
    pub(super) value: String,
    /// How many outcomes there were when it began.
    pub(super) began: usize,
    /// The endpoint that has answered.
    pub(super) endpoint: String,
    /// `signed HASH`, or the code and the field of an error.
    pub(super) outcome: String,
    /// Of the attempts before.
    pub(super) failures: Vec<String>,
}

impl Outcome {
    pub(super) fn is_signed(&self) -> bool {
        self.outcome.starts_with("signed 0x")
    }

    /// Whether something else is signed for the nonce.
    pub(super) fn is_spent(&self) -> bool {
        self.outcome.starts_with("policy_refused ") && self.outcome.contains("nonce")
    }
}

/// Clients that sign until [`Load::end`].
pub(super) struct Load {
    /// Ends when its stdin does.
    clients: Child,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    reader: JoinHandle<()>,
}

impl Load {
    pub(super) fn begin(parent: &Parent, ledger: SharedLedger, endpoints: [&str; 2]) -> Self {
        let mut clients = ledger.clients(parent, "load", &[&[FIRST_NONCE][..], &endpoints].concat());
        let mut clients = clients.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (said, outcomes) = (BufReader::new(clients.stdout.take().unwrap()), Arc::<Mutex<Vec<_>>>::default());
        let heard = Arc::clone(&outcomes);
        let reader = thread::spawn(move || {
            for line in said.lines() {
                heard.lock().unwrap().push(serde_json::from_str(&line.unwrap()).unwrap());
            }
        });
        Self { clients, outcomes, reader }
    }

    pub(super) fn count(&self) -> usize {
        self.outcomes.lock().unwrap().len()
    }

    pub(super) fn so_far(&self) -> Vec<Outcome> {
        self.outcomes.lock().unwrap().clone()
    }

    /// Waits for outcomes of requests that begin from now on, some of them races; how many outcomes there were before.
    pub(super) fn wait(&self, what: &str) -> usize {
        let before = self.count();
        wait(&format!("signatures: {what}"), PATIENCE, || {
            let outcomes = self.outcomes.lock().unwrap();
            let since = || outcomes[before..].iter().filter(|outcome| outcome.began >= before);
            since().count() >= ENOUGH && since().filter(|outcome| outcome.kind == "race").count() >= ENOUGH / 4
        });
        before
    }

    /// Lets the clients finish what they have begun.
    pub(super) fn end(mut self) -> Vec<Outcome> {
        drop(self.clients.stdin.take());
        assert!(self.clients.wait().unwrap().success());
        self.reader.join().unwrap();
        Arc::try_unwrap(self.outcomes).unwrap().into_inner().unwrap()
    }
}

/// Asks each endpoint for each of [`VALUES`] with each nonce.
pub(super) fn ask_again(parent: &Parent, ledger: SharedLedger, nonces: &[u64], endpoints: [&str; 2]) -> Vec<Outcome> {
    let mut clients = ledger.clients(parent, "repeat", &endpoints);
    let mut clients = clients.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let asked = nonces.iter().flat_map(|nonce| VALUES.map(|value| format!("{nonce} {value}\n")));
    clients.stdin.take().unwrap().write_all(asked.collect::<String>().as_bytes()).unwrap();
    let said = clients.wait_with_output().unwrap();
    assert!(said.status.success());
    let said = String::from_utf8(said.stdout).unwrap();
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
