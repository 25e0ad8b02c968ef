//! Authorisations, of one chain and of every chain, and transactions that list them.

use ethereum::authorization::SignedAuthorization;
use ethereum::key::SecretKey;
use ethereum::message::Message;
use ethereum::signable::Signed;

use super::*;

fn secret() -> SecretKey {
    SecretKey::parse("11".repeat(32).as_bytes()).unwrap()
}

fn authorization(chain_id: u64, nonce: u64, contract: u8) -> Authorization {
    Authorization { chain_id, contract: Address([contract; 20]), nonce }
}

fn signed(key: &SecretKey, authorization: Authorization) -> SignedAuthorization {
    let Signed::Authorization(signature) = Unsigned::new(&Signable::Authorization(authorization)).sign(key).unwrap()
    else {
        panic!("another kind");
    };
    let [r, s] = [0, 32].map(|at| signature.bytes[at..at + 32].try_into().unwrap());
    SignedAuthorization { authorization, y_parity: signature.bytes[64] == 1, r, s }
}

fn set_code(chain_id: u64, nonce: u64, fee: u128, authorizations: Vec<SignedAuthorization>) -> Transaction {
    let (max_fee_per_gas, max_priority_fee_per_gas) = (Wei(fee), Wei(fee / 2));
    let kind = Kind::SetCode { max_fee_per_gas, max_priority_fee_per_gas, access_list: vec![], authorizations };
    Transaction { chain_id, kind, ..transaction(nonce, 0, 0) }
}

fn authorize(nonces: &mut Nonces, authorization: Authorization) -> Result<(), NonceError> {
    let subject = Signable::Authorization(authorization);
    let hash = Unsigned::new(&subject).hash();
    nonces.spend(ME, &Wanted { key: secret().address(), subject: &subject, hash, may_bump: true })
}

/// A transaction of this key.
fn send(nonces: &mut Nonces, transaction: &Transaction) -> Result<(), NonceError> {
    spend(nonces, ME, secret().address(), transaction)
}

fn plain(chain_id: u64, nonce: u64) -> Transaction {
    Transaction { chain_id, ..transaction(nonce, 1, 100) }
}

fn reason(result: Result<(), NonceError>) -> &'static str {
    result.map_or_else(|error| error.reason(), |()| "ok")
}

#[test]
fn an_authorisation_spends_a_nonce_as_a_transaction_does() {
    let mut nonces = mine();
    for _ in 0..2 {
        assert_eq!(authorize(&mut nonces, authorization(1, 7, 1)), Ok(()));
        assert_eq!(reason(authorize(&mut nonces, authorization(1, 7, 2))), "spent");
        assert_eq!(reason(send(&mut nonces, &plain(1, 7))), "spent");
    }
    assert_eq!(send(&mut nonces, &plain(1, 8)), Ok(()));
    assert_eq!(reason(authorize(&mut nonces, authorization(1, 8, 1))), "spent");
    assert_eq!(authorize(&mut nonces, authorization(2, 7, 2)), Ok(()));
    let other =
        Wanted { key: KEY, subject: &Signable::Authorization(authorization(1, 7, 2)), hash: [2; 32], may_bump: true };
    assert_eq!(nonces.spend(ME, &other), Ok(()), "another account");
}

#[test]
fn an_authorisation_for_every_chain_spends_the_nonce_on_each() {
    let mut nonces = mine();
    assert_eq!(authorize(&mut nonces, authorization(0, 7, 1)), Ok(()));
    assert_eq!(authorize(&mut nonces, authorization(0, 7, 1)), Ok(()), "it may come again");
    assert_eq!(reason(authorize(&mut nonces, authorization(0, 7, 2))), "spent");
    for chain_id in [1, 2, 10_000] {
        assert_eq!(reason(send(&mut nonces, &plain(chain_id, 7))), "spent");
        assert_eq!(reason(authorize(&mut nonces, authorization(chain_id, 7, 1))), "spent");
        assert_eq!(send(&mut nonces, &plain(chain_id, 6)), Ok(()));
        assert_eq!(send(&mut nonces, &plain(chain_id, 8)), Ok(()));
    }
    for nonce in [6, 8] {
        assert_eq!(reason(authorize(&mut nonces, authorization(0, nonce, 1))), "spent");
    }
    assert_eq!(authorize(&mut nonces, authorization(0, 9, 1)), Ok(()));
}

#[test]
fn a_nonce_of_any_chain_is_none_for_every_chain() {
    let mut nonces = mine();
    assert_eq!(send(&mut nonces, &plain(u64::MAX / 2 - 36, 7)), Ok(()));
    assert_eq!(authorize(&mut nonces, authorization(5, 9, 1)), Ok(()));
    for nonce in [7, 9] {
        let error = authorize(&mut nonces, authorization(0, nonce, 1)).unwrap_err();
        assert_eq!(error, NonceError::Spent { nonce, next: Some(nonce + 1), may_bump: false });
    }
    assert_eq!(spend(&mut nonces, ME, KEY, &plain(1, 11)), Ok(()), "another account");
    assert_eq!(authorize(&mut nonces, authorization(0, 11, 1)), Ok(()));
}

