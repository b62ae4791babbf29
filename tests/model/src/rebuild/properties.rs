//! What is always so, and what has to happen at least once for that to mean anything.

use stateright::Property;

use super::Rebuild;
use super::state::{Build, Builder, Does, FIRST, Known, SECOND, State, Writer};

pub(super) fn all(of: &Rebuild) -> Vec<Property<Rebuild>> {
    let mut all = vec![
        Property::always("what the view shows equals the fold", |_, State { database, .. }: &State| {
            database.rows[database.view] == database.log
        }),
        Property::always("every build that is written equals the fold", |_, State { database, .. }: &State| {
            [FIRST, SECOND].iter().all(|at| !database.list()[*at] || database.rows[*at] == database.log)
        }),
        Property::always("a build that is filled has the events up to its checkpoint", |_, state: &State| {
            state.database.checkpoint.is_none_or(|(position, _)| state.database.rows[SECOND] == position)
        }),
        Property::always("the view shows what is written", |_, State { database, .. }: &State| {
            database.builds[database.view].is_written()
        }),
        Property::sometimes("a build is taken over while a packet is on its way", |_, state: &State| {
            state.held.is_some() && state.writers.iter().any(|one| one.packet.is_some())
        }),
        Property::sometimes("a packet by the old list comes when the build is written", |_, state: &State| {
            let is_late = |packet: Known| !packet.list[SECOND];
            state.database.list()[SECOND] && state.writers.iter().filter_map(|one| one.packet).any(is_late)
        }),
        Property::sometimes("an event is committed by the new list", |_, State { database, .. }: &State| {
            database.list()[SECOND] && database.taken_over.is_some_and(|position| position < database.log)
        }),
        Property::sometimes("events are left for the take-over", |_, state: &State| {
            let rest = |one: &Builder| matches!(one.does, Does::TakesOver { to } if to > one.position);
            state.held.is_some_and(|builder| rest(&state.builders[builder]))
        }),
        Property::sometimes("a build is let go that was taken over", |_, State { database, .. }: &State| {
            database.builds == [Build::Shown, Build::Retired] && database.taken_over.is_some()
        }),
    ];
    if of.switches > 1 {
        all.extend([
            Property::sometimes("the view is switched and switched back", |_, State { database, .. }: &State| {
                database.builds == [Build::Shown, Build::Kept] && database.view == FIRST
            }),
            Property::sometimes("the first build is let go, and events go on", |_, State { database, .. }: &State| {
                database.builds == [Build::Retired, Build::Shown] && database.rows[FIRST] < database.log
            }),
        ]);
    }
    if of.builders > 1 {
        all.push(Property::sometimes("one takes over that has lost the checkpoint", |_, state: &State| {
            let is_zombie = |token| state.database.checkpoint.is_none_or(|(_, of)| of != token);
            state.builders.iter().any(|one| matches!(one.does, Does::TakesOver { .. }) && is_zombie(one.token))
        }));
    }
    if of.takes > 1 {
        all.push(Property::sometimes("another goes on with the build and takes it over", |_, state: &State| {
            state.takes > 1 && state.database.list()[SECOND]
        }));
    }
    if of.has_old {
        all.push(Property::sometimes("an old program goes on when the build is let go", |_, state: &State| {
            let now = |packet: Known| packet.generation == state.database.generation;
            state.database.taken_over.is_some()
                && state.writers.iter().any(|one| one.is_old && one.packet.is_some_and(now))
        }));
    }
    if of.losses > 0 {
        all.push(Property::sometimes(
            "who knew a number that is lost goes by the one before again",
            |_, state: &State| {
                let now = state.database.generation;
                let is_back = |one: &Writer| one.was_ahead && one.knows.is_some_and(|known| known.generation == now);
                state.back_to == Some(now) && state.writers.iter().any(is_back)
            },
        ));
    }
    all
}
