//! What a batch reads first: receipts and heads.

use std::collections::BTreeMap;

use foldhash::HashMap;

use super::commit::Anchor;
use super::error::{Outage, StoreError};
use super::pool::Store;
use super::row::column;
use super::sql::{JSON_ID, Sql};
use crate::domain::AggregateId;
use crate::job::{Fingerprint, JobId};
use uuid::Uuid;

/// What a batch of jobs stands on at one moment.
#[derive(Debug, Default)]
pub struct BatchRead {
    /// The receipts of those jobs that have one.
    pub receipts: HashMap<JobId, StoredReceipt>,
    /// The newest version of those aggregates that have events.
    pub heads: HashMap<AggregateId, u64>,
    /// The log's last event, which is not older than the heads; none when there are no events.
    pub newest: Option<Anchor>,
    /// An anchor that was asked for is not in the log.
    pub is_lost: bool,
}

/// A receipt as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReceipt {
    /// `applied`, `rejected`, `expired` or `dead`.
    pub outcome: String,
    /// Why, unless it was applied.
    pub reason: Option<String>,
    /// The positions of its first and last event.
    pub positions: Option<(u64, u64)>,
    /// Of the job that it was written for.
    pub fingerprint: Fingerprint,
    /// When it was written, UTC, as `2026-01-31 12:00:00.000000`.
    pub recorded_at: String,
}

/// In the second column of a row of [`Store::read`], where a head has its aggregate's type: all rows have eight columns, since
/// those of all statements arrive as one list.
const RECEIPT: &str = "";
/// The same.
const ANCHOR: &str = "*";

impl Store {
    /// Reads the receipts of `jobs` and the heads of `aggregates`, and looks whether the log has the `anchors`, in one packet.
    pub async fn read(
        &self,
        jobs: &[JobId],
        aggregates: &[AggregateId],
        anchors: &[Anchor],
    ) -> Result<BatchRead, StoreError> {
        let kinds = by_kind(aggregates.iter().map(|aggregate| (aggregate, ())));
        let mut sql = Sql::new();
        ask_for_receipts(jobs, &mut sql);
        ask_for_heads(&kinds, &mut sql);
        ask_for_anchors(anchors, &mut sql);
        let mut read = BatchRead::default();
        let mut seen = Vec::new();
        for row in &self.rows(sql.into_string(), false).await? {
            match column::<&str>(row, 1)? {
                RECEIPT => drop(receipt(row).map(|(job, receipt)| read.receipts.insert(job, receipt))?),
                ANCHOR => seen
                    .push(Anchor { position: column(row, 4)?, event_id: Uuid::from_bytes(sixteen(column(row, 0)?)?) }),
                kind => {
                    if let (Some((kind, _)), Some(version)) = (kinds.get_key_value(kind), column(row, 4)?) {
                        read.heads.insert(AggregateId::new(kind, text(column(row, 0)?)?), version);
                    }
                }
            }
        }
        read.is_lost = anchors.iter().any(|anchor| !seen.contains(anchor));
        read.newest = seen.into_iter().max();
        Ok(read)
    }
}

fn ask_for_receipts(jobs: &[JobId], sql: &mut Sql) {
    if jobs.is_empty() {
        return;
    }
    sql.raw("SELECT job_id, ").text(RECEIPT).raw(", outcome, reason, first_position, last_position, fingerprint, ");
    sql.raw("CAST(recorded_at AS CHAR) FROM receipts WHERE job_id IN (");
    sql.list(jobs, |sql, job| {
        sql.bytes(job.0.as_bytes());
    });
    sql.raw(");");
}

/// One step down the index for each. MAX with IN and GROUP BY reads every version of every aggregate whenever the optimizer
/// takes no loose index scan, and so does MySQL unless all columns of the key are in the order.
fn ask_for_heads(kinds: &BTreeMap<&'static str, Vec<(&AggregateId, ())>>, sql: &mut Sql) {
    for (kind, members) in kinds {
        sql.raw("SELECT CAST(j.id AS BINARY), ").text(kind).raw(", '', NULL, (SELECT version FROM events ");
        sql.raw("WHERE aggregate_type = ").text(kind).raw(" AND aggregate_id = CAST(j.id AS BINARY) ");
        sql.raw("ORDER BY aggregate_type DESC, aggregate_id DESC, version DESC LIMIT 1), NULL, NULL, NULL FROM ");
        sql.raw("JSON_TABLE(");
        sql.json(&members.iter().map(|(aggregate, ())| &*aggregate.id).collect::<Vec<_>>());
        sql.raw(", '$[*]' COLUMNS (id ").raw(JSON_ID).raw(" PATH '$')) j;");
    }
}

/// After the heads, so that the newest event is not older than any of them.
fn ask_for_anchors(anchors: &[Anchor], sql: &mut Sql) {
    sql.raw("SELECT event_id, ").text(ANCHOR).raw(", '', NULL, position, NULL, NULL, NULL FROM events ");
    sql.raw("ORDER BY position DESC LIMIT 1;");
    if !anchors.is_empty() {
        sql.raw("SELECT event_id, ").text(ANCHOR).raw(", '', NULL, position, NULL, NULL, NULL FROM events ");
        sql.raw("WHERE position IN (").list(anchors, |sql, anchor| {
            sql.number(anchor.position);
        });
        sql.raw(");");
    }
}

pub(super) fn by_kind<'a, T>(
    aggregates: impl Iterator<Item = (&'a AggregateId, T)>,
) -> BTreeMap<&'static str, Vec<(&'a AggregateId, T)>> {
    let mut kinds: BTreeMap<&'static str, Vec<(&AggregateId, T)>> = BTreeMap::new();
    for (aggregate, with) in aggregates {
        kinds.entry(aggregate.kind).or_default().push((aggregate, with));
    }
    kinds
}

/// Of a row with the columns job id, anything, outcome, reason, first and last position, fingerprint, time.
pub(super) fn receipt(row: &sqlx::mysql::MySqlRow) -> Result<(JobId, StoredReceipt), StoreError> {
    let first: Option<u64> = column(row, 4)?;
    let last: Option<u64> = column(row, 5)?;
    let receipt = StoredReceipt {
        outcome: column(row, 2)?,
        reason: column(row, 3)?,
        positions: first.zip(last),
        fingerprint: Fingerprint(sixteen(column(row, 6)?)?),
        recorded_at: column(row, 7)?,
    };
    Ok((job_id(row)?, receipt))
}

/// Of a row whose first column is a job's id.
pub(super) fn job_id(row: &sqlx::mysql::MySqlRow) -> Result<JobId, StoreError> {
    Ok(JobId(uuid::Uuid::from_bytes(sixteen(column(row, 0)?)?)))
}

pub(super) fn sixteen(bytes: Vec<u8>) -> Result<[u8; 16], StoreError> {
    bytes.try_into().map_err(|_| damaged("a 16-byte column has another length"))
}

pub(super) fn text(bytes: Vec<u8>) -> Result<String, StoreError> {
    String::from_utf8(bytes).map_err(|_| damaged("an aggregate id is not UTF-8"))
}

fn damaged(what: &str) -> StoreError {
    StoreError::Unavailable(Outage::Other, format!("the tables do not hold what this program writes: {what}"))
}
