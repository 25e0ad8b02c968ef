use std::collections::{BTreeSet, HashMap};

use ethereum::amount::Wei;
use ethereum::signable::Unsigned;
use ethereum::transaction::Kind;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const KEY: Address = Address([1; 20]);
const ME: Payer<'_> = Payer { client: "pay.example", is_key_brought: false };
const MY_GUESTS: Payer<'_> = Payer { is_key_brought: true, ..ME };
const OTHER: Payer<'_> = Payer { client: "other.example", is_key_brought: false };

fn key(number: u32) -> Address {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&number.to_be_bytes());
    Address(key)
}

fn transaction(nonce: u64, value: u128, fee: u128) -> Transaction {
    Transaction {
        chain_id: 1,
        nonce,
        gas: 21_000,
        to: Some(Address([7; 20])),
        value: Wei(value),
        data: Vec::new(),
        kind: Kind::DynamicFee {
            max_fee_per_gas: Wei(fee),
            max_priority_fee_per_gas: Wei(fee / 2),
            access_list: Vec::new(),
        },
    }
}

/// One payer's memory with the default bounds.
fn mine() -> Nonces {
    Nonces::new(1, Bounds::default())
}

fn spend(nonces: &mut Nonces, payer: Payer<'_>, key: Address, transaction: &Transaction) -> Result<(), NonceError> {
    let hash = UnsignedTransaction::new(transaction).hash();
    let subject = Signable::Transaction(transaction.clone());
    nonces.spend(payer, &Wanted { key, subject: &subject, hash, may_bump: true })
}

/// Without bumps, and one value for another transaction.
fn sign(nonces: &mut Nonces, payer: Payer<'_>, key: Address, nonce: u64, value: u8) -> Result<(), NonceError> {
    let subject = Signable::Transaction(Transaction { nonce, ..transaction(0, value.into(), 100) });
    nonces.spend(payer, &Wanted { key, subject: &subject, hash: [value; 32], may_bump: false })
}

fn spent(nonce: u64, next: u64) -> Result<(), NonceError> {
    Err(NonceError::Spent { nonce, next: Some(next), may_bump: false })
}

#[test]
fn a_nonce_is_spent_on_one_transaction_which_may_come_again() {
    let mut nonces = mine();
    for _ in 0..2 {
        assert_eq!(sign(&mut nonces, ME, KEY, 7, 1), Ok(()));
        assert_eq!(sign(&mut nonces, ME, KEY, 7, 2), spent(7, 8));
    }
    assert_eq!(sign(&mut nonces, OTHER, KEY, 7, 1), Ok(()));
    assert_eq!(sign(&mut nonces, OTHER, KEY, 7, 2), spent(7, 8));
    assert_eq!(nonces.metrics().refusals, [("spent", 3)].into());
}

#[test]
fn other_keys_chains_and_nonces_are_other_nonces() {
    let mut nonces = mine();
    assert_eq!(sign(&mut nonces, ME, KEY, 7, 1), Ok(()));
    assert_eq!(sign(&mut nonces, ME, KEY, 8, 2), Ok(()));
    assert_eq!(sign(&mut nonces, ME, key(2), 7, 2), Ok(()));
    let other_chain = Transaction { chain_id: 2, ..transaction(7, 2, 100) };
    assert_eq!(spend(&mut nonces, ME, KEY, &other_chain), Ok(()));
    assert_eq!(nonces.metrics().accounts, 3);
}

#[test]
fn ten_thousand_keys_on_ten_chains_sign_and_go_on() {
    let mut nonces = Nonces::new(2, Bounds::default());
    for round in 0..2 {
        for number in 0..10_000 {
            for chain_id in 1..=10 {
                let subject = Signable::Transaction(Transaction { chain_id, ..transaction(round, 1, 100) });
                let wanted = Wanted { key: key(number), subject: &subject, hash: [1; 32], may_bump: false };
                assert_eq!(nonces.spend(ME, &wanted), Ok(()));
            }
        }
    }
    assert_eq!(nonces.metrics().accounts, 100_000);
    assert_eq!(nonces.metrics().shares, [(ME.client.to_owned(), false, 100_000)]);
}

