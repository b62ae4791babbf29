//! What a span tells of a job.

use std::time::SystemTime;

use crate::domain::AggregateId;
use crate::job::{EntryId, JobId};

/// The environment asks for spans that cannot be exported.
#[derive(Debug, thiserror::Error)]
#[error("spans cannot be exported: {0}")]
pub struct SpansError(pub String);

/// What a span tells of a job.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "without an export nobody reads it"))]
pub struct JobSpan<'a> {
    /// The job's id.
    pub id: JobId,
    /// Its type; `None` when it is unknown.
    pub job_type: Option<&'static str>,
    /// What it is about.
    pub aggregate: Option<&'a AggregateId>,
    /// The stream it came from.
    pub queue: &'a str,
    /// Its entry there.
    pub entry: EntryId,
    /// What it ended as.
    pub outcome: &'static str,
    /// Why, unless it was applied.
    pub reason: Option<&'a str>,
    /// Jobs in its batch.
    pub batch_jobs: usize,
    /// The producer's trace context, as it was given.
    pub traceparent: Option<&'a str>,
    /// When its batch began.
    pub began: SystemTime,
    /// When its batch had ended.
    pub ended: SystemTime,
}
