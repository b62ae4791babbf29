//! The loops: taking jobs in, running batches of them, telling the broker.

mod appetite;
mod claim;
mod company;
mod ebb;
mod hand;
mod intake;
mod reading;
mod settle;
mod start;

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use foldhash::HashMap;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

pub use hand::{Hand, Room};
pub use intake::{Intake, keep_alive};
pub use reading::Reading;

use crate::batch::{self, Back, Ended, Engine, Opening, Openings, Prospect, Step};
use crate::domain::{AggregateId, Domain, Targets};
use crate::job::{self, Dead, DeadCode, Entry, EntryId, Job};
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::{DrainOutcome, InFlight};
use crate::plan::{BatchId, Limits, Plan, Planned, Terms, Waiting};
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
}

/// A loop ended that must not end.
#[derive(Debug, thiserror::Error)]
#[error("a batch ended with a panic: {0}")]
pub struct Broken(#[from] JoinError);

/// Plans batches from the entries that come in, and runs them.
pub struct Dispatcher<D: Domain> {
    engine: Arc<Engine<D>>,
    hand: Hand,
    lifecycle: Lifecycle,
    reading: Reading,
    settings: Settings,
    spans: Spans,
    plan: Plan<Job<D>>,
    running: JoinSet<(BatchId, InFlight, Ended<D>)>,
    /// What can be expected of those that may be succeeded.
    prospects: HashMap<BatchId, Prospect<D>>,
    openings: (Openings<D>, mpsc::UnboundedReceiver<Opening<D>>),
    settling: JoinSet<()>,
    resolving: JoinSet<HashMap<AggregateId, D::State>>,
    in_flight_jobs: usize,
    /// When the youngest batch was begun.
    last_begun: Instant,
    /// How many jobs waited when too few of them could start, unless a batch has opened or ended since.
    in_vain: Option<usize>,
    /// Jobs that left a batch without an end since the drain began.
    went_back: usize,
}

/// What became of the jobs in hand when the daemon drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Jobs that were in flight and came to their end.
    pub finished: usize,
    /// Jobs that were given back to the group.
    pub handed_back: usize,
}

impl<D: Domain> Dispatcher<D> {
    /// A dispatcher with nothing to do yet.
    pub fn new(
        engine: Arc<Engine<D>>,
        hand: Hand,
        lifecycle: Lifecycle,
        reading: Reading,
        settings: Settings,
        spans: Spans,
    ) -> Self {
        Self {
            engine,
            hand,
            lifecycle,
            reading,
            settings,
            spans,
            plan: Plan::new(settings.terms),
            running: JoinSet::new(),
            prospects: HashMap::default(),
            openings: mpsc::unbounded_channel(),
            settling: JoinSet::new(),
            resolving: JoinSet::new(),
            in_flight_jobs: 0,
            last_begun: Instant::now(),
            in_vain: None,
            went_back: 0,
        }
    }

    /// Runs until the daemon drains and every intake loop has ended. What is in flight then finishes; jobs that have not
    /// been started are handed back.
    pub async fn run(mut self, mut entries: mpsc::UnboundedReceiver<Vec<Entry>>) -> Result<Drained, Broken> {
        while self.lifecycle.is_running() {
            self.start_resolving();
            let due = self.start_batches(Instant::now());
            self.engine.metrics.in_hand(self.plan.waiting(), self.in_flight_jobs);
            tokio::select! {
                Some(read) = entries.recv() => self.accept(read),
                Some(ended) = self.running.join_next() => self.end(ended?),
                Some(opening) = self.openings.1.recv() => self.open(opening),
                Some(states) = self.resolving.join_next() => self.resolve(&states?),
                Some(settled) = self.settling.join_next() => settled?,
                () = sleep_until(due) => {}
                () = self.lifecycle.reached(Phase::Draining) => {}
            }
        }
        self.drain(entries).await
    }

