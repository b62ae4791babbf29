//! A build compared with what it should be: the same statements fill temporary tables, and the server tells where the two differ. All
//! of one moment, and nobody who writes is in the way.

use crate::domain::AggregateId;
use crate::store::history::StoredEvent;
use crate::store::sql::{Sql, Tables};
use crate::store::{Outage, Store, StoreError, column};

/// A row that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The table, as it is described.
    pub table: &'static str,
    /// The row as it is; none when it is missing.
    pub is: Option<Vec<Option<String>>>,
    /// As it should be; none when there should be none.
    pub should: Option<Vec<Option<String>>>,
}

/// Which rows of a table are compared: of one build, with keys in a range.
#[derive(Clone, Debug)]
pub struct Compared<'a> {
    /// The table, as it is described.
    pub table: &'static str,
    /// The names of its columns, those of the key first.
    pub columns: &'a [&'static str],
    /// How many are of the key.
    pub keys: usize,
    /// The build's tables.
    pub build: Tables,
    /// The first column of the key is greater than the one and at most the other; whatever it is where there is none.
    pub range: (Option<&'a str>, Option<&'a str>),
}

impl Store {
    /// A session of its own with these temporary tables, for [`Store::compare`].
    pub async fn comparing(&self, create: &[String]) -> Result<Store, StoreError> {
        let session = self.one_session();
        let mut text = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET @lockkeeper_moment = 1".to_owned();
        create.iter().for_each(|statement| text.extend(["; ", statement]));
        session.rows(text, false).await?;
        Ok(session)
    }

    /// Everything is of one moment from now on.
    pub async fn begin_moment(&self) -> Result<(), StoreError> {
        self.rows("START TRANSACTION WITH CONSISTENT SNAPSHOT", false).await.map(drop)
    }

    /// What was filled in is gone, and so is the moment.
    pub async fn end_moment(&self) -> Result<(), StoreError> {
        self.is_still_of_that_moment().await?;
        self.rows("ROLLBACK", false).await.map(drop)
    }

    /// The ids of up to `limit` aggregates of this type behind `after`, in their order, that have an event up to the position `upto`.
    pub async fn aggregates_after(
        &self,
        (kind, upto): (&str, u64),
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        let mut sql = Sql::new();
        sql.raw("SELECT aggregate_id FROM events WHERE aggregate_type = ").text(kind);
        if let Some(after) = after {
            sql.raw(" AND aggregate_id > ").bytes(after.as_bytes());
        }
        up_to(upto, &mut sql);
        sql.raw(" AND version = 1 ORDER BY aggregate_id LIMIT ").number(limit);
        let rows = self.rows(sql.into_string(), false).await?;
        rows.iter().map(|row| super::super::read::text(column(row, 0)?)).collect()
    }

    /// Hands over the events, up to the position `upto`, of all aggregates of this type in a range, by id and version.
    pub async fn events_in_range(
        &self,
        (kind, upto): (&'static str, u64),
        (after, last): (Option<&str>, &str),
        mut take: impl FnMut(StoredEvent) + Send,
    ) -> Result<(), StoreError> {
        let mut sql = Sql::new();
        sql.raw("SELECT aggregate_id, version, event_id, event_type, schema_version, payload FROM events ");
        sql.raw("WHERE aggregate_type = ").text(kind).raw(" AND aggregate_id <= ").bytes(last.as_bytes());
        if let Some(after) = after {
            sql.raw(" AND aggregate_id > ").bytes(after.as_bytes());
        }
        up_to(upto, &mut sql);
        sql.raw(" ORDER BY aggregate_id, version");
        let each = |row: &_| {
            let aggregate = AggregateId::new(kind, super::super::read::text(column(row, 0)?)?);
            let event_id = uuid::Uuid::from_bytes(super::super::read::sixteen(column(row, 2)?)?);
            let (event_type, schema_version, payload) = (column(row, 3)?, column(row, 4)?, column(row, 5)?);
            take(StoredEvent { aggregate, version: column(row, 1)?, event_id, event_type, schema_version, payload });
            Ok(())
        };
        self.connection().await?.each(sql.into_string(), std::future::ready(Ok::<_, StoreError>(())), each).await
    }

    /// Where a build differs from what the temporary tables have.
    pub async fn compare(&self, compared: &Compared<'_>) -> Result<Vec<Difference>, StoreError> {
        let Compared { table, columns, keys, build, range: (after, last) } = compared;
        let select = |sql: &mut Sql, which: &'static str, tables: Tables| {
            sql.raw("SELECT ").raw(which).raw(" AS which");
            for name in *columns {
                // As bytes: a collation may take for the same what is not.
                sql.raw(", CAST(").raw(name).raw(" AS BINARY) AS ").raw(name);
            }
            sql.raw(" FROM ").of(tables).table(table);
        };
        let mut sql = Sql::new();
        sql.raw("SELECT MIN(which)").list(*columns, |sql, name| {
            sql.raw(if *name == columns[0] { ", " } else { "" }).raw(name);
        });
        sql.raw(" FROM (");
        select(&mut sql, "1", *build);
        let first = columns.first().copied().unwrap_or_default();
        let mut word = " WHERE ";
        for (comparison, id) in [(" > ", after), (" <= ", last)] {
            if let Some(id) = id {
                sql.raw(word).raw(first).raw(comparison).bytes(id.as_bytes());
                word = " AND ";
            }
        }
        sql.raw(" UNION ALL ");
        select(&mut sql, "2", Tables::Check);
        sql.raw(") u GROUP BY ").list(*columns, |sql, name| {
            sql.raw(name);
        });
        sql.raw(" HAVING COUNT(*) = 1 ORDER BY ")
            .list(&columns[..*keys], |sql, name| {
                sql.raw(name);
            })
            .raw(", 1");
        let rows = self.rows(sql.into_string(), false).await?;
        let mut differences: Vec<Difference> = Vec::new();
        for row in &rows {
            let value = |at| {
                let bytes: Option<Vec<u8>> = column(row, at)?;
                Ok::<_, StoreError>(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
            };
            let values: Vec<_> = (1..=columns.len()).map(value).collect::<Result<_, _>>()?;
            match column::<i64>(row, 0)? {
                1 => differences.push(Difference { table, is: Some(values), should: None }),
                2 => match differences.last_mut() {
                    Some(Difference { is: Some(is), should: should @ None, .. }) if is[..*keys] == values[..*keys] => {
                        *should = Some(values);
                    }
                    _ => differences.push(Difference { table, is: None, should: Some(values) }),
                },
                other => {
                    return Err(StoreError::Unavailable(Outage::Other, format!("a comparison gave {other}")));
                }
            }
        }
        Ok(differences)
    }
}

fn up_to(position: u64, sql: &mut Sql) {
    if position < u64::MAX {
        sql.raw(" AND position <= ").number(position);
    }
}
