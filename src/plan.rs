//! Which waiting jobs form the next batch. Pure.
//!
//! Three promises, each a property test below: batches in flight never share a job id, nor an aggregate, unless one is the
//! successor of the other; no job overtakes an older one that shares an aggregate with it; and whatever waits is planned in
//! the end. And a courtesy: an aggregate is left to others now and then (`tenure`).
//!
//! A batch is *open* once its decisions are made and only the database's word is missing. From then on others may be planned
//! that go by what it will come to: its successors.

mod claims;
mod jobs;
mod tenure;

pub use claims::BatchId;
pub use jobs::{Batch, Planned, Waiting};
pub use tenure::Terms;

use std::collections::BTreeMap;
use std::time::Instant;

use crate::domain::{AggregateId, Targets};
use crate::job::JobId;
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
    waiting: BTreeMap<u64, Place<T>>,
    /// How many of them do not know their aggregates yet.
    unresolved: usize,
    /// How many of them are to wait until some moment.
    delayed: usize,
    claims: Claims,
    /// The job in flight beside which nothing else may be.
    alone: Option<JobId>,
    next_turn: u64,
    batches: u64,
    tenures: Tenures,
}

/// A waiting job's place in the line. Most looks at it end with its claims, so the rest of it is kept apart.
#[derive(Debug)]
struct Place<T> {
    /// Of its id, and of the aggregates that it touches, or of the one that tells which.
    claims: Box<[Number]>,
    is_resolved: bool,
    waiting: Box<Waiting<T>>,
}

