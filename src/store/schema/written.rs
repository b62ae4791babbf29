//! Which versions of events the log may have: those that any program may have written which was started on it.

use crate::store::sql::Sql;
use crate::store::{Store, StoreError, column};

/// A version of an event type's schema that the log may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenSchema {
    /// The event type.
    pub event_type: String,
    /// The version, from 1.
    pub schema_version: u16,
    /// When the first program was started that may write it, UTC, as `2026-01-31 12:00:00.000000`.
    pub since: String,
}

impl Store {
    /// All of them, by type and version.
    pub async fn written_schemas(&self) -> Result<Vec<WrittenSchema>, StoreError> {
        let text =
            "SELECT CAST(event_type AS CHAR), schema_version, CAST(since AS CHAR) FROM event_schemas ORDER BY 1, 2";
        let rows = self.rows(text, false).await?;
        let each = rows.iter().map(|row| {
            Ok(WrittenSchema { event_type: column(row, 0)?, schema_version: column(row, 1)?, since: column(row, 2)? })
        });
        each.collect()
    }

    /// Writes down that this program may write these, before it writes anything.
    pub async fn may_write(&self, schemas: &[(&str, u16)]) -> Result<(), StoreError> {
        let missing = self.missing(schemas).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let mut sql = Sql::new();
        sql.raw("INSERT INTO event_schemas (event_type, schema_version, since) VALUES ");
        sql.list(missing, |sql, (event_type, version)| {
            sql.raw("(").text(event_type).raw(",").number(version).raw(",UTC_TIMESTAMP(6))");
        });
        match self.rows(sql.into_string(), true).await {
            // Whoever else is started at this moment may have written the same rows.
            Err(_) if self.missing(schemas).await?.is_empty() => Ok(()),
            written => written.map(drop),
        }
    }

    async fn missing<'t>(&self, schemas: &[(&'t str, u16)]) -> Result<Vec<(&'t str, u16)>, StoreError> {
        let known = self.written_schemas().await?;
        let is_known = |(event_type, version): &(&str, u16)| {
            known.iter().any(|one| (&*one.event_type, one.schema_version) == (*event_type, *version))
        };
        Ok(schemas.iter().copied().filter(|one| !is_known(one)).collect())
    }
}
