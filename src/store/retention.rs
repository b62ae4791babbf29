//! Removing receipts: those of dead jobs that are to run again, and those that are older than anyone will ask for.
//!
//! An operator's commands come here, and the daemon when it is told to keep receipts for a while only: then its account
//! needs DELETE.

use std::time::Duration;

use super::error::StoreError;
use super::pool::Store;
use super::row::column;
use super::sql::Sql;
use crate::job::JobId;

/// How often a deletion is tried that met the rows of a batch.
const TRIES: u32 = 5;

/// Receipts in the order of their ids.
#[derive(Debug, Default)]
pub struct ReceiptPage {
    /// The last one looked at; `None` when there was none.
    pub last: Option<JobId>,
    /// Those that were recorded before the given time.
    pub old: Vec<JobId>,
    /// How many were looked at.
    pub seen: u64,
}

impl Store {
    /// Removes the `dead` receipts among those of `jobs`, so that these jobs run again. Every other receipt stays, and keeps
    /// its job from having a second effect. Returns how many there were.
    pub async fn forget_dead(&self, jobs: &[JobId]) -> Result<u64, StoreError> {
        self.forget(jobs, |sql| sql.raw("outcome = 'dead'")).await
    }

    /// Removes those receipts of `jobs` that were recorded before `time`. Returns how many there were.
    pub async fn forget_before(&self, jobs: &[JobId], time: &str) -> Result<u64, StoreError> {
        self.forget(jobs, |sql| sql.raw("recorded_at < ").text(time)).await
    }

    /// The moment that lies `age` in the past, by the database's clock, in the form of [`Store::receipts_before`].
    pub async fn moment_ago(&self, age: Duration) -> Result<String, StoreError> {
        let mut sql = Sql::new();
        sql.raw("SELECT CAST(UTC_TIMESTAMP(6) - INTERVAL ").number(age.as_secs()).raw(" SECOND AS CHAR)");
        let rows = self.rows(sql.into_string(), false).await?;
        let text = rows.first().map(|row| column::<Option<String>>(row, 0)).transpose()?.flatten();
        text.ok_or_else(|| StoreError::Data(format!("{} seconds ago is before the calendar begins", age.as_secs())))
    }

    /// Looks at up to `limit` receipts of the jobs after `after`.
    ///
    /// This walks the whole table by its primary key. An index over `recorded_at` would find the old ones at once, but every
    /// batch would pay for keeping it, and only this asks for it.
    pub async fn receipts_before(
        &self,
        time: &str,
        after: Option<JobId>,
        limit: u32,
    ) -> Result<ReceiptPage, StoreError> {
        let mut sql = Sql::new();
        sql.raw("SELECT job_id, recorded_at < ").text(time).raw(" FROM receipts ");
        if let Some(JobId(id)) = after {
            sql.raw("WHERE job_id > ").bytes(id.as_bytes());
        }
        sql.raw(" ORDER BY job_id LIMIT ").number(limit);
        let mut page = ReceiptPage::default();
        for row in &self.rows(sql.into_string(), false).await? {
            let job = super::read::job_id(row)?;
            if column::<i64>(row, 1)? == 1 {
                page.old.push(job);
            }
            page.last = Some(job);
            page.seen += 1;
        }
        Ok(page)
    }

    async fn forget(&self, jobs: &[JobId], which: impl FnOnce(&mut Sql) -> &mut Sql) -> Result<u64, StoreError> {
        if jobs.is_empty() {
            return Ok(0);
        }
        let mut sql = Sql::new();
        sql.raw("START TRANSACTION; DELETE FROM receipts WHERE ");
        which(&mut sql).raw(" AND job_id IN (").list(jobs, |sql, job| {
            sql.bytes(job.0.as_bytes());
        });
        // What is counted is told only after its COMMIT.
        let statements = sql.raw("); SELECT ROW_COUNT(); COMMIT").as_str().to_owned();
        let mut tries = 1;
        loop {
            match self.rows(statements.as_str(), true).await {
                Ok(rows) => return rows.last().map_or(Ok(0), |row| Ok(column::<i64>(row, 0)?.unsigned_abs())),
                Err(StoreError::Repeat(_)) if tries < TRIES => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => return Err(error),
            }
            tries += 1;
        }
    }
}