fn claims_of<T>(waiting: &Waiting<T>) -> impl Iterator<Item = Claim> + '_ {
    let aggregates = match &waiting.targets {
        Targets::Known(aggregates) => aggregates.as_slice(),
        Targets::FromStateOf(source) => std::slice::from_ref(source),
    };
    claims(waiting.id, aggregates)
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
            next_turn: 0,
            batches: 0,
            tenures: Tenures::new(terms),
        }
    }

    /// Adds the youngest job.
    pub fn push(&mut self, waiting: Waiting<T>) {
        self.insert(self.next_turn, waiting);
        self.next_turn += 1;
    }

    fn insert(&mut self, turn: u64, waiting: Waiting<T>) {
        let claims = claims_of(&waiting).map(|claim| self.claims.enter(claim)).collect();
        let is_resolved = matches!(waiting.targets, Targets::Known(_));
        self.unresolved += usize::from(!is_resolved);
        self.delayed += usize::from(waiting.not_before.is_some());
        self.waiting.insert(turn, Place { claims, is_resolved, waiting: Box::new(waiting) });
    }

    /// Number of waiting jobs.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes every waiting job out, oldest first.
    pub fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        (self.unresolved, self.delayed) = (0, 0);
        let all = std::mem::take(&mut self.waiting);
        all.values().flat_map(|place| &place.claims).for_each(|claim| self.claims.leave(*claim));
        all.into_values().map(|place| place.waiting.job)
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

    fn next_turns(&mut self, now: Instant, limits: Limits) -> Vec<u64> {
        self.tenures.sweep(now);
        self.claims.look();
        let mut turns = Vec::new();
        let (mut bytes, mut company, mut aggregates, mut touches) = (0, limits.jobs, 0, 0);
        for (&turn, place) in &self.waiting {
            if !place.is_resolved || turns.len() >= company {
                break;
            }
            let waiting = &place.waiting;
            let (id, touched) = place.claims.split_at(1);
            let is_free = self.claims.are_free(id)
                && self.claims.are_open(touched)
                && waiting.not_before.is_none_or(|moment| moment <= now)
                && !targets(waiting).iter().any(|aggregate| self.tenures.rests(aggregate, now));
            if !is_free {
                self.claims.bar(&place.claims);
                continue;
            }
            if waiting.alone {
                if turns.is_empty() && self.claims.none_in_flight() {
                    turns.push(turn);
                }
                break;
            }
            let fits = turns.is_empty()
                || (turns.len() < waiting.company
                    && bytes + waiting.bytes <= limits.bytes
                    && aggregates + targets(waiting).len() <= limits.aggregates
                    && touches + targets(waiting).len() <= limits.touches);
            if fits {
                turns.push(turn);
                bytes += waiting.bytes;
                touches += targets(waiting).len();
                company = company.min(waiting.company);
                aggregates += self.claims.count(touched);
            } else {
                self.claims.bar(&place.claims);
            }
        }
        turns
    }

    fn start(&mut self, turn: u64, batch: BatchId, after: &mut Vec<BatchId>, now: Instant) -> Option<Planned<T>> {
        let place = self.waiting.remove(&turn)?;
        let Waiting { id, targets, bytes, company, alone, tries, job, not_before } = *place.waiting;
        self.delayed -= usize::from(not_before.is_some());
        let Targets::Known(aggregates) = targets else { return None };
        self.alone = alone.then_some(id);
        self.claims.start(place.claims[0], batch);
        for (aggregate, claim) in aggregates.iter().zip(&place.claims[1..]) {
            match self.claims.start(*claim, batch) {
                Start::Free => self.tenures.taken(aggregate, now),
                Start::After(older) if !after.contains(&older) => after.push(older),
                Start::After(_) | Start::Again => {}
            }
        }
        Some(Planned { batch, turn, id, aggregates, bytes, company, alone, tries, job })
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
        self.free(planned.batch, planned.id, &planned.aggregates, now, true);
    }

    /// The job of `batch` has not ended: it waits again, in its old place.
    pub fn put_back(&mut self, (batch, turn): (BatchId, u64), held: &[AggregateId], waiting: Waiting<T>, now: Instant) {
        self.free(batch, waiting.id, held, now, false);
        self.insert(turn, waiting);
    }

    fn free(&mut self, batch: BatchId, id: JobId, aggregates: &[AggregateId], now: Instant, done: bool) {
        self.claims.end(&Claim::Job(id), batch);
        for aggregate in aggregates {
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
    pub fn resolvable(&mut self) -> Vec<(u64, &Waiting<T>, &AggregateId)> {
        let mut found = Vec::new();
        if self.unresolved == 0 {
            return found;
        }
        self.claims.look();
        for (&turn, place) in &self.waiting {
            if let Targets::FromStateOf(source) = &place.waiting.targets
                && self.claims.are_free(&place.claims[1..])
            {
                found.push((turn, &*place.waiting, source));
            }
            self.claims.bar(&place.claims[1..]);
        }
        found
    }

    /// Sets the aggregates of a job that [`Self::resolvable`] named. Call it oldest first: a job whose source turns out to
    /// be touched by an older one, now that the older one's aggregates are known, stays as it is and is named again.
    pub fn resolve(&mut self, turn: u64, aggregates: Vec<AggregateId>) {
        let Some(place) = self.waiting.get(&turn).filter(|place| !place.is_resolved) else { return };
        let source = &place.claims[1];
        if self.waiting.range(..turn).any(|(_, older)| older.claims[1..].contains(source)) {
            return;
        }
        if let Some(Place { claims, waiting, .. }) = self.waiting.remove(&turn) {
            self.unresolved -= 1;
            self.delayed -= usize::from(waiting.not_before.is_some());
            self.insert(turn, Waiting { targets: Targets::Known(aggregates), ..*waiting });
            claims.iter().for_each(|claim| self.claims.leave(*claim));
        }
    }

    /// The next moment at which a job that had to wait becomes due, or an aggregate may be taken again. With the moment that
    /// [`Self::next_batch`] was asked for, every waiting job that was not due then has its turn here.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        let moments = self.waiting.values().filter_map(|place| place.waiting.not_before);
        let jobs = if self.delayed > 0 { moments.filter(|moment| *moment > now).min() } else { None };
        jobs.into_iter().chain(self.tenures.next_end(now)).min()
    }
}

/// What a job touches that is known to touch it; nothing of any other.
fn targets<T>(waiting: &Waiting<T>) -> &[AggregateId] {
    match &waiting.targets {
        Targets::Known(aggregates) => aggregates,
        Targets::FromStateOf(_) => &[],
    }
}

#[cfg(test)]
mod tests;
