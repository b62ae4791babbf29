//! The log as others read it: by position, or one aggregate's history by version.
//!
//! Positions are dense and in commit order: what lies up to the sequence row's position is there, and never changes.

mod checkpoint;
mod event;
mod page;
mod parked;

pub use checkpoint::{Checkpoint, CheckpointState, Leave};
pub use event::RecordedEvent;
pub use page::{LogPage, Only};
pub use parked::{HeldCheckpoint, Parked, ParkedAggregates, park};

use super::error::StoreError;
use super::pool::Store;
use super::row::column;
use super::sql::Sql;

/// Where an event stands, without what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPlace {
    /// Its place in the log.
    pub position: u64,
    /// When it was written, UTC, as `2026-01-31 12:00:00.000000`.
    pub recorded_at: String,
}

const EVENT_COLUMNS: &str = "SELECT position, aggregate_type, aggregate_id, version, event_type, schema_version, payload, \
                             metadata, CAST(recorded_at AS CHAR), event_id FROM events WHERE ";

const PLACE_COLUMNS: &str = "SELECT position, CAST(recorded_at AS CHAR) FROM events WHERE ";

impl Store {
    /// Reads up to `limit` events from position `after` on, in order.
    pub async fn events_from(&self, after: u64, limit: u32) -> Result<Vec<RecordedEvent>, StoreError> {
        let mut sql = Sql::new();
        sql.raw(EVENT_COLUMNS).raw("position > ").number(after).raw(" ORDER BY position LIMIT ").number(limit);
        self.recorded(sql).await
    }

    /// Reads the events of positions `first` to `last`.
    pub async fn events_between(&self, first: u64, last: u64) -> Result<Vec<RecordedEvent>, StoreError> {
        self.events_of_types((first, last), &[], u32::MAX).await
    }

    /// Reads up to `limit` events of these types, or of all when none is named, of positions `first` to `last`.
    pub async fn events_of_types(
        &self,
        (first, last): (u64, u64),
        types: &[String],
        limit: u32,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let mut sql = Sql::new();
        sql.raw(EVENT_COLUMNS).raw("position BETWEEN ").number(first).raw(" AND ").number(last);
        if !types.is_empty() {
            sql.raw(" AND event_type IN (");
            sql.list(types, |sql, event_type| {
                sql.text(event_type);
            });
            sql.raw(")");
        }
        sql.raw(" ORDER BY position LIMIT ").number(limit);
        self.recorded(sql).await
    }

    /// Reads the whole history of one aggregate, whose type need not be one of this daemon's.
    pub async fn history(&self, aggregate_type: &str, aggregate_id: &str) -> Result<Vec<RecordedEvent>, StoreError> {
        let mut sql = Sql::new();
        sql.raw(EVENT_COLUMNS).raw("aggregate_type = ").text(aggregate_type);
        sql.raw(" AND aggregate_id = ").bytes(aggregate_id.as_bytes()).raw(" ORDER BY version");
        self.recorded(sql).await
    }

    /// Reads the events of one aggregate with versions `first` to `last`.
    pub async fn history_between(
        &self,
        (aggregate_type, aggregate_id): (&str, &str),
        (first, last): (u64, u64),
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let mut sql = Sql::new();
        sql.raw(EVENT_COLUMNS).raw("aggregate_type = ").text(aggregate_type);
        sql.raw(" AND aggregate_id = ").bytes(aggregate_id.as_bytes());
        sql.raw(" AND version BETWEEN ").number(first).raw(" AND ").number(last).raw(" ORDER BY version");
        self.recorded(sql).await
    }

    /// The newest version of one aggregate, whose type need not be one of this daemon's; 0 when it has no events.
    pub async fn newest_version(&self, aggregate_type: &str, aggregate_id: &str) -> Result<u64, StoreError> {
        let mut sql = Sql::new();
        sql.raw("SELECT version FROM events WHERE aggregate_type = ").text(aggregate_type);
        sql.raw(" AND aggregate_id = ").bytes(aggregate_id.as_bytes());
        sql.raw(" ORDER BY aggregate_type DESC, aggregate_id DESC, version DESC LIMIT 1");
        let rows = self.rows(sql.into_string(), false).await?;
        rows.first().map_or(Ok(0), |row| column(row, 0))
    }

    /// Where the event of this version of an aggregate stands.
    pub async fn place_of_version(
        &self,
        (aggregate_type, aggregate_id): (&str, &str),
        version: u64,
    ) -> Result<Option<EventPlace>, StoreError> {
        let mut sql = Sql::new();
        sql.raw(PLACE_COLUMNS).raw("aggregate_type = ").text(aggregate_type);
        sql.raw(" AND aggregate_id = ").bytes(aggregate_id.as_bytes()).raw(" AND version = ").number(version);
        self.place(sql).await
    }

    /// Where and when the event of this position was written.
    pub async fn place_of_position(&self, position: u64) -> Result<Option<EventPlace>, StoreError> {
        let mut sql = Sql::new();
        sql.raw(PLACE_COLUMNS).raw("position = ").number(position);
        self.place(sql).await
    }

    async fn place(&self, sql: Sql) -> Result<Option<EventPlace>, StoreError> {
        let rows = self.rows(sql.into_string(), false).await?;
        let place = |row| Ok(EventPlace { position: column(row, 0)?, recorded_at: column(row, 1)? });
        rows.first().map(place).transpose()
    }

    async fn recorded(&self, sql: Sql) -> Result<Vec<RecordedEvent>, StoreError> {
        let rows = self.rows(sql.into_string(), false).await?;
        rows.iter().map(RecordedEvent::read).collect()
    }
}
