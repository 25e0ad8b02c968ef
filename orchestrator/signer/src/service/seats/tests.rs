use super::*;
use crate::metrics::Metrics;

const BOUNDS: Places = Places { all: 8, unproven: 4, of_source: 6 };

fn source(text: &str) -> Source {
    Source::of(text.parse().unwrap())
}

/// So many connections of one source, which are as `change` leaves them.
fn some(seats: &Arc<Seats>, count: usize, from: &str, change: impl Fn(&Seat)) -> Vec<Seat> {
    let admit = |_| {
        let Admitted { seat, .. } = seats.admit(source(from)).unwrap_or_else(|bound| panic!("{from}: {bound:?}"));
        change(&seat);
        seat
    };
    (0..count).map(admit).collect()
}

fn is_taken(seat: &Seat) -> bool {
    seat.taken.is_cancelled()
}

#[test]
fn a_source_is_an_ipv4_address_or_an_ipv6_network() {
    assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:0:1"));
    assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
    assert_eq!(source("2001:db8::1").to_string(), "2001:db8::/64");
    assert_eq!(source("::ffff:192.0.2.1").to_string(), "192.0.2.1");
}

#[test]
fn a_newcomer_takes_the_oldest_silent_seat_of_the_source_that_has_most() {
    let seats = Seats::new(BOUNDS);
    let other = some(&seats, 1, "192.0.2.1", |_| ());
    let flood = some(&seats, 3, "192.0.2.2", |_| ());
    flood[0].has_spoken();
    let admitted = seats.admit(source("192.0.2.3")).unwrap_or_else(|bound| panic!("{bound:?}"));
    assert_eq!(admitted.displaced, Some((source("192.0.2.2"), Bound::Unproven)));
    assert_eq!(flood.iter().map(is_taken).collect::<Vec<_>>(), [false, true, false]);
    assert!(!is_taken(&other[0]) && !is_taken(&admitted.seat));
}

#[test]
fn among_many_sources_the_one_that_did_nothing_for_longest_goes() {
    let seats = Seats::new(BOUNDS);
    let each: Vec<_> = (1..=4).flat_map(|host| some(&seats, 1, &format!("192.0.2.{host}"), Seat::has_spoken)).collect();
    each[0].has_spoken();
    drop(seats.admit(source("192.0.2.9")).unwrap_or_else(|bound| panic!("{bound:?}")));
    assert_eq!(each.iter().map(is_taken).collect::<Vec<_>>(), [false, true, false, false]);
}

#[test]
fn those_who_have_proved_themselves_are_not_displaced_by_those_who_have_not() {
    let seats = Seats::new(BOUNDS);
    let proven = some(&seats, 4, "192.0.2.1", Seat::is_proven);
    let unproven = some(&seats, 4, "192.0.2.2", |_| ());
    for _ in 0..100 {
        std::mem::forget(seats.admit(source("192.0.2.3")));
    }
    assert!(!proven.iter().any(is_taken));
    assert!(unproven.iter().any(is_taken));
    assert_eq!(seats.table().count(), (4, 4));
}

#[test]
fn where_all_have_proved_themselves_an_idle_one_goes_and_a_busy_one_does_not() {
    let seats = Seats::new(BOUNDS);
    let mut proven = some(&seats, 4, "192.0.2.1", Seat::is_proven);
    proven.extend(some(&seats, 4, "192.0.2.2", Seat::is_proven));
    let busy: Vec<_> = proven.iter().filter(|seat| seat.id != proven[5].id).map(Seat::busy).collect();
    let admitted = seats.admit(source("192.0.2.3")).unwrap_or_else(|bound| panic!("{bound:?}"));
    assert_eq!(admitted.displaced, Some((source("192.0.2.2"), Bound::All)));
    assert!(is_taken(&proven[5]));
    admitted.seat.is_proven();
    let _busy = admitted.seat.busy();
    assert_eq!(seats.admit(source("192.0.2.3")).err(), Some(Bound::All));
    drop(busy);
    assert!(seats.admit(source("192.0.2.3")).is_ok());
}

#[test]
fn a_source_beyond_its_bound_takes_from_itself_and_leaves_room_for_others() {
    let seats = Seats::new(BOUNDS);
    let proven = some(&seats, 6, "192.0.2.1", Seat::is_proven);
    let busy: Vec<_> = proven.iter().map(Seat::busy).collect();
    assert_eq!(seats.admit(source("192.0.2.1")).err(), Some(Bound::Source));
    assert!(seats.admit(source("192.0.2.2")).is_ok_and(|admitted| admitted.displaced.is_none()));
    drop(busy);
    let displaced = seats.admit(source("192.0.2.1")).unwrap_or_else(|bound| panic!("{bound:?}")).displaced;
    assert_eq!(displaced, Some((source("192.0.2.1"), Bound::Source)));
}

#[test]
fn a_seat_that_is_given_back_is_free() {
    let seats = Seats::new(BOUNDS);
    for _ in 0..100 {
        let all = some(&seats, 4, "192.0.2.1", |_| ());
        assert!(!all.iter().any(is_taken));
    }
    assert_eq!(seats.table().count(), (0, 0));
    let page = Metrics::new(&[0; 32]).page(&[&*seats]);
    assert!(page.contains("signer_connections{state=\"proven\"} 0\n"), "{page}");
}

fn refused(seats: &Arc<Seats>, from: &str) -> Option<Bound> {
    seats.admit(source(from)).err()
}

#[test]
fn a_bound_takes_seats_only_of_those_whom_it_is_for() {
    let seats = Seats::new(Places { unproven: 1, ..BOUNDS });
    let (proven, unproven) = (some(&seats, 1, "192.0.2.1", Seat::is_proven), some(&seats, 1, "192.0.2.2", |_| ()));
    let busy = unproven[0].busy();
    assert_eq!(refused(&seats, "192.0.2.3"), Some(Bound::Unproven), "a proven connection is not for the unproven");
    assert!(!is_taken(&proven[0]) && !is_taken(&unproven[0]));
    drop(busy);
    let seats = Seats::new(Places { of_source: 1, ..BOUNDS });
    let (own, others) = (some(&seats, 1, "192.0.2.1", |_| ()), some(&seats, 1, "192.0.2.2", |_| ()));
    let _busy = own[0].busy();
    assert_eq!(refused(&seats, "192.0.2.1"), Some(Bound::Source), "a source takes from itself alone");
    assert!(!is_taken(&others[0]));
}

#[test]
fn an_unproven_connection_goes_before_the_proven_ones_of_a_source_that_has_more() {
    let seats = Seats::new(Places { all: 4, ..BOUNDS });
    let (unproven, proven) =
        (some(&seats, 1, "192.0.2.1", Seat::has_spoken), some(&seats, 3, "192.0.2.2", Seat::is_proven));
    let admitted = seats.admit(source("192.0.2.3")).unwrap_or_else(|bound| panic!("{bound:?}"));
    assert_eq!(admitted.displaced, Some((source("192.0.2.1"), Bound::All)));
    assert!(is_taken(&unproven[0]) && !proven.iter().any(is_taken));
}

#[test]
fn a_silent_connection_goes_before_an_older_one_that_has_spoken() {
    let seats = Seats::new(Places { unproven: 2, ..BOUNDS });
    let (spoken, silent) = (some(&seats, 1, "192.0.2.1", Seat::has_spoken), some(&seats, 1, "192.0.2.1", |_| ()));
    drop(seats.admit(source("192.0.2.2")).unwrap_or_else(|bound| panic!("{bound:?}")));
    assert!(is_taken(&silent[0]) && !is_taken(&spoken[0]));
}