#[test]
fn the_order_of_nonces_does_not_matter() {
    let mut nonces = mine();
    for nonce in (0..=2000).rev() {
        assert_eq!(sign(&mut nonces, ME, KEY, nonce, 1), Ok(()));
    }
    for nonce in (1_000_000_000..1_000_001_026).chain(2001..3000) {
        assert_eq!(sign(&mut nonces, ME, KEY, nonce, 1), Ok(()));
    }
    assert_eq!(nonces.metrics().shares, [(ME.client.to_owned(), false, 2)]);
    for nonce in [0, 1, 2000, 1_000_000_000, 2999] {
        assert_eq!(sign(&mut nonces, ME, KEY, nonce, 1), Ok(()));
        assert!(matches!(sign(&mut nonces, ME, KEY, nonce, 2), Err(NonceError::Spent { .. })));
    }
}

#[test]
fn the_highest_nonces_lock_no_lower_one() {
    let mut nonces = mine();
    for nonce in (MAX_NONCE - 5000..=MAX_NONCE).rev().chain(0..5000) {
        assert_eq!(sign(&mut nonces, ME, KEY, nonce, 1), Ok(()));
    }
    let highest = NonceError::Spent { nonce: MAX_NONCE, next: None, may_bump: false };
    assert_eq!(sign(&mut nonces, ME, KEY, MAX_NONCE, 2), Err(highest));
}

#[test]
fn a_nonce_beside_a_spent_one_is_signed_however_many_gaps_there_are() {
    let mut nonces = mine();
    let most = Bounds::default().runs_of_account as u64;
    for nonce in 0..most {
        assert_eq!(sign(&mut nonces, ME, KEY, 10 * nonce, 1), Ok(()));
    }
    let apart = NonceError::Apart { nonce: 25, runs: 1024, beside: Some(21) };
    assert_eq!(sign(&mut nonces, ME, KEY, 25, 1), Err(apart));
    assert_eq!(sign(&mut nonces, ME, KEY, MAX_NONCE, 1).unwrap_err().reason(), "apart");
    for nonce in 21..30 {
        assert_eq!(sign(&mut nonces, ME, KEY, nonce, 1), Ok(()));
    }
    // A gap is filled, so one may be left elsewhere.
    assert_eq!(sign(&mut nonces, ME, KEY, MAX_NONCE, 1), Ok(()));
}

#[test]
fn the_gaps_that_one_client_leaves_are_not_anothers() {
    let mut nonces = Nonces::new(2, Bounds::default());
    for nonce in 0..1024 {
        assert_eq!(sign(&mut nonces, OTHER, KEY, 1000 + 10 * nonce, 1), Ok(()));
    }
    assert!(sign(&mut nonces, OTHER, KEY, 500, 1).is_err());
    assert_eq!(sign(&mut nonces, ME, KEY, 500, 1), Ok(()));
}

#[test]
fn keys_that_come_with_requests_leave_the_others_their_part_and_half_of_what_is_common() {
    let bounds = Bounds { runs: 80, ..Bounds::default() };
    let mut nonces = Nonces::new(4, bounds);
    for number in 0..30 {
        assert_eq!(sign(&mut nonces, MY_GUESTS, key(1000 + number), 0, 1), Ok(()), "10 of its own, 20 that are common");
    }
    let full = NonceError::Full { runs: 30, guaranteed: 10, is_key_brought: true };
    assert_eq!(sign(&mut nonces, MY_GUESTS, key(1030), 0, 1), Err(full));
    for number in 0..10 {
        assert_eq!(sign(&mut nonces, MY_GUESTS, key(1000 + number), 1, 1), Ok(()), "an account that is known goes on");
        assert_eq!(sign(&mut nonces, OTHER, key(200 + number), 0, 1), Ok(()), "another client's");
    }
    for number in 0..30 {
        assert_eq!(sign(&mut nonces, ME, key(100 + number), 0, 1), Ok(()), "10 of its own, 20 that are common");
    }
    let full = NonceError::Full { runs: 30, guaranteed: 10, is_key_brought: false };
    assert_eq!(sign(&mut nonces, ME, key(130), 0, 1), Err(full));
}

#[test]
fn a_common_run_that_is_given_back_is_there_for_anybody() {
    let mut nonces = Nonces::new(2, Bounds { runs: 8, ..Bounds::default() });
    for nonce in [0, 2, 10, 20, 30, 40] {
        assert_eq!(sign(&mut nonces, OTHER, KEY, nonce, 1), Ok(()));
    }
    assert_eq!(sign(&mut nonces, ME, key(1), 0, 1), Ok(()));
    assert_eq!(sign(&mut nonces, ME, key(2), 0, 1), Ok(()));
    assert_eq!(sign(&mut nonces, ME, key(3), 0, 1).unwrap_err().reason(), "full");
    assert_eq!(nonces.metrics().common, 4);
    // Two of the other's runs become one.
    assert_eq!(sign(&mut nonces, OTHER, KEY, 1, 1), Ok(()));
    assert_eq!(nonces.metrics().common, 3);
    assert_eq!(sign(&mut nonces, ME, key(3), 0, 1), Ok(()));
    assert_eq!(sign(&mut nonces, OTHER, KEY, 50, 1).unwrap_err().reason(), "full");
}

