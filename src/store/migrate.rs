//! The schema: embedded migrations, and what state a database is in.

mod step;

use std::time::Instant;

use sqlx::migrate::{Migration, MigrationType};
use sqlx::mysql::MySqlRow;
use sqlx::{Connection, Executor, MySqlConnection};

use self::step::{Stopped, steps};
use super::part::Part;
use super::{Store, StoreError};
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

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database went away in the middle, or a grant is missing. Migrating again goes on from there.
    #[error("{place}: {source}")]
    Stopped {
        /// Migration and statement.
        place: String,
        /// What the database said.
        source: StoreError,
    },
    /// The server or the schema does not admit a statement.
    #[error("{place}: {why}")]
    Refused {
        /// Migration and statement.
        place: String,
        /// What is in its way.
        why: String,
    },
    /// It was applied, in part or as a whole, by a program that had another text for it.
    #[error("migration {0} is in the database with another text than this program's")]
    Changed(i64),
    /// A newer program was here.
    #[error("the database has migration {0}, which this program does not know: a newer lockkeeper has migrated it")]
    Newer(i64),
    /// Somebody else has been migrating for a minute.
    #[error("another process is migrating this database and has not finished within 60 s")]
    Locked,
}

/// A migration that was applied just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub name: &'static str,
    /// Somebody else had begun it.
    pub was_begun: bool,
}

/// How far a migration is, as the table of migrations says. The table is that of the library `sqlx`, which earlier versions of
/// this program migrated with.
struct Recorded {
    version: i64,
    is_done: bool,
    checksum: Vec<u8>,
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
)";

impl Store {
    /// Applies every pending migration, and finishes one that was begun. Two processes may call it at once: one waits for the
    /// other.
    pub async fn migrate(&self) -> Result<(), MigrateError> {
        self.migrate_telling(|_| Ok(())).await
    }

    /// As [`Store::migrate`], and tells of each migration once it is applied.
    pub async fn migrate_telling<E: From<MigrateError>>(
        &self,
        told: impl FnMut(Applied) -> Result<(), E> + Send,
    ) -> Result<(), E> {
        let acquired = self.pool.acquire().await.map_err(|error| StoreError::classify(error, false, Part::Frame));
        // Not a pooled connection any more: closing it frees the lock whatever happens in between.
        let mut connection = acquired.map_err(MigrateError::from)?.detach();
        let result = apply_pending(&mut connection, told).await;
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
        let exists = self.rows(tables, false).await?.first().map(|row| super::column::<i64>(row, 0)).transpose()?;
        if exists != Some(1) {
            return Ok(SchemaState::Behind(MIGRATIONS.len()));
        }
        let rows = self.rows(RECORDED, false).await?;
        let recorded = rows.iter().map(Recorded::read).collect::<Result<Vec<_>, _>>()?;
        if recorded.iter().any(|one| !one.is_known()) {
            return Ok(SchemaState::Ahead);
        }
        Ok(match MIGRATIONS.len() - recorded.iter().filter(|one| one.is_done).count() {
            0 => SchemaState::Current,
            missing => SchemaState::Behind(missing),
        })
    }
}

const RECORDED: &str = "SELECT version, success = 1, checksum FROM _sqlx_migrations";

impl Recorded {
    fn read(row: &MySqlRow) -> Result<Self, StoreError> {
        let is_done = super::column::<i64>(row, 1)? == 1;
        Ok(Self { version: super::column(row, 0)?, is_done, checksum: super::column(row, 2)? })
    }

    fn is_known(&self) -> bool {
        MIGRATIONS.iter().any(|(version, ..)| *version == self.version)
    }
}

async fn apply_pending<E: From<MigrateError>>(
    connection: &mut MySqlConnection,
    mut told: impl FnMut(Applied) -> Result<(), E>,
) -> Result<(), E> {
    let recorded = prepare(connection).await?;
    if let Some(newer) = recorded.iter().find(|one| !one.is_known()) {
        return Err(MigrateError::Newer(newer.version).into());
    }
    for (version, name, text) in MIGRATIONS {
        let before = recorded.iter().find(|one| one.version == version);
        let checksum = checksum(text);
        if before.is_some_and(|before| before.checksum != checksum) {
            return Err(MigrateError::Changed(version).into());
        }
        if before.is_none_or(|before| !before.is_done) {
            let migration = (version, name, text);
            apply(connection, migration, &checksum, before.is_some()).await?;
            told(Applied { version, name, was_begun: before.is_some() })?;
        }
    }
    Ok(())
}

/// Waits for its turn, and reads how far the database is.
async fn prepare(connection: &mut MySqlConnection) -> Result<Vec<Recorded>, MigrateError> {
    let failed = |error| StoreError::classify(error, false, Part::Frame);
    // MariaDB takes -1 seconds for an error, and the lock would be none at all.
    let lock = "SELECT GET_LOCK(CONCAT('lockkeeper:', LEFT(DATABASE(), 48)), 60)";
    let row = connection.fetch_one(lock).await.map_err(failed)?;
    if super::column::<Option<i64>>(&row, 0)? != Some(1) {
        return Err(MigrateError::Locked);
    }
    // A transaction that somebody has left open keeps a table from being changed, by default for a day or longer.
    run(connection, "SET SESSION lock_wait_timeout = 60", "the session").await?;
    run(connection, TABLE, "the table of migrations").await?;
    let rows = connection.fetch_all(RECORDED).await.map_err(failed)?;
    Ok(rows.iter().map(Recorded::read).collect::<Result<_, _>>()?)
}

/// Applies one migration, of which any part may have been applied before.
async fn apply(
    connection: &mut MySqlConnection,
    (version, name, text): (i64, &str, &str),
    checksum: &[u8],
    was_begun: bool,
) -> Result<(), MigrateError> {
    let since = Instant::now();
    let place = format!("migration {version} ({name})");
    if !was_begun {
        let checksum: String = checksum.iter().map(|byte| format!("{byte:02x}")).collect();
        let begin = format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES ({version}, '{name}', FALSE, X'{checksum}', -1); COMMIT"
        );
        run(connection, &begin, &place).await?;
    }
    fail::point("migrate", &format!("{version}.0"));
    for (at, step) in steps(text).iter().enumerate() {
        let number = at + 1;
        let here = || format!("{place}, statement {number} ({})", step.title());
        step.apply(connection).await.map_err(|stopped| MigrateError::at(here(), stopped))?;
        fail::point("migrate", &format!("{version}.{number}"));
    }
    let nanoseconds = since.elapsed().as_nanos();
    let end = format!(
        "UPDATE _sqlx_migrations SET success = TRUE, execution_time = {nanoseconds} WHERE version = {version}; COMMIT"
    );
    run(connection, &end, &place).await
}

async fn run(connection: &mut MySqlConnection, statement: &str, place: &str) -> Result<(), MigrateError> {
    let ran = connection.execute(statement).await.map(drop);
    ran.map_err(|error| MigrateError::at(place.to_owned(), Stopped::from(error)))
}

impl MigrateError {
    fn at(place: String, stopped: Stopped) -> Self {
        match stopped {
            Stopped::Store(source) => Self::Stopped { place, source },
            Stopped::Refused(why) => Self::Refused { place, why },
        }
    }
}

/// As the library computes it.
fn checksum(text: &'static str) -> Vec<u8> {
    Migration::new(0, "".into(), MigrationType::Simple, text.into(), false).checksum.into_owned()
}
