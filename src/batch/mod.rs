//! One batch's story: lock, load, decide, commit, release.
//!
//! A batch runs in a task of its own that is never cancelled, so that no statement is dropped half way. Its jobs leave it
//! settled, with a committed receipt, or they go back to the plan; nothing is acknowledged here.

mod clock;
mod commit;
mod decide;
mod engine;
mod failure;
mod incidents;
mod load;
mod locks;
mod outcome;
mod pipeline;
mod progress;
mod retry;
mod written;

use std::sync::Arc;
use std::time::Duration;

use foldhash::HashSet;

use commit::{commit, transaction};
use failure::Failure;
use load::{Loaded, ReadMode, Starts, load};
use locks::{Locked, Locks, lock};
use outcome::{Attempt, ends, settle};
use pipeline::{PipelineSlot, StatesAfter};
use retry::{ATTEMPTS, Disposition, cost, disposition, jittered, note};

pub use clock::BrokerClock;
pub use decide::{Decided, DecisionWatch, ID_REUSED, Known, VERSION_MISMATCH, Verdict, decide};
pub use engine::{Engine, Parts};
pub use failure::PutBackReason;
pub use incidents::Incidents;
pub use load::{Cache, CacheGeneration, ReadPolicy, load_sources};
pub use outcome::{End, EntryAction, Settled};
pub use pipeline::{CommittedHead, LockTable, PositionPredictor, Prepared, PreparedBatch, PreparedSender};
pub use progress::{Progress, Step};
pub use retry::{DECIDED_IN_VAIN, pause};

use crate::domain::{AggregateId, Domain};
use crate::fail;
use crate::job::{Dead, DeadCode, Job};
use crate::plan::{Batch, Planned};
use crate::store::{AppendCondition, Committed, Packet, StoreError};

/// How a batch ended: every job is in one of the two lists.
pub struct Ended<D: Domain> {
    /// Jobs with an end.
    pub settled: Vec<Settled<D>>,
    /// Jobs without.
    pub back: Vec<(Planned<Job<D>>, PutBackReason)>,
    /// Aggregates that somebody else held.
    pub busy: Vec<AggregateId>,
}

/// Runs one batch to its end. `after` is what it can expect of the batches that it succeeds; it says to `openings` when it may be
/// succeeded itself.
pub async fn run<D: Domain>(
    engine: &Engine<D>,
    batch: Batch<Job<D>>,
    after: Vec<PreparedBatch<D>>,
    openings: &PreparedSender<D>,
) -> Ended<D> {
    engine.metrics.batch(batch.jobs.len());
    let Locked { locks, mut jobs, mut back, busy } = lock(engine, batch.jobs).await;
    let mut slot = PipelineSlot::new(batch.id, after, openings);
    slot.bar_after(back.iter().map(|(planned, _)| planned));
    let mut settled = Vec::new();
    let mut spent = 0;
    let mut mode = first_mode(engine, &jobs);
    for attempt in 1.. {
        if jobs.is_empty() {
            break;
        }
        let looked = std::mem::replace(&mut mode, ReadMode::Verified);
        let decided = match attempt_once(engine, &locks, &mut slot, &mut jobs, looked).await {
            Ok(ends) => {
                settle(std::mem::take(&mut jobs), ends, &mut settled, &mut back);
                break;
            }
            Err(Failure::LockLost) => PutBackReason::LockLost,
            Err(Failure::PredecessorAborted) => PutBackReason::Behind,
            Err(Failure::Uncounted) => PutBackReason::Unavailable,
            // Whatever was refused may have been wrong only because nobody had looked.
            Err(Failure::Store(StoreError::Conflict(_) | StoreError::Data(_))) if looked == ReadMode::Optimistic => {
                engine.read_policy.missed();
                engine.metrics.repeated(DECIDED_IN_VAIN);
                continue;
            }
            Err(Failure::Store(failure)) => {
                if matches!(failure, StoreError::Unavailable(..)) {
                    engine.progress.failed(Step::Settle, failure.to_string());
                }
                note(engine, &failure, jobs.len());
                spent += cost(&failure);
                match disposition(&failure) {
                    Disposition::DecideAgain if spent < ATTEMPTS => {
                        tokio::time::sleep(jittered(Duration::from_millis(5) * attempt)).await;
                        continue;
                    }
                    Disposition::DecideAgain => PutBackReason::Contended,
                    Disposition::Split if give_up(&mut jobs, &failure) => continue,
                    Disposition::Split => PutBackReason::Refused,
                    Disposition::Wait => PutBackReason::Unavailable,
                }
            }
        };
        back.extend(jobs.drain(..).map(|job| (job, decided)));
    }
    Ended { settled, back, busy }
}

