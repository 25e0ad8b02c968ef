//! From a request that has been read to its signature: one way, whatever form the request had.

use std::sync::{MutexGuard, PoisonError};

use ethereum::address::Address;
use ethereum::authorization::Authorization;
use ethereum::hex;
use ethereum::key::SecretKey;
use ethereum::signable::{Signable, Signed, Unsigned};
use signer_api::RequestError;
use signer_api::key::{Credential, KeyReference};
use tokio::time::{Instant, timeout};
use tracing::{debug, error, info, warn};

use super::Shared;
use super::failure::Failure;
use crate::cache::Id;
use crate::keys::{Attestor, KeyError, Keys};
use crate::ledger::Claim;
use crate::nonces::Wanted;
use crate::permission::Caller;
use crate::policy::{Judges, identity};
use crate::pool;
use crate::spent::Spent;
use crate::windows::Plan;

/// What a client wants signed, and with which key.
pub(super) struct Order<'a> {
    pub(super) subject: &'a Signable,
    pub(super) reference: &'a KeyReference,
    /// None: the enclave's own.
    pub(super) credential: Option<&'a Credential>,
    /// The account that the client has named, if it named one.
    pub(super) from: Option<Address>,
}

impl<K: Keys, A: Attestor> Shared<K, A> {
    pub(super) async fn signature(&self, caller: &Caller, order: &Order<'_>) -> Result<Signed, Failure> {
        let &Order { subject, reference, credential, from } = order;
        caller.may_ask(reference)?;
        let unsigned = Unsigned::new(subject);
        self.check_pool(subject, unsigned.max_signed_len())?;
        let id = Id::new(reference, credential);
        let key = self.cache.key(id, Instant::now(), self.fetch(reference, credential)).await?;
        let address = key.address();
        self.accounts.check(reference, address, from)?;
        caller.may_use(reference, address)?;
        let judges = Judges::new(&self.policy, address, caller);
        judges.check(subject)?;
        if let Signable::Transaction(transaction) = subject {
            pool::check_own(transaction, address)?;
        }
        let payer = caller.payer(self.is_brought(reference, credential) && !self.policy.names(address));
        let (hash, may_bump) = (unsigned.hash(), judges.allow_fee_bump());
        let windows = judges.spending(payer, subject);
        let is_once = !judges.allow_nonce_reuse();
        match &self.ledger {
            Some(ledger) => {
                let plan = windows.map(|spending| self.spent().plan(&spending, Instant::now())).transpose()?;
                let parts = plan.as_ref().map(Plan::parts).unwrap_or_default();
                let claims = if is_once { claims(address, subject, hash, may_bump) } else { Vec::new() };
                ledger.spend(&key, &parts, &claims).await?;
                if let Some(plan) = plan {
                    self.spent().count(plan);
                }
            }
            None => {
                let nonce = is_once.then_some(Wanted { key: address, subject, hash, may_bump });
                self.spent().spend(payer, nonce.as_ref(), windows.as_ref(), Instant::now())?;
            }
        }
        let signed = unsigned.sign(&key).inspect_err(|error| error!(%error, key = %address, "sign"))?;
        self.metrics.signed(caller.name());
        note_signed(caller, address, subject, &signed);
        Ok(signed)
    }

    /// Whether the key came with the request, or with a credential of the request.
    fn is_brought(&self, reference: &KeyReference, credential: Option<&Credential>) -> bool {
        let is_ciphertext = matches!(reference, KeyReference::EncryptedKey(_)) && !self.accounts.has(reference);
        is_ciphertext || credential.is_some()
    }

    /// Refuses what no node would take, on chains whose nodes count gas as Ethereum's do.
    fn check_pool(&self, subject: &Signable, max_signed_len: usize) -> Result<(), RequestError> {
        match subject {
            Signable::Transaction(transaction) if self.policy.has_ethereums_gas_rules(transaction.chain_id) => {
                pool::check(transaction, max_signed_len)
            }
            Signable::Transaction(_) | Signable::Authorization(_) | Signable::Message(_) | Signable::TypedData(_) => {
                Ok(())
            }
        }
    }

    pub(super) fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn fetch(
        &self,
        reference: &KeyReference,
        credential: Option<&Credential>,
    ) -> Result<SecretKey, KeyError> {
        let fetched = timeout(self.limits.fetch, self.keys.fetch(reference, credential)).await;
        let fetched = fetched.unwrap_or_else(|_elapsed| Err(self.too_slow()));
        let fetched = fetched.inspect_err(|error| warn!(%error, key = ?reference, "fetch a key"))?;
        info!(key = %fetched.key.address(), ?reference, version = fetched.version, "key fetched");
        Ok(fetched.key)
    }

    pub(super) fn too_slow(&self) -> KeyError {
        KeyError::Unavailable(format!("no answer within {:?}", self.limits.fetch))
    }
}

/// The nonces that a signature spends: of a transaction its own, and those of authorisations of its account. These come first: if one of
/// them is spent on something else, the transaction's is not spent.
fn claims(key: Address, subject: &Signable, hash: [u8; 32], may_bump: bool) -> Vec<Claim> {
    let of = |authorization: &Authorization| {
        let (Authorization { chain_id, nonce, .. }, payload) = (authorization, authorization.hash());
        Claim { chain: *chain_id, nonce: *nonce, payload, identity: payload, may_bump: false }
    };
    match subject {
        Signable::Transaction(transaction) => {
            let (chain, nonce, identity) = (transaction.chain_id, transaction.nonce, identity(subject));
            let own = transaction.authorizations().iter().filter(|signed| signed.authority() == Some(key));
            let claim = Claim { chain, nonce, payload: hash, identity, may_bump };
            own.map(|own| of(&own.authorization)).chain([claim]).collect()
        }
        Signable::Authorization(authorization) => vec![of(authorization)],
        Signable::Message(_) | Signable::TypedData(_) => Vec::new(),
    }
}

fn note_signed(caller: &Caller, key: Address, subject: &Signable, signed: &Signed) {
    let (client, hash) = (caller.name(), hex::prefixed(&signed.hash()));
    match subject {
        Signable::Transaction(transaction) => {
            debug!(client, %key, chain = transaction.chain_id, nonce = transaction.nonce, hash, "signed");
        }
        Signable::Authorization(Authorization { chain_id, contract, nonce }) => {
            debug!(client, %key, chain = chain_id, nonce, %contract, hash, "authorisation signed");
        }
        Signable::Message(_) => debug!(client, %key, hash, "message signed"),
        Signable::TypedData(data) => {
            debug!(client, %key, primary_type = data.primary_type(), hash, "typed data signed")
        }
    }
}
