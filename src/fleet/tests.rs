//! Time is handed in.

use super::*;

const TIMES: Times = Times { lease: ms(1200), look: ms(100) };

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn fit(start: Instant) -> Seat {
    let mut seat = Seat::new(TIMES, "me".to_owned(), start);
    seat.wish(true, Duration::ZERO);
    seat
}

fn of_another(beats: u64, tenancy: Tenancy) -> Lease {
    Lease { id: "another".to_owned(), beats, tenancy, epoch: 4, ..Lease::default() }
}

/// Looks every 100 ms at a lease whose beats are told by `beats`, and returns when it is taken.
fn taken_after(seat: &mut Seat, start: Instant, limit: u64, beats: impl Fn(u64) -> Option<Lease>) -> Option<u64> {
    for at in (0..limit).step_by(100) {
        let now = start + ms(at);
        match beats(at) {
            Some(lease) => seat.looked(now, now, lease),
            None => seat.unanswered(now),
        }
        if matches!(seat.step(now), Step::Take(_)) {
            return Some(at);
        }
    }
    None
}

fn owner(start: Instant) -> Seat {
    let mut seat = fit(start);
    seat.took(start, start, Some(Take { epoch: 5, is_clean: true }));
    seat
}

#[test]
fn what_nobody_owns_is_taken_at_the_first_look_by_whoever_is_fit() {
    let start = Instant::now();
    let mut seat = fit(start);
    assert_eq!(seat.step(start), Step::Look);
    seat.looked(start, start, Lease::default());
    assert_eq!(seat.step(start), Step::Take(Lease::default()));
    seat.wish(false, Duration::ZERO);
    assert!(matches!(seat.step(start), Step::Wait(_)), "it could not do the work");
    seat.wish(true, ms(1000));
    assert!(matches!(seat.step(start), Step::Wait(_)), "it is left to whoever owns the others");
}

#[test]
fn an_owner_is_given_up_when_its_beats_have_not_moved_for_the_whole_lease() {
    let start = Instant::now();
    let silent = |_| Some(of_another(7, Tenancy::Owned));
    assert_eq!(taken_after(&mut fit(start), start, 5000, silent), Some(1200));
    let alive = |at| Some(of_another(at / 1100, Tenancy::Owned));
    assert_eq!(taken_after(&mut fit(start), start, 20_000, alive), None, "it moves just in time");
    let drains = |_| Some(of_another(7, Tenancy::Draining));
    assert_eq!(taken_after(&mut fit(start), start, 5000, drains), Some(1200), "it died while it drained");
}

#[test]
fn whoever_could_not_look_for_a_while_condemns_nobody() {
    let start = Instant::now();
    let failing = |at| (at % 500 != 0).then(|| of_another(7, Tenancy::Owned));
    assert_eq!(taken_after(&mut fit(start), start, 20_000, failing), None, "the broker does not answer at times");
    let mut seat = fit(start);
    seat.looked(start, start, of_another(7, Tenancy::Owned));
    let late = start + ms(5000);
    seat.looked(late, late, of_another(7, Tenancy::Owned));
    assert!(matches!(seat.step(late), Step::Wait(_)), "this process was frozen, and the owner may have been too");
    let after = |at| (at > 5000).then(|| of_another(7, Tenancy::Owned));
    assert_eq!(taken_after(&mut fit(start), start, 20_000, after), Some(6300));
}

