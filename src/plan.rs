//! Which waiting jobs form the next batch. Pure.
//!
//! Three promises, each a property test below: batches in flight never share an aggregate (nor a job id); no job overtakes
//! an older one that shares an aggregate with it; and whatever waits is planned in the end. And a courtesy: an aggregate is
//! left to others now and then (`tenure`).

mod tenure;

pub use tenure::Terms;

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use crate::domain::{AggregateId, Targets};
use crate::job::JobId;
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
}

/// A job that waits: what the plan needs to know of it, and the job itself.
#[derive(Debug)]
pub struct Waiting<T> {
    /// The job's id. Two deliveries of one job never run side by side.
    pub id: JobId,
    /// What it touches.
    pub targets: Targets,
    /// Its size in bytes.
    pub bytes: usize,
    /// Not before this moment: it was tried and has to wait.
    pub not_before: Option<Instant>,
    /// The largest batch it may be part of: it was in a larger one that the database refused.
    pub company: usize,
    /// Nothing else may be in flight while it runs: it may be what ended the process before.
    pub alone: bool,
    /// How often it went back.
    pub tries: u32,
    /// The job.
    pub job: T,
}

/// A job that has been given its turn. Hand it back to the plan with [`Plan::finish`] or [`Plan::put_back`].
#[derive(Debug)]
pub struct Planned<T> {
    /// Its place in the order of arrival.
    pub turn: u64,
    /// The job's id.
    pub id: JobId,
    /// What it touches; in flight until the job is handed back.
    pub aggregates: Vec<AggregateId>,
    /// Its size in bytes.
    pub bytes: usize,
    /// The largest batch it may be part of.
    pub company: usize,
    /// Nothing else is in flight while it runs.
    pub alone: bool,
    /// How often it went back.
    pub tries: u32,
    /// The job.
    pub job: T,
}

/// The waiting jobs in their order, and what is in flight.
#[derive(Debug)]
pub struct Plan<T> {
    waiting: BTreeMap<u64, Waiting<T>>,
    in_flight: HashSet<Claim>,
    /// The job in flight beside which nothing else may be.
    alone: Option<JobId>,
    next_turn: u64,
    tenures: Tenures,
}

/// What at most one batch in flight holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Claim {
    Aggregate(AggregateId),
    Job(JobId),
}

fn claims<'a>(id: JobId, aggregates: &'a [AggregateId]) -> impl Iterator<Item = Claim> + 'a {
    std::iter::once(Claim::Job(id)).chain(aggregates.iter().cloned().map(Claim::Aggregate))
}

impl<T> Plan<T> {
    /// A plan without jobs.
    pub fn new(terms: Terms) -> Self {
        let (waiting, in_flight) = (BTreeMap::new(), HashSet::new());
        Self { waiting, in_flight, alone: None, next_turn: 0, tenures: Tenures::new(terms) }
    }

    /// Adds the youngest job.
    pub fn push(&mut self, waiting: Waiting<T>) {
        self.waiting.insert(self.next_turn, waiting);
        self.next_turn += 1;
    }

