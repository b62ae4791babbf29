//! The loops: taking jobs in, running batches of them, telling the broker.

mod accept;
mod holding;
mod intake;
mod intake_status;
mod linger;
mod moves;
mod prefetch;
mod reading;
mod seats;
mod settle;
mod start;

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use foldhash::HashMap;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

pub use intake::{Intake, Supply};
pub use intake_status::IntakeStatus;
pub use prefetch::{Prefetch, Room};
pub use seats::{Seats, Setup};

use crate::batch::{self, Ended, Engine, Prepared, PreparedBatch, PreparedSender, PutBackReason, Settled, Step};
use crate::domain::{AggregateId, Domain};
use crate::job::Job;
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::{DrainOutcome, InFlight, Taking};
use crate::plan::{BatchId, Holds, Limits, Plan, Planned, Terms};
use crate::spans::Spans;

/// What the dispatcher goes by.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bounds of a batch.
    pub limits: Limits,
    /// Batches at a time.
    pub in_flight: usize,
    /// The largest `data` field, in bytes.
    pub max_data_bytes: usize,
    /// How aggregates are shared with whoever else locks them.
    pub terms: Terms,
    /// How often work on a job may be started before it is dead.
    pub max_deliveries: u64,
    /// How long a job that only another version of this program may know waits for one.
    pub unknown_wait: Duration,
}

/// How often the dispatcher says at least that it is at work.
const PULSE: Duration = Duration::from_millis(100);

/// A loop ended that must not end.
#[derive(Debug, thiserror::Error)]
#[error("a batch ended with a panic: {0}")]
pub struct Broken(#[from] JoinError);

/// Plans batches from the entries that come in, and runs them.
pub struct Dispatcher<D: Domain> {
    engine: Arc<Engine<D>>,
    prefetch: Prefetch,
    seats: Seats,
    lifecycle: Lifecycle,
    reading: IntakeStatus,
    settings: Settings,
    spans: Spans,
    plan: Plan<Job<D>>,
    /// The jobs that later ones wait behind.
    holds: Holds,
    running: JoinSet<(BatchId, InFlight, Ended<D>)>,
    /// What can be expected of those that may be succeeded.
    prospects: HashMap<BatchId, PreparedBatch<D>>,
    openings: (PreparedSender<D>, mpsc::UnboundedReceiver<Prepared<D>>),
    settling: JoinSet<settle::Written>,
    resolving: JoinSet<HashMap<AggregateId, D::State>>,
    in_flight_jobs: usize,
    /// When the youngest batch was begun.
    last_begun: Instant,
    /// How many jobs waited when too few of them could start, unless a batch has opened or ended since.
    in_vain: Option<usize>,
    /// Jobs that left a batch without an end since the drain began.
    went_back: usize,
    /// Jobs that were left in the stream since the drain began.
    left: usize,
}

/// What became of the jobs in hand when the daemon drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Jobs that were in flight and came to their end.
    pub finished: usize,
    /// Jobs that were not started, and are left in the stream for its next owner.
    pub left: usize,
}

impl Drained {
    /// Adds what another loop says.
    pub fn add(&mut self, other: Self) {
        self.finished += other.finished;
        self.left += other.left;
    }
}

impl<D: Domain> Dispatcher<D> {
    /// A dispatcher with nothing to do yet.
    pub fn new(
        engine: Arc<Engine<D>>,
        prefetch: Prefetch,
        seats: Seats,
        lifecycle: Lifecycle,
        reading: IntakeStatus,
        settings: Settings,
        spans: Spans,
    ) -> Self {
        Self {
            engine,
            prefetch,
            seats,
            lifecycle,
            reading,
            settings,
            spans,
            plan: Plan::new(settings.terms),
            holds: Holds::default(),
            running: JoinSet::new(),
            prospects: HashMap::default(),
            openings: mpsc::unbounded_channel(),
            settling: JoinSet::new(),
            resolving: JoinSet::new(),
            in_flight_jobs: 0,
            last_begun: Instant::now(),
            in_vain: None,
            went_back: 0,
            left: 0,
        }
    }

