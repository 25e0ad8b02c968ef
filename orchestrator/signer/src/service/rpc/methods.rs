//! What each method does.

use std::collections::BTreeMap;

use ethereum::hex;
use ethereum::signable::{Signable, Signed};
use ethereum::signature::SignError;
use serde_json::json;
use signer_api::rpc::error::{ErrorData, METHOD_NOT_FOUND, REFUSED, UNAVAILABLE, UNSUPPORTED};
use signer_api::rpc::signed::{AuthorizationJson, SignedJson};
use signer_api::rpc::{Call, Params, RpcError, Signing, TransactionCall, quantity};

use super::failure::CallError;
use super::{Context, UNKNOWN};
use crate::keys::{Attestor, Keys};
use crate::service::Shared;
use crate::service::failure::Failure;
use crate::service::sign::Order;
use crate::upstream::READ_METHODS;

/// The methods that the signer answers itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Accounts,
    ChainId,
    NetVersion,
    SignTransaction,
    SendTransaction,
    Sign,
    /// See [`Signing`].
    SignOther,
    ClefSignTransaction,
    ClefVersion,
    HealthStatus,
    ClientVersion,
    Modules,
}

/// By name.
const METHODS: [(&str, Method); 19] = [
    ("eth_accounts", Method::Accounts),
    ("eth_chainId", Method::ChainId),
    ("net_version", Method::NetVersion),
    ("eth_signTransaction", Method::SignTransaction),
    ("eth_sendTransaction", Method::SendTransaction),
    ("eth_sign", Method::Sign),
    ("personal_sign", Method::SignOther),
    ("eth_signTypedData", Method::SignOther),
    ("eth_signTypedData_v3", Method::SignOther),
    ("eth_signTypedData_v4", Method::SignOther),
    ("eth_sign7702Authorization", Method::SignOther),
    ("account_list", Method::Accounts),
    ("account_signTransaction", Method::ClefSignTransaction),
    ("account_signData", Method::SignOther),
    ("account_signTypedData", Method::SignOther),
    ("account_version", Method::ClefVersion),
    ("health_status", Method::HealthStatus),
    ("web3_clientVersion", Method::ClientVersion),
    ("rpc_modules", Method::Modules),
];

/// The version of Clef's external interface whose methods these are (go-ethereum: `cmd/clef/extapi_changelog.md`).
const CLEF_VERSION: &str = "6.1.0";

/// What a client sees as the version.
const VERSION: &str = concat!("enclave-wireguard-signer/", env!("CARGO_PKG_VERSION"));

/// The prefixes of the methods, as geth lists them.
const MODULES: [&str; 7] = ["account", "eth", "health", "net", "personal", "rpc", "web3"];

impl Method {
    pub(super) fn named(name: &str) -> Option<Self> {
        METHODS.iter().find(|(known, _)| *known == name).map(|(_, method)| *method)
    }
}

/// Whether the signer answers it itself, so that no upstream is asked.
pub(crate) fn is_own(name: &str) -> bool {
    Method::named(name).is_some()
}

