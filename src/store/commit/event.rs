//! What a batch leaves: its events, and a receipt for each of its jobs.

use uuid::Uuid;

use super::super::sql::Sql;
use crate::domain::{AggregateId, EncodedEvent};
use crate::job::{Fingerprint, JobId, Outcome};

/// A receipt to be written.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The job.
    pub job: JobId,
    /// What it came to; positions count from the transaction's first event, which is 0.
    pub outcome: Outcome,
    /// Of the job.
    pub fingerprint: Fingerprint,
}

impl Receipt {
    /// The columns that every receipt has.
    pub(super) fn begin_row(&self, sql: &mut Sql) {
        sql.raw("(").bytes(self.job.0.as_bytes()).raw(",").text(self.outcome.kind.as_str());
        sql.raw(",").bytes(&self.fingerprint.0).raw(",");
    }
}

/// An event to be appended.
#[derive(Clone, Debug)]
pub struct EventToAppend {
    /// The aggregate it belongs to.
    pub aggregate: AggregateId,
    /// The version it gives to the aggregate; the unique key refuses it when somebody else wrote that version.
    pub version: u64,
    /// The job that caused it.
    pub job: JobId,
    /// Its place among the job's events.
    pub index: u32,
    /// The event.
    pub event: EncodedEvent,
    /// JSON text.
    pub metadata: String,
}

impl EventToAppend {
    /// The event's id: UUIDv5 of the job's id and `index`, so that a job that is run again would give the same.
    pub fn event_id(&self) -> Uuid {
        Uuid::new_v5(&self.job.0, &self.index.to_be_bytes())
    }
}