    /// Runs until the daemon drains and every intake loop has ended. What is in flight then finishes; jobs that have not
    /// been started are left in the stream.
    pub async fn run(mut self, mut entries: mpsc::UnboundedReceiver<Supply>) -> Result<Drained, Broken> {
        while self.lifecycle.is_running() {
            self.seats.pulse();
            self.start_resolving();
            let is_trusted = self.seats.is_trusted();
            let due = if is_trusted { self.start_batches(Instant::now()) } else { None };
            self.engine.metrics.in_hand(self.plan.waiting(), self.in_flight_jobs);
            let held = self.seats.held();
            let stands_by = held.iter().all(Option::is_none) && self.plan.waiting() == 0;
            tokio::select! {
                Some(supply) = entries.recv() => self.supplied(supply),
                Some(ended) = self.running.join_next() => self.end(ended?),
                Some(opening) = self.openings.1.recv() => self.open(opening),
                Some(states) = self.resolving.join_next() => self.resolve(&states?),
                Some(written) = self.settling.join_next() => self.held_are_written(written?),
                () = self.seats.trusted(), if !is_trusted && self.plan.waiting() > 0 => {}
                // Whoever stands by has no beats that hang on it.
                () = self.seats.changed(&held), if stands_by => {}
                () = tokio::time::sleep(PULSE), if !stands_by => {}
                () = sleep_until(due) => {}
                () = self.lifecycle.reached(Phase::Draining) => {}
            }
        }
        self.drain(entries).await
    }

    async fn drain(mut self, mut entries: mpsc::UnboundedReceiver<Supply>) -> Result<Drained, Broken> {
        let finished = self.in_flight_jobs;
        self.leave(|_| true);
        let mut open = true;
        while open || !self.running.is_empty() {
            self.seats.pulse();
            tokio::select! {
                supply = entries.recv(), if open => match supply {
                    Some(supply) => self.supplied(supply),
                    None => open = false,
                },
                Some(ended) = self.running.join_next() => self.end(ended?),
                () = tokio::time::sleep(PULSE) => {}
            }
            self.leave(|_| true);
        }
        while let Some(settled) = self.settling.join_next().await {
            settled?;
        }
        // A job that went back on the way is among those that were left.
        Ok(Drained { finished: finished.saturating_sub(self.went_back), left: self.left })
    }

    fn supplied(&mut self, supply: Supply) {
        match supply {
            Supply::Read(entries) => self.accept(entries),
            Supply::Over => self.leave(|job| job.spell.is_over()),
            Supply::Held { stream, anew, letters } => self.are_held(&stream, anew, letters),
            Supply::LetGo { stream, in_hand, entries } => {
                self.accept(in_hand);
                self.let_go(&stream, &entries);
            }
        }
    }

    /// Drops those of the waiting jobs that are to go. They stay in the stream as they were, for its next owner.
    fn leave(&mut self, goes: impl Fn(&Job<D>) -> bool) {
        let jobs = self.plan.take_out(goes);
        jobs.iter().for_each(|job| self.prefetch.let_go(&job.spell, job.entry));
        if !self.lifecycle.is_running() {
            self.left += jobs.len();
            self.engine.metrics.drained(DrainOutcome::Released, jobs.len());
        }
    }

    /// Looks up the aggregates of jobs that depend on another aggregate's state: from the cache when it has that state,
    /// which is enough, since the set is checked again under the lock.
    fn start_resolving(&mut self) {
        if !self.resolving.is_empty() {
            return;
        }
        let (mut cached, mut missing) = (HashMap::default(), Vec::new());
        for (_, _, source) in self.plan.resolvable() {
            match self.engine.cache.get(source) {
                Some((_, state)) => drop(cached.insert(source.clone(), state)),
                None => missing.push(source.clone()),
            }
        }
        self.resolve(&cached);
        if !missing.is_empty() {
            let engine = self.engine.clone();
            self.resolving.spawn(async move { batch::load_sources(&engine, &missing).await });
        }
    }