#[test]
fn each_of_many_clients_has_room_for_ten_thousand_keys() {
    // As many as a configuration with 27 payers has: of an equal share each would have 9,709.
    let mut nonces = Nonces::new(27, Bounds::default());
    for client in 0..25 {
        let name = format!("client-{client}.example");
        for number in 0..10_000 {
            let payer = Payer { client: &name, is_key_brought: false };
            assert_eq!(sign(&mut nonces, payer, key(10_000 * client + number), 0, 1), Ok(()), "{name}: {number}");
        }
    }
}

#[test]
fn payers_that_the_configuration_does_not_have_get_no_memory_of_their_own() {
    let mut nonces = Nonces::new(1, Bounds { runs: 2, ..Bounds::default() });
    assert_eq!(sign(&mut nonces, ME, key(0), 0, 1), Ok(()));
    assert_eq!(sign(&mut nonces, OTHER, key(1), 0, 1), Ok(()));
    assert!(sign(&mut nonces, OTHER, key(2), 0, 1).is_err());
}

#[test]
fn what_is_forgotten_stays_spent() {
    let mut nonces = Nonces::new(1, Bounds { latest: 3, ..Bounds::default() });
    for nonce in 0..5 {
        assert_eq!(sign(&mut nonces, ME, KEY, nonce, 1), Ok(()));
    }
    for nonce in 0..2 {
        let expected = Fees { max_fee_per_blob_gas: Some(Wei(2)), ..transaction(0, 0, 110).fees() };
        let fees = NonceError::Fees { nonce: 7, expected }.to_string();
        assert!(
            fees.contains("by 100 % or more") && fees.ends_with("and a maxFeePerBlobGas of at least 2 wei"),
            "{fees}"
        );
        let forgotten = NonceError::Forgotten { nonce, kept: 3, next: Some(5) };
        assert_eq!(sign(&mut nonces, ME, KEY, nonce, 1), Err(forgotten.clone()));
        assert_eq!(spend(&mut nonces, ME, KEY, &transaction(nonce, 1, 200)), Err(forgotten));
    }
    assert!((2..5).all(|nonce| sign(&mut nonces, ME, KEY, nonce, 1).is_ok()));
    assert_eq!(sign(&mut nonces, ME, KEY, 2, 2), spent(2, 5));
}

#[test]
fn a_busy_client_forgets_its_own_transactions_only() {
    let mut nonces = Nonces::new(2, Bounds { latest: 6, ..Bounds::default() });
    assert_eq!(sign(&mut nonces, ME, KEY, 0, 1), Ok(()));
    for nonce in 1..1000 {
        assert_eq!(sign(&mut nonces, OTHER, KEY, nonce, 1), Ok(()));
    }
    assert_eq!(sign(&mut nonces, ME, KEY, 0, 1), Ok(()));
    assert_eq!(nonces.metrics().latest, 4);
}

#[test]
fn fees_go_up_by_a_tenth_and_nothing_else_changes() {
    let mut nonces = mine();
    let original = transaction(7, 1, 100);
    assert_eq!(spend(&mut nonces, ME, KEY, &original), Ok(()));
    let at = |fee: u128, tip: u128| {
        original.with_fees(Fees {
            max_fee_per_gas: Wei(fee),
            max_priority_fee_per_gas: Wei(tip),
            max_fee_per_blob_gas: None,
        })
    };
    let expected = at(110, 55).fees();
    for (fee, tip) in [(109, 55), (110, 54), (200, 50), (100, 60), (99, 49), (0, 0)] {
        let refused = spend(&mut nonces, ME, KEY, &at(fee, tip));
        assert_eq!(refused, Err(NonceError::Fees { nonce: 7, expected }), "{fee} {tip}");
    }
    for other in [
        Transaction { value: Wei(2), ..at(110, 55) },
        Transaction { gas: 21_001, ..at(110, 55) },
        Transaction { to: Some(KEY), ..at(110, 55) },
        Transaction { to: None, ..at(110, 55) },
        Transaction { data: vec![0], ..at(110, 55) },
        Transaction { kind: Kind::Legacy { gas_price: Wei(110) }, ..original.clone() },
        Transaction { kind: Kind::AccessList { gas_price: Wei(110), access_list: Vec::new() }, ..original.clone() },
    ] {
        let refused = spend(&mut nonces, ME, KEY, &other);
        assert_eq!(refused, Err(NonceError::Spent { nonce: 7, next: Some(8), may_bump: true }), "{other:?}");
    }
    assert_eq!(spend(&mut nonces, ME, KEY, &at(110, 55)), Ok(()));
    assert_eq!(spend(&mut nonces, ME, KEY, &at(110, 55)), Ok(()), "it may come again");
    assert!(spend(&mut nonces, ME, KEY, &original).is_err(), "back to lower fees");
    assert!(spend(&mut nonces, ME, KEY, &at(120, 61)).is_err(), "a tenth more than the latest");
    assert_eq!(spend(&mut nonces, ME, KEY, &at(121, 61)), Ok(()));
}