#[test]
fn an_error_offers_a_nonce_that_is_spent_on_no_chain() {
    let mut nonces = mine();
    assert_eq!(send(&mut nonces, &plain(1, 7)), Ok(()));
    assert_eq!(authorize(&mut nonces, authorization(0, 8, 1)), Ok(()));
    assert_eq!(send(&mut nonces, &plain(1, 9)), Ok(()));
    let error = send(&mut nonces, &Transaction { value: Wei(5), ..plain(1, 7) }).unwrap_err();
    assert_eq!(error, NonceError::Spent { nonce: 7, next: Some(10), may_bump: true });
}

#[test]
fn a_transaction_spends_the_nonces_of_its_own_authorisations_too() {
    let key = secret();
    for chain_id in [1, 0] {
        let mut nonces = mine();
        let own = signed(&key, authorization(chain_id, 6, 1));
        let foreign = signed(&SecretKey::parse("22".repeat(32).as_bytes()).unwrap(), authorization(1, 9, 1));
        assert_eq!(send(&mut nonces, &set_code(1, 5, 100, vec![foreign, own])), Ok(()));
        assert_eq!(reason(send(&mut nonces, &plain(1, 6))), "spent");
        assert_eq!(reason(authorize(&mut nonces, authorization(chain_id, 6, 2))), "spent");
        assert_eq!(authorize(&mut nonces, own.authorization), Ok(()), "it is the one that was signed");
        assert_eq!(send(&mut nonces, &plain(1, 9)), Ok(()), "another's");
        assert_eq!(send(&mut nonces, &set_code(1, 5, 100, vec![foreign, own])), Ok(()), "it may come again");
        assert_eq!(send(&mut nonces, &set_code(1, 5, 110, vec![foreign, own])), Ok(()), "with higher fees too");
        assert_eq!(reason(send(&mut nonces, &set_code(1, 5, 200, vec![own]))), "spent");
    }
}

#[test]
fn a_transaction_whose_authorisation_is_void_spends_nothing() {
    let key = secret();
    for chain_id in [1, 0] {
        let mut nonces = mine();
        assert_eq!(send(&mut nonces, &plain(1, 6)), Ok(()));
        let own = |nonce| signed(&key, authorization(chain_id, nonce, 1));
        assert_eq!(reason(send(&mut nonces, &set_code(1, 5, 100, vec![own(6)]))), "spent");
        assert_eq!(send(&mut nonces, &plain(1, 5)), Ok(()), "the nonce is free");
        assert_eq!(reason(send(&mut nonces, &set_code(1, 8, 100, vec![own(8)]))), "spent");
        assert_eq!(reason(send(&mut nonces, &set_code(1, 8, 100, vec![own(9), own(9)]))), "spent");
        assert_eq!(send(&mut nonces, &plain(1, 8)), Ok(()), "the nonce is free");
    }
}

#[test]
fn a_nonce_beside_one_that_is_spent_on_every_chain_takes_no_memory() {
    let bounds = Bounds { runs: 8, runs_of_account: 4, ..Bounds::default() };
    let mut nonces = Nonces::new(1, bounds);
    for nonce in 0..4 {
        assert_eq!(send(&mut nonces, &plain(1, nonce)), Ok(()));
    }
    assert_eq!(authorize(&mut nonces, authorization(0, 4, 1)), Ok(()));
    for number in 0..6 {
        assert_eq!(sign(&mut nonces, ME, key(number), 0, 1), Ok(()));
    }
    assert_eq!(reason(sign(&mut nonces, ME, key(9), 0, 1)), "full");
    assert_eq!(send(&mut nonces, &plain(1, 5)), Ok(()), "next to 4, which is spent");
    assert_eq!(reason(send(&mut nonces, &plain(2, 5))), "full", "another chain has no run to join");
    assert_eq!(nonces.metrics().shares, [(ME.client.to_owned(), false, 8)]);
    assert_eq!(reason(authorize(&mut nonces, authorization(0, 5, 1))), "spent");
    assert_eq!(authorize(&mut nonces, authorization(0, 4, 1)), Ok(()), "still known");
}

