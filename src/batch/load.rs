//! What a batch rests on: receipts, heads and states, from the database and from the cache of states.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::Engine;
use super::decide::Known;
use super::replay::{Late, replay};
use crate::domain::{AggregateId, Domain};
use crate::job::JobId;
use crate::store::{Ground, StoreError};

/// Reads all that `jobs` and `aggregates` need: in one round trip when the cache has the states, and in two when it has not,
/// or more where a history is long.
pub(super) async fn load<D: Domain>(
    engine: &Engine<D>,
    jobs: &[JobId],
    aggregates: &[AggregateId],
) -> Result<Known<D>, StoreError> {
    let Ground { receipts, heads } = engine.store.read(jobs, aggregates).await?;
    let mut known = Known { receipts, states: Default::default(), versions: heads, unreadable: HashSet::new() };
    let mut late = HashMap::new();
    for (aggregate, head) in &known.versions {
        // A cached state that is newer than the head comes from a database that has since been set back.
        let (version, state) = engine.cache.get(aggregate).filter(|(version, _)| version <= head).unwrap_or_default();
        if version < *head {
            late.insert(aggregate.clone(), Late::new(*head, version, state));
        } else {
            known.states.insert(aggregate.clone(), state);
        }
    }
    if !late.is_empty() {
        replay(engine, &mut late).await?;
    }
    for (aggregate, Late { version, state, unreadable, .. }) in late {
        if unreadable {
            known.unreadable.insert(aggregate.clone());
        }
        // What the events reach is the version to go by, which may be newer than the head read before.
        known.versions.insert(aggregate.clone(), version);
        known.states.insert(aggregate, state);
    }
    Ok(known)
}

/// Reads the states of aggregates that other jobs' targets depend on. After a failure, which is logged, it returns none of
/// them; whoever asked asks again.
pub async fn load_sources<D: Domain>(engine: &Engine<D>, sources: &[AggregateId]) -> HashMap<AggregateId, D::State> {
    match load(engine, &[], sources).await {
        Ok(mut known) => {
            let states = sources.iter().map(|source| (source.clone(), known.states.remove(source).unwrap_or_default()));
            states.collect()
        }
        Err(error) => {
            if engine.incidents.is_news("sources") {
                tracing::warn!(%error, "the aggregates of waiting jobs cannot be looked up; trying again");
            }
            tokio::time::sleep(RETRY).await;
            HashMap::new()
        }
    }
}

/// Time between two tries to read while the database is away.
const RETRY: Duration = Duration::from_millis(500);