#[test]
fn an_owner_beats_and_begins_nothing_when_nobody_answers() {
    let start = Instant::now();
    let mut seat = owner(start);
    assert_eq!(seat.held(), Some(Take { epoch: 5, is_clean: true }));
    assert_eq!((seat.step(start), seat.trusted_until()), (Step::Wait(start + ms(300)), Some(start + ms(1000))));
    let beat = start + ms(300);
    assert_eq!(seat.step(beat), Step::Beat(Tenancy::Owned));
    seat.beaten(beat, Some(true));
    assert_eq!(seat.trusted_until(), Some(beat + ms(1000)));
    let next = beat + ms(300);
    seat.beaten(next, None);
    assert_eq!((seat.role(beat + ms(999)), seat.role(beat + ms(1000))), (Role::Owner, Role::Late));
    assert_eq!(seat.trusted_until(), Some(beat + ms(1000)), "trust is not extended");
    assert!(seat.held().is_some(), "it keeps its hand");
    assert_eq!(seat.step(next + ms(75)), Step::Beat(Tenancy::Owned), "and tries again soon");
}

#[test]
fn an_owner_that_is_told_to_leave_drains_and_releases_when_nothing_is_in_flight() {
    let start = Instant::now();
    let mut seat = owner(start);
    seat.wish(false, Duration::ZERO);
    assert_eq!((seat.held(), seat.trusted_until()), (None, None));
    assert_eq!(seat.step(start), Step::Beat(Tenancy::Draining), "the others hear of it at once");
    seat.beaten(start, Some(true));
    seat.wish(true, Duration::ZERO);
    assert_eq!(seat.held(), None, "it does not change its mind half way");
    seat.settled(start, "later".to_owned());
    assert_eq!(seat.step(start), Step::Release);
    seat.released(start, "later".to_owned());
    assert_eq!((seat.id(), seat.step(start)), ("later", Step::Look));
}

#[test]
fn who_has_lost_a_stream_stands_by_under_another_name_when_nothing_is_in_flight() {
    let start = Instant::now();
    let mut seat = owner(start);
    seat.beaten(start, Some(false));
    assert_eq!(seat.held(), None);
    assert!(matches!(seat.step(start), Step::Wait(_)), "its batches run out");
    seat.settled(start, "later".to_owned());
    assert_eq!((seat.id(), seat.step(start)), ("later", Step::Look));
}

#[test]
fn a_take_whose_answer_was_lost_is_recognised() {
    let start = Instant::now();
    let mut seat = fit(start);
    seat.looked(start, start, Lease::default());
    seat.unanswered(start);
    let lease = Lease { id: "me".to_owned(), tenancy: Tenancy::Owned, epoch: 9, beats: 1, ..Lease::default() };
    seat.looked(start + ms(100), start + ms(101), lease);
    assert_eq!(seat.held(), Some(Take { epoch: 9, is_clean: false }));
    assert_eq!(seat.trusted_until(), Some(start + ms(1100)), "from before it was asked");
}

#[test]
fn whoever_waits_for_a_stream_that_is_about_to_be_free_looks_often() {
    let start = Instant::now();
    let mut seat = fit(start);
    seat.looked(start, start, of_another(7, Tenancy::Draining));
    assert_eq!(seat.step(start), Step::Wait(start + ms(10)));
    seat.looked(start, start, of_another(8, Tenancy::Owned));
    assert_eq!(seat.step(start), Step::Wait(start + ms(100)));
}

#[test]
fn beats_that_are_held_back_let_the_trust_run_out() {
    let start = Instant::now();
    let mut seat = owner(start);
    seat.held_back(start + ms(300));
    assert_eq!(seat.step(start + ms(301)), Step::Wait(start + ms(600)));
    assert_eq!(seat.trusted_until(), Some(start + ms(1000)));
}

#[test]
fn an_owner_that_cannot_do_the_work_leaves_at_once_and_stands_by_when_nothing_is_in_flight() {
    let start = Instant::now();
    let mut seat = owner(start);
    seat.leave();
    assert_eq!((seat.held(), seat.step(start), seat.is_settled()), (None, Step::Release, false));
    seat.released(start, "later".to_owned());
    assert!(matches!(seat.step(start), Step::Wait(_)), "its batches run out");
    seat.settled(start, "later".to_owned());
    assert_eq!((seat.id(), seat.step(start)), ("later", Step::Look));
}
