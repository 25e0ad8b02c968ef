use ethereum::amount::Wei;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::policy::{Limit, Payment};

const KEY: Address = Address([1; 20]);
const OTHER_KEY: Address = Address([2; 20]);
const ME: Payer<'_> = Payer { client: "pay.example", is_key_brought: false };
const OTHER: Payer<'_> = Payer { client: "other.example", is_key_brought: false };
const HOUR: Duration = Duration::from_hours(1);

fn of_value(max: u128) -> Window {
    Window { period: HOUR, limit: Limit::Value(Wei(max)) }
}

fn of_count(max: u64) -> Window {
    Window { period: HOUR, limit: Limit::Count(max) }
}

fn windows(payers: usize) -> Windows {
    Windows::new(payers, [])
}

fn id(number: u64) -> [u8; 32] {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_be_bytes());
    id
}

/// One signature with a key, which counts in windows of the key.
fn spend(
    windows: &mut Windows,
    payer: Payer<'_>,
    limits: &[Window],
    key: Address,
    (number, value): (u64, u128),
    now: Instant,
) -> Result<(), Box<WindowError>> {
    let amounts = Amounts { value: Wei(value), payments: Vec::new() };
    let limits = vec![(Owner::Key(key), limits)];
    let spending = Spending { payer, id: (key, id(number)), chain_id: Some(1), amounts, windows: limits };
    let plan = windows.plan(&spending, now)?;
    windows.spend(plan);
    Ok(())
}

fn left(error: Box<WindowError>) -> String {
    match *error {
        WindowError::Exceeded { left, .. } => left,
        WindowError::Full { .. } => panic!("{error}"),
    }
}

#[test]
fn a_window_is_spent_to_the_last_wei_and_not_beyond() {
    let (mut windows, limits, now) = (windows(1), [of_value(10)], Instant::now());
    assert_eq!(spend(&mut windows, ME, &limits, KEY, (1, 7), now), Ok(()));
    let error = spend(&mut windows, ME, &limits, KEY, (2, 4), now).unwrap_err();
    assert_eq!(
        error.to_string(),
        "0.000000000000000004 ether more on chain 1 would be 0.000000000000000011 ether in 1h, at most 0.00000000000000001 ether; counted \
         since the signer started; expected at most 0.000000000000000003 ether now"
    );
    assert_eq!(spend(&mut windows, ME, &limits, KEY, (2, 3), now), Ok(()));
    assert_eq!(spend(&mut windows, ME, &limits, KEY, (3, 0), now), Ok(()), "nothing more is always allowed");
    assert_eq!(left(spend(&mut windows, ME, &limits, KEY, (4, 1), now).unwrap_err()), "0 ether");
    assert!(spend(&mut windows, ME, &limits, KEY, (5, u128::MAX), now).is_err());
}

#[test]
fn what_was_signed_counts_for_the_period_and_at_most_a_64th_longer() {
    let (mut windows, limits, start) = (windows(1), [of_count(1)], Instant::now());
    assert_eq!(spend(&mut windows, ME, &limits, KEY, (1, 0), start), Ok(()));
    assert!(spend(&mut windows, ME, &limits, KEY, (2, 0), start + HOUR - Duration::from_nanos(1)).is_err());
    assert_eq!(spend(&mut windows, ME, &limits, KEY, (2, 0), start + HOUR), Ok(()));
    // The last of a bucket decides for all of it.
    let (limits, later) = ([of_count(2)], start + HOUR / 65);
    let mut windows = self::windows(1);
    assert_eq!(spend(&mut windows, ME, &limits, KEY, (1, 0), start), Ok(()));
    assert_eq!(spend(&mut windows, ME, &limits, KEY, (2, 0), later), Ok(()));
    assert!(spend(&mut windows, ME, &limits, KEY, (3, 0), start + HOUR).is_err());
    assert_eq!(spend(&mut windows, ME, &limits, KEY, (3, 0), later + HOUR), Ok(()));
}

#[test]
fn the_same_again_counts_once_while_it_counts() {
    let (mut windows, limits, start) = (windows(1), [of_value(10)], Instant::now());
    for _ in 0..3 {
        assert_eq!(spend(&mut windows, ME, &limits, KEY, (1, 10), start), Ok(()));
    }
    assert_eq!(spend(&mut windows, ME, &limits, KEY, (1, 10), start + HOUR - Duration::from_nanos(1)), Ok(()));
    // The window is empty again, so it counts again.
    assert_eq!(spend(&mut windows, ME, &limits, KEY, (1, 10), start + HOUR), Ok(()));
    assert!(spend(&mut windows, ME, &limits, KEY, (2, 1), start + HOUR).is_err());
    assert_eq!(spend(&mut windows, ME, &limits, KEY, (1, 10), start + HOUR + HOUR / 2), Ok(()));
}

