//! The one step that cannot be undone.

use std::time::Instant;

use crate::batch::engine::Engine;
use crate::batch::failure::Failure;
use crate::batch::locks::Locks;
use crate::batch::pipeline::{CommitResolver, PipelineSlot};
use crate::batch::progress::Step;
use crate::batch::retry::ATTEMPTS;
use crate::domain::Domain;
use crate::store::{AppendCondition, Committed, Conflict, Connection, Packet, Repeat, StoreError};

/// Commits the packet when its turn has come. Everything that may take its time is done before the last look at the locks.
pub(in crate::batch) async fn commit<D: Domain>(
    engine: &Engine<D>,
    locks: &Locks<'_>,
    slot: &mut PipelineSlot<'_, D>,
    (packet, basis): (&Packet, &AppendCondition),
    resolver: Option<&CommitResolver>,
) -> Result<Committed, Failure> {
    for tries in 1.. {
        let connection = engine.store.connection().await?;
        slot.predecessors.are_next().await?;
        locks.check()?;
        let is_next = || resolver.iter().for_each(|resolver| resolver.sequenced());
        match send(engine, connection, (packet, basis), is_next).await {
            // Next time it most likely has sums.
            Err(StoreError::Repeat(Repeat::Position)) if tries < ATTEMPTS => {
                engine.metrics.repeated(Repeat::Position.as_str())
            }
            // Decided again it is written as the new list says.
            Err(error @ StoreError::Conflict(Conflict::Generation)) => {
                if let Err(why) = engine.look_at_builds().await
                    && engine.incidents.is_news("builds")
                {
                    tracing::warn!(why, "nothing can be committed; the jobs wait");
                }
                return Err(error.into());
            }
            committed => return Ok(committed?),
        }
    }
    Err(StoreError::Repeat(Repeat::Position).into())
}

async fn send<D: Domain>(
    engine: &Engine<D>,
    connection: Connection,
    (packet, basis): (&Packet, &AppendCondition),
    is_next: impl Fn() + Send + Sync,
) -> Result<Committed, StoreError> {
    let (started, known, count) = (Instant::now(), engine.head.get(), packet.count());
    let mut prediction = engine.predictor.transaction(count);
    let base = prediction.base;
    let placed = |base| {
        prediction.is_next(base);
        is_next();
    };
    let result = connection.commit(packet, basis, base, placed).await;
    let outcome = match &result {
        Ok(_) => {
            prediction.committed();
            "ok"
        }
        Err(StoreError::Repeat(Repeat::Position)) => {
            prediction.wrong();
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
