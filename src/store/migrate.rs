//! The schema: embedded migrations, and what state a database is in.

use std::borrow::Cow;

use futures_util::future::BoxFuture;
use sqlx::error::BoxDynError;
use sqlx::migrate::{Migration, MigrationSource, MigrationType, Migrator};
use sqlx::{Connection, Row};

use super::{Store, StoreError};

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
    /// A migration failed, or its text has changed since it was applied.
    #[error("migration failed: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// Somebody else has been migrating for a minute.
    #[error("another process is migrating this database and has not finished within 60 s")]
    Locked,
}

impl Store {
    /// Applies every pending migration. Two processes may call it at once: one waits for the other.
    pub async fn migrate(&self) -> Result<(), MigrateError> {
        let connection = self.pool.acquire().await.map_err(|error| StoreError::classify(error, false))?;
        // Not a pooled connection any more: closing it frees the lock whatever happens in between.
        let mut connection = connection.detach();
        // The migrator's own lock waits for -1 seconds, which MariaDB answers with NULL, and that is no lock at all.
        let locked = sqlx::raw_sql("SELECT GET_LOCK(CONCAT('lockkeeper:', LEFT(DATABASE(), 48)), 60)")
            .fetch_one(&mut connection)
            .await
            .and_then(|row| row.try_get::<Option<i64>, _>(0))
            .map_err(|error| StoreError::classify(error, false))?;
        if locked != Some(1) {
            return Err(MigrateError::Locked);
        }
        let mut migrator = Migrator::new(Embedded).await?;
        migrator.set_locking(false);
        let result = migrator.run_direct(&mut connection).await;
        let _ = connection.close().await;
        Ok(result?)
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
        let exists = self.rows(tables, false).await?.first().map(|row| super::column::<i64>(row, 0)).transpose()?;
        if exists != Some(1) {
            return Ok(SchemaState::Behind(MIGRATIONS.len()));
        }
        let rows = self.rows("SELECT version FROM _sqlx_migrations WHERE success = 1", false).await?;
        let applied = rows.iter().map(|row| super::column::<i64>(row, 0)).collect::<Result<Vec<_>, _>>()?;
        if applied.iter().any(|version| !MIGRATIONS.iter().any(|(known, ..)| known == version)) {
            return Ok(SchemaState::Ahead);
        }
        Ok(match MIGRATIONS.len() - applied.len() {
            0 => SchemaState::Current,
            missing => SchemaState::Behind(missing),
        })
    }
}

/// The source of the embedded migrations.
#[derive(Debug)]
struct Embedded;

impl MigrationSource<'static> for Embedded {
    fn resolve(self) -> BoxFuture<'static, Result<Vec<Migration>, BoxDynError>> {
        let migration = |(version, name, statements): (i64, &'static str, &'static str)| {
            Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, Cow::Borrowed(statements), false)
        };
        Box::pin(async move { Ok(MIGRATIONS.into_iter().map(migration).collect()) })
    }
}