#[test]
fn keys_chains_clients_and_windows_count_apart() {
    let (mut windows, limits, now) = (windows(1), [of_count(1)], Instant::now());
    let mut sign = |owner: Owner, chain_id, number| {
        let windows_of = vec![(owner, &limits[..])];
        let spending =
            Spending { payer: ME, id: (KEY, id(number)), chain_id, amounts: Amounts::default(), windows: windows_of };
        let plan = windows.plan(&spending, now);
        plan.map(|plan| windows.spend(plan)).is_ok()
    };
    let client = |name: &str| Owner::Client(name.to_owned());
    for (at, (owner, chain_id)) in [
        (Owner::Key(KEY), Some(1)),
        (Owner::Key(KEY), Some(2)),
        (Owner::Key(KEY), None),
        (Owner::Key(OTHER_KEY), Some(1)),
        (client("pay.example"), Some(1)),
        (client("other.example"), Some(1)),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(sign(owner.clone(), chain_id, at as u64), "{owner:?} {chain_id:?}");
        assert!(!sign(owner.clone(), chain_id, 100 + at as u64), "{owner:?} {chain_id:?}");
    }
}

#[test]
fn a_token_counts_what_is_paid_in_it() {
    let token = Address([3; 20]);
    let limits = [Window { period: HOUR, limit: Limit::Token { token, max: Uint::from(100), decimals: 0 } }];
    let (mut windows, now) = (windows(1), Instant::now());
    let mut pay = |number, token, amount: u128| {
        let amounts = Amounts { value: Wei(0), payments: vec![Payment { token, amount: Uint::from(amount) }] };
        let spending = Spending {
            payer: ME,
            id: (KEY, id(number)),
            chain_id: Some(1),
            amounts,
            windows: vec![(Owner::Key(KEY), &limits[..])],
        };
        windows.plan(&spending, now).map(|plan| windows.spend(plan)).map_err(|error| error.to_string())
    };
    assert_eq!(pay(1, token, 60), Ok(()));
    assert_eq!(pay(2, Address([4; 20]), 1000), Ok(()));
    let error = pay(3, token, 41).unwrap_err();
    assert!(error.contains("would be 101 of token 0x0303"), "{error}");
    assert_eq!(pay(3, token, 40), Ok(()));
}

/// Nothing is spent in one window if another has no room.
#[test]
fn all_windows_are_spent_or_none() {
    let (mut windows, limits, now) = (windows(1), [of_count(2), of_value(10)], Instant::now());
    assert!(spend(&mut windows, ME, &limits, KEY, (1, 11), now).is_err());
    assert_eq!(spend(&mut windows, ME, &limits, KEY, (2, 5), now), Ok(()));
    assert!(spend(&mut windows, ME, &limits, KEY, (3, 11), now).is_err());
    assert_eq!(spend(&mut windows, ME, &limits, KEY, (4, 5), now), Ok(()));
    assert!(spend(&mut windows, ME, &limits, KEY, (5, 0), now).is_err());
}

#[test]
fn a_scope_takes_at_most_65_buckets_however_much_is_signed() {
    let (mut windows, limits, start) = (windows(1), [of_count(u64::MAX)], Instant::now());
    for number in 0..10_000_u64 {
        let now = start + HOUR / 1000 * u32::try_from(number).unwrap();
        assert_eq!(spend(&mut windows, ME, &limits, KEY, (number, 0), now), Ok(()));
        let buckets = windows.metrics(now).buckets;
        assert!(buckets <= 65, "{buckets} buckets after {number}");
    }
}

