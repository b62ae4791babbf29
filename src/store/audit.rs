//! What an audit reads beside the events: every receipt, and where the sequence stands.

use super::read::receipt;
use super::sql::Sql;
use super::{Outage, Store, StoreError, StoredReceipt, column};
use crate::job::JobId;

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

    /// The position that the sequence row says was given last; 0 before the first event.
    pub async fn sequence(&self) -> Result<u64, StoreError> {
        let rows = self.rows("SELECT position FROM event_sequence WHERE id = 1", false).await?;
        let row = rows.first().ok_or_else(|| StoreError::Unavailable(Outage::Other, "no sequence row".to_owned()))?;
        column(row, 0)
    }
}
