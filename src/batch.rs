//! One batch's story: lock, load, decide, commit, release.
//!
//! A batch runs in a task of its own that is never cancelled, so that no statement is dropped half way. Its jobs leave it
//! settled, with a committed receipt, or they go back to the plan; nothing is acknowledged here.

mod cache;
mod clock;
mod commit;
mod decide;
mod deciding;
mod ending;
mod failing;
mod forecast;
mod incidents;
mod keyring;
mod line;
mod load;
mod locks;
mod newest;
mod progress;
mod prospect;
mod replay;
mod rows;
mod snapshot;
mod starts;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use foldhash::HashSet;

use commit::commit;
use ending::{End, ends, settle};
use failing::{ATTEMPTS, Disposition, cost, disposition, jittered, note};
use line::Line;
use load::{Loaded, Look, load};
use locks::{LockLost, Locked, Locks, lock};
use prospect::{Fallen, Outcome};
use rows::transaction;
use starts::Starts;

pub use cache::{Cache, Footing};
pub use clock::BrokerClock;
pub use decide::{Decided, ID_REUSED, Known, VERSION_MISMATCH, Verdict, decide};
pub use deciding::Deciding;
pub use ending::{Fate, Settled, Told};
pub use failing::{Back, DECIDED_IN_VAIN, pause};
pub use forecast::Forecast;
pub use incidents::Incidents;
pub use keyring::Keyring;
pub use load::load_sources;
pub use newest::Newest;
pub use progress::{Progress, Step};
pub use prospect::{Opening, Openings, Prospect};
pub use trust::Trust;

use crate::domain::{AggregateId, Domain};
use crate::fail;
use crate::job::{Dead, DeadCode, Job};
use crate::lock::Redlock;
use crate::metrics::Metrics;
use crate::plan::{Batch, Planned};
use crate::projection::Projection;
use crate::store::{Basis, Committed, Packet, Store, StoreError};
use crate::stream::Broker;

/// What every batch works with.
pub struct Engine<D: Domain> {
    /// Events, receipts, sequence.
    pub store: Store,
    /// Counts the starts of claimed jobs; the dispatcher tells it of their ends.
    pub broker: Broker,
    /// The server's limit on a packet, in bytes.
    pub max_packet: u64,
    /// One lock per aggregate.
    pub locks: Redlock,
    /// The locks of the batches in flight.
    pub ring: Keyring,
    /// Read models, updated in the batch's transaction.
    pub projections: Vec<Box<dyn Projection<D>>>,
    /// States of recently used aggregates.
    pub cache: Cache<D>,
    /// The broker's time.
    pub clock: BrokerClock,
    /// Counters and durations.
    pub metrics: Arc<Metrics>,
    /// Keeps an outage from filling the log.
    pub incidents: Incidents,
    /// Decisions under way.
    pub deciding: Deciding,
    /// The newest position that is known to be committed.
    pub newest: Newest,
    /// Whether states of the cache are believed.
    pub trust: Trust,
    /// When work last came to something.
    pub progress: Progress,
    /// Where the log will end.
    pub forecast: Forecast,
}

/// How a batch ended: every job is in one of the two lists.
pub struct Ended<D: Domain> {
    /// Jobs with an end.
    pub settled: Vec<Settled<D>>,
    /// Jobs without.
    pub back: Vec<(Planned<Job<D>>, Back)>,
    /// Aggregates that somebody else held.
    pub busy: Vec<AggregateId>,
}

/// Runs one batch to its end. `after` is what it can expect of the batches that it succeeds; it says to `openings` when it may be
/// succeeded itself.
pub async fn run<D: Domain>(
    engine: &Engine<D>,
    batch: Batch<Job<D>>,
    after: Vec<Prospect<D>>,
    openings: &Openings<D>,
) -> Ended<D> {
    engine.metrics.batch(batch.jobs.len());
    let Locked { locks, mut jobs, mut back, busy } = lock(engine, batch.jobs).await;
    let mut line = Line::new(batch.id, after, openings);
    line.bar_after(back.iter().map(|(planned, _)| planned));
    let mut settled = Vec::new();
    let mut spent = 0;
    let mut look = first_look(engine, &jobs);
    for attempt in 1.. {
        if jobs.is_empty() {
            break;
        }
        let looked = std::mem::replace(&mut look, Look::AtAll);
        let decided = match attempt_once(engine, &locks, &mut line, &mut jobs, looked).await {
            Ok(ends) => {
                settle(std::mem::take(&mut jobs), ends, &mut settled, &mut back);
                break;
            }
            Err(Failure::LockLost) => Back::LockLost,
            Err(Failure::Fallen) => Back::Behind,
            Err(Failure::Uncounted) => Back::Unavailable,
            // Whatever was refused may have been wrong only because nobody had looked.
            Err(Failure::Store(StoreError::Conflict(_) | StoreError::Data(_))) if looked == Look::AtUnknown => {
                engine.trust.missed();
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
                    Disposition::DecideAgain => Back::Contended,
                    Disposition::Split if give_up(&mut jobs, &failure) => continue,
                    Disposition::Split => Back::Refused,
                    Disposition::Wait => Back::Unavailable,
                }
            }
        };
        back.extend(jobs.drain(..).map(|job| (job, decided)));
    }
    Ended { settled, back, busy }
}

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("a lock ran out")]
    LockLost,
    #[error("a batch that this one succeeds failed")]
    Fallen,
    #[error("the broker did not count the start of the jobs")]
    Uncounted,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A job that was delivered before may well have been run before.