    /// Number of waiting jobs.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes every waiting job out, oldest first.
    pub fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.waiting).into_values().map(|waiting| waiting.job)
    }

    /// The next batch, oldest job first; empty when nothing can start now.
    ///
    /// A job is passed over when it is not due, when one of its aggregates is left to others for now, or when it shares an
    /// aggregate with a batch in flight or with an older job that was passed over. A job whose aggregates are not known yet bars all younger ones. So does one that must run alone, until
    /// it has run: then nothing else is in flight.
    pub fn next_batch(&mut self, now: Instant, limits: Limits) -> Vec<Planned<T>> {
        if self.alone.is_some() {
            return Vec::new();
        }
        self.tenures.sweep(now);
        let mut passed_over: HashSet<Claim> = HashSet::new();
        let mut aggregates: HashSet<&AggregateId> = HashSet::new();
        let mut turns = Vec::new();
        let (mut bytes, mut company) = (0, limits.jobs);
        for (&turn, waiting) in &self.waiting {
            let Targets::Known(targets) = &waiting.targets else { break };
            if turns.len() >= company {
                break;
            }
            let due = waiting.not_before.is_none_or(|moment| moment <= now);
            let free = claims(waiting.id, targets).all(|c| !self.in_flight.contains(&c) && !passed_over.contains(&c))
                && !targets.iter().any(|aggregate| self.tenures.rests(aggregate, now));
            let fits = turns.is_empty()
                || (turns.len() < waiting.company
                    && bytes + waiting.bytes <= limits.bytes
                    && aggregates.len() + targets.len() <= limits.aggregates);
            if waiting.alone && due && free {
                if turns.is_empty() && self.in_flight.is_empty() {
                    turns.push(turn);
                    self.alone = Some(waiting.id);
                }
                break;
            }
            if due && free && fits {
                turns.push(turn);
                bytes += waiting.bytes;
                company = company.min(waiting.company);
                aggregates.extend(targets);
            } else {
                passed_over.extend(claims(waiting.id, targets));
            }
        }
        turns.into_iter().filter_map(|turn| self.start(turn, now)).collect()
    }

    fn start(&mut self, turn: u64, now: Instant) -> Option<Planned<T>> {
        let Waiting { id, targets, bytes, company, alone, tries, job, .. } = self.waiting.remove(&turn)?;
        let Targets::Known(aggregates) = targets else { return None };
        for claim in claims(id, &aggregates) {
            let is_new = self.in_flight.insert(claim.clone());
            if let (Claim::Aggregate(aggregate), true) = (claim, is_new) {
                self.tenures.taken(&aggregate, now);
            }
        }
        Some(Planned { turn, id, aggregates, bytes, company, alone, tries, job })
    }

    /// The job has ended: its aggregates are free for the next batch.
    pub fn finish(&mut self, id: JobId, aggregates: &[AggregateId], now: Instant) {
        self.free(id, aggregates, now, true);
    }

    /// The job has not ended: it waits again, in its old place.
    pub fn put_back(&mut self, turn: u64, held: &[AggregateId], waiting: Waiting<T>, now: Instant) {
        self.free(waiting.id, held, now, false);
        self.waiting.insert(turn, waiting);
    }

    fn free(&mut self, id: JobId, aggregates: &[AggregateId], now: Instant, done: bool) {
        for claim in claims(id, aggregates) {
            let was_held = self.in_flight.remove(&claim);
            if let (Claim::Aggregate(aggregate), true) = (claim, was_held) {
                self.tenures.left(&aggregate, now, done);
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
    pub fn resolvable(&self) -> Vec<(u64, &Waiting<T>, &AggregateId)> {
        let mut touched: HashSet<&AggregateId> = HashSet::new();
        let mut found = Vec::new();
        for (&turn, waiting) in &self.waiting {
            match &waiting.targets {
                Targets::Known(targets) => touched.extend(targets),
                Targets::FromStateOf(source) => {
                    let in_flight = self.in_flight.contains(&Claim::Aggregate(source.clone()));
                    if touched.insert(source) && !in_flight {
                        found.push((turn, waiting, source));
                    }
                }
            }
        }
        found
    }

    /// Sets the aggregates of a job that [`Self::resolvable`] named. Call it oldest first: a job whose source turns out to
    /// be touched by an older one, now that the older one's aggregates are known, stays as it is and is named again.
    pub fn resolve(&mut self, turn: u64, aggregates: Vec<AggregateId>) {
        let Some(Waiting { targets: Targets::FromStateOf(source), .. }) = self.waiting.get(&turn) else { return };
        let touched = self.waiting.range(..turn).any(|(_, older)| match &older.targets {
            Targets::Known(targets) => targets.contains(source),
            Targets::FromStateOf(other) => other == source,
        });
        if let (false, Some(waiting)) = (touched, self.waiting.get_mut(&turn)) {
            waiting.targets = Targets::Known(aggregates);
        }
    }

    /// The next moment at which a job that had to wait becomes due, or an aggregate may be taken again. With the moment that
    /// [`Self::next_batch`] was asked for, every waiting job that was not due then has its turn here.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let jobs = self.waiting.values().filter_map(|waiting| waiting.not_before).filter(|moment| *moment > now).min();
        let aggregates = if self.waiting.is_empty() { None } else { self.tenures.next_end(now) };
        jobs.into_iter().chain(aggregates).min()
    }
}

#[cfg(test)]
mod tests;
