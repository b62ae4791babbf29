//! Parked events are done after all, when what was wrong is mended: of one aggregate at a time, in their order.

use super::problem::Problem;
use crate::domain::{AggregateId, Domain, upcast};
use crate::page;
use crate::projection::{Change, Code};
use crate::store::sql::{Sql, Tables};
use crate::store::{Build, HeldCheckpoint, Mode, Store};

/// Writes the rows of an aggregate as of where its subscription is, which is held there meanwhile, and unparks its events.
pub async fn retry<D: Domain>(
    store: &Store,
    code: Code<'_, D>,
    build: &Build,
    (kind, id): (&str, &str),
    max_packet: u64,
) -> Result<(), Problem> {
    let Some(kind) = D::AGGREGATES.iter().find(|known| **known == kind) else {
        return Err(Problem::refused(format!("there is no aggregate type {kind}")));
    };
    if build.mode != Mode::Later {
        let text =
            format!("{} adds up the log as a whole: an event that it has gone past is not added later", build.name);
        return Err(Problem::refused(text));
    }
    if matches!(code, Code::States(projection) if projection.aggregates().len() > 1) {
        let text = format!("{} is about several types of aggregates, whose rows cannot be told apart", build.name);
        return Err(Problem::refused(text));
    }
    let held = store.hold_checkpoint(&build.subscription()).await?;
    let rows = rows(store, code, build, &AggregateId::new(kind, id), held.position).await;
    match rows.and_then(|rows| page::fits(&rows, max_packet).map(|()| rows).map_err(Problem::from)) {
        Ok(rows) => Ok(HeldCheckpoint::commit(held, (kind, id), &rows).await?),
        Err(problem) => {
            held.let_go().await;
            Err(problem)
        }
    }
}

async fn rows<D: Domain>(
    store: &Store,
    code: Code<'_, D>,
    build: &Build,
    aggregate: &AggregateId,
    upto: u64,
) -> Result<Sql, Problem> {
    let mut rows = Sql::new();
    rows.of(Tables::Build(build.build));
    code.clear(aggregate, &mut rows);
    let (mut state, mut events) = (D::State::default(), Vec::new());
    for past in store.history(aggregate.kind, &aggregate.id).await?.iter().filter(|past| past.position <= upto) {
        let event = upcast::decode::<D>(&past.event_type, past.schema_version, &past.payload);
        let event = event.map_err(|error| Problem::refused(format!("position {}: {error}", past.position)))?;
        D::evolve(&mut state, &event);
        events.push(event);
    }
    let (Code::States(projection), true) = (code, !events.is_empty()) else { return Ok(rows) };
    let change = Change { aggregate, version: events.len() as u64, state: &state, events: &events };
    let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| projection.write(&[change], &mut rows)));
    written.map_err(|_| Problem::refused(format!("the projection's code panics on {aggregate}")))?;
    Ok(rows)
}
