//! What an audit reads beside the events: every receipt, every snapshot, and where the sequence stands.

use super::error::{Outage, StoreError};
use super::pool::Store;
use super::read::{StoredReceipt, receipt, text};
use super::row::column;
use super::sql::Sql;
use crate::job::JobId;

/// A row of the table of snapshots, be it good for anything or not.
#[derive(Clone, Debug)]
pub struct StoredSnapshot {
    /// The aggregate's type.
    pub aggregate_type: String,
    /// The aggregate's id.
    pub aggregate_id: String,
    /// The version that it is of.
    pub version: u64,
    /// The version of the state's schema.
    pub schema_version: u16,
    /// JSON.
    pub state: Vec<u8>,
}

impl Store {
    /// Reads up to `limit` receipts of the jobs after `after`, or from the first one on, in the order of their ids.
    pub async fn receipts_from(
        &self,
        after: Option<JobId>,
        limit: u32,
    ) -> Result<Vec<(JobId, StoredReceipt)>, StoreError> {
        let mut sql = Sql::new();
        sql.raw("SELECT job_id, '', outcome, reason, first_position, last_position, fingerprint, ");
        sql.raw("CAST(recorded_at AS CHAR) FROM receipts ");
        if let Some(JobId(id)) = after {
            sql.raw("WHERE job_id > ").bytes(id.as_bytes());
        }
        sql.raw(" ORDER BY job_id LIMIT ").number(limit);
        self.rows(sql.into_string(), false).await?.iter().map(receipt).collect()
    }

    /// Reads up to `limit` snapshots of the aggregates after `after`, or from the first one on, in the order of type and id.
    pub async fn snapshots_from(
        &self,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<StoredSnapshot>, StoreError> {
        let mut sql = Sql::new();
        sql.raw("SELECT aggregate_type, aggregate_id, version, schema_version, state FROM snapshots ");
        if let Some((kind, id)) = after {
            sql.raw("WHERE aggregate_type > ").text(kind).raw(" OR (aggregate_type = ").text(kind);
            sql.raw(" AND aggregate_id > ").bytes(id.as_bytes()).raw(")");
        }
        sql.raw(" ORDER BY aggregate_type, aggregate_id LIMIT ").number(limit);
        let stored = |row| {
            let (aggregate_type, aggregate_id) = (column(row, 0)?, text(column(row, 1)?)?);
            let (version, schema_version, state) = (column(row, 2)?, column(row, 3)?, column(row, 4)?);
            Ok(StoredSnapshot { aggregate_type, aggregate_id, version, schema_version, state })
        };
        self.rows(sql.into_string(), false).await?.iter().map(stored).collect()
    }

    /// The position that the sequence row says was given last; 0 before the first event.
    pub async fn sequence(&self) -> Result<u64, StoreError> {
        let rows = self.rows("SELECT position FROM event_sequence WHERE id = 1", false).await?;
        let row = rows.first().ok_or_else(|| StoreError::Unavailable(Outage::Other, "no sequence row".to_owned()))?;
        column(row, 0)
    }
}