#[test]
fn a_full_share_refuses_new_scopes_of_its_own_and_no_others() {
    let (limits, start) = ([of_count(3)], Instant::now());
    let mut windows = Windows::with_bounds(2, 4, 100, []);
    let key = |number: u8| Address([number; 20]);
    for number in 1..=2 {
        assert_eq!(spend(&mut windows, ME, &limits, key(number), (0, 0), start), Ok(()));
    }
    let error = spend(&mut windows, ME, &limits, key(3), (0, 0), start).unwrap_err();
    assert!(
        error.to_string().starts_with("the signer counts in 2 parts of windows for this client already"),
        "{error}"
    );
    assert_eq!(spend(&mut windows, OTHER, &limits, key(3), (0, 0), start), Ok(()));
    // A scope that is there goes on, in its last bucket: it counts longer.
    let later = start + HOUR / 2;
    assert_eq!(spend(&mut windows, ME, &limits, key(1), (1, 0), later), Ok(()));
    assert_eq!(spend(&mut windows, ME, &limits, key(1), (2, 0), later), Ok(()));
    assert!(spend(&mut windows, ME, &limits, key(1), (3, 0), start + HOUR).is_err());
    assert_eq!(spend(&mut windows, ME, &limits, key(1), (3, 0), later + HOUR), Ok(()));
    // What has passed makes room.
    windows.expire(later + HOUR);
    assert_eq!(windows.metrics(later + HOUR).buckets, 1);
    assert_eq!(spend(&mut windows, ME, &limits, key(4), (0, 0), later + HOUR), Ok(()));
}

#[test]
fn one_signature_may_not_start_more_windows_than_its_share_has_room_for() {
    let (limits, now) = ([of_count(3), of_value(3), of_count(4)], Instant::now());
    let mut windows = Windows::with_bounds(1, 2, 100, []);
    let full = spend(&mut windows, ME, &limits, KEY, (0, 1), now).unwrap_err();
    assert!(matches!(*full, WindowError::Full { buckets: 2, .. }));
    assert_eq!(windows.metrics(now).buckets, 0);
    assert_eq!(spend(&mut windows, ME, &limits[..2], KEY, (0, 1), now), Ok(()));
}

#[test]
fn what_is_no_longer_remembered_counts_again() {
    let (limits, now) = ([of_count(3)], Instant::now());
    let mut windows = Windows::with_bounds(1, 100, 2, []);
    for number in 0..2 {
        assert_eq!(spend(&mut windows, ME, &limits, KEY, (number, 0), now), Ok(()));
    }
    assert_eq!(spend(&mut windows, ME, &limits, KEY, (0, 0), now), Ok(()));
    assert_eq!(spend(&mut windows, ME, &limits, KEY, (2, 0), now), Ok(()));
    assert!(spend(&mut windows, ME, &limits, KEY, (0, 0), now).is_err(), "the oldest was dropped");
    assert_eq!(spend(&mut windows, ME, &limits, KEY, (1, 0), now), Ok(()));
}

#[test]
fn the_metrics_show_the_fullest_of_each_window_and_none_is_missing() {
    let (ours, theirs) = ([of_value(10)], [of_count(4)]);
    let mut windows = Windows::new(2, [(None, &ours[..]), (Some("pay.example"), &theirs[..])]);
    let now = Instant::now();
    let used = |windows: &Windows, now| {
        windows.metrics(now).used.into_iter().map(|((of, limit, _), used)| (of, limit, used)).collect::<Vec<_>>()
    };
    let series =
        |key, client| vec![("each key".to_owned(), "max_value", key), ("pay.example".to_owned(), "max_count", client)];
    assert_eq!(used(&windows, now), series(0, 0));
    assert_eq!(spend(&mut windows, ME, &ours, KEY, (1, 3), now), Ok(()));
    assert_eq!(spend(&mut windows, ME, &ours, OTHER_KEY, (1, 9), now), Ok(()));
    assert_eq!(used(&windows, now), series(90, 0));
    assert_eq!(used(&windows, now + HOUR), series(0, 0));
}

proptest! {
    /// An exact count of every moment: never more than the limit in any period, and never less than it allows a 64th later.
    #[test]
    fn no_period_has_more_than_the_limit(steps in vec((0..HOUR.as_secs() / 20, 1..5_u128), 1..300)) {
        let (mut windows, limits, mut now) = (windows(1), [of_value(10)], Instant::now());
        let mut signed: Vec<(Instant, u128)> = Vec::new();
        for (number, (pause, value)) in steps.into_iter().enumerate() {
            now += Duration::from_secs(pause);
            let within = |period: Duration| -> u128 {
                signed.iter().filter(|(at, _)| *at + period > now).map(|(_, value)| value).sum()
            };
            let is_signed = spend(&mut windows, ME, &limits, KEY, (number as u64, value), now).is_ok();
            if is_signed {
                prop_assert!(within(HOUR) + value <= 10);
                signed.push((now, value));
            } else {
                prop_assert!(within(HOUR + HOUR / 64) + value > 10, "refused without a reason");
            }
        }
    }
}
