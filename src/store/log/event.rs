//! An event of the log, as others read it.

use chrono::{DateTime, NaiveDateTime, Utc};
use sqlx::mysql::MySqlRow;
use uuid::Uuid;

use crate::store::read::{sixteen, text};
use crate::store::{StoreError, column};

/// An event as it is stored.
#[derive(Clone, Debug)]
pub struct RecordedEvent {
    /// Its place in the log.
    pub position: u64,
    /// Its id.
    pub event_id: Uuid,
    /// The aggregate's type.
    pub aggregate_type: String,
    /// The aggregate's id.
    pub aggregate_id: String,
    /// Its place in the aggregate's history, from 1.
    pub version: u64,
    /// Its type.
    pub event_type: String,
    /// The version of its payload's schema.
    pub schema_version: u16,
    /// JSON.
    pub payload: Vec<u8>,
    /// JSON.
    pub metadata: Vec<u8>,
    /// When it was written, UTC, as `2026-01-31 12:00:00.000000`.
    pub recorded_at: String,
}

impl RecordedEvent {
    /// A row with position, type and id of the aggregate, version, type, schema version, payload, metadata, time and id.
    pub(in crate::store) fn read(row: &MySqlRow) -> Result<Self, StoreError> {
        Ok(Self {
            position: column(row, 0)?,
            event_id: Uuid::from_bytes(sixteen(column(row, 9)?)?),
            aggregate_type: column(row, 1)?,
            aggregate_id: text(column(row, 2)?)?,
            version: column(row, 3)?,
            event_type: column(row, 4)?,
            schema_version: column(row, 5)?,
            payload: column(row, 6)?,
            metadata: column(row, 7)?,
            recorded_at: column(row, 8)?,
        })
    }

    /// When it was written.
    pub fn moment(&self) -> Option<DateTime<Utc>> {
        let parsed = NaiveDateTime::parse_from_str(&self.recorded_at, "%Y-%m-%d %H:%M:%S%.f");
        parsed.ok().map(|moment| moment.and_utc())
    }
}
