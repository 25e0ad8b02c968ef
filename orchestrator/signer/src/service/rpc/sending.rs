//! What an upstream is asked: the calls that the policy passes on, and what a transaction lacks before it is signed.

use ethereum::address::Address;
use ethereum::amount::Wei;
use ethereum::hex;
use ethereum::signable::{Signable, Signed, Unsigned};
use ethereum::transaction::{Kind, MAX_NONCE, Transaction};
use serde::Deserialize;
use signer_api::key::KeyReference;
use signer_api::rpc::error::{ErrorData, INTERNAL, METHOD_NOT_FOUND, UNAVAILABLE, UNSUPPORTED};
use signer_api::rpc::{Params, RpcError, TransactionCall, read_quantity};
use signer_api::shown;
use tokio::time::timeout;

use super::failure::CallError;
use super::methods::{text, unknown};
use super::{Context, busy};
use crate::keys::{Attestor, Keys};
use crate::service::Shared;
use crate::service::sign::Order;
use crate::service::turns::Asker;
use crate::service::upstream::{Answered, Node, UpstreamError};
use crate::upstream::READ_METHODS;

/// What is read of a block.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    /// None: the chain has no EIP-1559.
    base_fee_per_gas: Option<String>,
}

impl<K: Keys, A: Attestor> Shared<K, A> {
    /// Passes a call on, if the configuration allows its method.
    pub(super) async fn pass_on(
        &self,
        context: Context<'_>,
        method: &str,
        params: Params<'_>,
    ) -> Result<String, CallError> {
        if !READ_METHODS.contains(&method) && !self.upstreams.allow(method) {
            if self.upstreams.is_empty() {
                return Err(unknown(method));
            }
            let message =
                format!("{}: not passed on, expected a method that signer.upstream lists in methods", shown(method));
            return Err(CallError::with_code(METHOD_NOT_FOUND, message));
        }
        let chain = self.chain(context)?;
        let node = self.node(chain, method)?;
        if !node.allows(method) {
            let message = format!("{method}: not among the methods of signer.upstream.{chain}");
            return Err(CallError::with_code(UNSUPPORTED, message));
        }
        self.in_turn(context, async { answer(chain, self.upstreams.ask(node, method, params.as_json()).await) }).await
    }

    /// Signs a transaction, with what it lacks from the upstream, and sends it. The result is its hash.
    pub(super) async fn send_transaction(&self, context: Context<'_>, params: Params<'_>) -> Result<String, CallError> {
        let call = TransactionCall::read(params)?;
        let chain = match self.chain_of(context, &call)?.or(call.chain_id) {
            Some(chain) => chain,
            None => self.chain(context)?,
        };
        let node = self.node(chain, "eth_sendTransaction")?;
        // Before anything is asked for it.
        let reference = self.key_of(context.caller, call.from).await?;
        // One after the other: each sees the nonce of the last.
        let sending = async {
            if let Some(transaction) = self.unsent.again(&call, chain) {
                match self.send(context, node, &reference, call.from, transaction).await {
                    // Another one has the nonce: this one is of no more use.
                    Err(NotSent::NonceTooLow(_)) => {}
                    sent => return sent.map_err(NotSent::into_error),
                }
            }
            let from = call.from;
            let transaction = self.filled(node, chain, call).await?.transaction(Some(chain))?;
            if matches!(transaction.kind, Kind::Blob { .. }) {
                let message = "eth_sendTransaction: a transaction with blobs, and its blobs are with the client; expected \
                               eth_signTransaction, and the client to send it with them";
                return Err(CallError::with_code(UNSUPPORTED, message));
            }
            self.send(context, node, &reference, from, transaction).await.map_err(NotSent::into_error)
        };
        self.in_turn(context, sending).await
    }

