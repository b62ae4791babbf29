//! The schema: embedded migrations, and what state a database is in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Instant;

use sqlx::migrate::{Migration, MigrationType};
use sqlx::mysql::MySqlDatabaseError;
use sqlx::{Connection, Executor, MySqlConnection, Row};

use super::part::{Part, statements};
use super::sql::Sql;
use super::{Store, StoreError, column};
use crate::fail;

/// Every migration: version, name, statements. A new one is a file and a line here.
const MIGRATIONS: [(i64, &str, &str); 5] = [
    (1, "events", include_str!("../../migrations/0001_events.sql")),
    (2, "shop", include_str!("../../migrations/0002_shop.sql")),
    (3, "snapshots", include_str!("../../migrations/0003_snapshots.sql")),
    (4, "defaults", include_str!("../../migrations/0004_defaults.sql")),
    (5, "fence", include_str!("../../migrations/0005_fence.sql")),
];

/// How far a database's schema is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// All migrations are applied.
    Current,
    /// This many are missing.
    Behind(usize),
    /// It has migrations that this program does not know: a newer one was here.
    Ahead,
}

/// A migration that could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One of its statements failed.
    #[error("migration {version} ({name}), statement {statement}: {source}")]
    Statement {
        /// The migration's number.
        version: i64,
        /// What it is called.
        name: &'static str,
        /// The statement's place in it, from 1.
        statement: usize,
        /// Why.
        source: StoreError,
        /// The server refuses the statement itself, so nothing changes by waiting.
        is_refused: bool,
    },
    /// Its text has changed since it was applied.
    #[error("migration {0} was applied with another text than this program has")]
    Changed(i64),
    /// The database has a migration that this program does not know.
    #[error("the database has migration {0}, which this program does not know: a newer lockkeeper has migrated it")]
    Newer(i64),
    /// Somebody else has been migrating for a minute.
    #[error("another process is migrating this database and has not finished within 60 s")]
    Locked,
}

impl Store {
    /// Applies every pending migration and returns their names. Two processes may call it at once: one waits for the other.
    ///
    /// The servers commit after each statement that changes a table, so a process may end in the midst of a migration. What has
    /// been begun is told by its row, and is gone through again: each of its statements either has had its effect, which is no
    /// error then, or has it now.
    pub async fn migrate(&self) -> Result<Vec<&'static str>, MigrateError> {
        let failed = |error| StoreError::classify(error, false, Part::Frame);
        // Not a pooled connection any more: closing it frees the lock whatever happens in between.
        let mut connection = self.pool.acquire().await.map_err(failed)?.detach();
        let locked = sqlx::raw_sql("SELECT GET_LOCK(CONCAT('lockkeeper:', LEFT(DATABASE(), 48)), 60)")
            .fetch_one(&mut connection)
            .await
            .and_then(|row| row.try_get::<Option<i64>, _>(0))
            .map_err(failed)?;
        if locked != Some(1) {
            return Err(MigrateError::Locked);
        }
        let result = apply_pending(&mut connection).await;
        let _ = connection.close().await;
        result
    }

    /// Tries every kind of statement that a batch sends to the engine's tables, on no rows, and with `forgetting` the one that
    /// deletes receipts. The server's refusal names the grant that is missing.
    pub async fn check_grants(&self, forgetting: bool) -> Result<(), StoreError> {
        let forget = if forgetting { "DELETE FROM receipts WHERE 1 = 0; " } else { "" };
        let statements = format!(
            "START TRANSACTION; \
             INSERT INTO events SELECT * FROM events WHERE 1 = 0; \
             INSERT INTO receipts SELECT * FROM receipts WHERE 1 = 0; \
             INSERT INTO snapshots SELECT * FROM snapshots WHERE 1 = 0; \
             UPDATE snapshots SET state = state WHERE 1 = 0; \
             UPDATE event_sequence SET position = position, unchanged = 1, batch = batch + 1 WHERE 1 = 0; {forget}ROLLBACK"
        );
        self.rows(statements, false).await.map(drop)
    }

    /// Compares the database's schema with this program's.
    pub async fn schema(&self) -> Result<SchemaState, StoreError> {
        let tables = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() \
                      AND table_name = '_sqlx_migrations'";
        let exists = self.rows(tables, false).await?.first().map(|row| column::<i64>(row, 0)).transpose()?;
        if exists != Some(1) {
            return Ok(SchemaState::Behind(MIGRATIONS.len()));
        }
        let rows = self.rows("SELECT version FROM _sqlx_migrations WHERE success = 1", false).await?;
        let applied = rows.iter().map(|row| column::<i64>(row, 0)).collect::<Result<Vec<_>, _>>()?;
        if applied.iter().any(|version| !MIGRATIONS.iter().any(|(known, ..)| known == version)) {
            return Ok(SchemaState::Ahead);
        }
        Ok(match MIGRATIONS.len() - applied.len() {
            0 => SchemaState::Current,
            missing => SchemaState::Behind(missing),
        })
    }
}

