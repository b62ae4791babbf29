//! One batch's story: lock, load, decide, commit, release.
//!
//! A batch runs in a task of its own that is never cancelled, so that no statement is dropped half way. Its jobs leave it
//! settled, with a committed receipt, or they go back to the plan; nothing is acknowledged here.

mod decide;
mod load;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use decide::{Decided, ID_REUSED, Known, VERSION_MISMATCH, Verdict, decide};
pub use load::{Cache, load_sources};

use crate::domain::{AggregateId, Domain};
use crate::job::{Dead, DeadCode, Job};
use crate::lock::{KeyResult, Lease, Redlock};
use crate::metrics::{Metrics, OutcomeLabel};
use crate::plan::Planned;
use crate::projection::{Change, Projection};
use crate::store::{Append, Committed, Receipt, Store, StoreError, StoredReceipt, Transaction};

/// What every batch works with.
pub struct Engine<D: Domain> {
    /// Events, receipts, sequence.
    pub store: Store,
    /// The server's limit on a packet, in bytes.
    pub max_packet: u64,
    /// One lock per aggregate.
    pub locks: Redlock,
    /// Read models, updated in the batch's transaction.
    pub projections: Vec<Box<dyn Projection<D>>>,
    /// States of recently used aggregates.
    pub cache: Cache<D>,
    /// The broker's time.
    pub clock: BrokerClock,
    /// Counters and durations.
    pub metrics: Arc<Metrics>,
}

/// This process's clock, set right by the broker's: `at` and `exp` mean one thing on every machine.
#[derive(Debug, Default)]
pub struct BrokerClock {
    offset_ms: AtomicI64,
}

impl BrokerClock {
    /// The broker's clock shows `broker_ms` now.
    pub fn set(&self, broker_ms: u64) {
        let offset = i64::try_from(broker_ms).unwrap_or(i64::MAX) - i64::try_from(local_ms()).unwrap_or(i64::MAX);
        self.offset_ms.store(offset, Ordering::Relaxed);
    }

    /// Unix milliseconds by the broker's clock.
    pub fn now_ms(&self) -> u64 {
        local_ms().saturating_add_signed(self.offset_ms.load(Ordering::Relaxed))
    }
}

fn local_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How often a batch is decided again before it goes back to the plan.
const ATTEMPTS: u32 = 5;

/// A job with its end, to be told to the broker.
pub struct Settled<D: Domain> {
    /// The job.
    pub planned: Planned<Job<D>>,
    /// As metrics count it.
    pub label: OutcomeLabel,
    /// What the reply says; the first outcome, when this delivery is a duplicate.
    pub told: Told,
    /// What happens with the entry.
    pub fate: Fate,
}

/// An outcome in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// `applied`, `rejected`, `expired` or `dead`.
    pub outcome: String,
    /// Why, unless it was applied.
    pub reason: Option<String>,
    /// Positions of its first and last event.
    pub positions: Option<(u64, u64)>,
}

/// What happens with a settled job's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Reply, acknowledge, delete.
    Acknowledge,
    /// Reply, and move to the dead letters.
    Bury {
        /// All that is known of the failure.
        error: String,
    },
    /// Move to the schedule; there is no outcome yet.
    Postpone {
        /// When it is due, Unix milliseconds.
        at: u64,
    },
}

/// Why jobs go back to the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// Somebody else holds a lock, or too few lock nodes answered.
    Busy,
    /// A lock that was held ran out.
    LockLost,
    /// The job touches other aggregates than was thought.
    Targets,
    /// Somebody else kept writing in between.
    Contended,
    /// The database refused the batch; smaller ones will show which job it is.
    Refused,
    /// The database cannot be used.
    Unavailable,
}

impl Back {
    /// The reason as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "lock_busy",
            Self::LockLost => "lock_lost",
            Self::Targets => "targets",
            Self::Contended => "contended",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

/// How a batch ended: every job is in one of the two lists.
pub struct Ended<D: Domain> {
    /// Jobs with an end.
    pub settled: Vec<Settled<D>>,
    /// Jobs without.
    pub back: Vec<(Planned<Job<D>>, Back)>,
}

/// What to do about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disposition {
    /// Load and decide again, at once.
    DecideAgain,
    /// Part the jobs; one that stands alone is dead.
    Split,
    /// Nothing is wrong with the jobs: they wait.
    Wait,
}

fn disposition(failure: &StoreError) -> Disposition {
    match failure {
        StoreError::Conflict(_) | StoreError::Repeat(_) => Disposition::DecideAgain,
        // Reading the receipts tells: what is there has happened, and what is not is decided again.
        StoreError::Unknown(_) => Disposition::DecideAgain,
        StoreError::Data(_) => Disposition::Split,
        StoreError::Undecodable(_) | StoreError::Unavailable(..) => Disposition::Wait,
    }
}

