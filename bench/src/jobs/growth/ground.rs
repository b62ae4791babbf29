//! A database whose shop has as many events and items as one wants.
//!
//! Position by position, each item in turn gets an event: first all are registered, then all are put on sale, then all are
//! restocked, round after round. So the events of an item lie as far apart as those of a shop that has been open for long.
//! What stands at a position follows from its number alone; so do the ids of jobs, which are of version 7 like those of any
//! producer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use uuid::Uuid;

use super::super::site::Site;
use crate::jobs::backlog::STOCK;
use lockkeeper::job::JobId;
use lockkeeper::store::{Store, column};

/// How long a statement may take: an index of millions of rows is built by one.
pub const STATEMENT_WITHIN: Duration = Duration::from_secs(3_600);

/// Time between the last event of the filling and now.
const AGE_MS: u64 = 3_600_000;

/// A database and what it is filled with.
#[derive(Clone, Debug)]
pub struct Ground {
    pub database: &'static str,
    pub events: u64,
    pub aggregates: u64,
    /// The event at position p was written p milliseconds after this.
    pub since_unix_ms: u64,
}

/// What a run has added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    pub receipts: u64,
    pub events: u64,
    pub first: Option<u64>,
    pub last: Option<u64>,
    pub sequence: u64,
}

impl Ground {
    /// A database of this name; nothing is done yet.
    pub fn new(database: &'static str, events: u64, aggregates: u64) -> Ground {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        Ground { database, events, aggregates, since_unix_ms: now - AGE_MS - events }
    }

    /// The job of the event at this position.
    pub fn job(&self, position: u64) -> JobId {
        let time = u128::from(self.since_unix_ms + position) << 80;
        let middle = 7 << 76 | u128::from(position % 4_096) << 64;
        JobId(Uuid::from_u128(time | middle | 8 << 60 | u128::from(position)))
    }

    /// The same in SQL: 32 hexadecimal digits, from a column `p`.
    pub fn job_in_sql(&self) -> String {
        let since = self.since_unix_ms;
        format!(
            "CONCAT(LPAD(HEX({since} + p), 12, '0'), '7', LPAD(HEX(p MOD 4096), 3, '0'), '8', LPAD(HEX(p), 15, '0'))"
        )
    }

    /// The positions of an item's events.
    pub fn positions(&self, item: u64) -> impl Iterator<Item = u64> + use<> {
        let (events, aggregates) = (self.events, self.aggregates);
        (item + 1..=events).step_by(usize::try_from(aggregates).unwrap_or(usize::MAX))
    }

    /// How many events an item has, in SQL, from the expression for its number.
    pub fn version_in_sql(&self, number: &str) -> String {
        format!("({} + ({number} < {}))", self.events / self.aggregates, self.events % self.aggregates)
    }

    /// Of an item with so many events, in SQL: two of them do not restock it.
    pub fn stock_in_sql(version: &str) -> String {
        format!("({STOCK} + {version} - 2)")
    }

    /// Where a daemon finds it.
    pub fn url(&self, site: &Site) -> String {
        site.servers.database.url(self.database)
    }

    /// The database as a daemon has it.
    pub async fn store(&self, site: &Site) -> anyhow::Result<Store> {
        let store = Store::connect(&self.url(site), 2, STATEMENT_WITHIN).await?;
        Ok(store.with_migrations(&crate::shop::MIGRATIONS))
    }

    /// Takes out what runs have added: what is left is what it was filled with.
    pub async fn undo(&self, admin: &Store) -> anyhow::Result<()> {
        let Ground { database, events, .. } = self;
        let version = self.version_in_sql("CAST(SUBSTR(i.item_id, 6) AS UNSIGNED)");
        let (stock, last) = (Self::stock_in_sql(&version), self.job(*events).0.simple());
        let undo = format!(
            "UPDATE (SELECT DISTINCT aggregate_id AS id FROM {database}.events WHERE position > {events}) t \
             JOIN {database}.items i ON i.item_id = t.id SET i.stock = {stock}, i.version = {version}; \
             DELETE FROM {database}.receipts WHERE job_id > X'{last}'; \
             DELETE FROM {database}.events WHERE position > {events}; \
             TRUNCATE {database}.snapshots; \
             UPDATE {database}.event_sequence SET position = {events} WHERE id = 1"
        );
        admin.rows(undo, false).await?;
        Ok(())
    }

    /// What is there beyond the filling.
    pub async fn added(&self, admin: &Store) -> anyhow::Result<Added> {
        let Ground { database, events, .. } = self;
        let last = self.job(*events).0.simple();
        let sql = format!(
            "SELECT COUNT(*), MIN(position), MAX(position), \
             (SELECT COUNT(*) FROM {database}.receipts WHERE job_id > X'{last}'), \
             (SELECT position FROM {database}.event_sequence WHERE id = 1) \
             FROM {database}.events WHERE position > {events}"
        );
        let rows = admin.rows(sql, false).await?;
        let row = rows.first().context("the database counts nothing")?;
        let count = |place| column::<i64>(row, place).map(i64::cast_unsigned);
        Ok(Added {
            events: count(0)?,
            first: column(row, 1)?,
            last: column(row, 2)?,
            receipts: count(3)?,
            sequence: column(row, 4)?,
        })
    }

    /// What must be there beyond the filling after so many jobs of one event each.
    pub fn after(&self, jobs: u64) -> Added {
        let (first, last) = (self.events + 1, self.events + jobs);
        let some = |position| (jobs > 0).then_some(position);
        Added { receipts: jobs, events: jobs, first: some(first), last: some(last), sequence: last }
    }

    /// A connection that may make and drop databases, with time for statements over millions of rows.
    pub async fn admin(site: &Site) -> anyhow::Result<Store> {
        Ok(Store::connect(&site.servers.database.url("mysql"), 1, STATEMENT_WITHIN).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_gets_an_event_in_every_round_of_all_items() {
        let ground = Ground::new("x", 25, 10);
        assert_eq!(ground.positions(0).collect::<Vec<_>>(), [1, 11, 21]);
        assert_eq!(ground.positions(5).collect::<Vec<_>>(), [6, 16]);
        assert_eq!((0..10).map(|item| ground.positions(item).count()).sum::<usize>(), 25);
        assert_eq!(ground.version_in_sql("n"), "(2 + (n < 5))");
    }

    #[test]
    fn the_ids_of_jobs_are_of_version_7_in_the_order_of_their_events_and_older_than_any_job_of_a_run() {
        let ground = Ground::new("x", 10_000_000, 1_000_000);
        let ids: Vec<Uuid> = [1, 2, 4_095, 4_096, 10_000_000].iter().map(|position| ground.job(*position).0).collect();
        assert!(ids.is_sorted() && ids.iter().all(|id| id.get_version_num() == 7), "{ids:?}");
        assert!(ids.iter().all(|id| id.get_variant() == uuid::Variant::RFC4122));
        assert!(ids[4] < Uuid::now_v7());
    }

    #[test]
    fn a_run_adds_an_event_and_a_receipt_for_each_job() {
        let ground = Ground::new("x", 100, 10);
        let none = Added { receipts: 0, events: 0, first: None, last: None, sequence: 100 };
        assert_eq!(ground.after(0), none);
        let five = Added { receipts: 5, events: 5, first: Some(101), last: Some(105), sequence: 105 };
        assert_eq!(ground.after(5), five);
    }
}
