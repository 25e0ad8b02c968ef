//! JSON-RPC: each call of a body in turn, whichever connection it came over. [`signer_api::rpc`] reads the calls.
//!
//! | path | chain | a signed transaction is |
//! |---|---|---|
//! | `/` | the only one of the policy, or that of each transaction | `"0x…"` |
//! | `/chain/8453` | 8453 | `"0x…"` |
//! | `/geth`, `/chain/8453/geth` | the same | `{"raw": "0x…", "tx": {…}}` |
//!
//! A body that is JSON-RPC is answered with the status 200, errors too. What ends a request before its body has been read
//! is answered as in the signer's own form: 403, 405, 408, 413, 429.

mod failure;
mod front;
mod methods;
mod sending;
mod unsent;

pub(super) use front::Front;
pub(crate) use methods::is_own as is_own_method;
pub(super) use unsent::Unsent;

use hyper::StatusCode;
use signer_api::rpc::error::{BUSY, ErrorData};
use signer_api::rpc::{Body, Call, Id, RpcError, answer};
use signer_api::typed_data;
use tokio::task::yield_now;
use tokio::time::Instant;
use tracing::debug;

use super::Shared;
use super::body;
use super::failure::Failure;
use super::route::Answer;
use super::seats::Source;
use crate::keys::{Attestor, Keys};
use crate::permission::Caller;
use failure::CallError;

/// The most bytes of all answers to one body.
const MAX_ANSWERS: usize = 1 << 20;

/// Who calls, and where.
#[derive(Clone, Copy)]
struct Context<'a> {
    front: Front,
    caller: &'a Caller,
    source: Source,
}

/// The label of a method that there is not.
const UNKNOWN: &str = "other";

impl<K: Keys, A: Attestor> Shared<K, A> {
    pub(super) async fn rpc(
        &self,
        front: Front,
        caller: &Caller,
        source: Source,
        body: body::Body,
    ) -> Result<Answer, Failure> {
        let body::Body { bytes, mut room } = body;
        let context = Context { front, caller, source };
        // What the calls become stays beside the body, and is not longer, but for typed data.
        let calls = if may_be_typed_data(&bytes) { typed_data::held(&bytes) } else { bytes.len() };
        let held = bytes.len() + calls;
        if !self.bodies.grow(&mut room, held) {
            return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, "busy", "no room for another long body; retry"));
        }
        let (calls, is_batch) = match Body::parse(&bytes) {
            Ok(Body::Single(text)) => (vec![text], false),
            Ok(Body::Batch(calls)) => (calls.into_iter().map(|call| call.get()).collect(), true),
            Err(error) => {
                self.metrics.called(UNKNOWN, failure::outcome(error.code));
                return Ok(Answer { room, ..Answer::json(answer::error(Id::NULL, &error).into_bytes()) });
            }
        };
        let deadline = Instant::now() + self.limits.fetch;
        let mut answers = String::new();
        for text in calls {
            let Some((id, result)) = self.answered(context, text, deadline).await else { continue };
            let mut one = match &result {
                Ok(result) => answer::result(id, result),
                Err(error) => answer::error(id, error),
            };
            let len = answers.len() + one.len();
            if len > MAX_ANSWERS || !self.bodies.grow(&mut room, held + len) {
                one = answer::error(id, &busy("the answer finds no room; expected fewer or shorter calls, or later"));
            }
            if !answers.is_empty() {
                answers.push(',');
            }
            answers.push_str(&one);
        }
        if answers.is_empty() {
            // Notifications only.
            return Ok(Answer { status: StatusCode::NO_CONTENT, ..Answer::json(Vec::new()) });
        }
        let answers = if is_batch { format!("[{answers}]") } else { answers };
        Ok(Answer { room, ..Answer::json(answers.into_bytes()) })
    }

    /// One call. None: it is a notification, and nothing was done.
    async fn answered<'a>(
        &self,
        context: Context<'_>,
        text: &'a str,
        deadline: Instant,
    ) -> Option<(Id<'a>, Result<String, RpcError>)> {
        let start = Instant::now();
        let call = match Call::parse(text) {
            Ok(call) => call,
            Err(malformed) => {
                self.metrics.called(UNKNOWN, failure::outcome(malformed.error.code));
                return Some((malformed.id, Err(malformed.error)));
            }
        };
        // Nobody would learn what was signed.
        let id = call.id?;
        let result = match start >= deadline {
            true => Err(CallError::new(busy("the calls before this one took too long; retry"), "busy")),
            false => self.call(context, &call).await,
        };
        let label = self.label(&call.method);
        let outcome = result.as_ref().map_or_else(|error| error.outcome, |_| "ok");
        self.metrics.called(label, outcome);
        if let Err(CallError { error, rule, .. }) = &result {
            debug!(
                client = context.caller.name(),
                method = label,
                code = error.code,
                message = error.message,
                "refused"
            );
            if let Some(rule) = rule {
                self.metrics.refused(*rule);
            }
        }
        // A batch of signatures holds up others for one of them.
        yield_now().await;
        Some((id, result.map_err(|error| error.error)))
    }
}

/// Whether a call of the body may be one for typed data, by its name or in an escape.
fn may_be_typed_data(body: &[u8]) -> bool {
    body.contains(&b'\\') || body.windows(4).any(|part| part == b"yped")
}

fn busy(message: &str) -> RpcError {
    RpcError::new(BUSY, message).with(&ErrorData { code: "busy", retry_after: Some(1), ..ErrorData::default() })
}
