//! Audits what a run has left in a database that may be too large to be audited whole.
//!
//! What the run has added is counted: as many events and receipts as jobs are done, at positions without a gap. Then the
//! whole history of some of its items, that of the filling included, is copied into a database of its own, with positions
//! numbered anew, and audited there as any other.

use std::collections::HashSet;

use anyhow::ensure;

use super::super::site::Site;
use super::ground::Ground;
use crate::jobs::backlog::Job;
use crate::shop::audit;
use lockkeeper::job::JobId;
use lockkeeper::store::{Store, column};

/// The database that a sample is copied into.
const SAMPLE: &str = "sample";

/// Items in a sample: all that there are in the small case.
const ITEMS: usize = 1_000;

impl Ground {
    /// Fails unless all that `jobs` have done is right. Each is either in the stream or done, with one event.
    pub async fn verify(&self, site: &Site, admin: &Store, jobs: &[Job]) -> anyhow::Result<u64> {
        let left = site.left().await?;
        let done: Vec<&Job> = jobs.iter().filter(|job| !left.contains(&job.id)).collect();
        let (added, expected) = (self.added(admin).await?, self.after(done.len() as u64));
        ensure!(added == expected, "{} jobs are done, so {expected:?} should be there, not {added:?}", done.len());
        let mut keys = HashSet::new();
        for job in &done {
            if keys.len() == ITEMS {
                break;
            }
            keys.insert(job.key.as_str());
        }
        let mut pushed: HashSet<JobId> =
            done.iter().filter(|job| keys.contains(job.key.as_str())).map(|job| job.id).collect();
        let numbers = keys.iter().filter_map(|key| key.strip_prefix("item-")?.parse().ok());
        pushed.extend(numbers.flat_map(|number| self.positions(number)).map(|position| self.job(position)));
        self.copy_sample(admin, &keys).await?;
        let sample = Store::connect(&site.servers.database.url(SAMPLE), 1, super::ground::STATEMENT_WITHIN).await?;
        let audit = audit(&sample, Some(&pushed)).await;
        sample.close().await;
        let audit = audit?;
        ensure!(audit.passed(), "{} items do not pass the audit:\n{audit}", keys.len());
        admin.rows(format!("DROP DATABASE {SAMPLE}"), false).await?;
        Ok(done.len() as u64)
    }

    /// Copies all rows of these items. A receipt whose positions are not those of its event is left out, and so is missed.
    async fn copy_sample(&self, admin: &Store, items: &HashSet<&str>) -> anyhow::Result<()> {
        let database = self.database;
        let mut sql = format!(
            "DROP DATABASE IF EXISTS {SAMPLE}; CREATE DATABASE {SAMPLE}; \
             CREATE TABLE {SAMPLE}.wanted (id VARBINARY(128) PRIMARY KEY) ENGINE = InnoDB; \
             CREATE TABLE {SAMPLE}.picked (p BIGINT UNSIGNED PRIMARY KEY, n BIGINT UNSIGNED NOT NULL) ENGINE = InnoDB"
        );
        // The items of a sample have no sales, so what is read from the log stays empty.
        let of_log = ["checkpoints", "projections", "sales_per_day"];
        // Where a daemon has been, the name of a read model is a view, and its table has a number.
        let numbered = format!(
            "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = '{database}' \
             AND table_name LIKE '%\\_1'"
        );
        let numbered = admin.rows(numbered, false).await?;
        let numbered = numbered.iter().map(|row| column::<String>(row, 0)).collect::<Result<Vec<_>, _>>()?;
        let tables = ["events", "receipts", "event_sequence", "snapshots", "items", "orders", "order_items"];
        for table in tables.into_iter().chain(of_log) {
            let first = format!("{table}_1");
            let as_is = if numbered.contains(&first) { &first } else { table };
            sql += &format!("; CREATE TABLE {SAMPLE}.{table} LIKE {database}.{as_is}");
        }
        let wanted: Vec<String> = items.iter().map(|item| format!("('{item}')")).collect();
        if !wanted.is_empty() {
            sql += &format!("; INSERT INTO {SAMPLE}.wanted VALUES {}", wanted.join(","));
        }
        sql += &format!(
            "; INSERT INTO {SAMPLE}.picked SELECT e.position, ROW_NUMBER() OVER (ORDER BY e.position) \
             FROM {SAMPLE}.wanted w STRAIGHT_JOIN {database}.events e \
             ON e.aggregate_type = 'item' AND e.aggregate_id = w.id; \
             INSERT INTO {SAMPLE}.events SELECT p.n, e.aggregate_type, e.aggregate_id, e.version, e.event_id, \
             e.event_type, e.schema_version, e.payload, e.metadata, e.recorded_at \
             FROM {SAMPLE}.picked p STRAIGHT_JOIN {database}.events e ON e.position = p.p; \
             INSERT INTO {SAMPLE}.receipts SELECT r.job_id, r.outcome, r.reason, p.n, p.n, r.fingerprint, r.recorded_at \
             FROM {SAMPLE}.picked p STRAIGHT_JOIN {SAMPLE}.events e ON e.position = p.n \
             STRAIGHT_JOIN {database}.receipts r \
             ON r.job_id = UNHEX(REPLACE(JSON_VALUE(CONVERT(e.metadata USING utf8mb4), '$.job'), '-', '')) \
             AND r.first_position = p.p AND r.last_position = p.p; \
             INSERT INTO {SAMPLE}.items SELECT i.* \
             FROM {SAMPLE}.wanted w STRAIGHT_JOIN {database}.items i ON i.item_id = w.id; \
             INSERT INTO {SAMPLE}.snapshots SELECT s.* FROM {SAMPLE}.wanted w STRAIGHT_JOIN {database}.snapshots s \
             ON s.aggregate_type = 'item' AND s.aggregate_id = w.id; \
             INSERT INTO {SAMPLE}.event_sequence SELECT id, (SELECT COUNT(*) FROM {SAMPLE}.picked), unchanged, batch, \
             generation FROM {database}.event_sequence"
        );
        admin.rows(sql, false).await?;
        Ok(())
    }
}
