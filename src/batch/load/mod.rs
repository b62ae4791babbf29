//! What a batch rests on: receipts, heads and states, from the database and from the cache of states.

use std::time::Duration;

use foldhash::{HashMap, HashSet};

mod cache;
mod catch_up;
mod read_policy;
pub(in crate::batch) mod snapshot;
mod starts;

pub use cache::{Cache, CacheGeneration};
pub(in crate::batch) use read_policy::ReadMode;
pub use read_policy::ReadPolicy;
pub(in crate::batch) use starts::Starts;

use crate::batch::decide::Known;
use crate::batch::engine::Engine;
use crate::batch::failure::Failure;
use crate::domain::{AggregateId, Domain};
use crate::job::JobId;
use crate::store::{Anchor, BatchRead};
use catch_up::{CatchUp, replay};

/// What was loaded.
pub(in crate::batch) struct Loaded<D: Domain> {
    /// What the jobs are decided on.
    pub known: Known<D>,
    /// Of the cache, as it was before.
    pub generation: CacheGeneration,
    /// All of this rests on these; none when the log is empty.
    pub anchors: Vec<Anchor>,
    /// Something was found that would not have been believed: a receipt, or another version than that of the cache.
    pub is_news: bool,
}

/// Loads all that `jobs` and `aggregates` need: without a round trip when the cache has the states and is believed, in one
/// when it has to be compared, and in two when states are missing, or more where a history is long. The jobs are counted as
/// started when events are to be folded.
pub(in crate::batch) async fn load<D: Domain>(
    engine: &Engine<D>,
    jobs: &[JobId],
    aggregates: &[AggregateId],
    mut mode: ReadMode,
    starts: &mut Starts<'_, D>,
) -> Result<Loaded<D>, Failure> {
    loop {
        let (generation, mut cached) = engine.cache.get_all(aggregates);
        let missing: Vec<_> = aggregates.iter().filter(|aggregate| !cached.contains_key(*aggregate)).cloned().collect();
        let (ids, asked) = match mode {
            ReadMode::Optimistic if missing.is_empty() => {
                let anchors = generation.anchors.clone();
                let known = known(HashMap::default(), cached);
                return Ok(Loaded { known, generation, anchors, is_news: false });
            }
            ReadMode::Optimistic => (&[][..], &missing[..]),
            ReadMode::Verified => (jobs, aggregates),
        };
        let read = engine.store.read(ids, asked, &generation.anchors).await?;
        let head = read.newest.map_or(0, |newest| newest.position);
        if read.is_lost {
            engine.lost_commits(&generation, head);
            mode = ReadMode::Verified;
            continue;
        }
        let BatchRead { receipts, heads, newest, .. } = read;
        let is_news = !receipts.is_empty()
            || cached
                .iter()
                .any(|(aggregate, (version, _))| mode == ReadMode::Verified && heads.get(aggregate) != Some(version));
        let late = late(asked, heads, &mut cached);
        let mut known = known(receipts, cached);
        catch_up(engine, &mut known, late, starts).await?;
        return Ok(Loaded { known, generation, anchors: newest.into_iter().collect(), is_news });
    }
}

/// States with their versions, apart.
fn known<D: Domain>(
    receipts: HashMap<JobId, crate::store::StoredReceipt>,
    cached: HashMap<AggregateId, (u64, D::State)>,
) -> Known<D> {
    let versions = cached.iter().map(|(aggregate, (version, _))| (aggregate.clone(), *version)).collect();
    let states = cached.into_iter().map(|(aggregate, (_, state))| (aggregate, state)).collect();
    Known { receipts, states, versions, unreadable: HashSet::default(), hold_after_dead: false }
}

/// Takes out of `cached` what is behind its head, or has none.
fn late<S: Default>(
    asked: &[AggregateId],
    heads: HashMap<AggregateId, u64>,
    cached: &mut HashMap<AggregateId, (u64, S)>,
) -> HashMap<AggregateId, CatchUp<S>> {
    let mut late = HashMap::default();
    for aggregate in asked {
        let head = heads.get(aggregate).copied().unwrap_or(0);
        if cached.get(aggregate).is_some_and(|(version, _)| *version == head) {
            continue;
        }
        // A state that is ahead of its head is none of this log.
        let (version, state) = cached.remove(aggregate).filter(|(version, _)| *version < head).unwrap_or_default();
        if head > 0 {
            late.insert(aggregate.clone(), CatchUp::new(head, version, state));
        }
    }
    late
}

async fn catch_up<D: Domain>(
    engine: &Engine<D>,
    known: &mut Known<D>,
    mut late: HashMap<AggregateId, CatchUp<D::State>>,
    starts: &mut Starts<'_, D>,
) -> Result<(), Failure> {
    if !late.is_empty() {
        replay(engine, &mut late, starts).await?;
    }
    for (aggregate, CatchUp { version, state, unreadable, .. }) in late {
        if unreadable {
            known.unreadable.insert(aggregate.clone());
        }
        // What the events reach is the version to go by, should the head have been that of commits which have since been lost.
        known.versions.insert(aggregate.clone(), version);
        known.states.insert(aggregate, state);
    }
    Ok(())
}

/// Reads the states of aggregates that other jobs' targets depend on. After a failure, which is logged, it returns none of
/// them; whoever asked asks again.
pub async fn load_sources<D: Domain>(engine: &Engine<D>, sources: &[AggregateId]) -> HashMap<AggregateId, D::State> {
    match load(engine, &[], sources, ReadMode::Verified, &mut Starts::new(engine, &mut [])).await {
        Ok(Loaded { mut known, .. }) => {
            let states = sources.iter().map(|source| (source.clone(), known.states.remove(source).unwrap_or_default()));
            states.collect()
        }
        Err(error) => {
            if engine.incidents.is_news("sources") {
                tracing::warn!(%error, "the aggregates of waiting jobs cannot be looked up; trying again");
            }
            tokio::time::sleep(RETRY).await;
            HashMap::default()
        }
    }
}

/// Time between two tries to read while the database is away.
const RETRY: Duration = Duration::from_millis(500);