    async fn drain(mut self, mut entries: mpsc::UnboundedReceiver<Vec<Entry>>) -> Result<Drained, Broken> {
        let finished = self.in_flight_jobs;
        // What has not been started goes back first, so that a peer runs it while this process finishes the rest.
        let mut handed_back = self.hand_back().await;
        let mut open = true;
        while open || !self.running.is_empty() {
            tokio::select! {
                read = entries.recv(), if open => match read {
                    Some(read) => self.accept(read),
                    None => open = false,
                },
                Some(ended) = self.running.join_next() => self.end(ended?),
            }
        }
        handed_back += self.hand_back().await;
        while let Some(settled) = self.settling.join_next().await {
            settled?;
        }
        // A job that went back on the way is among those that were handed back.
        Ok(Drained { finished: finished.saturating_sub(self.went_back), handed_back })
    }

    fn accept(&mut self, read: Vec<Entry>) {
        for entry in read {
            let mut job = job::decode::<D>(&entry, self.settings.max_data_bytes);
            let deliveries = entry.deliveries.unwrap_or(0);
            if deliveries >= self.settings.max_deliveries && job.work.is_ok() {
                let detail = format!("work on it was started {deliveries} times in a row and never came to an end");
                job.work = Err(Dead::new(DeadCode::MaxDeliveries, detail));
            }
            // A job that is dead is not started.
            job.counted |= job.work.is_err();
            // From its second redelivery on it runs alone, so that the jobs beside it are not counted down with it.
            let alone = deliveries >= 2 && job.work.is_ok();
            let targets = targets(&job);
            let (id, bytes, company) = (job.id, job.bytes, usize::MAX);
            self.plan.push(Waiting { id, targets, bytes, not_before: None, company, alone, tries: 0, job });
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
        for settled in &ended.settled {
            self.plan.finish(&settled.planned, now);
        }
        let size = ended.back.len();
        let is_away = ended.back.iter().any(|(_, why)| *why == Back::Unavailable);
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
            let ended_at = SystemTime::now();
            let batch = settle::Batch { jobs, since: batch.since, began: ended_at - took, ended: ended_at };
            let (engine, hand, spans) = (self.engine.clone(), self.hand.clone(), self.spans.clone());
            self.settling.spawn(settle::settle(engine, hand, spans, batch, ended.settled));
        }
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

    fn put_back(&mut self, planned: Planned<Job<D>>, why: Back, size: usize, now: Instant) {
        let Planned { batch, turn, id, aggregates, bytes, company, alone, tries, job } = planned;
        // One job that cannot be committed, or that somebody holds up, must not hold up the others for ever.
        let company = if matches!(why, Back::Refused | Back::Contended) { (size / 2).max(1) } else { company };
        let pause = batch::pause(why, tries + 1, self.settings.terms.retry_delay);
        let not_before = (!pause.is_zero()).then(|| now + pause);
        let (targets, tries) = (targets(&job), if why == Back::Behind { tries } else { tries + 1 });
        let waiting = Waiting { id, targets, bytes, not_before, company, alone, tries, job };
        self.plan.put_back((batch, turn), &aggregates, waiting, now);
    }

    /// Gives every waiting job back to the group; returns how many there were.
    async fn hand_back(&mut self) -> usize {
        let mut by_stream: BTreeMap<Arc<str>, Vec<(EntryId, u64)>> = BTreeMap::new();
        for job in self.plan.take_all() {
            by_stream.entry(job.stream).or_default().push((job.entry, job.deliveries.unwrap_or(0)));
        }
        for (stream, entries) in &by_stream {
            entries.iter().for_each(|(id, _)| self.hand.let_go(stream, *id));
            if let Err(error) = self.engine.broker.hand_back(stream, entries).await {
                tracing::warn!(%error, jobs = entries.len(), "jobs could not be handed back; they are claimed later");
            }
            self.engine.metrics.drained(DrainOutcome::Released, entries.len());
        }
        by_stream.values().map(Vec::len).sum()
    }
}

fn targets<D: Domain>(job: &Job<D>) -> Targets {
    match &job.work {
        Ok(command) => D::targets(command),
        Err(_) => Targets::Known(Vec::new()),
    }
}

/// Waits until `moment`, or for ever.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => pending().await,
    }
}
