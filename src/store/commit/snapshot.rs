//! Snapshots as they are written: with the batch, or one alone after a long history was read.

use uuid::Uuid;

use super::super::error::StoreError;
use super::super::pool::Store;
use super::super::sql::Sql;
use super::packet::fits;
use crate::domain::AggregateId;

/// The state of an aggregate as it was after one of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The aggregate.
    pub aggregate: AggregateId,
    /// The version of the event.
    pub version: u64,
    /// The id of the event. A log that has another one in its place, or none, is another log.
    pub event_id: Uuid,
    /// The version of the state's schema.
    pub schema_version: u16,
    /// JSON.
    pub state: Vec<u8>,
}

impl Store {
    /// Stores a snapshot in place of the aggregate's earlier one; one that does not fit into a packet of `max_packet` bytes is
    /// left out.
    pub async fn keep(&self, snapshot: &Snapshot, max_packet: u64) -> Result<(), StoreError> {
        let mut sql = Sql::new();
        write(std::slice::from_ref(snapshot), &mut sql);
        if fits(sql.len(), max_packet) {
            self.rows(sql.into_string(), false).await?;
        }
        Ok(())
    }
}

/// Appends the statement that stores `snapshots`, ended by a semicolon.
pub(super) fn write(snapshots: &[Snapshot], sql: &mut Sql) {
    if snapshots.is_empty() {
        return;
    }
    sql.raw("INSERT INTO snapshots (aggregate_type, aggregate_id, version, event_id, schema_version, state) VALUES ");
    sql.list(snapshots, |sql, snapshot| {
        sql.raw("(").text(snapshot.aggregate.kind).raw(",").bytes(snapshot.aggregate.id.as_bytes());
        sql.raw(",").number(snapshot.version).raw(",").bytes(snapshot.event_id.as_bytes());
        sql.raw(",").number(snapshot.schema_version).raw(",");
        match std::str::from_utf8(&snapshot.state) {
            Ok(text) => sql.text(text),
            Err(_) => sql.bytes(&snapshot.state),
        };
        sql.raw(")");
    });
    sql.raw(" ON DUPLICATE KEY UPDATE version=VALUES(version),event_id=VALUES(event_id),");
    sql.raw("schema_version=VALUES(schema_version),state=VALUES(state); ");
}
