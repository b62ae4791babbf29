//! A page of the log for somebody who wants some of its events: the others are counted where they lie.

use uuid::Uuid;

use super::event::RecordedEvent;
use crate::store::sql::Sql;
use crate::store::{Outage, Store, StoreError, column};

/// A piece of the log behind a position.
#[derive(Clone, Debug)]
pub struct LogPage {
    /// How many events it has, of all types.
    pub count: u64,
    /// The position of the last of them, and its id.
    pub last: (u64, Uuid),
    /// Those that were asked for, in order, without their metadata.
    pub events: Vec<RecordedEvent>,
}

/// Which events of a page are read.
#[derive(Clone, Copy, Debug)]
pub enum Only<'a> {
    /// Those of these types.
    Types(&'a [&'a str]),
    /// Those of aggregates of these types.
    Aggregates(&'a [&'a str]),
}

impl Store {
    /// Up to `limit` events behind the position `after`, of which some are read; `None` when there are none. What is there is complete,
    /// unless it has fewer events than positions.
    pub async fn page(&self, after: u64, limit: u32, only: Only<'_>) -> Result<Option<LogPage>, StoreError> {
        let (column_name, wanted) = match only {
            Only::Types(types) => ("event_type", types),
            Only::Aggregates(types) => ("aggregate_type", types),
        };
        let mut sql = Sql::new();
        sql.raw(
            "SELECT COUNT(*), MAX(position) INTO @count, @last FROM (SELECT position FROM events WHERE position > ",
        );
        sql.number(after).raw(" ORDER BY position LIMIT ").number(limit).raw(") page; ");
        sql.raw("SELECT @count, @last, (SELECT event_id FROM events WHERE position = @last); ");
        if !wanted.is_empty() {
            sql.raw(
                "SELECT position, aggregate_type, aggregate_id, version, event_type, schema_version, payload, '', ",
            );
            sql.raw("CAST(recorded_at AS CHAR), event_id FROM events WHERE position > ").number(after);
            sql.raw(" AND position <= @last AND ").raw(column_name).raw(" IN (");
            sql.list(wanted, |sql, wanted| {
                sql.text(wanted);
            });
            sql.raw(") ORDER BY position");
        }
        let rows = self.rows(sql.into_string(), false).await?;
        let [about, rows @ ..] = &*rows else {
            return Err(StoreError::Unavailable(Outage::Other, "no answer about a page".to_owned()));
        };
        let Some(last) = column::<Option<u64>>(about, 1)? else { return Ok(None) };
        let id: Vec<u8> = column(about, 2)?;
        let id = Uuid::from_slice(&id).map_err(|error| StoreError::Unavailable(Outage::Other, error.to_string()))?;
        let events = rows.iter().map(RecordedEvent::read).collect::<Result<_, _>>()?;
        Ok(Some(LogPage { count: column(about, 0)?, last: (last, id), events }))
    }

    /// The first position behind `after` and up to `last` that has no event.
    pub async fn hole(&self, after: u64, last: u64) -> Result<Option<u64>, StoreError> {
        let mut sql = Sql::new();
        sql.raw("SELECT position FROM events WHERE position > ").number(after).raw(" AND position <= ").number(last);
        let rows = self.rows(sql.raw(" ORDER BY position").as_str(), false).await?;
        let there = rows.iter().map(|row| column::<u64>(row, 0)).collect::<Result<Vec<_>, _>>()?;
        let expected = after + 1..=last;
        Ok(expected
            .zip(there.into_iter().map(Some).chain(std::iter::repeat(None)))
            .find_map(|(expected, there)| (there != Some(expected)).then_some(expected)))
    }
}
