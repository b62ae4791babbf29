//! Jobs as the plan has them: waiting, and in a batch.

use std::time::Instant;

use super::BatchId;
use crate::domain::{AggregateId, Targets};
use crate::job::JobId;

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

/// A job that has been given its turn. Hand it back to the plan with [`Plan::finish`](super::Plan::finish) or
/// [`Plan::put_back`](super::Plan::put_back).
#[derive(Debug)]
pub struct Planned<T> {
    /// The batch that it is in.
    pub batch: BatchId,
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
