//! The one transaction of a batch.
//!
//! Order of the statements: read models and snapshots, which lock rows of this batch's aggregates only; then the sequence
//! row, which serialises all writers and is therefore taken as late as possible; then the check of the heads, receipts, events
//! and COMMIT. Nothing of it depends on an answer, so nobody waits for this process while the row is held.

use super::super::error::StoreError;
use super::super::session::{IDLE_IN_TRANSACTION_SECONDS, LOCK_WAIT_SECONDS};
use super::super::sql::{JSON_ID, Sql};
use super::event::{EventToAppend, Receipt};
use super::packet::{Packet, PacketBuilder, fits};
use super::snapshot::{self, Snapshot};
use crate::domain::AggregateId;

/// Everything that a batch commits.
#[derive(Debug, Default)]
pub struct Transaction {
    /// Statements of the read models.
    pub projections: Sql,
    /// Which builds of them these are for. Nothing is committed when it is another one by the time the sequence row is held.
    pub generation: Option<u32>,
    /// Of aggregates that get an event, sorted by aggregate. They are left out of a packet in which they have no room.
    pub snapshots: Vec<Snapshot>,
    /// One per job that has not had one.
    pub receipts: Vec<Receipt>,
    /// In the order of their jobs.
    pub events: Vec<EventToAppend>,
    /// Aggregates that were read but get no event, with the version that was read. Nothing is committed when one of them
    /// has a newer version by the time the sequence row is held.
    pub read_only: Vec<(AggregateId, u64)>,
}

impl Transaction {
    /// The transaction's statements. `max_packet` is the server's limit in bytes: a larger packet would cost the
    /// connection, and the server's answer would be that it is gone.
    pub fn packet(&self, max_packet: u64) -> Result<Packet, StoreError> {
        let mut draft = self.draft(&self.snapshots);
        if !fits(draft.size(), max_packet) && !self.snapshots.is_empty() {
            draft = self.draft(&[]);
        }
        if !fits(draft.size(), max_packet) {
            let bytes = draft.size();
            return Err(StoreError::Data(format!("{bytes} bytes of statements exceed max_allowed_packet")));
        }
        Ok(draft.packet(&self.events, self.generation))
    }

    /// The statements.
    fn draft(&self, snapshots: &[Snapshot]) -> PacketBuilder {
        let mut draft = PacketBuilder::default();
        let sql = &mut draft.sql;
        sql.raw("SET SESSION wait_timeout = ").number(IDLE_IN_TRANSACTION_SECONDS).raw("; START TRANSACTION; ");
        sql.append(&self.projections);
        snapshot::write(snapshots, sql);
        draft.sequence();
        self.check_heads(&mut draft.sql);
        draft.sql.raw("SELECT CAST(");
        draft.position(0);
        draft.sql.raw(" AS UNSIGNED); ");
        self.write_receipts(&mut draft);
        self.write_events(&mut draft);
        draft.sql.raw("COMMIT; ");
        draft.sql.raw("SET SESSION wait_timeout = DEFAULT, innodb_lock_wait_timeout = ").number(LOCK_WAIT_SECONDS);
        draft
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

    /// A statement for the jobs that have events, and one for the others: a literal costs the server nearly as much as the
    /// column that it is for.
    fn write_receipts(&self, draft: &mut PacketBuilder) {
        let with_events = self.receipts.iter().filter_map(|receipt| Some((receipt, receipt.outcome.positions?)));
        let head = "INSERT INTO receipts (job_id, outcome, fingerprint, first_position, last_position) VALUES ";
        draft.rows(head, with_events, |draft, (receipt, (first, last))| {
            receipt.begin_row(&mut draft.sql);
            draft.position(first + 1);
            draft.sql.raw(",");
            draft.position(last + 1);
            draft.sql.raw(")");
        });
        let without = self.receipts.iter().filter(|receipt| receipt.outcome.positions.is_none());
        let head = "INSERT INTO receipts (job_id, outcome, fingerprint, reason) VALUES ";
        draft.rows(head, without, |draft, receipt| {
            receipt.begin_row(&mut draft.sql);
            draft.sql.text_or_null(receipt.outcome.reason_text().as_deref()).raw(")");
        });
    }

    fn write_events(&self, draft: &mut PacketBuilder) {
        let head = "INSERT INTO events (position, aggregate_type, aggregate_id, version, event_id, event_type, \
                    schema_version, payload, metadata) VALUES ";
        draft.rows(head, (1..).zip(&self.events), |draft, (number, append)| {
            let event_id = append.event_id();
            draft.sql.raw("(");
            draft.position(number);
            let sql = &mut draft.sql;
            sql.raw(",").text(append.aggregate.kind);
            sql.raw(",").text(&append.aggregate.id).raw(",").number(append.version);
            sql.raw(",").bytes(event_id.as_bytes()).raw(",").text(append.event.event_type);
            sql.raw(",").number(append.event.schema_version).raw(",").text(&append.event.payload);
            sql.raw(",").text(&append.metadata).raw(")");
        });
    }
}