/// The table of applied migrations, as the library made it that applied them first; it has not changed since.
const APPLIED: &str = "CREATE TABLE IF NOT EXISTS _sqlx_migrations (\
    version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, \
    checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)";

async fn apply_pending(connection: &mut MySqlConnection) -> Result<Vec<&'static str>, MigrateError> {
    let failed = |error| StoreError::classify(error, false, Part::Frame);
    connection.execute(APPLIED).await.map_err(failed)?;
    let rows = connection.fetch_all("SELECT version, success, checksum FROM _sqlx_migrations").await.map_err(failed)?;
    let mut known = BTreeMap::new();
    for row in &rows {
        let (version, is_done): (i64, bool) = (column(row, 0)?, column(row, 1)?);
        let checksum: Vec<u8> = column(row, 2)?;
        known.insert(version, (is_done, checksum));
    }
    if let Some(newer) = known.keys().find(|version| !MIGRATIONS.iter().any(|(ours, ..)| ours == *version)) {
        return Err(MigrateError::Newer(*newer));
    }
    let mut applied = Vec::new();
    for (version, name, text) in MIGRATIONS {
        let checksum = checksum(version, name, text);
        match known.get(&version) {
            Some((_, other)) if *other != checksum => return Err(MigrateError::Changed(version)),
            Some((true, _)) => continue,
            begun => {
                apply(connection, (version, name, text), &checksum, begun.is_some()).await?;
                applied.push(name);
            }
        }
    }
    Ok(applied)
}

/// Applies one migration, or what is left of it when it `was_begun` before.
async fn apply(
    connection: &mut MySqlConnection,
    (version, name, text): (i64, &'static str, &str),
    checksum: &[u8],
    was_begun: bool,
) -> Result<(), MigrateError> {
    let failed = |error| StoreError::classify(error, false, Part::Frame);
    let since = Instant::now();
    if !was_begun {
        let mut begin = Sql::new();
        begin.raw("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (");
        begin.number(version as u64).raw(", ").text(name).raw(", FALSE, ").bytes(checksum).raw(", -1)");
        connection.execute(begin.as_str()).await.map_err(failed)?;
    }
    for (index, statement) in statements(text).enumerate() {
        fail::point("migrate", &format!("{version}.{index}"));
        match connection.execute(statement).await {
            Ok(_) => {}
            Err(error) if was_begun && is_there_already(&error) => {}
            Err(error) => {
                let is_refused = matches!(error, sqlx::Error::Database(_));
                let (statement, source) = (index + 1, failed(error));
                return Err(MigrateError::Statement { version, name, statement, source, is_refused });
            }
        }
    }
    fail::point("migrate", &format!("{version}.end"));
    let mut done = Sql::new();
    done.raw("UPDATE _sqlx_migrations SET success = TRUE, execution_time = ").number(since.elapsed().as_nanos() as u64);
    done.raw(" WHERE version = ").number(version as u64);
    connection.execute(done.as_str()).await.map_err(failed)?;
    Ok(())
}

/// Whether a statement failed because it has had its effect: the table, column, key or row is there.
fn is_there_already(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    let number = error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number);
    matches!(number, Some(1050 | 1060 | 1061 | 1062))
}

/// As the library computes it.
fn checksum(version: i64, name: &'static str, text: &'static str) -> Vec<u8> {
    let (name, text) = (Cow::Borrowed(name), Cow::Borrowed(text));
    Migration::new(version, name, MigrationType::Simple, text, false).checksum.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_of_every_migration_is_one() {
        let counts = MIGRATIONS.map(|(.., text)| statements(text).count());
        assert_eq!(counts, [4, 3, 1, 2, 1]);
    }
}