/// A job that was delivered before may well have been run before.
fn first_mode<D: Domain>(engine: &Engine<D>, jobs: &[Planned<Job<D>>]) -> ReadMode {
    if jobs.iter().all(|planned| planned.queued.job.deliveries.is_none()) {
        engine.read_policy.look()
    } else {
        ReadMode::Verified
    }
}

/// Load, decide, commit.
async fn attempt_once<D: Domain>(
    engine: &Engine<D>,
    locks: &Locks<'_>,
    slot: &mut PipelineSlot<'_, D>,
    jobs: &mut [Planned<Job<D>>],
    mode: ReadMode,
) -> Result<Vec<Attempt>, Failure> {
    let prepared = prepare(engine, slot, jobs, mode).await;
    Starts::new(engine, jobs).end(prepared.is_ok()).await;
    let Encoded { verdicts, after, generation, basis, packet } = prepared?;
    let (committed, resolver) = match &packet {
        Some(packet) => {
            let resolver = slot.open(&after, packet, &basis);
            (commit(engine, locks, slot, (packet, &basis), resolver.as_ref()).await?, resolver)
        }
        // What it rests on has to be so all the same.
        None => {
            slot.predecessors.stand().await?;
            (Committed { base: 0 }, None)
        }
    };
    fail::point("committed", "");
    let ends = ends(jobs, &verdicts, committed);
    let last = packet.and_then(|packet| packet.anchor(committed));
    if let Some(anchor) = last.or(basis.anchors.into_iter().max()) {
        let StatesAfter { states, mut versions } = StatesAfter::take(after);
        let with_version = |(aggregate, state)| {
            let version = versions.remove(&aggregate)?;
            Some((aggregate, (version, state)))
        };
        engine.cache.put(&generation, anchor, states.into_iter().filter_map(with_version));
    }
    if let Some(resolver) = resolver {
        resolver.committed();
    }
    Ok(ends)
}

/// What a batch comes to, up to the last byte of what is sent: all that the domain's code is needed for.
struct Encoded<D: Domain> {
    verdicts: Vec<Verdict>,
    after: Arc<StatesAfter<D>>,
    generation: CacheGeneration,
    basis: AppendCondition,
    /// None when there is nothing to commit.
    packet: Option<Packet>,
}

async fn prepare<D: Domain>(
    engine: &Engine<D>,
    slot: &mut PipelineSlot<'_, D>,
    jobs: &mut [Planned<Job<D>>],
    mode: ReadMode,
) -> Result<Encoded<D>, Failure> {
    let ids: HashSet<_> = jobs.iter().map(|planned| planned.queued.job.id).collect();
    let aggregates: HashSet<_> = jobs.iter().flat_map(|planned| planned.aggregates().iter().cloned()).collect();
    let (ids, aggregates): (Vec<_>, Vec<_>) = (ids.into_iter().collect(), aggregates.into_iter().collect());
    let (left, mut basis) = slot.left_by_predecessors(&aggregates, mode).await?;
    let others: Vec<_> = aggregates.into_iter().filter(|aggregate| !left.contains_key(aggregate)).collect();
    let mut starts = Starts::new(engine, jobs);
    let Loaded { mut known, generation, anchors, is_news } = load(engine, &ids, &others, mode, &mut starts).await?;
    starts.count().await?;
    if mode == ReadMode::Verified {
        engine.read_policy.looked(is_news);
    }
    known.add(left);
    known.hold_after_dead = engine.hold_after_dead;
    let begun = engine.deciding.begin(jobs.iter().map(|planned| planned.queued.job.entry));
    let decided = decide(jobs, known, engine.clock.now_ms());
    drop(begun);
    let transaction = transaction(engine, jobs, &decided);
    let is_empty = transaction.receipts.is_empty();
    let packet = if is_empty { None } else { Some(transaction.packet(engine.max_packet)?) };
    // All else is in the packet by now.
    let Decided { verdicts, states, versions, .. } = decided;
    let holds = |verdict: &Verdict| verdict.goes_back() || engine.hold_after_dead && verdict.is_dead();
    let back = jobs.iter().zip(&verdicts).filter(|(_, verdict)| holds(verdict));
    slot.bar_after(back.map(|(planned, _)| planned));
    basis.add(&AppendCondition { anchors, expected: Vec::new() });
    Ok(Encoded { verdicts, after: Arc::new(StatesAfter { states, versions }), generation, basis, packet })
}

/// A job that the database refuses although it stands alone is dead; true when that is so now.
fn give_up<D: Domain>(jobs: &mut [Planned<Job<D>>], failure: &StoreError) -> bool {
    match jobs {
        [only] if only.queued.job.work.is_ok() => {
            only.queued.job.give_up(Dead::new(DeadCode::CannotCommit, failure.to_string()));
            true
        }
        _ => false,
    }
}