    fn resolve(&mut self, states: &HashMap<AggregateId, D::State>) {
        let mut resolved = Vec::new();
        for (turn, waiting, source) in self.plan.resolvable() {
            if let (Ok(command), Some(state)) = (&waiting.job.work, states.get(source)) {
                resolved.push((turn, D::resolve(command, state)));
            }
        }
        resolved.into_iter().for_each(|(turn, aggregates)| self.plan.resolve(turn, aggregates));
    }

    /// Frees what an ended batch held, and has its settled jobs told to the broker beside the next batch.
    fn end(&mut self, (id, batch, ended): (BatchId, InFlight, Ended<D>)) {
        // It said so before it ended.
        while let Ok(opening) = self.openings.1.try_recv() {
            self.open(opening);
        }
        self.in_vain = None;
        self.prospects.remove(&id);
        self.plan.close(id);
        let jobs = ended.settled.len() + ended.back.len();
        let now = Instant::now();
        let took = now.duration_since(batch.since);
        tracing::debug!(
            batch.jobs = jobs,
            batch.settled = ended.settled.len(),
            batch.put_back = ended.back.len(),
            batch.ms = took.as_secs_f64() * 1e3,
            "a batch ended"
        );
        self.in_flight_jobs -= jobs;
        self.hold_behind(&ended.settled);
        for settled in &ended.settled {
            self.plan.finish(&settled.planned, now);
        }
        let size = ended.back.len();
        let is_away = ended.back.iter().any(|(_, why)| *why == PutBackReason::Unavailable);
        if is_away || !ended.settled.is_empty() {
            self.reading.store_is_away(is_away);
        }
        if !self.lifecycle.is_running() {
            self.went_back += size;
            self.engine.metrics.drained(DrainOutcome::Finished, ended.settled.len());
        }
        for (planned, why) in ended.back {
            self.engine.metrics.put_back(why.as_str(), 1);
            self.put_back(planned, why, size, now);
        }
        self.leave_alone(&ended.busy, now);
        if !ended.settled.is_empty() {
            self.engine.progress.made(Step::Settle);
            if let Some(time) = self.seats.first_commit() {
                self.engine.metrics.took(Taking::FirstCommit, time);
            }
            let ended_at = SystemTime::now();
            let batch = settle::Batch { jobs, since: batch.since, began: ended_at - took, ended: ended_at };
            self.settle(batch, ended.settled);
        }
    }

    /// Has the broker told, beside the next batch.
    fn settle(&mut self, batch: settle::Batch, settled: Vec<Settled<D>>) {
        let (engine, prefetch, spans) = (self.engine.clone(), self.prefetch.clone(), self.spans.clone());
        self.settling.spawn(settle::settle(engine, prefetch, spans, batch, settled));
    }

    /// Lets whoever holds these aggregates have them for a while.
    fn leave_alone(&mut self, busy: &[AggregateId], now: Instant) {
        if busy.is_empty() {
            return;
        }
        let refusals = self.plan.busy(busy, now, rand::random_range(0.5..=1.0));
        if refusals > self.settings.terms.retry_count && self.engine.incidents.is_news("lock_busy") {
            let aggregates = busy.len();
            tracing::warn!(aggregates, aggregate.id = %busy[0], refusals, "somebody else keeps locks; their jobs wait");
        }
    }

    fn put_back(&mut self, planned: Planned<Job<D>>, why: PutBackReason, size: usize, now: Instant) {
        let pause = batch::pause(why, planned.queued.tries + 1, self.settings.terms.retry_delay);
        let is_over = planned.queued.job.spell.is_over();
        self.plan.put_back(planned, now, |queued| {
            // One job that cannot be committed, or that somebody holds up, must not hold up the others for ever.
            if matches!(why, PutBackReason::Refused | PutBackReason::Contended) {
                queued.batch_limit = (size / 2).max(1);
            }
            queued.not_before = (!pause.is_zero()).then(|| now + pause);
            queued.tries += u32::from(why != PutBackReason::Behind);
            // What depends on a state is looked up again.
            queued.targets = queued.job.targets();
        });
        if is_over {
            self.leave(|job| job.spell.is_over());
        }
    }
}

/// Waits until `moment`, or for ever.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => pending().await,
    }
}