/// Runs one batch to its end.
pub async fn run<D: Domain>(engine: &Engine<D>, jobs: Vec<Planned<Job<D>>>) -> Ended<D> {
    engine.metrics.batch(jobs.len());
    let started = Instant::now();
    let (lease, mut jobs, mut back) = lock(engine, jobs).await;
    let mut settled = Vec::new();
    for attempt in 1.. {
        if jobs.is_empty() {
            break;
        }
        let decided = match attempt_once(engine, lease.as_ref(), &jobs).await {
            Ok(ends) => {
                settle(std::mem::take(&mut jobs), ends, &mut settled, &mut back);
                break;
            }
            Err(Failure::LockLost) => Back::LockLost,
            Err(Failure::Store(failure)) => {
                note(engine, &failure, jobs.len());
                match disposition(&failure) {
                    Disposition::DecideAgain if attempt < ATTEMPTS => {
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
    if let Some(lease) = lease {
        engine.locks.release(lease);
        engine.metrics.released(started.elapsed());
    }
    Ended { settled, back }
}

/// Locks every aggregate of the batch in one round. A job of which a lock is missing goes back, with those that follow it
/// on the same aggregates; what only they needed is released at once, and the rest goes on.
async fn lock<D: Domain>(
    engine: &Engine<D>,
    jobs: Vec<Planned<Job<D>>>,
) -> (Option<Lease>, Vec<Planned<Job<D>>>, Vec<(Planned<Job<D>>, Back)>) {
    let aggregates: HashSet<&AggregateId> = jobs.iter().flat_map(|planned| &planned.aggregates).collect();
    if aggregates.is_empty() {
        return (None, jobs, Vec::new());
    }
    let aggregates: Vec<AggregateId> = aggregates.into_iter().cloned().collect();
    let keys: Vec<String> = aggregates.iter().map(lock_key).collect();
    let acquisition = engine.locks.acquire(&keys).await;
    let count = |result| acquisition.results.iter().filter(|given| **given == result).count();
    let (granted, busy) = (count(KeyResult::Granted), count(KeyResult::Busy));
    engine.metrics.locked(acquisition.elapsed, granted, busy, keys.len() - granted - busy);
    let missing = aggregates.into_iter().zip(&acquisition.results).filter(|(_, result)| **result != KeyResult::Granted);
    let mut barred: HashSet<AggregateId> = missing.map(|(aggregate, _)| aggregate).collect();
    let (mut going, mut back) = (Vec::with_capacity(jobs.len()), Vec::new());
    for planned in jobs {
        if planned.aggregates.iter().any(|aggregate| barred.contains(aggregate)) {
            barred.extend(planned.aggregates.iter().cloned());
            back.push((planned, Back::Busy));
        } else {
            going.push(planned);
        }
    }
    if !back.is_empty() {
        let needed: HashSet<String> = going.iter().flat_map(|planned| &planned.aggregates).map(lock_key).collect();
        let spare: Vec<String> = keys.into_iter().filter(|key| !needed.contains(key)).collect();
        engine.locks.release_keys(&acquisition.lease, &spare);
    }
    (Some(acquisition.lease), going, back)
}

/// The original service's key scheme, so that its clients and this daemon exclude each other.
fn lock_key(aggregate: &AggregateId) -> String {
    format!("lock:{}:{}", aggregate.kind, aggregate.id)
}

enum Failure {
    LockLost,
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A job's end as this attempt found it; `None` sends it back to the plan.
type End = Option<(OutcomeLabel, Told, Fate)>;

/// Load, decide, commit.
async fn attempt_once<D: Domain>(
    engine: &Engine<D>,
    lease: Option<&Lease>,
    jobs: &[Planned<Job<D>>],
) -> Result<Vec<End>, Failure> {
    let ids: HashSet<_> = jobs.iter().map(|planned| planned.job.id).collect();
    let aggregates: HashSet<_> = jobs.iter().flat_map(|planned| planned.aggregates.iter().cloned()).collect();
    let (ids, aggregates): (Vec<_>, Vec<_>) = (ids.into_iter().collect(), aggregates.into_iter().collect());
    let known = load::load(engine, &ids, &aggregates).await?;
    let decided = decide(jobs, known, engine.clock.now_ms());
    let transaction = transaction(engine, jobs, &decided);
    if lease.is_some_and(|lease| lease.remaining().is_zero()) {
        engine.metrics.lock_lost();
        return Err(Failure::LockLost);
    }
    let committed = commit(engine, &transaction).await?;
    let ends = ends(jobs, &decided, committed);
    let (states, mut versions) = (decided.states, decided.versions);
    engine.cache.put(states.into_iter().filter_map(|(aggregate, state)| {
        let version = versions.remove(&aggregate)?;
        Some((aggregate, (version, state)))
    }));
    Ok(ends)
}

async fn commit<D: Domain>(engine: &Engine<D>, transaction: &Transaction) -> Result<Committed, StoreError> {
    if transaction.receipts.is_empty() {
        return Ok(Committed { base: 0 });
    }
    let started = Instant::now();
    let result = engine.store.commit(transaction, engine.max_packet).await;
    let outcome = match &result {
        Ok(_) => "ok",
        Err(StoreError::Conflict(_)) => "conflict",
        Err(_) => "error",
    };
    engine.metrics.appended(outcome, started.elapsed(), transaction.events.len());
    if let Ok(committed) = &result {
        let mut counts: HashMap<&'static str, u64> = HashMap::new();
        transaction.events.iter().for_each(|append| *counts.entry(append.event.event_type).or_default() += 1);
        counts.into_iter().for_each(|(event_type, count)| engine.metrics.events(event_type, count));
        engine.metrics.head(committed.base + transaction.events.len() as u64);
    }
    result
}

/// What the batch writes: read models from the states, receipts from the verdicts, and the events.
fn transaction<D: Domain>(engine: &Engine<D>, jobs: &[Planned<Job<D>>], decided: &Decided<D>) -> Transaction {
    let mut transaction = Transaction { read_only: decided.read_only.clone(), ..Transaction::default() };
    for (planned, verdict) in jobs.iter().zip(&decided.verdicts) {
        let (outcome, reason, events) = match verdict {
            Verdict::Applied { count: 0, .. } => (OutcomeLabel::Applied, None, None),
            Verdict::Applied { first, count } => (OutcomeLabel::Applied, None, Some((*first as u64, *count as u64))),
            Verdict::Rejected(reason) => (OutcomeLabel::Rejected, Some((*reason).to_owned()), None),
            Verdict::Expired => (OutcomeLabel::Expired, None, None),
            Verdict::Dead(dead) => (OutcomeLabel::Dead, Some(dead.reason()), None),
            Verdict::Duplicate(_) | Verdict::Repeats(_) | Verdict::IdReused | Verdict::NotDue(_) | Verdict::Again => {
                continue;
            }
        };
        let (job, fingerprint) = (planned.job.id, planned.job.fingerprint);
        transaction.receipts.push(Receipt { job, outcome: outcome.as_str(), reason, events, fingerprint });
    }
    let mut by_aggregate: HashMap<&AggregateId, Vec<D::Event>> = HashMap::new();
    for versioned in &decided.events {
        let (job, new) = (&jobs[versioned.job].job, &versioned.new);
        by_aggregate.entry(&new.aggregate).or_default().push(new.event.clone());
        transaction.events.push(Append {
            aggregate: new.aggregate.clone(),
            version: versioned.version,
            job: job.id,
            index: versioned.index,
            event: D::encode(&new.event),
            metadata: metadata(job),
        });
    }
    let mut changes: Vec<Change<'_, D>> = by_aggregate
        .iter()
        .filter_map(|(aggregate, events)| {
            let (state, version) = (decided.states.get(aggregate)?, *decided.versions.get(aggregate)?);
            Some(Change { aggregate, version, state, events })
        })
        .collect();
    changes.sort_by(|a, b| a.aggregate.cmp(b.aggregate));
    for projection in &engine.projections {
        projection.write(&changes, &mut transaction.projections);
    }
    transaction
}

/// What an event says of where it comes from.
fn metadata<D: Domain>(job: &Job<D>) -> String {
    #[derive(serde::Serialize)]
    struct Metadata<'a> {
        job: String,
        #[serde(flatten)]
        origin: &'a crate::job::Origin,
    }
    let metadata = Metadata { job: job.id.to_string(), origin: &job.origin };
    // Text and optional text cannot fail to be written as JSON.
    serde_json::to_string(&metadata).unwrap_or_default()
}

fn ends<D: Domain>(jobs: &[Planned<Job<D>>], decided: &Decided<D>, committed: Committed) -> Vec<End> {
    let mut ends: Vec<End> = Vec::with_capacity(jobs.len());
    for verdict in &decided.verdicts {
        let end = match verdict {
            Verdict::Applied { count: 0, .. } => Some(told(OutcomeLabel::Applied, None, None)),
            Verdict::Applied { first, count } => {
                let first = committed.base + 1 + *first as u64;
                Some(told(OutcomeLabel::Applied, None, Some((first, first + *count as u64 - 1))))
            }
            Verdict::Rejected(reason) => Some(told(OutcomeLabel::Rejected, Some((*reason).to_owned()), None)),
            Verdict::Expired => Some(told(OutcomeLabel::Expired, None, None)),
            Verdict::Dead(dead) => {
                let (label, told, _) = told(OutcomeLabel::Dead, Some(dead.reason()), None);
                Some((label, told, Fate::Bury { error: dead.detail.clone() }))
            }
            Verdict::IdReused => {
                Some(told(OutcomeLabel::Duplicate, Some(ID_REUSED.to_owned()), None)).map(|(label, told, fate)| {
                    (label, Told { outcome: OutcomeLabel::Rejected.as_str().to_owned(), ..told }, fate)
                })
            }
            Verdict::Duplicate(receipt) => Some(repeated(receipt)),
            Verdict::Repeats(earlier) => ends.get(*earlier).cloned().flatten().map(|(_, told, fate)| {
                // The entry of a dead job's repetition is a letter of its own, since it is an entry of its own.
                (OutcomeLabel::Duplicate, told, fate)
            }),
            Verdict::NotDue(at) => {
                let (label, told, _) = told(OutcomeLabel::Applied, None, None);
                Some((label, told, Fate::Postpone { at: *at }))
            }
            Verdict::Again => None,
        };
        ends.push(end);
    }
    ends
}

fn told(label: OutcomeLabel, reason: Option<String>, positions: Option<(u64, u64)>) -> (OutcomeLabel, Told, Fate) {
    (label, Told { outcome: label.as_str().to_owned(), reason, positions }, Fate::Acknowledge)
}

/// The end of a job that has a receipt: the first outcome again. A dead one's letter is written again if it was not.
fn repeated(receipt: &StoredReceipt) -> (OutcomeLabel, Told, Fate) {
    let told = Told { outcome: receipt.outcome.clone(), reason: receipt.reason.clone(), positions: receipt.positions };
    let dead = receipt.outcome == OutcomeLabel::Dead.as_str();
    let fate = if dead { Fate::Bury { error: receipt.reason.clone().unwrap_or_default() } } else { Fate::Acknowledge };
    (OutcomeLabel::Duplicate, told, fate)
}

fn settle<D: Domain>(
    jobs: Vec<Planned<Job<D>>>,
    ends: Vec<End>,
    settled: &mut Vec<Settled<D>>,
    back: &mut Vec<(Planned<Job<D>>, Back)>,
) {
    for (planned, end) in jobs.into_iter().zip(ends) {
        match end {
            Some((label, told, fate)) => settled.push(Settled { planned, label, told, fate }),
            None => back.push((planned, Back::Targets)),
        }
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

/// Counts a failure, and logs those that an operator has to know of.
fn note<D: Domain>(engine: &Engine<D>, failure: &StoreError, jobs: usize) {
    match failure {
        StoreError::Conflict(kind) => engine.metrics.conflict(kind.as_str()),
        StoreError::Repeat(reason) => engine.metrics.repeated(reason.as_str()),
        StoreError::Unknown(_) => {
            engine.metrics.commit_unknown();
            tracing::warn!(batch.jobs = jobs, error = %failure, "the receipts will tell what became of a batch");
        }
        StoreError::Unavailable(class, _) => engine.metrics.store_error(class.as_str()),
        StoreError::Data(_) => tracing::warn!(batch.jobs = jobs, error = %failure, "a batch was refused"),
        StoreError::Undecodable(_) => tracing::error!(batch.jobs = jobs, error = %failure, "a batch cannot be decided"),
    }
}

/// How long a job waits after it went back for the `tries`-th time.
pub fn pause(back: Back, tries: u32, retry_delay: Duration, retry_count: u32) -> Duration {
    match back {
        // Each of these goes on from a new state, so it is tried at once, unless it does not stop.
        Back::Targets | Back::Refused | Back::Contended if tries < 20 => Duration::ZERO,
        Back::Targets | Back::Refused | Back::Contended => jittered(Duration::from_secs(1)),
        Back::Busy | Back::LockLost => {
            // The configured number of quick tries, then longer and longer ones up to a second.
            let factor = 1 << tries.saturating_sub(retry_count).min(4);
            jittered((retry_delay * factor).min(Duration::from_secs(1).max(retry_delay)))
        }
        Back::Unavailable => jittered(Duration::from_millis(100 << tries.min(4))),
    }
}

/// Between half and all of `delay`, so that daemons that failed together do not try again together.
fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(rand::random_range(0.5..=1.0))
}
