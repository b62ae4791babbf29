//! What always holds, and what has to happen in some run, or the search has not been where it should.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use crate::domain::serial;
use crate::protocol::{Fleet, State, Step};
use crate::servers::has;

pub fn properties() -> Vec<Property<Fleet>> {
    vec![
        Property::always("each job comes to what it comes to one by one", |fleet: &Fleet, state: &State| {
            let serial = serial(fleet.jobs);
            let same = |(outcome, serial): (&Option<bool>, &bool)| outcome.is_none_or(|outcome| outcome == *serial);
            state.database.outcomes.iter().zip(&serial).all(same)
        }),
        Property::always("of two jobs that share an aggregate the older one commits first", |_, state: &State| {
            !state.is_overtaken
        }),
        Property::always("no job is committed twice", |_, state: &State| {
            let jobs: BTreeSet<u8> = state.database.log.iter().map(|(job, ..)| *job).collect();
            jobs.len() == state.database.log.len()
        }),
        Property::always("what has left the stream has a receipt", |fleet: &Fleet, state: &State| {
            let gone = |job: &u8| !has(state.broker.stream, *job);
            (0..fleet.count()).filter(gone).all(|job| state.database.outcomes[job as usize].is_some())
        }),
        Property::always("when nothing can happen any more, everything has ended", |fleet: &Fleet, state: &State| {
            let mut steps = Vec::new();
            fleet.actions(state, &mut steps);
            let is_fault = |step: &Step| {
                matches!(step, Step::Crash(_) | Step::Doubt(_) | Step::LoseRead(_) | Step::Forsake(_) | Step::Failover)
            };
            steps.iter().any(|step| !is_fault(step)) || state.broker.stream == 0
        }),
        Property::sometimes("everything has ended", |_, state: &State| state.broker.stream == 0),
        Property::sometimes("two daemons run one job", |fleet: &Fleet, state: &State| {
            let runs = |job: u8| {
                state.daemons.iter().filter(move |daemon| daemon.flights.iter().any(|it| it.packet.job == job))
            };
            (0..fleet.count()).any(|job| runs(job).count() > 1)
        }),
        Property::sometimes("a packet comes too late", |_, state: &State| {
            state.packets.iter().any(|packet| state.database.outcomes[packet.job as usize].is_some())
        }),
    ]
}