#[test]
fn a_gas_price_is_bumped_as_fees_are() {
    for kind in
        [|gas_price| Kind::Legacy { gas_price }, |gas_price| Kind::AccessList { gas_price, access_list: vec![] }]
    {
        let mut nonces = mine();
        let at = |price: u128| Transaction { kind: kind(Wei(price)), ..transaction(7, 1, 0) };
        assert_eq!(spend(&mut nonces, ME, KEY, &at(0)), Ok(()));
        assert_eq!(spend(&mut nonces, ME, KEY, &at(1)), Ok(()), "from nothing by a wei");
        assert_eq!(spend(&mut nonces, ME, KEY, &at(101)), Ok(()));
        assert!(spend(&mut nonces, ME, KEY, &at(111)).is_err(), "the tenth is rounded up");
        assert_eq!(spend(&mut nonces, ME, KEY, &at(112)), Ok(()));
        assert_eq!(spend(&mut nonces, ME, KEY, &at(u128::MAX)), Ok(()));
        assert_eq!(
            spend(&mut nonces, ME, KEY, &at(1)),
            Err(NonceError::Fees { nonce: 7, expected: Fees::default().highest() })
        );
    }
}

#[test]
fn without_the_policys_leave_fees_do_not_go_up() {
    let mut nonces = mine();
    let [original, bumped] = [100, 200].map(|fee| Signable::Transaction(transaction(7, 1, fee)));
    let wanted = |subject| Wanted { key: KEY, subject, hash: Unsigned::new(subject).hash(), may_bump: false };
    assert_eq!(nonces.spend(ME, &wanted(&original)), Ok(()));
    assert_eq!(nonces.spend(ME, &wanted(&bumped)), spent(7, 8));
}

#[test]
fn an_error_names_the_nonce_and_says_what_to_do() {
    let spent = NonceError::Spent { nonce: 7, next: Some(9), may_bump: false }.to_string();
    assert!(spent.starts_with("something else has been signed for nonce 7 "), "{spent}");
    assert!(spent.ends_with("(fee_bump is off), or an unspent nonce such as 9"), "{spent}");
    let fees = NonceError::Fees { nonce: 7, expected: transaction(0, 0, 110).fees() }.to_string();
    assert!(fees.contains("expected a fee of at least 110 wei and a tip of at least 55 wei"), "{fees}");
    let forgotten = NonceError::Forgotten { nonce: 7, kept: 3, next: Some(9) }.to_string();
    assert!(forgotten.contains("neither signs it again nor bumps its fees; expected an unspent nonce such as 9"));
    let apart = NonceError::Apart { nonce: 7, runs: 1024, beside: Some(5) }.to_string();
    assert!(apart.ends_with("expected one next to a spent nonce such as 5"), "{apart}");
    let full = NonceError::Full { runs: 10, guaranteed: 9, is_key_brought: true }.to_string();
    assert!(
        full.contains(
            "10 runs are remembered for this client's keys that come with a request, of which 9 are guaranteed"
        ),
        "{full}"
    );
}

/// What a client asks for in the property below.
#[derive(Clone, Copy, Debug)]
struct Step {
    client: usize,
    is_key_brought: bool,
    key: u32,
    nonce: u64,
    value: u128,
    fee: u128,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let nonce =
        prop_oneof![4 => 0..12_u64, 1 => MAX_NONCE - 3..=MAX_NONCE, 1 => any::<u64>().prop_map(|n| n.min(MAX_NONCE))];
    let fee = prop_oneof![Just(100_u128), Just(109), Just(110), Just(121), Just(0)];
    let step = (0..3_usize, any::<bool>(), 0..4_u32, nonce, 0..2_u128, fee);
    let step = step.prop_map(|(client, is_key_brought, key, nonce, value, fee)| Step {
        client,
        is_key_brought,
        key,
        nonce,
        value,
        fee,
    });
    vec(step, 1..150)
}

