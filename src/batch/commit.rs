//! The one step that cannot be undone.

use std::time::Instant;

use super::failing::ATTEMPTS;
use super::line::Line;
use super::locks::Locks;
use super::progress::Step;
use super::prospect::Promise;
use super::{Engine, Failure};
use crate::domain::Domain;
use crate::store::{Basis, Committed, Connection, Packet, Repeat, StoreError};

/// Commits the packet when its turn has come. Everything that may take its time is done before the last look at the locks.
pub(super) async fn commit<D: Domain>(
    engine: &Engine<D>,
    locks: &Locks<'_>,
    line: &mut Line<'_, D>,
    (packet, basis): (&Packet, &Basis),
    promise: Option<&Promise>,
) -> Result<Committed, Failure> {
    for tries in 1.. {
        let connection = engine.store.connection().await?;
        line.predecessors.are_next().await?;
        locks.check()?;
        let is_next = || promise.iter().for_each(|promise| promise.is_next());
        match send(engine, connection, (packet, basis), is_next).await {
            // Next time it most likely has sums.
            Err(StoreError::Repeat(Repeat::Position)) if tries < ATTEMPTS => {
                engine.metrics.repeated(Repeat::Position.as_str())
            }
            committed => return Ok(committed?),
        }
    }
    Err(StoreError::Repeat(Repeat::Position).into())
}

async fn send<D: Domain>(
    engine: &Engine<D>,
    connection: Connection,
    (packet, basis): (&Packet, &Basis),
    is_next: impl Fn() + Send + Sync,
) -> Result<Committed, StoreError> {
    let (started, known, count) = (Instant::now(), engine.newest.get(), packet.count());
    let mut foreseen = engine.forecast.transaction(count);
    let base = foreseen.base;
    let placed = |base| {
        foreseen.is_next(base);
        is_next();
    };
    let result = connection.commit(packet, basis, base, placed).await;
    let outcome = match &result {
        Ok(_) => {
            foreseen.committed();
            "ok"
        }
        Err(StoreError::Repeat(Repeat::Position)) => {
            foreseen.wrong();
            "conflict"
        }
        Err(StoreError::Conflict(_)) => "conflict",
        Err(_) => "error",
    };
    engine.metrics.appended(outcome, started.elapsed(), count);
    if let Ok(committed) = &result {
        engine.progress.made(Step::Commit);
        packet.events.iter().for_each(|(event_type, count)| engine.metrics.events(event_type, *count));
        // What this transaction adds says nothing of what the database had.
        engine.note_head(known, committed.base);
        engine.note_head(0, committed.base + count);
    }
    result
}
