//! Fills a database in bulk, with the rows that a daemon would have written for the same jobs.
//!
//! The server makes the rows itself, a hundred thousand or so in a transaction. The second index of the events is built when
//! all are there, which sorts them once instead of finding a place for each. Nothing of this is measured, so while it goes on the
//! server need not wait for its disk; what it is told about that is taken back at the end.

use indicatif::ProgressBar;

use super::super::site::Site;
use super::ground::Ground;
use crate::jobs::tell;
use lockkeeper::store::Store;

/// A table of the numbers from 0 on, in a database of its own, and how often it is doubled.
const NUMBERS: &str = "numbers.numbers";
const DOUBLINGS: u32 = 17;

/// Rows in a transaction.
const CHUNK: u64 = 1 << DOUBLINGS;

/// Chunks between two lines where there is no bar.
const TOLD_EVERY: u64 = 16;

/// The index of the events that is built last, as the migration has it.
const INDEX: &str = "UNIQUE KEY uq_events_version (aggregate_type, aggregate_id, version)";

/// Makes the table of numbers that [`Ground::fill`] needs.
pub async fn count(admin: &Store) -> anyhow::Result<()> {
    let mut sql = format!(
        "DROP DATABASE IF EXISTS numbers; CREATE DATABASE numbers; \
         CREATE TABLE {NUMBERS} (n INT UNSIGNED PRIMARY KEY) ENGINE = InnoDB; INSERT INTO {NUMBERS} VALUES (0)"
    );
    for doubling in 0..DOUBLINGS {
        sql += &format!("; INSERT INTO {NUMBERS} SELECT n + {} FROM {NUMBERS}", 1_u64 << doubling);
    }
    admin.rows(sql, false).await?;
    Ok(())
}

impl Ground {
    /// Makes the database, and all its rows. `progress` counts events, receipts and items.
    pub async fn fill(&self, site: &Site, admin: &Store, progress: &ProgressBar) -> anyhow::Result<()> {
        let database = self.database;
        admin.rows(format!("CREATE DATABASE {database}"), false).await?;
        let store = self.store(site).await?;
        let migrated = store.migrate().await;
        store.close().await;
        migrated?;
        let before = format!(
            "SET GLOBAL innodb_flush_log_at_trx_commit = 0; ALTER TABLE {database}.events DROP KEY uq_events_version"
        );
        admin.rows(before, false).await?;
        self.chunks(admin, self.events, progress, |range| format!("{}; {}", self.receipts(&range), self.log(&range)))
            .await?;
        self.chunks(admin, self.aggregates, progress, |range| self.items(&range)).await?;
        progress.set_message(format!("{database}: building the index of the events"));
        let after = format!(
            "ALTER TABLE {database}.events ADD {INDEX}; \
             UPDATE {database}.event_sequence SET position = {} WHERE id = 1; \
             ANALYZE TABLE {database}.events, {database}.receipts, {database}.items",
            self.events
        );
        admin.rows(after, false).await?;
        admin.rows("SET GLOBAL innodb_flush_log_at_trx_commit = 1", false).await?;
        Ok(())
    }

    /// Runs statements for all numbers below `count`, so many at a time.
    async fn chunks(
        &self,
        admin: &Store,
        count: u64,
        progress: &ProgressBar,
        statements: impl Fn(String) -> String,
    ) -> anyhow::Result<()> {
        for (place, first) in (0..count).step_by(CHUNK as usize).enumerate() {
            progress.set_message(format!("filling {}", self.database));
            let rows = CHUNK.min(count - first);
            let range = format!("(SELECT {first} + n AS n FROM {NUMBERS} WHERE n < {rows}) numbers");
            admin.rows(statements(range), false).await?;
            progress.inc(rows);
            if (place as u64 + 1).is_multiple_of(TOLD_EVERY) {
                let (done, all) = (progress.position(), progress.length().unwrap_or_default());
                tell(progress, &format!("filling {}: {done} of {all}", self.database));
            }
        }
        Ok(())
    }

    /// Position, number of the item, its version, the job's id and the time, for a range of numbers.
    fn positions_in_sql(&self, range: &str) -> String {
        let Ground { aggregates, since_unix_ms, .. } = self;
        let job = self.job_in_sql();
        format!(
            "(SELECT p, (p - 1) MOD {aggregates} AS i, (p - 1) DIV {aggregates} + 1 AS v, {job} AS job, \
             FROM_UNIXTIME(({since_unix_ms} + p) / 1000) AS at FROM (SELECT n + 1 AS p FROM {range}) positions) rounds"
        )
    }

    fn receipts(&self, range: &str) -> String {
        let (database, from) = (self.database, self.positions_in_sql(range));
        format!(
            "INSERT INTO {database}.receipts \
             (job_id, outcome, reason, first_position, last_position, fingerprint, recorded_at) \
             SELECT UNHEX(job), 'applied', NULL, p, p, UNHEX(MD5(p)), at FROM {from}"
        )
    }

    /// The id of an event is what [`EventToAppend::event_id`](lockkeeper::store::EventToAppend::event_id) says for the first of a job.
    fn log(&self, range: &str) -> String {
        let (database, from) = (self.database, self.positions_in_sql(range));
        let price = price("i");
        format!(
            "INSERT INTO {database}.events (position, aggregate_type, aggregate_id, version, event_id, event_type, \
             schema_version, payload, metadata, recorded_at) \
             SELECT p, 'item', CONCAT('item-', i), v, \
             UNHEX(CONCAT(SUBSTR(hash, 1, 12), '5', SUBSTR(hash, 14, 3), \
             HEX((CONV(SUBSTR(hash, 17, 1), 16, 10) & 3) | 8), SUBSTR(hash, 18, 15))), \
             CASE v WHEN 1 THEN 'item.registered' WHEN 2 THEN 'item.sale_allowed' ELSE 'item.restocked' END, 1, \
             CASE v WHEN 1 THEN CONCAT('{{\"name\":\"Item ', i, '\",\"supply_price\":\"', {price}, \
             '\",\"vat\":\"0.100\",\"is_tax_free\":', IF(i MOD 5 = 0, 'true', 'false'), ',\"stock\":{STOCK},\
             \"member_id\":1}}') WHEN 2 THEN '{{}}' ELSE '{{\"quantity\":1}}' END, \
             CONCAT('{{\"job\":\"', LOWER(CONCAT_WS('-', SUBSTR(job, 1, 8), SUBSTR(job, 9, 4), SUBSTR(job, 13, 4), \
             SUBSTR(job, 17, 4), SUBSTR(job, 21))), '\"}}'), at \
             FROM (SELECT p, i, v, job, at, SHA1(CONCAT(UNHEX(job), X'00000000')) AS hash FROM {from}) hashed",
            STOCK = crate::jobs::backlog::STOCK,
        )
    }

    fn items(&self, range: &str) -> String {
        let (database, price, version) = (self.database, price("n"), self.version_in_sql("n"));
        let stock = Self::stock_in_sql(&version);
        format!(
            "INSERT INTO {database}.items (item_id, name, supply_price, vat, total_price, is_tax_free, stock, \
             sale_status, member_id, version) \
             SELECT CONCAT('item-', n), CONCAT('Item ', n), {price}, 0.100, CAST({price} AS DECIMAL(10,3)) + 0.100, \
             n MOD 5 = 0, {stock}, 'ALLOW', 1, {version} FROM {range}"
        )
    }
}

/// Of the item whose number is in this column.
fn price(number: &str) -> String {
    format!("CONCAT(1 + {number} MOD 9, '.', LPAD({number} * 37 MOD 1000, 3, '0'))")
}
