//! Which waiting jobs form the next batch. Pure.
//!
//! Three promises, each a property test below: batches in flight never share a job id, nor an aggregate, unless one is the
//! successor of the other; no job overtakes an older one that shares an aggregate with it; and whatever waits is planned in
//! the end. And a courtesy: an aggregate is left to others now and then (`tenure`).
//!
//! A batch is *open* once its decisions are made and only the database's word is missing. From then on others may be planned
//! that go by what it will come to: its successors.

mod claims;
mod holds;
mod jobs;
mod tenure;

pub use claims::BatchId;
pub use holds::{Holds, as_text};
pub use jobs::{Batch, Planned, Queued};
pub use tenure::Terms;

use std::collections::BTreeMap;
use std::time::Instant;

use crate::domain::{AggregateId, Targets};
use crate::job::{JobId, Turn};
use claims::{Claim, Claims, Number, Start};
use tenure::Tenures;

/// Bounds of one batch.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Jobs.
    pub jobs: usize,
    /// Sum of the jobs' sizes; a single job may exceed it.
    pub bytes: usize,
    /// Distinct aggregates, which are keys of one lock script; a single job may exceed it.
    pub aggregates: usize,
    /// Sum of the jobs' aggregates, about as many as there will be events; a single job may exceed it.
    pub touches: usize,
}

/// The waiting jobs in their order, and what is in flight.
#[derive(Debug)]
pub struct Plan<T> {
    waiting: BTreeMap<Turn, Place<T>>,
    /// How many of them do not know their aggregates yet.
    unresolved: usize,
    /// How many of them are to wait until some moment.
    delayed: usize,
    claims: Claims,
    /// The job in flight beside which nothing else may be.
    alone: Option<JobId>,
    batches: u64,
    tenures: Tenures,
}

/// A waiting job's place in the line. Most looks at it end with its claims, so the rest of it is kept apart.
#[derive(Debug)]
struct Place<T> {
    /// Of its id, and of the aggregates that it touches, or of the one that tells which.
    claims: Box<[Number]>,
    is_resolved: bool,
    queued: Box<Queued<T>>,
}

fn claims_of<T>(queued: &Queued<T>) -> impl Iterator<Item = Claim> + '_ {
    let aggregates = match &queued.targets {
        Targets::Known(aggregates) => aggregates.as_slice(),
        Targets::FromStateOf(source) => std::slice::from_ref(source),
    };
    claims(queued.id, aggregates)
}

fn claims(id: JobId, aggregates: &[AggregateId]) -> impl Iterator<Item = Claim> + '_ {
    std::iter::once(Claim::Job(id)).chain(aggregates.iter().cloned().map(Claim::Aggregate))
}

impl<T> Plan<T> {
    /// A plan without jobs.
    pub fn new(terms: Terms) -> Self {
        Self {
            waiting: BTreeMap::new(),
            unresolved: 0,
            delayed: 0,
            claims: Claims::default(),
            alone: None,
            batches: 0,
            tenures: Tenures::new(terms),
        }
    }

    /// Adds a job, at its turn.
    pub fn push(&mut self, queued: Queued<T>) {
        self.insert(Box::new(queued));
    }

    fn insert(&mut self, queued: Box<Queued<T>>) {
        let claims = claims_of(&queued).map(|claim| self.claims.enter(claim)).collect();
        let is_resolved = matches!(queued.targets, Targets::Known(_));
        self.unresolved += usize::from(!is_resolved);
        self.delayed += usize::from(queued.not_before.is_some());
        self.waiting.insert(queued.turn, Place { claims, is_resolved, queued });
    }

    /// Number of waiting jobs.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes those of the waiting jobs out that are to go, oldest first.
    pub fn take_out(&mut self, goes: impl Fn(&T) -> bool) -> Vec<T> {
        let gone: Vec<_> = self.waiting.extract_if(.., |_, place| goes(&place.queued.job)).collect();
        for (_, place) in &gone {
            place.claims.iter().for_each(|claim| self.claims.leave(*claim));
            self.unresolved -= usize::from(!place.is_resolved);
            self.delayed -= usize::from(place.queued.not_before.is_some());
        }
        gone.into_iter().map(|(_, place)| place.queued.job).collect()
    }

    /// The next batch; one without jobs when nothing can start now.
    ///
    /// A job is passed over when it is not due, when one of its aggregates is left to others for now, or when it shares an
    /// aggregate with an older job that was passed over or with a batch in flight that is not open. A job whose aggregates are
    /// not known yet bars all younger ones. So does one that must run alone, until it has run: then nothing else is in flight.
    /// One of fewer than `least` jobs is not worth its cost; then there is none.
    pub fn next_batch(&mut self, now: Instant, limits: Limits, least: usize) -> Batch<T> {
        let mut turns = if self.alone.is_some() { Vec::new() } else { self.next_turns(now, limits) };
        if turns.len() < least {
            turns.clear();
        }
        self.batches += u64::from(!turns.is_empty());
        let (id, mut after) = (BatchId(self.batches), Vec::new());
        let jobs = turns.into_iter().filter_map(|turn| self.start(turn, id, &mut after, now)).collect();
        Batch { id, after, jobs }
    }

