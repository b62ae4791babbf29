//! The one transaction of a batch, as one packet.
//!
//! Order of the statements: read models and snapshots, which lock rows of this batch's aggregates only; then the sequence
//! row, which serialises all writers and is therefore taken as late as possible; then the check of the heads, receipts, events
//! and COMMIT. Nothing about the packet depends on an answer, so nobody waits for this process while the row is held.

use uuid::Uuid;

use super::sql::{JSON_ID, Sql};
use super::{
    Anchor, Connection, HOLDER_WAIT_SECONDS, IDLE_IN_TRANSACTION_SECONDS, LOCK_WAIT_SECONDS, Outage, Snapshot,
    StoreError, column, history,
};
use crate::domain::{AggregateId, EncodedEvent};
use crate::job::{Fingerprint, JobId};

/// A receipt to be written.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The job.
    pub job: JobId,
    /// What it ended as.
    pub outcome: &'static str,
    /// Why, unless it was applied.
    pub reason: Option<String>,
    /// Index of its first event in the transaction, and how many it has.
    pub events: Option<(u64, u64)>,
    /// Of the job.
    pub fingerprint: Fingerprint,
}

/// An event to be appended.
#[derive(Clone, Debug)]
pub struct Append {
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

impl Append {
    /// The event's id: UUIDv5 of the job's id and `index`, so that a job that is run again would give the same.
    pub fn event_id(&self) -> Uuid {
        Uuid::new_v5(&self.job.0, &self.index.to_be_bytes())
    }
}

/// Everything that a batch commits.
#[derive(Debug, Default)]
pub struct Transaction {
    /// Statements of the read models.
    pub projections: Sql,
    /// Of aggregates that get an event, sorted by aggregate. They are left out of a packet in which they have no room.
    pub snapshots: Vec<Snapshot>,
    /// One per job that has not had one.
    pub receipts: Vec<Receipt>,
    /// In the order of their jobs.
    pub events: Vec<Append>,
    /// Aggregates that were read but get no event, with the version that was read. Nothing is committed when one of them
    /// has a newer version by the time the sequence row is held.
    pub read_only: Vec<(AggregateId, u64)>,
}

/// Where in a packet its basis is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Checks {
    /// The anchors: in the statement that takes the sequence row.
    anchors: usize,
    /// What is expected: after it, when whoever had the row before has committed or failed.
    expected: usize,
}

/// The last event of a transaction of which it is not known yet whether it will be in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The aggregate it belongs to.
    pub aggregate: AggregateId,
    /// The version it gives to the aggregate.
    pub version: u64,
    /// Its metadata, which no other try to write this event has.
    pub metadata: String,
}

/// What decisions rest on. Nothing is committed unless the log has all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Basis {
    /// The newest events that were known.
    pub anchors: Vec<Anchor>,
    /// The last events of the transactions before.
    pub expected: Vec<Expected>,
}

impl Basis {
    /// More is rested on.
    pub fn add(&mut self, more: &Basis) {
        for anchor in &more.anchors {
            if !self.anchors.contains(anchor) {
                self.anchors.push(*anchor);
            }
        }
        for expected in &more.expected {
            if !self.expected.contains(expected) {
                self.expected.push(expected.clone());
            }
        }
    }
}

/// A transaction that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The last position before this transaction: its event of index `i` has position `base + 1 + i`.
    pub base: u64,
}

/// A transaction as the server gets it, but for what it rests on.
#[derive(Debug)]
pub struct Packet {
    text: String,
    checks: Checks,
}

impl Transaction {
    /// The last of its events, now that it is committed.
    pub fn anchor(&self, committed: Committed) -> Option<Anchor> {
        let last = self.events.last()?;
        Some(Anchor { position: committed.base + self.events.len() as u64, event_id: last.event_id() })
    }

    /// The last of its events, before it is committed.
    pub fn last(&self) -> Option<Expected> {
        let Append { aggregate, version, metadata, .. } = self.events.last()?;
        Some(Expected { aggregate: aggregate.clone(), version: *version, metadata: metadata.clone() })
    }

    /// The transaction's statements. `max_packet` is the server's limit in bytes: a larger packet would cost the
    /// connection, and the server's answer would be that it is gone.
    pub fn packet(&self, max_packet: u64) -> Result<Packet, StoreError> {
        let (mut sql, mut checks) = self.statements(&self.snapshots);
        if !fits(&sql, max_packet) && !self.snapshots.is_empty() {
            (sql, checks) = self.statements(&[]);
        }
        if !fits(&sql, max_packet) {
            return Err(StoreError::Data(format!("{} bytes of statements exceed max_allowed_packet", sql.len())));
        }
        Ok(Packet { text: sql.into_string(), checks })
    }

    /// The statements, and where the checks belong.
    fn statements(&self, snapshots: &[Snapshot]) -> (Sql, Checks) {
        let mut sql = Sql::new();
        sql.raw("SET SESSION wait_timeout = ").number(IDLE_IN_TRANSACTION_SECONDS).raw("; START TRANSACTION; ");
        sql.append(&self.projections);
        history::write(snapshots, &mut sql);
        let count = self.events.len() as u64;
        sql.raw("UPDATE event_sequence SET position = LAST_INSERT_ID(position + ").number(count).raw(")");
        let anchors = sql.len();
        sql.raw(" WHERE id = 1; ");
        sql.raw("SET @base = LAST_INSERT_ID() - ").number(count);
        sql.raw(", SESSION innodb_lock_wait_timeout = ").number(HOLDER_WAIT_SECONDS).raw("; ");
        let expected = sql.len();
        self.check_heads(&mut sql);
        self.write_receipts(&mut sql);
        self.write_events(&mut sql);
        sql.raw("SELECT CAST(@base AS UNSIGNED); COMMIT; ");
        sql.raw("SET SESSION wait_timeout = DEFAULT, innodb_lock_wait_timeout = ").number(LOCK_WAIT_SECONDS);
        (sql, Checks { anchors, expected })
    }

