//! What each path does.

use ethereum::hex;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use signer_api::answer::{DocumentAnswer, KeyAnswer, SignAnswer};
use signer_api::request::{GenerateRequest, SignRequest};
use signer_api::{RequestError, path, rpc};
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::body::{self, Body};
use super::budget::Room;
use super::failure::{self, Failure, base64};
use super::rpc::Front;
use super::seats::Source;
use super::sign::Order;
use super::turns::Asker;
use super::{Shared, accept};
use crate::keys::{Attestor, AttestorError, Keys};
use crate::ledger::Ledger;
use crate::metrics::Collect;
use crate::permission::Caller;

/// The longest nonce: the NSM takes 512 bytes, a client needs 32.
const MAX_NONCE: usize = 64;

const JSON: &str = "application/json";
const CBOR: &str = "application/cbor";

/// An answer that says yes, or one in JSON-RPC's form.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
    /// What the request took of the budget, until the answer has left.
    pub(super) room: Room,
}

/// The paths, as the metrics name them.
#[derive(Clone, Copy)]
enum Route {
    Sign,
    Rpc(Front),
    Keys,
    Attestation,
    Health,
    Ready,
    Metrics,
    Unknown,
}

/// Answers one request, whatever it is, and counts it.
pub(super) async fn answer<K: Keys, A: Attestor>(
    shared: &Shared<K, A>,
    caller: &Caller,
    source: Source,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let start = Instant::now();
    let route = Route::of(request.uri().path());
    let result = shared.dispatch(route, caller, source, request).await;
    let outcome = match &result {
        Ok(_) => "ok",
        Err(failure) => failure.code,
    };
    if let Err(failure) = &result {
        debug!(client = caller.name(), route = route.name(), code = failure.code, message = failure.message, "refused");
        if let Some(rule) = failure.rule {
            shared.metrics.refused(rule);
        }
    }
    shared.metrics.answered(route.name(), outcome, start.elapsed());
    shared.metrics.asked(caller.name(), outcome);
    match result {
        Ok(answer) => response(answer.status, answer.content_type, answer.room.hold(answer.body)),
        Err(failure) => refusal(&failure),
    }
}

impl Route {
    fn of(path: &str) -> Self {
        match path {
            path::SIGN => Self::Sign,
            path::KEYS => Self::Keys,
            path::ATTESTATION => Self::Attestation,
            // As load balancers and orchestrators write it.
            path::HEALTH | "/health/" | "/healthz" | "/healthz/" => Self::Health,
            path::READY | "/ready/" | "/readyz" | "/readyz/" => Self::Ready,
            path::METRICS => Self::Metrics,
            _ => Front::of(path).map_or(Self::Unknown, Self::Rpc),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sign => path::SIGN,
            Self::Rpc(Front { chain: None, .. }) => path::GETH,
            Self::Rpc(Front { chain: Some(_), .. }) => path::CHAIN,
            Self::Keys => path::KEYS,
            Self::Attestation => path::ATTESTATION,
            Self::Health => path::HEALTH,
            Self::Ready => path::READY,
            Self::Metrics => path::METRICS,
            Self::Unknown => "other",
        }
    }

    /// The methods that it has, and as `Allow` has them. hyper leaves out the body that HEAD does not want.
    fn methods(self) -> Option<(&'static [Method], &'static str)> {
        match self {
            Self::Sign | Self::Rpc(_) | Self::Keys => Some((&[Method::POST], "POST")),
            Self::Attestation | Self::Health | Self::Ready | Self::Metrics => {
                Some((&[Method::GET, Method::HEAD], "GET, HEAD"))
            }
            Self::Unknown => None,
        }
    }
}

