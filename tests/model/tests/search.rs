//! The whole of small fleets, and every mistake. `make model` searches larger ones.

use model::domain::{MOVES, REJECTIONS};
use model::readers::{Mistake, Readers};
use model::rebuild::{self, Rebuild};
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

const ANEW: Rebuild = Rebuild {
    writers: 1,
    has_old: false,
    events: 2,
    builders: 2,
    takes: 2,
    operators: 1,
    switches: 2,
    losses: 0,
    mutant: None,
};

#[test]
fn a_read_model_that_is_filled_anew_equals_the_fold_all_the_time() {
    let checker = Rebuild { writers: 2, ..ANEW }.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.is_done() && checker.unique_state_count() > 200_000, "{} states", checker.unique_state_count());
    let one = Rebuild { builders: 1, ..ANEW };
    for rebuild in [
        Rebuild { writers: 2, events: 3, ..one.clone() },
        Rebuild { has_old: true, ..one.clone() },
        Rebuild { operators: 2, switches: 3, ..one.clone() },
        Rebuild { losses: 1, ..one },
    ] {
        rebuild.checker().threads(2).spawn_bfs().join().assert_properties();
    }
}

#[test]
fn every_mistake_of_a_rebuild_is_found() {
    use rebuild::Mistake;
    for (mistake, rebuild) in [
        (Mistake::Uncompared, ANEW),
        (Mistake::WithoutTheRow, ANEW),
        (Mistake::ListFirst, ANEW),
        (Mistake::NumberFirst, Rebuild { losses: 1, ..ANEW }),
        (Mistake::SessionUnnoticed, ANEW),
        (Mistake::SameNumber, ANEW),
        (Mistake::NumberReused, Rebuild { losses: 1, ..ANEW }),
        (Mistake::WritesOn, Rebuild { has_old: true, ..ANEW }),
        (Mistake::Unfenced, ANEW),
        (Mistake::SeenBefore, ANEW),
        (Mistake::RetiredBeside, ANEW),
        (Mistake::Noted, ANEW),
        (Mistake::LockUnnoticed, ANEW),
    ] {
        let rebuild = Rebuild { mutant: Some(mistake), ..rebuild };
        let checker = rebuild.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let is_broken = |name: &&'static str| checker.discovery_classification(name).to_string() == "counterexample";
        assert!(checker.discoveries().keys().any(is_broken), "{mistake:?} breaks nothing");
    }
}

#[test]
fn a_number_that_is_read_before_its_list_is_enough_unless_a_failover_loses_a_change() {
    let before = Rebuild { mutant: Some(rebuild::Mistake::NumberFirst), builders: 1, ..ANEW };
    before.checker().threads(2).spawn_bfs().join().assert_properties();
}

#[test]
fn who_does_not_believe_a_smaller_number_commits_nothing_after_a_failover_that_lost_the_last() {
    let forward = Rebuild { mutant: Some(rebuild::Mistake::OnlyForward), builders: 1, losses: 1, ..ANEW };
    let checker = forward.checker().threads(2).spawn_bfs().join();
    checker.assert_no_discovery("who knew a number that is lost goes by the one before again");
}