fn first_look<D: Domain>(engine: &Engine<D>, jobs: &[Planned<Job<D>>]) -> Look {
    if jobs.iter().all(|planned| planned.job.deliveries.is_none()) { engine.trust.look() } else { Look::AtAll }
}

/// Load, decide, commit.
async fn attempt_once<D: Domain>(
    engine: &Engine<D>,
    locks: &Locks<'_>,
    line: &mut Line<'_, D>,
    jobs: &mut [Planned<Job<D>>],
    look: Look,
) -> Result<Vec<End>, Failure> {
    let prepared = prepare(engine, line, jobs, look).await;
    Starts::new(engine, jobs).end(prepared.is_ok()).await;
    let Prepared { verdicts, outcome, footing, basis, packet } = prepared?;
    let (committed, promise) = match &packet {
        Some(packet) => {
            let promise = line.open(&outcome, packet, &basis);
            (commit(engine, locks, line, (packet, &basis), promise.as_ref()).await?, promise)
        }
        // What it rests on has to be so all the same.
        None => {
            line.predecessors.stand().await?;
            (Committed { base: 0 }, None)
        }
    };
    fail::point("committed", "");
    let ends = ends(jobs, &verdicts, committed);
    let last = packet.and_then(|packet| packet.anchor(committed));
    if let Some(anchor) = last.or(basis.anchors.into_iter().max()) {
        let Outcome { states, mut versions } = Outcome::take(outcome);
        let with_version = |(aggregate, state)| {
            let version = versions.remove(&aggregate)?;
            Some((aggregate, (version, state)))
        };
        engine.cache.put(&footing, anchor, states.into_iter().filter_map(with_version));
    }
    if let Some(promise) = promise {
        promise.keep();
    }
    Ok(ends)
}

/// What a batch comes to, up to the last byte of what is sent: all that the domain's code is needed for.
struct Prepared<D: Domain> {
    verdicts: Vec<Verdict>,
    outcome: Arc<Outcome<D>>,
    footing: Footing,
    basis: Basis,
    /// None when there is nothing to commit.
    packet: Option<Packet>,
}

async fn prepare<D: Domain>(
    engine: &Engine<D>,
    line: &mut Line<'_, D>,
    jobs: &mut [Planned<Job<D>>],
    look: Look,
) -> Result<Prepared<D>, Failure> {
    let ids: HashSet<_> = jobs.iter().map(|planned| planned.job.id).collect();
    let aggregates: HashSet<_> = jobs.iter().flat_map(|planned| planned.aggregates.iter().cloned()).collect();
    let (ids, aggregates): (Vec<_>, Vec<_>) = (ids.into_iter().collect(), aggregates.into_iter().collect());
    let (left, mut basis) = line.left_by_predecessors(&aggregates, look).await?;
    let others: Vec<_> = aggregates.into_iter().filter(|aggregate| !left.contains_key(aggregate)).collect();
    let mut starts = Starts::new(engine, jobs);
    let Loaded { mut known, footing, anchors, is_news } = load(engine, &ids, &others, look, &mut starts).await?;
    starts.count().await?;
    if look == Look::AtAll {
        engine.trust.looked(is_news);
    }
    known.add(left);
    let begun = engine.deciding.begin(jobs.iter().map(|planned| planned.job.entry));
    let decided = decide(jobs, known, engine.clock.now_ms());
    drop(begun);
    let transaction = transaction(engine, jobs, &decided);
    let is_empty = transaction.receipts.is_empty();
    let packet = if is_empty { None } else { Some(transaction.packet(engine.max_packet)?) };
    // All else is in the packet by now.
    let Decided { verdicts, states, versions, .. } = decided;
    let back = jobs.iter().zip(&verdicts).filter(|(_, verdict)| verdict.goes_back());
    line.bar_after(back.map(|(planned, _)| planned));
    basis.add(&Basis { anchors, expected: Vec::new() });
    Ok(Prepared { verdicts, outcome: Arc::new(Outcome { states, versions }), footing, basis, packet })
}

impl From<LockLost> for Failure {
    fn from(_: LockLost) -> Self {
        Self::LockLost
    }
}

impl From<Fallen> for Failure {
    fn from(_: Fallen) -> Self {
        Self::Fallen
    }
}

/// A job that the database refuses although it stands alone is dead; true when that is so now.
fn give_up<D: Domain>(jobs: &mut [Planned<Job<D>>], failure: &StoreError) -> bool {
    match jobs {
        [only] if only.job.work.is_ok() => {
            only.job.work = Err(Dead::new(DeadCode::CannotCommit, failure.to_string()));
            true
        }
        _ => false,
    }
}