    /// Signs a whole transaction and sends it. The result is its hash.
    async fn send(
        &self,
        context: Context<'_>,
        node: &Node,
        reference: &KeyReference,
        from: Address,
        transaction: Transaction,
    ) -> Result<String, NotSent> {
        let (chain, nonce) = (transaction.chain_id, transaction.nonce);
        let subject = Signable::Transaction(transaction);
        let order = Order { subject: &subject, reference, credential: None, from: Some(from) };
        let signed = self.signature(context.caller, &order).await;
        let signed = signed.map_err(|failure| CallError::from(self.unsent.explain(from, chain, nonce, failure)))?;
        let (Signable::Transaction(transaction), Signed::Transaction(signed)) = (&subject, signed) else {
            unreachable!("a transaction is signed as one")
        };
        let params = format!(r#"["{}"]"#, hex::prefixed(&signed.raw));
        let hash = hex::prefixed(&signed.hash);
        let sent = self.upstreams.ask(node, "eth_sendRawTransaction", &params).await;
        let refusal = match sent {
            // The hash is the signer's own: the node has no say in it.
            Ok(Ok(_)) => None,
            Ok(Err(error)) if has_it(&error) => None,
            Ok(Err(error)) if says(&error, &["nonce too low"]) => {
                self.unsent.forget(from, chain, nonce);
                let params = format!(r#"["{hash}"]"#);
                let found = self.upstreams.ask(node, "eth_getTransactionByHash", &params).await;
                match found {
                    Ok(Ok(transaction)) if transaction != "null" => None,
                    _ => return Err(NotSent::NonceTooLow(CallError::new(error, "upstream_refused"))),
                }
            }
            Ok(Err(error)) => Some(refused(error, from, nonce, &hash)),
            Err(error) => Some(failed(chain, &error, Some(&hash))),
        };
        match refusal {
            None => {
                self.unsent.forget(from, chain, nonce);
                Ok(text(&hash))
            }
            Some(error) => {
                self.unsent.keep(from, transaction, Unsigned::new(&subject).hash(), signed.hash);
                Err(NotSent::Other(error))
            }
        }
    }

    fn node(&self, chain: u64, method: &str) -> Result<&Node, CallError> {
        self.upstreams.of(chain).ok_or_else(|| {
            let message = format!("{method}: no upstream for chain {chain}; expected [signer.upstream.{chain}]");
            CallError::with_code(UNSUPPORTED, message)
        })
    }

    /// Waits until none of the caller's other calls asks an upstream.
    async fn in_turn<T>(
        &self,
        context: Context<'_>,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let busy = || CallError::new(busy("other calls of this client wait for an upstream; retry"), "busy");
        let asker = Asker::of(context.caller, context.source);
        let place = self.upstreams.turns.line_up(asker).ok_or_else(busy)?;
        let turn = timeout(self.limits.turn, place.turn()).await;
        let Ok(Ok(_turn)) = turn else { return Err(busy()) };
        work.await
    }

    /// The transaction with everything that a signature needs. What the client has written stays as it is.
    async fn filled(&self, node: &Node, chain: u64, mut call: TransactionCall) -> Result<TransactionCall, CallError> {
        if call.nonce.is_none() {
            let params = format!(r#"["{}","pending"]"#, call.from);
            let nonce = self.number(node, chain, "eth_getTransactionCount", &params).await?;
            call.nonce = Some(nonce).filter(|nonce| *nonce <= MAX_NONCE);
        }
        self.fill_fees(node, chain, &mut call).await?;
        if call.gas.is_none() {
            let params = format!("[{}]", call.estimated());
            call.gas = Some(self.number(node, chain, "eth_estimateGas", &params).await?);
        }
        Ok(call)
    }

    /// Fees with which the transaction gets into a block while the base fee no more than doubles, as far as the policy
    /// allows: a fee at its maximum is better than none, while the block's base fee is below.
    async fn fill_fees(&self, node: &Node, chain: u64, call: &mut TransactionCall) -> Result<(), CallError> {
        let number = call.type_number();
        if number.is_some_and(|number| number < 2) {
            if call.gas_price.is_none() {
                call.gas_price = Some(self.gas_price(node, chain).await?);
            }
            return Ok(());
        }
        // Some clients write both, and others the old name alone.
        call.max_fee_per_gas = call.max_fee_per_gas.or(call.gas_price);
        if call.max_fee_per_gas.is_some() && call.max_priority_fee_per_gas.is_some() {
            return Ok(());
        }
        let base = match call.max_fee_per_gas {
            Some(_) => None,
            None => match self.base_fee(node, chain).await? {
                Some(base) => Some(base),
                None if number.is_none() => {
                    call.gas_price = Some(self.gas_price(node, chain).await?);
                    return Ok(());
                }
                None => {
                    let problem =
                        format!("missing, and chain {chain} has no base fee to reckon it from; expected gasPrice");
                    return Err(call.error("maxFeePerGas", problem).into());
                }
            },
        };
        let written = call.max_priority_fee_per_gas;
        let tip = match written {
            Some(Wei(tip)) => tip,
            None => self.wei(node, chain, "eth_maxPriorityFeePerGas").await?,
        };
        let max_fee = match (call.max_fee_per_gas, base) {
            (Some(Wei(max_fee)), _) => max_fee,
            (None, base) => capped(base.unwrap_or(0), tip, self.max_fee(call.from)),
        };
        call.max_fee_per_gas = Some(Wei(max_fee));
        call.max_priority_fee_per_gas = Some(written.unwrap_or(Wei(tip.min(max_fee))));
        Ok(())
    }

    fn max_fee(&self, key: Address) -> u128 {
        self.policy.rules(key).max_fee_per_gas().0
    }

    async fn gas_price(&self, node: &Node, chain: u64) -> Result<Wei, CallError> {
        self.wei(node, chain, "eth_gasPrice").await.map(Wei)
    }

    async fn wei(&self, node: &Node, chain: u64, method: &str) -> Result<u128, CallError> {
        self.number(node, chain, method, "[]").await
    }

    /// The base fee of the latest block.
    async fn base_fee(&self, node: &Node, chain: u64) -> Result<Option<u128>, CallError> {
        let method = "eth_getBlockByNumber";
        let block = answer(chain, self.upstreams.ask(node, method, r#"["latest",false]"#).await)?;
        let unexpected = || unexpected(chain, method, "a block");
        let block: Block = serde_json::from_str(&block).map_err(|_another_form| unexpected())?;
        let read = |fee: String| read_quantity(&text(&fee)).ok_or_else(unexpected);
        block.base_fee_per_gas.map(read).transpose()
    }

    /// A quantity.
    async fn number<T: TryFrom<u128>>(
        &self,
        node: &Node,
        chain: u64,
        method: &str,
        params: &str,
    ) -> Result<T, CallError> {
        let result = answer(chain, self.upstreams.ask(node, method, params).await)?;
        let number = read_quantity(&result).and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| unexpected(chain, method, "a quantity"))
    }
}

/// Twice the base fee and the tip, or the policy's maximum if it is less than that and still enough for the next block.
fn capped(base: u128, tip: u128, max: u128) -> u128 {
    let wanted = base.saturating_mul(2).saturating_add(tip);
    match wanted > max && base.saturating_add(tip) <= max {
        true => max,
        false => wanted,
    }
}

/// Whether a node refuses a transaction because it has it: it was sent again after an answer was lost.
fn has_it(error: &RpcError) -> bool {
    says(error, &["already known", "alreadyknown", "known transaction", "already imported"])
}

fn says(error: &RpcError, any: &[&str]) -> bool {
    let message = error.message.to_ascii_lowercase();
    any.iter().any(|words| message.contains(words))
}

/// What a node says of a transaction that is signed. Its nonce is spent.
fn refused(error: RpcError, from: Address, nonce: u64, hash: &str) -> CallError {
    let message = format!(
        "{}; nonce {nonce} of {from} is spent on this transaction, {hash}, and the same call sends it again",
        error.message
    );
    let error = RpcError { message, ..error };
    let data = ErrorData { code: "upstream_refused", transaction_hash: Some(hash), ..ErrorData::default() };
    let error = if error.data.is_none() { error.with(&data) } else { error };
    CallError::new(error, "upstream_refused")
}

/// Why a transaction was not sent.
enum NotSent {
    /// Another transaction has its nonce.
    NonceTooLow(CallError),
    /// Any other reason.
    Other(CallError),
}

impl NotSent {
    fn into_error(self) -> CallError {
        match self {
            Self::NonceTooLow(error) | Self::Other(error) => error,
        }
    }
}

impl From<CallError> for NotSent {
    fn from(error: CallError) -> Self {
        Self::Other(error)
    }
}

fn answer(chain: u64, asked: Result<Answered, UpstreamError>) -> Result<String, CallError> {
    match asked {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error)) => Err(CallError::new(error, "upstream_refused")),
        Err(error) => Err(failed(chain, &error, None)),
    }
}

fn failed(chain: u64, error: &UpstreamError, hash: Option<&str>) -> CallError {
    let (code, outcome, retry_after) = match error {
        UpstreamError::Unavailable(_) => (UNAVAILABLE, "upstream_unavailable", Some(1)),
        UpstreamError::Answer(_) => (INTERNAL, "upstream_answer", None),
    };
    let sent = hash
        .map(|hash| format!("; the transaction {hash} is signed, and the upstream may have it"))
        .unwrap_or_default();
    let data = ErrorData { code: outcome, retry_after, transaction_hash: hash, ..ErrorData::default() };
    CallError::new(RpcError::new(code, format!("upstream of chain {chain}: {error}{sent}")).with(&data), outcome)
}

fn unexpected(chain: u64, method: &str, expected: &str) -> CallError {
    failed(chain, &UpstreamError::Answer(format!("{method}: unexpected answer, expected {expected}")), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fees_leave_room_for_the_base_fee_to_double_up_to_the_policys_maximum() {
        assert_eq!(capped(10, 2, 100), 22);
        assert_eq!(capped(10, 2, 15), 15, "the maximum is enough for the next block");
        assert_eq!(capped(10, 2, 11), 22, "it is not: the policy refuses, and names its rule");
        assert_eq!(capped(u128::MAX, 2, u128::MAX), u128::MAX);
    }
}