    fn next_turns(&mut self, now: Instant, limits: Limits) -> Vec<Turn> {
        self.tenures.sweep(now);
        self.claims.look();
        let mut turns = Vec::new();
        let (mut bytes, mut batch_limit, mut aggregates, mut touches) = (0, limits.jobs, 0, 0);
        for (&turn, place) in &self.waiting {
            if !place.is_resolved || turns.len() >= batch_limit {
                break;
            }
            let queued = &place.queued;
            let (id, touched) = place.claims.split_at(1);
            let is_free = self.claims.are_free(id)
                && self.claims.are_open(touched)
                && queued.not_before.is_none_or(|moment| moment <= now)
                && !queued.aggregates().iter().any(|aggregate| self.tenures.rests(aggregate, now));
            if !is_free {
                self.claims.bar(&place.claims);
                continue;
            }
            if queued.alone {
                if turns.is_empty() && self.claims.none_in_flight() {
                    turns.push(turn);
                }
                break;
            }
            let fits = turns.is_empty()
                || (turns.len() < queued.batch_limit
                    && bytes + queued.bytes <= limits.bytes
                    && aggregates + queued.aggregates().len() <= limits.aggregates
                    && touches + queued.aggregates().len() <= limits.touches);
            if fits {
                turns.push(turn);
                bytes += queued.bytes;
                touches += queued.aggregates().len();
                batch_limit = batch_limit.min(queued.batch_limit);
                aggregates += self.claims.count(touched);
            } else {
                self.claims.bar(&place.claims);
            }
        }
        turns
    }

    fn start(&mut self, turn: Turn, batch: BatchId, after: &mut Vec<BatchId>, now: Instant) -> Option<Planned<T>> {
        let place = self.waiting.remove(&turn)?;
        let queued = place.queued;
        self.delayed -= usize::from(queued.not_before.is_some());
        let Targets::Known(aggregates) = &queued.targets else { return None };
        self.alone = queued.alone.then_some(queued.id);
        self.claims.start(place.claims[0], batch);
        for (aggregate, claim) in aggregates.iter().zip(&place.claims[1..]) {
            match self.claims.start(*claim, batch) {
                Start::Free => self.tenures.taken(aggregate, now),
                Start::After(older) if !after.contains(&older) => after.push(older),
                Start::After(_) | Start::Again => {}
            }
        }
        Some(Planned { batch, queued })
    }

    /// The batch has decided, and it is up to the database whether that stands: it may be succeeded, except in these aggregates.
    pub fn open(&mut self, batch: BatchId, except: &[AggregateId]) {
        self.claims.open(batch, except);
    }

    /// The batch has ended; [`Plan::finish`] and [`Plan::put_back`] are told of its jobs.
    pub fn close(&mut self, batch: BatchId) {
        self.claims.close(batch);
    }

    /// The job has ended: its aggregates are free for the next batch.
    pub fn finish(&mut self, planned: &Planned<T>, now: Instant) {
        self.free(planned, now, true);
    }

    /// The job has not ended: it waits again, in its old place, with what `revise` changes.
    pub fn put_back(&mut self, planned: Planned<T>, now: Instant, revise: impl FnOnce(&mut Queued<T>)) {
        self.free(&planned, now, false);
        let Planned { mut queued, .. } = planned;
        revise(&mut queued);
        self.insert(queued);
    }

    fn free(&mut self, planned: &Planned<T>, now: Instant, done: bool) {
        let (id, batch) = (planned.queued.id, planned.batch);
        self.claims.end(&Claim::Job(id), batch);
        for aggregate in planned.aggregates() {
            if self.claims.end(&Claim::Aggregate(aggregate.clone()), batch) {
                self.tenures.left(aggregate, now, done);
            }
        }
        self.alone.take_if(|alone| *alone == id);
    }

    /// Somebody else holds these aggregates, whose jobs have been put back. They are tried again together, after a pause of
    /// which `jitter` is the share. Returns how often in a row they have been refused.
    pub fn busy(&mut self, aggregates: &[AggregateId], now: Instant, jitter: f64) -> u32 {
        self.tenures.busy(aggregates, now, jitter)
    }

    /// The waiting jobs whose aggregates can be looked up now, oldest first, each with the aggregate that its own depend
    /// on: those whose source no older job touches, neither waiting nor in flight, so that what they will find is what
    /// they must go by.
    pub fn resolvable(&mut self) -> Vec<(Turn, &Queued<T>, &AggregateId)> {
        let mut found = Vec::new();
        if self.unresolved == 0 {
            return found;
        }
        self.claims.look();
        for (&turn, place) in &self.waiting {
            if let Targets::FromStateOf(source) = &place.queued.targets
                && self.claims.are_free(&place.claims[1..])
            {
                found.push((turn, &*place.queued, source));
            }
            self.claims.bar(&place.claims[1..]);
        }
        found
    }

    /// Sets the aggregates of a job that [`Self::resolvable`] named. Call it oldest first: a job whose source turns out to
    /// be touched by an older one, now that the older one's aggregates are known, stays as it is and is named again.
    pub fn resolve(&mut self, turn: Turn, aggregates: Vec<AggregateId>) {
        let Some(place) = self.waiting.get(&turn).filter(|place| !place.is_resolved) else { return };
        let source = &place.claims[1];
        if self.waiting.range(..turn).any(|(_, older)| older.claims[1..].contains(source)) {
            return;
        }
        if let Some(Place { claims, mut queued, .. }) = self.waiting.remove(&turn) {
            self.unresolved -= 1;
            self.delayed -= usize::from(queued.not_before.is_some());
            queued.targets = Targets::Known(aggregates);
            self.insert(queued);
            claims.iter().for_each(|claim| self.claims.leave(*claim));
        }
    }

    /// The next moment at which a job that had to wait becomes due, or an aggregate may be taken again. With the moment that
    /// [`Self::next_batch`] was asked for, every waiting job that was not due then has its turn here.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        let moments = self.waiting.values().filter_map(|place| place.queued.not_before);
        let jobs = if self.delayed > 0 { moments.filter(|moment| *moment > now).min() } else { None };
        jobs.into_iter().chain(self.tenures.next_end(now)).min()
    }
}

#[cfg(test)]
mod tests;
