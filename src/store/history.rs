//! What the cache of states lacks: snapshots, and the events after them, handed over one by one as they come.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use sqlx::mysql::MySqlRow;
use uuid::Uuid;

use super::commit::Snapshot;
use super::error::StoreError;
use super::pool::Store;
use super::read::{by_kind, sixteen, text};
use super::row::column;
use super::sql::Sql;
use crate::domain::AggregateId;

/// An event as far as its aggregate's state depends on it.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// The aggregate.
    pub aggregate: AggregateId,
    /// Its place in the aggregate's history, from 1.
    pub version: u64,
    /// Its id.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// The version of its payload's schema.
    pub schema_version: u16,
    /// JSON.
    pub payload: Vec<u8>,
}

impl Store {
    /// Hands over the snapshots of `aggregates`, each of an event that the log has, when the first one has come and `ready` is
    /// done.
    pub async fn snapshots<E: From<StoreError>>(
        &self,
        aggregates: &[AggregateId],
        ready: impl Future<Output = Result<(), E>> + Send,
        mut take: impl FnMut(Snapshot) + Send,
    ) -> Result<(), E> {
        let kinds = by_kind(aggregates.iter().map(|aggregate| (aggregate, ())));
        let mut sql = Sql::new();
        for (kind, members) in &kinds {
            sql.raw("SELECT s.aggregate_type, s.aggregate_id, s.version, s.event_id, s.schema_version, s.state ");
            sql.raw("FROM snapshots s JOIN events e ON e.aggregate_type = s.aggregate_type ");
            sql.raw("AND e.aggregate_id = s.aggregate_id AND e.version = s.version AND e.event_id = s.event_id ");
            sql.raw("WHERE s.aggregate_type = ").text(kind).raw(" AND s.aggregate_id IN (");
            sql.list(members, |sql, (aggregate, ())| {
                sql.bytes(aggregate.id.as_bytes());
            });
            sql.raw(");");
        }
        let each = |row: &MySqlRow| {
            let Some(aggregate) = aggregate(row, &kinds)? else { return Ok(()) };
            let (version, event_id) = (column(row, 2)?, uuid(row, 3)?);
            take(Snapshot { aggregate, version, event_id, schema_version: column(row, 4)?, state: column(row, 5)? });
            Ok(())
        };
        self.connection().await?.each(sql.into_string(), ready, each).await
    }

    /// Hands over the events of each aggregate with these versions, sorted by type, id and version, when the first one has come
    /// and `ready` is done.
    ///
    /// Whoever asks bounds the number of rows by the versions asked for. A LIMIT would do worse: MariaDB then reads the index
    /// of an aggregate type from its beginning until it has found as many rows.
    pub async fn events_of<E: From<StoreError>>(
        &self,
        wanted: &[(AggregateId, RangeInclusive<u64>)],
        ready: impl Future<Output = Result<(), E>> + Send,
        mut take: impl FnMut(StoredEvent) + Send,
    ) -> Result<(), E> {
        let kinds = by_kind(wanted.iter().map(|(aggregate, versions)| (aggregate, versions)));
        let mut sql = Sql::new();
        for (kind, members) in &kinds {
            sql.raw("SELECT aggregate_type, aggregate_id, version, event_id, event_type, schema_version, payload ");
            sql.raw("FROM events WHERE aggregate_type = ").text(kind).raw(" AND (");
            for (index, (aggregate, versions)) in members.iter().enumerate() {
                sql.raw(if index > 0 { " OR " } else { "" });
                sql.raw("(aggregate_id = ")
                    .bytes(aggregate.id.as_bytes())
                    .raw(" AND version BETWEEN ")
                    .number(*versions.start())
                    .raw(" AND ")
                    .number(*versions.end())
                    .raw(")");
            }
            sql.raw(") ORDER BY aggregate_id, version;");
        }
        let each = |row: &MySqlRow| {
            let Some(aggregate) = aggregate(row, &kinds)? else { return Ok(()) };
            let (version, event_id) = (column(row, 2)?, uuid(row, 3)?);
            let (event_type, schema_version) = (column(row, 4)?, column(row, 5)?);
            take(StoredEvent { aggregate, version, event_id, event_type, schema_version, payload: column(row, 6)? });
            Ok(())
        };
        self.connection().await?.each(sql.into_string(), ready, each).await
    }
}

/// The aggregate of a row that begins with its type and id.
fn aggregate<T>(row: &MySqlRow, kinds: &BTreeMap<&'static str, T>) -> Result<Option<AggregateId>, StoreError> {
    let Some((kind, _)) = kinds.get_key_value(column::<&str>(row, 0)?) else { return Ok(None) };
    Ok(Some(AggregateId::new(kind, text(column(row, 1)?)?)))
}

fn uuid(row: &MySqlRow, index: usize) -> Result<Uuid, StoreError> {
    Ok(Uuid::from_bytes(sixteen(column(row, index)?)?))
}