    /// Versions have no gaps, so an aggregate has changed exactly when the next version exists. This statement is one
    /// of its own, since it has to look after the sequence row is held.
    fn check_heads(&self, sql: &mut Sql) {
        if self.read_only.is_empty() {
            return;
        }
        let next: Vec<_> =
            self.read_only.iter().map(|(aggregate, version)| (aggregate.kind, &*aggregate.id, version + 1)).collect();
        sql.raw("UPDATE event_sequence SET unchanged = IF(EXISTS(SELECT 1 FROM JSON_TABLE(").json(&next);
        sql.raw(", '$[*]' COLUMNS (kind VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin PATH '$[0]', ");
        sql.raw("id ")
            .raw(JSON_ID)
            .raw(" PATH '$[1]', version BIGINT UNSIGNED PATH '$[2]')) j STRAIGHT_JOIN events e ");
        sql.raw("ON e.aggregate_type = j.kind AND e.aggregate_id = CAST(j.id AS BINARY) AND e.version = j.version");
        sql.raw("), NULL, 1) WHERE id = 1; ");
    }

    fn write_receipts(&self, sql: &mut Sql) {
        if self.receipts.is_empty() {
            return;
        }
        sql.raw(
            "INSERT INTO receipts (job_id, outcome, reason, first_position, last_position, fingerprint, recorded_at) ",
        );
        sql.raw("VALUES ").list(&self.receipts, |sql, receipt| {
            sql.raw("(").bytes(receipt.job.0.as_bytes()).raw(",").text(receipt.outcome).raw(",");
            sql.text_or_null(receipt.reason.as_deref());
            match receipt.events {
                Some((first, count)) => {
                    sql.raw(",@base+").number(first + 1).raw(",@base+").number(first + count);
                }
                None => {
                    sql.raw(",NULL,NULL");
                }
            }
            sql.raw(",").bytes(&receipt.fingerprint.0).raw(",UTC_TIMESTAMP(6))");
        });
        sql.raw("; ");
    }

    fn write_events(&self, sql: &mut Sql) {
        if self.events.is_empty() {
            return;
        }
        sql.raw("INSERT INTO events (position, aggregate_type, aggregate_id, version, event_id, event_type, ");
        sql.raw("schema_version, payload, metadata, recorded_at) VALUES ");
        sql.list(self.events.iter().enumerate(), |sql, (index, append)| {
            let event_id = append.event_id();
            sql.raw("(@base+").number(index as u64 + 1).raw(",").text(append.aggregate.kind);
            sql.raw(",").text(&append.aggregate.id).raw(",").number(append.version);
            sql.raw(",").bytes(event_id.as_bytes()).raw(",").text(append.event.event_type);
            sql.raw(",").number(append.event.schema_version).raw(",").text(&append.event.payload);
            sql.raw(",").text(&append.metadata).raw(",UTC_TIMESTAMP(6))");
        });
        sql.raw("; ");
    }
}

impl Packet {
    /// The statements, with the checks that the log has the basis. A column that cannot be NULL turns to NULL if not, which ends
    /// the packet before its COMMIT.
    ///
    /// Loads and commits may go to different servers, and the one that was failed over to may lack what was loaded. And what is
    /// expected may have failed.
    fn resting_on(mut self, Basis { anchors, expected }: &Basis) -> String {
        if !expected.is_empty() {
            let mut sql = Sql::new();
            sql.raw("UPDATE event_sequence SET unchanged = IF(TRUE");
            for Expected { aggregate, version, metadata } in expected {
                sql.raw(" AND EXISTS(SELECT 1 FROM events WHERE aggregate_type = ").text(aggregate.kind);
                sql.raw(" AND aggregate_id = ").text(&aggregate.id).raw(" AND version = ").number(*version);
                sql.raw(" AND metadata = ").text(metadata).raw(")");
            }
            sql.raw(", 1, NULL) WHERE id = 1; ");
            self.text.insert_str(self.checks.expected, sql.as_str());
        }
        if !anchors.is_empty() {
            let mut sql = Sql::new();
            sql.raw(", unchanged = IF(TRUE");
            for Anchor { position, event_id } in anchors {
                sql.raw(" AND EXISTS(SELECT 1 FROM events WHERE position = ").number(*position);
                sql.raw(" AND event_id = ").bytes(event_id.as_bytes()).raw(")");
            }
            sql.raw(", 1, NULL)");
            self.text.insert_str(self.checks.anchors, sql.as_str());
        }
        self.text
    }
}

/// Whether a packet of `sql` stays below the server's limit, with room for its checks and for what the protocol adds.
pub(super) fn fits(sql: &Sql, max_packet: u64) -> bool {
    sql.len() as u64 + 4096 <= max_packet
}

impl Connection {
    /// Commits a transaction as a whole, or fails with nothing of it done, except after [`StoreError::Unknown`]. What it was
    /// decided on rests on the `basis`: nothing is committed unless the log has it. `is_next` is called when only the COMMIT is
    /// left: from then on no other transaction comes before this one.
    pub async fn commit(
        self,
        packet: Packet,
        basis: &Basis,
        is_next: impl FnMut() + Send,
    ) -> Result<Committed, StoreError> {
        let rows = self.rows(packet.resting_on(basis), true, is_next).await?;
        let row =
            rows.last().ok_or_else(|| StoreError::Unavailable(Outage::Other, "COMMIT gave no position".into()))?;
        Ok(Committed { base: column(row, 0)? })
    }
}
