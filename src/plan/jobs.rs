//! Jobs as the plan has them: waiting, and in a batch.

use std::time::Instant;

use super::BatchId;
use crate::domain::{AggregateId, Targets};
use crate::job::{JobId, Turn};

/// A job in the plan, and what the plan needs to know of it. It is moved whole, into a batch and back.
#[derive(Debug)]
pub struct Queued<T> {
    /// The job's id. Two deliveries of one job never run side by side.
    pub id: JobId,
    /// Its place in the line.
    pub turn: Turn,
    /// What it touches.
    pub targets: Targets,
    /// Its size in bytes.
    pub bytes: usize,
    /// Not before this moment: it was tried and has to wait.
    pub not_before: Option<Instant>,
    /// The largest batch it may be part of: it was in a larger one that the database refused.
    pub batch_limit: usize,
    /// Nothing else may be in flight while it runs: it may be what ended the process before.
    pub alone: bool,
    /// How often it went back.
    pub tries: u32,
    /// The job.
    pub job: T,
}

impl<T> Queued<T> {
    /// A job that has not been tried, and may run with any others.
    pub fn new(turn: Turn, id: JobId, targets: Targets, bytes: usize, job: T) -> Self {
        Self { id, turn, targets, bytes, not_before: None, batch_limit: usize::MAX, alone: false, tries: 0, job }
    }

    /// What it is known to touch; nothing while that depends on a state.
    pub fn aggregates(&self) -> &[AggregateId] {
        match &self.targets {
            Targets::Known(aggregates) => aggregates,
            Targets::FromStateOf(_) => &[],
        }
    }
}

/// A job that has been given its turn. Hand it back to the plan with [`Plan::finish`](super::Plan::finish) or
/// [`Plan::put_back`](super::Plan::put_back).
#[derive(Debug)]
pub struct Planned<T> {
    /// The batch that it is in.
    pub batch: BatchId,
    /// The job. What it touches is known, and in flight until the plan has it again.
    pub queued: Box<Queued<T>>,
}

impl<T> Planned<T> {
    /// What it touches.
    pub fn aggregates(&self) -> &[AggregateId] {
        self.queued.aggregates()
    }
}

/// Jobs that run together.
#[derive(Debug)]
pub struct Batch<T> {
    /// Which batch this is.
    pub id: BatchId,
    /// The batches under way that it succeeds: what its jobs find depends on what these come to.
    pub after: Vec<BatchId>,
    /// Oldest first; none, when nothing can start now.
    pub jobs: Vec<Planned<T>>,
}
