//! Proves a shop's database right, or says what is wrong with it: every promise of the daemon that its tables can show.
//!
//! Everything is read from the database in pages and looked at once. What the checks know is kept apart from how it is
//! read, so that the tests can hand them damaged data.

mod log;
mod models;
mod shop;
mod snapshots;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;

use comfy_table::{Table, presets};

use self::log::Log;
use self::models::{TABLES, Tables};
use self::shop::ShopFold;
use self::snapshots::Snapshots;
use crate::job::JobId;
use crate::store::{Recorded, Store, StoreError, StoredReceipt, StoredSnapshot};

/// Rows per query.
const PAGE: u32 = 2000;

/// Problems that a line tells in words; of the others it tells the number.
const TOLD: usize = 3;

/// One promise, and whether the database keeps it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Line {
    /// The promise.
    pub name: &'static str,
    /// Whether it is kept.
    pub passed: bool,
    /// What was counted; or the first problems.
    pub detail: String,
}

/// Every promise with its verdict.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// In the order in which they are printed.
    pub lines: Vec<Line>,
}

impl Audit {
    /// Whether every promise is kept.
    pub fn passed(&self) -> bool {
        self.lines.iter().all(|line| line.passed)
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["audit", "verdict", "detail"]);
        for line in &self.lines {
            table.add_row([line.name, if line.passed { "pass" } else { "FAIL" }, &line.detail]);
        }
        write!(f, "{table}")
    }
}

/// What a check found wrong.
#[derive(Debug, Default)]
struct Problems {
    count: u64,
    told: Vec<String>,
}

impl Problems {
    fn add(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.told.len() < TOLD {
            self.told.push(text());
        }
    }

    /// The line of this check; `summary` is its detail when nothing is wrong.
    fn line(self, name: &'static str, summary: String) -> Line {
        let detail = match self.count {
            0 => summary,
            count if count as usize > self.told.len() => format!("{count} problems, first: {}", self.told.join("; ")),
            _ => self.told.join("; "),
        };
        Line { name, passed: self.count == 0, detail }
    }
}

/// All checks, as far as the data has been seen. Receipts and snapshots come first, then events in the order of their
/// positions, then the rows of the read models.
#[derive(Debug, Default)]
struct Checks {
    log: Log,
    shop: ShopFold,
    snapshots: Snapshots,
}

impl Checks {
    fn receipt(&mut self, job: JobId, receipt: StoredReceipt) {
        self.log.receipt(job, receipt);
    }

    fn snapshot(&mut self, snapshot: StoredSnapshot) {
        self.snapshots.stored(snapshot);
    }

    fn event(&mut self, event: &Recorded) {
        self.log.event(event);
        if let Some((aggregate, version, state)) = self.shop.event(event) {
            self.snapshots.reached(&aggregate, version, state);
        }
    }

    /// The read models as they should be.
    fn tables(&self) -> Tables {
        Tables::of(&self.shop)
    }

    fn finish(self, tables: Tables, sequence: u64, pushed: Option<&HashSet<JobId>>) -> Audit {
        let mut lines = self.log.finish(sequence, pushed);
        lines.extend(self.shop.finish());
        lines.push(tables.finish());
        lines.push(self.snapshots.finish());
        Audit { lines }
    }
}

/// Audits the database of `store`. `pushed` are the ids of all jobs that were ever pushed, when they are known. Nothing
/// may write meanwhile: what is read in pages is no snapshot.
pub async fn audit(store: &Store, pushed: Option<&HashSet<JobId>>) -> Result<Audit, StoreError> {
    let mut checks = Checks::default();
    let mut after = None;
    loop {
        let page = store.receipts_from(after, PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        page.into_iter().for_each(|(job, receipt)| checks.receipt(job, receipt));
    }
    let mut after: Option<(String, String)> = None;
    loop {
        let from = after.as_ref().map(|(kind, id)| (kind.as_str(), id.as_str()));
        let page = store.snapshots_from(from, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.aggregate_type.clone(), last.aggregate_id.clone()));
        page.into_iter().for_each(|snapshot| checks.snapshot(snapshot));
    }
    let mut position = 0;
    loop {
        let page = store.events_from(position, PAGE).await?;
        let Some(last) = page.last() else { break };
        position = last.position;
        page.iter().for_each(|event| checks.event(event));
    }
    let mut tables = checks.tables();
    for table in &TABLES {
        let mut after: Option<Vec<String>> = None;
        loop {
            let page = table.read(store, after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(table.key(last).to_vec());
            page.into_iter().for_each(|row| tables.row(table, row));
        }
    }
    Ok(checks.finish(tables, store.sequence().await?, pushed))
}