/// A memory without bounds that says what is right.
#[derive(Default)]
struct Model {
    latest: HashMap<(u32, u64), Remembered>,
    spent: HashMap<u32, BTreeSet<u64>>,
    /// Of each payer: new nonces, and those that made a run.
    payers: HashMap<(usize, bool), (usize, usize)>,
}

struct Remembered {
    value: u128,
    fee: u128,
    payer: (usize, bool),
    /// Which of its payer's nonces this was.
    at: usize,
}

impl Model {
    fn is_beside(&self, step: Step) -> bool {
        let has = |nonce: Option<u64>| {
            nonce.is_some_and(|nonce| self.spent.get(&step.key).is_some_and(|spent| spent.contains(&nonce)))
        };
        has(step.nonce.checked_sub(1)) || has(step.nonce.checked_add(1))
    }

    fn allows(&self, step: Step, may_bump: bool) -> bool {
        self.latest.get(&(step.key, step.nonce)).is_none_or(|known| {
            let raised = |old: u128, new: u128| new > old && new * 10 >= old * 11;
            let is_bump = may_bump && raised(known.fee, step.fee) && raised(known.fee / 2, step.fee / 2);
            known.value == step.value && (known.fee == step.fee || is_bump)
        })
    }

    fn sign(&mut self, step: Step) {
        let payer = (step.client, step.is_key_brought);
        let is_run = !self.is_beside(step);
        if let Some(known) = self.latest.get_mut(&(step.key, step.nonce)) {
            known.fee = step.fee;
            return;
        }
        let (nonces, runs) = self.payers.entry(payer).or_default();
        *nonces += 1;
        *runs += usize::from(is_run);
        let Step { value, fee, .. } = step;
        self.latest.insert((step.key, step.nonce), Remembered { value, fee, payer, at: *nonces });
        self.spent.entry(step.key).or_default().insert(step.nonce);
    }
}

proptest! {
    #[test]
    fn a_bounded_memory_never_allows_what_an_unbounded_one_refuses_and_refuses_only_at_its_bounds(
        steps in steps(), may_bump: bool, runs in 6..200_usize, runs_of_account in 1..6_usize, latest in 6..200_usize,
    ) {
        let bounds = Bounds { runs, runs_of_account, latest };
        let (mut nonces, mut model) = (Nonces::new(6, bounds), Model::default());
        let clients = ["a", "b", "c"];
        for step in steps {
            let subject = Signable::Transaction(transaction(step.nonce, step.value, step.fee));
            let hash = Unsigned::new(&subject).hash();
            let payer = Payer { client: clients[step.client], is_key_brought: step.is_key_brought };
            let wanted = Wanted { key: key(step.key), subject: &subject, hash, may_bump };
            let is_new = !model.latest.contains_key(&(step.key, step.nonce));
            match nonces.spend(payer, &wanted) {
                Ok(()) => {
                    prop_assert!(model.allows(step, may_bump), "{:?}", step);
                    model.sign(step);
                }
                Err(NonceError::Spent { .. } | NonceError::Fees { .. }) => prop_assert!(!model.allows(step, may_bump), "{:?}", step),
                Err(NonceError::Forgotten { .. }) => {
                    let known = model.latest.get(&(step.key, step.nonce)).expect("a nonce that was never spent is forgotten");
                    prop_assert!(model.payers[&known.payer].0 - known.at >= latest / 6, "{:?} is forgotten early", step);
                }
                Err(NonceError::Apart { .. }) => {
                    prop_assert!(is_new && !model.is_beside(step));
                    let spent = &model.spent[&step.key];
                    let runs = spent.iter().filter(|nonce| !spent.contains(&nonce.wrapping_sub(1))).count();
                    prop_assert!(runs >= runs_of_account);
                }
                Err(NonceError::Full { .. }) => {
                    prop_assert!(is_new && !model.is_beside(step));
                    let made = model.payers.get(&(step.client, step.is_key_brought)).map_or(0, |payer| payer.1);
                    prop_assert!(made >= (runs / 12).max(1), "{:?}: full after {} runs", step, made);
                }
            }
            let metrics = nonces.metrics();
            prop_assert!(metrics.latest <= latest.max(6));
            let counted: usize = metrics.shares.iter().map(|(_client, _is_brought, runs)| runs).sum();
            prop_assert!(counted <= runs);
            prop_assert_eq!(counted, nonces.spent.values().map(Runs::len).sum::<usize>(), "a run is counted once");
        }
    }
}

mod every_chain;
