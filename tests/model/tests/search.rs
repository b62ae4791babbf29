//! The whole of small fleets, and every mistake. `make model` searches larger ones.

use model::domain::{MOVES, REJECTIONS};
use model::readers::{Mistake, Readers};
use model::{Fleet, Mutant};
use stateright::{Checker, HasDiscoveries, Model};

const CALM: Fleet =
    Fleet { daemons: 2, jobs: MOVES.split_at(3).0, crashes: 0, doubts: 0, losses: 0, failovers: 0, mutant: None };

#[test]
fn two_daemons_that_both_believe_to_own_the_stream_keep_its_order() {
    for jobs in [&MOVES[..3], &REJECTIONS[..3]] {
        let checker = Fleet { jobs, ..CALM }.checker().threads(2).spawn_bfs().join();
        checker.assert_properties();
        assert!(checker.is_done() && checker.unique_state_count() > 100_000, "{} states", checker.unique_state_count());
    }
}

#[test]
fn two_jobs_survive_any_single_fault() {
    for jobs in [&MOVES[..2], &REJECTIONS[1..3]] {
        for fleet in [Fleet { crashes: 1, ..CALM }, Fleet { doubts: 1, ..CALM }, Fleet { losses: 1, ..CALM }] {
            Fleet { jobs, ..fleet }.checker().threads(2).spawn_bfs().join().assert_properties();
        }
    }
    let fleet = Fleet { failovers: 1, jobs: &MOVES[..2], ..CALM };
    fleet.checker().threads(2).spawn_bfs().join().assert_properties();
}

#[test]
fn every_mistake_is_found() {
    let one_loss = Fleet { losses: 1, jobs: &REJECTIONS[..3], ..CALM };
    for (mutant, fleet) in [
        (Mutant::Competing, CALM),
        (Mutant::CursorKept, Fleet { failovers: 1, ..CALM }),
        (Mutant::DeletedEarly, CALM),
        (Mutant::Unguarded, one_loss.clone()),
        (Mutant::NoReceiptKey, Fleet { jobs: &REJECTIONS[..3], ..CALM }),
        (Mutant::ReadBehind, CALM),
        (Mutant::NoLook, CALM),
    ] {
        let fleet = Fleet { mutant: Some(mutant), ..fleet };
        let checker = fleet.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let is_found = checker
            .discoveries()
            .keys()
            .any(|name| checker.discovery_classification(name).to_string() == "counterexample");
        assert!(is_found, "{mutant:?} breaks nothing in {} states", checker.unique_state_count());
    }
}

const TWO: Readers = Readers { readers: 2, events: 4, takes: 3, deletes: true, mutant: None };

#[test]
fn readers_of_the_log_that_take_it_from_each_other_add_each_event_once() {
    let checker = TWO.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.is_done() && checker.unique_state_count() > 10_000, "{} states", checker.unique_state_count());
}

#[test]
fn every_mistake_of_a_reader_is_found() {
    let mistakes =
        [Mistake::Apart, Mistake::ToTheHead, Mistake::GoneUnnoticed, Mistake::GuardAfter, Mistake::Unguarded];
    for mistake in mistakes {
        let readers = Readers { mutant: Some(mistake), ..TWO };
        let checker = readers.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let is_broken = |name: &&'static str| checker.discovery_classification(name).to_string() == "counterexample";
        let found = checker.discoveries();
        // What can never happen is found too: nothing is ever read.
        let reads = found.contains_key("everything is read");
        assert!(found.keys().any(is_broken) || !reads, "{mistake:?} breaks nothing");
    }
}
