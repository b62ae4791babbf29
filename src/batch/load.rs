//! What a batch rests on: receipts, heads and states, from the database and from the cache of states.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;

use super::decide::Known;
use super::{Engine, Incidents};
use crate::domain::{AggregateId, Domain, Undecodable};
use crate::job::JobId;
use crate::store::{Recorded, Snapshot, StoreError};

/// Committed states of recently used aggregates. Whatever it says is compared with the head in the database before it is
/// used, so it saves loading and decides nothing.
pub struct Cache<D: Domain>(Mutex<LruCache<AggregateId, (u64, D::State)>>);

impl<D: Domain> Cache<D> {
    /// An empty cache of this many states.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self(Mutex::new(LruCache::new(capacity)))
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// The version and state of `aggregate`, if it is here.
    pub fn get(&self, aggregate: &AggregateId) -> Option<(u64, D::State)> {
        self.lock().get(aggregate).cloned()
    }

    /// Remembers committed states.
    pub fn put(&self, states: impl IntoIterator<Item = (AggregateId, (u64, D::State))>) {
        let mut cache = self.lock();
        for (aggregate, state) in states {
            cache.put(aggregate, state);
        }
    }

    /// A panic elsewhere cannot have left it half changed: each change is one call.
    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<AggregateId, (u64, D::State)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads all that `jobs` and `aggregates` need, in one round trip when the cache has the states and in two when not.
pub(super) async fn load<D: Domain>(
    engine: &Engine<D>,
    jobs: &[JobId],
    aggregates: &[AggregateId],
) -> Result<Known<D>, StoreError> {
    let Snapshot { receipts, heads } = engine.store.read(jobs, aggregates).await?;
    let mut known = Known { receipts, states: Default::default(), versions: heads, unreadable: HashSet::new() };
    let mut missing = Vec::new();
    for (aggregate, head) in &known.versions {
        // A cached state that is newer than the head comes from a database that has since been set back.
        let (version, state) = engine.cache.get(aggregate).filter(|(version, _)| version <= head).unwrap_or_default();
        if version < *head {
            missing.push((aggregate.clone(), version));
        }
        known.states.insert(aggregate.clone(), state);
    }
    if !missing.is_empty() {
        let events = engine.store.events_after(&missing).await?;
        replay(&mut known, &missing, &events, &engine.incidents);
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

/// Folds `events` into the states. What they reach is the version to go by, which may be newer than the head read before.
fn replay<D: Domain>(known: &mut Known<D>, missing: &[(AggregateId, u64)], events: &[Recorded], incidents: &Incidents) {
    for (aggregate, version) in missing {
        known.versions.insert(aggregate.clone(), *version);
    }
    for event in events {
        let Some(kind) = D::AGGREGATES.iter().find(|kind| **kind == event.aggregate_type) else { continue };
        let aggregate = AggregateId::new(kind, event.aggregate_id.as_str());
        if known.unreadable.contains(&aggregate) {
            continue;
        }
        match apply::<D>(known, &aggregate, event) {
            Ok(()) => {
                known.versions.insert(aggregate, event.version);
            }
            Err(error) => {
                if incidents.is_news("unreadable") {
                    tracing::error!(
                        aggregate.id = %aggregate, event.version, %error,
                        "an aggregate cannot be loaded; its jobs wait for a program that can"
                    );
                }
                known.unreadable.insert(aggregate);
            }
        }
    }
}

fn apply<D: Domain>(known: &mut Known<D>, aggregate: &AggregateId, event: &Recorded) -> Result<(), Undecodable> {
    let decoded = D::decode(&event.event_type, event.schema_version, &event.payload)?;
    D::evolve(known.states.entry(aggregate.clone()).or_default(), &decoded);
    Ok(())
}