impl<K: Keys, A: Attestor> Shared<K, A> {
    /// The method in the metrics, of which there are few.
    pub(super) fn label<'a>(&self, name: &'a str) -> &'a str {
        let is_known = is_own(name) || READ_METHODS.contains(&name) || self.upstreams.allow(name);
        if is_known { name } else { UNKNOWN }
    }

    /// The result, JSON.
    pub(super) async fn call(&self, context: Context<'_>, call: &Call<'_>) -> Result<String, CallError> {
        let params = call.params;
        let Some(method) = Method::named(&call.method) else {
            return self.pass_on(context, &call.method, params).await;
        };
        match method {
            Method::Accounts => {
                params.none()?;
                let accounts = self.accounts_of(context.caller).await?;
                Ok(json!(accounts.iter().map(ToString::to_string).collect::<Vec<_>>()).to_string())
            }
            Method::ChainId => {
                params.none()?;
                Ok(text(&quantity(self.chain(context)?.into())))
            }
            Method::NetVersion => {
                params.none()?;
                Ok(text(&self.chain(context)?.to_string()))
            }
            Method::SignTransaction => self.sign_transaction(context, params, context.front.is_geth).await,
            Method::ClefSignTransaction => self.sign_transaction(context, params, true).await,
            Method::SignOther => match Signing::of_method(&call.method, params) {
                Some(signing) => self.sign_other(context, signing?).await,
                None => Err(unknown(&call.method)),
            },
            Method::SendTransaction => self.send_transaction(context, params).await,
            Method::Sign => Err(CallError::with_code(
                UNSUPPORTED,
                "eth_sign: not served, because its bytes can be a transaction that no policy has seen; expected \
                 personal_sign, which marks what it signs as a message",
            )),
            Method::ClefVersion => {
                params.none()?;
                Ok(text(CLEF_VERSION))
            }
            Method::HealthStatus => {
                params.none()?;
                self.health()
            }
            Method::ClientVersion => {
                params.none()?;
                Ok(text(VERSION))
            }
            Method::Modules => {
                params.none()?;
                Ok(json!(BTreeMap::from(MODULES.map(|module| (module, "1.0")))).to_string())
            }
        }
    }

    async fn sign_transaction(
        &self,
        context: Context<'_>,
        params: Params<'_>,
        is_geth: bool,
    ) -> Result<String, CallError> {
        let call = TransactionCall::read(params)?;
        let (from, chain) = (call.from, self.chain_of(context, &call)?);
        let transaction = call.transaction(chain)?;
        let reference = self.key_of(context.caller, from).await?;
        let subject = Signable::Transaction(transaction);
        let order = Order { subject: &subject, reference: &reference, credential: None, from: Some(from) };
        let signed = self.signature(context.caller, &order).await?;
        shown(&subject, &signed, is_geth).map_err(|error| Failure::from(error).into())
    }

    /// A message, typed data, or an authorisation.
    async fn sign_other(&self, context: Context<'_>, Signing { from, subject }: Signing) -> Result<String, CallError> {
        if let Signable::Authorization(authorization) = &subject
            && let Some(expected) = context.front.chain
            && ![0, expected].contains(&authorization.chain_id)
        {
            let message = format!("chain_id: {}, expected {expected}, the chain of this path", authorization.chain_id);
            let data = ErrorData { code: "bad_request", field: Some("chain_id"), ..ErrorData::default() };
            return Err(CallError::new(RpcError::new(REFUSED, message).with(&data), "bad_request"));
        }
        let reference = self.key_of(context.caller, from).await?;
        let order = Order { subject: &subject, reference: &reference, credential: None, from: Some(from) };
        // A rule's field is that of a transaction, and there is none.
        let signed = self.signature(context.caller, &order).await;
        let signed = signed.map_err(|failure| Failure { field: None, ..failure })?;
        shown(&subject, &signed, false).map_err(|error| Failure::from(error).into())
    }

    /// The chain for a transaction that names none. One that names another than the path is refused.
    pub(super) fn chain_of(&self, context: Context<'_>, call: &TransactionCall) -> Result<Option<u64>, CallError> {
        match (context.front.chain, call.chain_id) {
            (Some(expected), Some(other)) if expected != other => {
                let error = call.error("chainId", format!("{other}, expected {expected}, the chain of this path"));
                let data = ErrorData { code: "bad_request", field: Some(&error.field), ..ErrorData::default() };
                Err(CallError::new(RpcError::new(REFUSED, error.to_string()).with(&data), "bad_request"))
            }
            (Some(chain), _) => Ok(Some(chain)),
            (None, _) => Ok(self.only_chain()),
        }
    }

    /// The chain that `/` is, if the policy has only one.
    fn only_chain(&self) -> Option<u64> {
        let mut chains = self.chains.iter().copied();
        chains.next().filter(|_| chains.next().is_none())
    }

    /// The chain of the path.
    pub(super) fn chain(&self, context: Context<'_>) -> Result<u64, CallError> {
        let listed = || self.chains.iter().map(|chain| format!("/chain/{chain}")).collect::<Vec<_>>().join(", ");
        match context.front.chain.or_else(|| self.only_chain()) {
            Some(chain) if self.chains.contains(&chain) => Ok(chain),
            Some(chain) => {
                let message =
                    format!("policy rule chain_ids: chain {chain} is not among them, expected one of {}", listed());
                let data = ErrorData { code: "policy_refused", rule: Some("chain_ids"), ..ErrorData::default() };
                Err(CallError::new(RpcError::new(REFUSED, message).with(&data), "policy_refused"))
            }
            None => {
                let message = format!("the policy has several chains, and this path names none; expected {}", listed());
                Err(CallError::with_code(UNSUPPORTED, message))
            }
        }
    }

    /// The version, as soon as all configured keys are there.
    fn health(&self) -> Result<String, CallError> {
        let missing = self.accounts.missing();
        if missing.is_empty() {
            return Ok(text(VERSION));
        }
        let message = format!("not ready: not loaded: {}", missing.join(", "));
        let data = ErrorData { code: "not_ready", retry_after: Some(1), ..ErrorData::default() };
        Err(CallError::new(RpcError::new(UNAVAILABLE, message).with(&data), "not_ready"))
    }
}

/// No such method.
pub(super) fn unknown(name: &str) -> CallError {
    let message = format!("{}: no such method, see rpc_modules and the documentation", signer_api::shown(name));
    CallError::with_code(METHOD_NOT_FOUND, message)
}

/// What was signed: a transaction in the form of the path, an authorisation as an entry of `authorizationList`, and the
/// rest as 65 bytes.
fn shown(subject: &Signable, signed: &Signed, is_geth: bool) -> Result<String, SignError> {
    Ok(match (subject, signed) {
        (Signable::Transaction(transaction), Signed::Transaction(signed)) if is_geth => {
            serde_json::to_string(&SignedJson::new(transaction, signed)?).expect("strings become JSON")
        }
        (_, Signed::Transaction(signed)) => text(&hex::prefixed(&signed.raw)),
        (Signable::Authorization(authorization), Signed::Authorization(signature)) => {
            serde_json::to_string(&AuthorizationJson::new(*authorization, signature)).expect("strings become JSON")
        }
        (_, Signed::Authorization(signature) | Signed::Message(signature) | Signed::TypedData(signature)) => {
            text(&hex::prefixed(&signature.bytes))
        }
    })
}

/// A JSON string of characters that need no escape.
pub(super) fn text(text: &str) -> String {
    format!("\"{text}\"")
}