#[test]
fn a_share_that_has_room_for_one_run_spends_one_nonce_or_none() {
    let bounds = Bounds { runs: 2, ..Bounds::default() };
    let mut nonces = Nonces::new(1, bounds);
    assert_eq!(sign(&mut nonces, ME, key(9), 0, 1), Ok(()));
    let own = signed(&secret(), authorization(0, 6, 1));
    assert_eq!(
        reason(send(&mut nonces, &set_code(1, 5, 100, vec![own]))),
        "full",
        "a run on the chain, and one on every chain"
    );
    assert_eq!(nonces.metrics().shares, [(ME.client.to_owned(), false, 1)]);
    let own = signed(&secret(), authorization(1, 6, 1));
    assert_eq!(send(&mut nonces, &set_code(1, 5, 100, vec![own])), Ok(()), "one run for both");
    assert_eq!(nonces.metrics().shares, [(ME.client.to_owned(), false, 2)]);
}

#[test]
fn messages_have_no_nonce() {
    let mut nonces = Nonces::new(1, Bounds { runs: 1, ..Bounds::default() });
    for number in 0..9 {
        let subject = Signable::Message(Message(vec![number]));
        assert_eq!(
            nonces.spend(ME, &Wanted { key: key(1), subject: &subject, hash: [number; 32], may_bump: false }),
            Ok(())
        );
    }
    assert_eq!(nonces.metrics().accounts, 0);
}

#[test]
fn the_fees_of_blobs_are_bumped_to_twice_as_much() {
    let at = |fee: u128, blob_fee: u128| Transaction {
        kind: Kind::Blob {
            max_fee_per_gas: Wei(fee),
            max_priority_fee_per_gas: Wei(fee),
            access_list: vec![],
            max_fee_per_blob_gas: Wei(blob_fee),
            blob_versioned_hashes: vec![[1; 32]],
        },
        ..transaction(7, 1, 0)
    };
    let mut nonces = mine();
    assert_eq!(send(&mut nonces, &at(100, 10)), Ok(()));
    let expected = at(200, 20).fees();
    for (fee, blob_fee) in [(110, 20), (199, 20), (200, 19), (200, 10)] {
        assert_eq!(
            send(&mut nonces, &at(fee, blob_fee)),
            Err(NonceError::Fees { nonce: 7, expected }),
            "{fee} {blob_fee}"
        );
    }
    assert_eq!(send(&mut nonces, &at(200, 20)), Ok(()));
    assert_eq!(reason(send(&mut nonces, &at(100, 10))), "fees");
}

/// An unbounded memory: what each nonce of each chain is spent on.
#[derive(Default)]
struct Exact(HashMap<(u64, u64), (u8, u8)>);

impl Exact {
    /// Whether `what` may be signed for this nonce.
    fn allows(&self, chain_id: u64, nonce: u64, what: (u8, u8)) -> bool {
        let is_other = |(&(chain, at), known): (&(u64, u64), &(u8, u8))| {
            at == nonce && (chain == chain_id || chain == 0 || chain_id == 0) && (chain, *known) != (chain_id, what)
        };
        !self.0.iter().any(is_other)
    }
}

proptest! {
    #[test]
    fn no_nonce_is_spent_twice_on_any_chain_and_none_is_refused_that_is_free(
        steps in vec((0..4_u64, 0..10_u64, 0..2_u8, any::<bool>()), 1..120), runs in 2..40_usize,
    ) {
        let mut nonces = Nonces::new(1, Bounds { runs, ..Bounds::default() });
        let mut exact = Exact::default();
        for (chain_id, nonce, variant, is_authorization) in steps {
            let is_authorization = is_authorization || chain_id == 0;
            let what = (u8::from(is_authorization), variant);
            let result = if is_authorization {
                authorize(&mut nonces, authorization(chain_id, nonce, variant))
            } else {
                send(&mut nonces, &Transaction { value: Wei(variant.into()), ..plain(chain_id, nonce) })
            };
            let is_allowed = exact.allows(chain_id, nonce, what);
            match result {
                Ok(()) => {
                    prop_assert!(is_allowed, "chain {} nonce {}", chain_id, nonce);
                    exact.0.insert((chain_id, nonce), what);
                }
                Err(NonceError::Full { .. }) => {
                    prop_assert!(is_allowed, "chain {} nonce {} is spent, and called full", chain_id, nonce);
                    let near = |at: Option<u64>| at.is_some_and(|at| exact.0.contains_key(&(chain_id, at)));
                    prop_assert!(!near(nonce.checked_sub(1)) && !near(nonce.checked_add(1)), "it is next to one of its chain");
                    let counted: usize = nonces.metrics().shares.iter().map(|share| share.2).sum();
                    prop_assert_eq!(counted, runs, "full before it is");
                }
                Err(_) => prop_assert!(!is_allowed, "chain {} nonce {} is free", chain_id, nonce),
            }
            let counted: usize = nonces.metrics().shares.iter().map(|share| share.2).sum();
            prop_assert_eq!(counted, nonces.spent.values().map(Runs::len).sum::<usize>(), "a run is counted once");
            prop_assert!(counted <= runs);
        }
    }
}