impl<K: Keys, A: Attestor> Shared<K, A> {
    async fn dispatch(
        &self,
        route: Route,
        caller: &Caller,
        source: Source,
        request: Request<Incoming>,
    ) -> Result<Answer, Failure> {
        if !matches!(route, Route::Health | Route::Ready) {
            caller.has_certificate()?;
        }
        let Some((methods, allow)) = route.methods() else {
            return Err(Failure::new(StatusCode::NOT_FOUND, "not_found", "no such path"));
        };
        if !methods.contains(request.method()) {
            let method = signer_api::shown(request.method().as_str());
            let message = format!("{method} is not possible here, expected one of {allow}");
            let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
            return Err(Failure { allow: Some(allow), ..failure });
        }
        match route {
            Route::Sign => {
                caller.may_sign()?;
                let body = self.body(request).await?;
                match rpc::is_rpc(&body.bytes) {
                    true => self.rpc(Front::ROOT, caller, source, body).await,
                    false => self.sign(caller, body).await,
                }
            }
            Route::Rpc(front) => {
                caller.may_sign()?;
                self.rpc(front, caller, source, self.body(request).await?).await
            }
            Route::Keys => {
                caller.may_generate()?;
                self.generate(caller, self.body(request).await?).await
            }
            Route::Attestation => self.attest(Asker::of(caller, source), &request).await,
            Route::Health => Ok(Answer::new(JSON, br#"{"status":"ok"}"#.to_vec())),
            Route::Ready => self.ready(),
            Route::Metrics => {
                caller.is_known()?;
                let (nonces, windows) = self.spent().metrics(Instant::now());
                let cache = self.cache.metrics();
                let others: [&dyn Collect; 8] = [
                    &cache,
                    &nonces,
                    &windows,
                    &self.accounts,
                    &*self.seats,
                    &self.closings,
                    &self.homes,
                    &self.upstreams,
                ];
                let ledger = self.ledger.as_ref().map(|ledger| -> &dyn Collect { ledger });
                let page = self.metrics.page(&others.into_iter().chain(ledger).collect::<Vec<_>>());
                Ok(Answer::new(prometheus::TEXT_FORMAT, page.into_bytes()))
            }
            Route::Unknown => Err(Failure::new(StatusCode::NOT_FOUND, "not_found", "no such path")),
        }
    }

    /// Only of who may have it read: whatever can be judged by the head is judged before.
    async fn body(&self, request: Request<Incoming>) -> Result<Body, Failure> {
        Ok(body::read(request.into_body(), &self.bodies, self.limits.body).await?)
    }

    /// How many keys are not there is for anybody, and which ones for clients: `health_status`. What is wrong with the ledger, the log has.
    fn ready(&self) -> Result<Answer, Failure> {
        if self.ledger.as_ref().and_then(Ledger::problem).is_some() {
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "the ledger is not usable"));
        }
        let (missing, all) = (self.accounts.missing().len(), self.accounts.count());
        match missing {
            0 => Ok(Answer::json(br#"{"status":"ready"}"#.to_vec())),
            _ => {
                let message = format!("{missing} of {all} configured keys are not loaded");
                Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message))
            }
        }
    }

    async fn sign(&self, caller: &Caller, Body { bytes, room }: Body) -> Result<Answer, Failure> {
        let request = SignRequest::parse(&bytes)?;
        // The key may be long in coming.
        drop(bytes);
        let SignRequest { subject, key: reference, credential } = &request;
        let order = Order { subject, reference, credential: credential.as_ref(), from: None };
        let signed = self.signature(caller, &order).await?;
        Ok(Answer { room, ..json(&SignAnswer::from(&signed)) })
    }

    async fn generate(&self, caller: &Caller, Body { bytes, room }: Body) -> Result<Answer, Failure> {
        let request = GenerateRequest::parse(&bytes)?;
        drop((bytes, room));
        let generated = timeout(self.limits.fetch, self.keys.generate(request.credential.as_ref())).await;
        let generated = generated.unwrap_or_else(|_elapsed| Err(self.too_slow()));
        let generated = generated.inspect_err(|error| warn!(%error, "generate a key"))?;
        info!(client = caller.name(), key = %generated.address, "key generated");
        Ok(json(&KeyAnswer { address: generated.address.to_string(), encrypted_key: base64(&generated.ciphertext) }))
    }

    async fn attest(&self, asker: Asker, request: &Request<Incoming>) -> Result<Answer, Failure> {
        let nonce = nonce(request.uri().query())?;
        let busy = || {
            let message = "other documents for this client are under way; retry";
            Failure::new(StatusCode::TOO_MANY_REQUESTS, "busy", message)
        };
        let place = self.turns.line_up(asker).ok_or_else(busy)?;
        let turn = timeout(self.limits.turn, place.turn()).await;
        let Ok(Ok(_turn)) = turn else { return Err(busy()) };
        let document = timeout(self.limits.fetch, self.attestor.document(&self.user_data, &nonce)).await;
        let document = document.unwrap_or_else(|_elapsed| Err(AttestorError("no answer in time".to_owned())));
        let document = document.inspect_err(|error| warn!(%error, "attest"))?;
        let accept = request.headers().get_all(ACCEPT).iter().map(HeaderValue::as_bytes);
        if accept::prefers_cbor(accept) {
            return Ok(Answer::new(CBOR, document));
        }
        Ok(json(&DocumentAnswer { document: base64(&document) }))
    }
}

/// The query is `nonce=HEX` and nothing else.
fn nonce(query: Option<&str>) -> Result<Vec<u8>, RequestError> {
    let digits = query.and_then(|query| query.strip_prefix("nonce="));
    let nonce = digits.filter(|digits| digits.len() <= 2 * MAX_NONCE).and_then(hex::decode);
    let nonce = nonce.filter(|nonce| !nonce.is_empty());
    nonce.ok_or_else(|| {
        RequestError::new("nonce", format!("expected ?nonce= with 1 to {MAX_NONCE} bytes as hex digits, and no more"))
    })
}

impl Answer {
    fn new(content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status: StatusCode::OK, content_type, body, room: Room::default() }
    }

    pub(super) fn json(body: Vec<u8>) -> Self {
        Self::new(JSON, body)
    }
}

fn json(answer: &impl Serialize) -> Answer {
    Answer::new(JSON, serde_json::to_vec(answer).expect("strings become JSON"))
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) fn refusal(failure: &Failure) -> Response<Full<Bytes>> {
    let mut response = response(failure.status, JSON, failure.body().into());
    let headers = response.headers_mut();
    if let Some(allow) = failure.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if failure.is_transient() {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(failure::RETRY_AFTER));
    }
    if failure.ends_connection {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
