//! Proves a database right, or says what is wrong with it: every promise of the daemon that the tables can show, for any domain.
//!
//! Everything is read in pages, of one moment, and looked at once: an audit of a database that is written to is an audit of how it
//! was when the audit began. What the checks know is kept apart from how it is read, so that tests can hand them damaged data.

mod checks;
mod fold;
mod log;
mod promises;
mod read_models;
mod report;
mod serial;
mod snapshots;
mod table;

use std::collections::HashSet;

#[cfg(not(feature = "testing"))]
use checks::Checks;

#[cfg(feature = "testing")]
pub use checks::Checks;
pub use promises::{LogOnly, Logged, Promises};
pub use report::{Audit, Line, Problems};
pub use serial::Serial;
pub use table::Row;

pub use crate::job::JobId;
pub use crate::store::{Store, StoreError};

use crate::domain::Domain;
use crate::projection::{Table, shown};
use crate::store::Build;

/// Rows per query.
const PAGE: u32 = 2000;

/// Audits the database of `store`, which a [snapshot](Store::at_one_moment) is best for. `pushed` are the ids of all jobs that were
/// ever pushed, when they are known, and `serial` is the run that the log has to equal. `seen` is told how many events have been looked at, and of how many.
pub async fn audit<D: Domain>(
    store: &Store,
    promises: Box<dyn Promises<D>>,
    pushed: Option<&HashSet<JobId>>,
    serial: Option<Serial<D>>,
    mut seen: impl FnMut(u64, u64) + Send,
) -> Result<Audit, StoreError> {
    let sequence = store.sequence().await?;
    let (all_tables, logged) = (promises.tables(), promises.logged());
    // Before the rows: a read model that is behind its checkpoint is wrong, and one that has gone on is of another moment.
    let checkpoints = if logged.is_empty() { Vec::new() } else { store.checkpoints().await? };
    let builds = if logged.is_empty() { Vec::new() } else { store.builds().await?.1 };
    let position = |name: &'static str| {
        let subscription = shown(name, &builds).map_or(name.to_owned(), Build::subscription);
        Some((name, checkpoints.iter().find(|one| one.name == subscription)?.position))
    };
    let positions: Vec<_> = logged.iter().filter_map(|logged| position(logged.subscription)).collect();
    let mut checks = Checks::new(promises).with_serial(serial).up_to(&positions);
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
        seen(position, sequence);
    }
    for table in all_tables {
        rows(store, table, |row| checks.row(table, row)).await?;
    }
    for Logged { table, .. } in logged {
        rows(store, table, |row| checks.logged_row(table, row)).await?;
    }
    Ok(checks.finish(sequence, pushed))
}

/// Hands over every row of the table.
async fn rows(store: &Store, table: &'static Table, mut take: impl FnMut(Row) + Send) -> Result<(), StoreError> {
    // One that was never filled has none.
    if store.named(&[table.name.to_owned()]).await? == [None] {
        return Ok(());
    }
    let mut after: Option<Vec<String>> = None;
    loop {
        let page = table.read(store, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(table.key_of(last).to_vec());
        page.into_iter().for_each(&mut take);
    }
}
