//! A batch's locks: one round for all of its aggregates, and the look at what is left of them before the commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::HashSet;

use super::engine::Engine;
use super::failure::{Failure, PutBackReason};
use super::pipeline::{LockTable, lock_key};
use crate::domain::{AggregateId, Domain};
use crate::job::Job;
use crate::lock::{ExtendError, Held, KeyResult};
use crate::metrics::{LockLoss, Metrics};
use crate::plan::Planned;

/// What the round brought.
pub(in crate::batch) struct Locked<'a, D: Domain> {
    /// Held until dropped.
    pub locks: Locks<'a>,
    /// Jobs that have all their locks.
    pub jobs: Vec<Planned<Job<D>>>,
    /// Jobs that have not.
    pub back: Vec<(Planned<Job<D>>, PutBackReason)>,
    /// Aggregates that somebody else holds.
    pub busy: Vec<AggregateId>,
}

/// The locks of a batch. They are extended while it runs and released when it ends, whichever way, but for those under which a
/// successor goes on: also when its task is given up at the end of the time for draining.
pub(in crate::batch) struct Locks<'a> {
    lock_table: &'a LockTable,
    aggregates: Vec<AggregateId>,
    /// What holds them; nothing for a batch that touches no aggregate.
    held: Vec<Arc<Held>>,
    /// Less than this is too little to commit in.
    least: Duration,
    since: Instant,
    metrics: &'a Metrics,
}

/// Too little is left of the locks to commit under them.
pub(in crate::batch) struct LockLost;

impl Locks<'_> {
    /// Looks at what is left of the locks, immediately before the one step that cannot be undone. More proof than that no
    /// lock can give: see [`crate::lock`].
    pub fn check(&self) -> Result<(), LockLost> {
        let Some(soonest) = self.held.iter().min_by_key(|held| held.deadline()) else { return Ok(()) };
        let margin = soonest.remaining();
        self.metrics.commit_margin(margin);
        if margin >= self.least {
            return Ok(());
        }
        self.metrics.lock_lost(match soonest.failure() {
            Some(ExtendError::Lost) => LockLoss::ValueChanged,
            Some(ExtendError::Unavailable) => LockLoss::ExtendFailed,
            Some(ExtendError::Expired | ExtendError::HeldTooLong) | None => LockLoss::Expired,
        });
        Err(LockLost)
    }
}

impl Drop for Locks<'_> {
    fn drop(&mut self) {
        if !self.aggregates.is_empty() {
            self.metrics.locks_held(-(self.lock_table.leave(&self.aggregates) as f64));
            self.metrics.released(self.since.elapsed());
        }
    }
}

/// Locks every aggregate of the batch in one round, but for those that its predecessors hold, which are held on. A job of which
/// a lock is missing goes back, with those that follow it on the same aggregates; what only they needed is released at once, and
/// the rest goes on.
pub(in crate::batch) async fn lock<D: Domain>(engine: &Engine<D>, jobs: Vec<Planned<Job<D>>>) -> Locked<'_, D> {
    let aggregates: HashSet<&AggregateId> = jobs.iter().flat_map(|planned| planned.aggregates()).collect();
    let (joined, held, missing) = engine.lock_table.join(aggregates.into_iter().cloned().collect());
    let settings = engine.locks.settings();
    let least = settings.node_timeout.min(settings.ttl / 10);
    let (lock_table, metrics) = (&engine.lock_table, &*engine.metrics);
    let mut locks = Locks { lock_table, aggregates: joined, held, least, since: Instant::now(), metrics };
    if missing.is_empty() {
        return Locked { locks, jobs, back: Vec::new(), busy: Vec::new() };
    }
    let keys: Vec<String> = missing.iter().map(lock_key).collect();
    let mut acquisition = engine.locks.acquire(&keys).await;
    let count = |result| acquisition.results.iter().filter(|given| **given == result).count();
    let (granted, busy) = (count(KeyResult::Granted), count(KeyResult::Busy));
    engine.metrics.locked(acquisition.elapsed, granted, busy, keys.len() - granted - busy);
    let with = |wanted| {
        let all = missing.iter().zip(&acquisition.results);
        all.filter(move |(_, result)| **result == wanted).map(|(aggregate, _)| aggregate)
    };
    let (busy, unavailable) = (with(KeyResult::Busy).collect(), with(KeyResult::Unavailable).collect());
    let (jobs, back) = part(jobs, &busy, &unavailable);
    let mut added: Vec<AggregateId> = with(KeyResult::Granted).cloned().collect();
    if !back.is_empty() {
        let needed: HashSet<&AggregateId> = jobs.iter().flat_map(|planned| planned.aggregates()).collect();
        let spare: Vec<AggregateId> = added.extract_if(.., |aggregate| !needed.contains(aggregate)).collect();
        engine.locks.release_keys(&mut acquisition.lease, &spare.iter().map(lock_key).collect::<Vec<_>>());
    }
    let busy = busy.into_iter().cloned().collect();
    if !added.is_empty() {
        engine.metrics.locks_held(added.len() as f64);
        let held = Arc::new(engine.locks.hold(acquisition.lease));
        engine.lock_table.add(&added, &held);
        locks.held.push(held);
        locks.aggregates.extend(added);
    }
    Locked { locks, jobs, back, busy }
}

type Parted<D> = (Vec<Planned<Job<D>>>, Vec<(Planned<Job<D>>, PutBackReason)>);

/// Parts the jobs that have all their locks from those that have not, and from the followers of these.
fn part<D: Domain>(
    jobs: Vec<Planned<Job<D>>>,
    busy: &HashSet<&AggregateId>,
    unavailable: &HashSet<&AggregateId>,
) -> Parted<D> {
    let mut barred: HashSet<AggregateId> = HashSet::default();
    let (mut going, mut back) = (Vec::with_capacity(jobs.len()), Vec::new());
    for planned in jobs {
        let why = if planned.aggregates().iter().any(|aggregate| unavailable.contains(aggregate)) {
            PutBackReason::NoQuorum
        } else if planned.aggregates().iter().any(|aggregate| busy.contains(aggregate)) {
            PutBackReason::Busy
        } else if planned.aggregates().iter().any(|aggregate| barred.contains(aggregate)) {
            PutBackReason::Behind
        } else {
            going.push(planned);
            continue;
        };
        barred.extend(planned.aggregates().iter().cloned());
        back.push((planned, why));
    }
    (going, back)
}

impl From<LockLost> for Failure {
    fn from(_: LockLost) -> Self {
        Self::LockLost
    }
}
