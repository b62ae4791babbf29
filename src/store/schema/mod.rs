//! The schema: embedded migrations, and what state a database is in.

mod grants;
mod migration;
mod step;
mod written;

use std::time::Instant;

use sqlx::migrate::{self, MigrationType};
use sqlx::mysql::MySqlRow;
use sqlx::{Connection, Executor, MySqlConnection};

pub use self::migration::Migration;
pub use self::written::WrittenSchema;

use self::step::{Stopped, steps};
use super::commit::part::Part;
use super::error::StoreError;
use super::pool::Store;
use super::row::column;
use crate::fail;

/// The engine's own history. A new migration is a file and a line here.
const ENGINE: [Migration; 8] = [
    Migration { version: 1, name: "events", text: include_str!("../../../migrations/engine/0001_events.sql") },
    Migration { version: 3, name: "snapshots", text: include_str!("../../../migrations/engine/0003_snapshots.sql") },
    Migration { version: 4, name: "defaults", text: include_str!("../../../migrations/engine/0004_defaults.sql") },
    Migration { version: 5, name: "fence", text: include_str!("../../../migrations/engine/0005_fence.sql") },
    Migration { version: 6, name: "schemas", text: include_str!("../../../migrations/engine/0006_schemas.sql") },
    Migration {
        version: 7,
        name: "subscriptions",
        text: include_str!("../../../migrations/engine/0007_subscriptions.sql"),
    },
    Migration {
        version: 8,
        name: "projections",
        text: include_str!("../../../migrations/engine/0008_projections.sql"),
    },
    Migration { version: 9, name: "parked", text: include_str!("../../../migrations/engine/0009_parked.sql") },
];

/// Once the history of the engine and of the shop was one, and this was the shop's. A row of this number says nothing of the
/// engine; a domain whose migration has the row's text has it applied.
const ONCE_SHARED: i64 = 2;

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

/// How far a migration is, as a table of migrations says. The engine's table is that of the library `sqlx`, which earlier versions
/// of this program migrated with.
struct Recorded {
    version: i64,
    is_done: bool,
    checksum: Vec<u8>,
}

/// Where the histories are written down: the engine's, and the domain's.
const TABLES: [&str; 2] = ["_sqlx_migrations", "_domain_migrations"];

fn create(table: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {table} (
            version BIGINT PRIMARY KEY,
            description TEXT NOT NULL,
            installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
            success BOOLEAN NOT NULL,
            checksum BLOB NOT NULL,
            execution_time BIGINT NOT NULL
        )"
    )
}

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
        let result = apply_pending(&mut connection, self.migrations, told).await;
        let _ = connection.close().await;
        result
    }

    /// Compares the database's schema with this program's.
    pub async fn schema(&self) -> Result<SchemaState, StoreError> {
        let tables = format!(
            "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = DATABASE() \
             AND table_name IN ('{}')",
            TABLES.join("', '")
        );
        let there = self.rows(tables, false).await?;
        let there: Vec<String> = there.iter().map(|row| column(row, 0)).collect::<Result<_, _>>()?;
        let there = TABLES.iter().enumerate().filter(|(_, table)| there.iter().any(|name| name == *table));
        let each: Vec<String> =
            there.map(|(number, table)| format!("{}, {number} FROM {table}", Recorded::COLUMNS)).collect();
        let rows = if each.is_empty() { Vec::new() } else { self.rows(each.join("; "), false).await? };
        let (mut engine, mut domain) = (Vec::new(), Vec::new());
        for row in &rows {
            let history = if column::<i64>(row, 3)? == 0 { &mut engine } else { &mut domain };
            history.push(Recorded::read(row)?);
        }
        let histories = histories(self.migrations, engine, domain);
        if histories.iter().any(|history| history.unknown().is_some()) {
            return Ok(SchemaState::Ahead);
        }
        Ok(match histories.iter().map(History::missing).sum() {
            0 => SchemaState::Current,
            missing => SchemaState::Behind(missing),
        })
    }
}

fn recorded_in(table: &str) -> String {
    format!("{} FROM {table}", Recorded::COLUMNS)
}

impl Recorded {
    const COLUMNS: &str = "SELECT version, success = 1, checksum";

    fn read(row: &MySqlRow) -> Result<Self, StoreError> {
        let is_done = column::<i64>(row, 1)? == 1;
        Ok(Self { version: column(row, 0)?, is_done, checksum: column(row, 2)? })
    }
}

/// A history as it should be, and as far as it has come.
struct History {
    table: &'static str,
    migrations: &'static [Migration],
    recorded: Vec<Recorded>,
}

impl History {
    /// A migration that this program does not know.
    fn unknown(&self) -> Option<i64> {
        let is_known = |one: &&Recorded| self.migrations.iter().any(|migration| migration.version == one.version);
        self.recorded.iter().find(|one| !is_known(one)).map(|one| one.version)
    }

    fn missing(&self) -> usize {
        self.migrations.len() - self.recorded.iter().filter(|one| one.is_done).count()
    }
}

/// Both histories. What the domain's has of the time when they were one stands in the engine's table.
fn histories(migrations: &'static [Migration], mut engine: Vec<Recorded>, mut domain: Vec<Recorded>) -> [History; 2] {
    if let Some(at) = engine.iter().position(|one| one.version == ONCE_SHARED) {
        let shared = engine.swap_remove(at);
        let is_ours = |one: &Migration| one.version == ONCE_SHARED && checksum(one.text) == shared.checksum;
        if migrations.iter().any(is_ours) && !domain.iter().any(|one| one.version == ONCE_SHARED) {
            domain.push(shared);
        }
    }
    let [ours, theirs] = TABLES;
    [
        History { table: ours, migrations: &ENGINE, recorded: engine },
        History { table: theirs, migrations, recorded: domain },
    ]
}

async fn apply_pending<E: From<MigrateError>>(
    connection: &mut MySqlConnection,
    migrations: &'static [Migration],
    mut told: impl FnMut(Applied) -> Result<(), E>,
) -> Result<(), E> {
    let histories = prepare(connection, migrations).await?;
    if let Some(newer) = histories.iter().find_map(History::unknown) {
        return Err(MigrateError::Newer(newer).into());
    }
    for History { table, migrations, recorded } in histories {
        for migration in migrations {
            let Migration { version, name, text } = *migration;
            let before = recorded.iter().find(|one| one.version == version);
            let checksum = checksum(text);
            if before.is_some_and(|before| before.checksum != checksum) {
                return Err(MigrateError::Changed(version).into());
            }
            if before.is_none_or(|before| !before.is_done) {
                apply(connection, table, migration, &checksum, before.is_some()).await?;
                told(Applied { version, name, was_begun: before.is_some() })?;
            }
        }
    }
    // Whoever applied it may have been killed before it came here.
    if migrations.iter().any(|migration| migration.version == ONCE_SHARED) {
        run(connection, &share(TABLES[1], TABLES[0]), "the engine's table of migrations").await?;
    }
    Ok(())
}

/// Writes what the table `from` has of the migration that was once shared down in the table `to` as well: an earlier version looks
/// for it in the engine's.
fn share(from: &str, to: &str) -> String {
    format!(
        "INSERT INTO {to} SELECT * FROM {from} WHERE version = {ONCE_SHARED} \
         ON DUPLICATE KEY UPDATE success = \
         IF({to}.checksum = {from}.checksum, GREATEST({to}.success, {from}.success), {to}.success); COMMIT"
    )
}

/// Waits for its turn, and reads how far the database is.
async fn prepare(
    connection: &mut MySqlConnection,
    migrations: &'static [Migration],
) -> Result<[History; 2], MigrateError> {
    let failed = |error| StoreError::classify(error, false, Part::Frame);
    // MariaDB takes -1 seconds for an error, and the lock would be none at all.
    let lock = "SELECT GET_LOCK(CONCAT('lockkeeper:', LEFT(DATABASE(), 48)), 60)";
    let row = connection.fetch_one(lock).await.map_err(failed)?;
    if column::<Option<i64>>(&row, 0)? != Some(1) {
        return Err(MigrateError::Locked);
    }
    // A transaction that somebody has left open keeps a table from being changed, by default for a day or longer.
    run(connection, "SET SESSION lock_wait_timeout = 60", "the session").await?;
    let mut recorded = [Vec::new(), Vec::new()];
    for (table, recorded) in TABLES.into_iter().zip(&mut recorded) {
        run(connection, &create(table), "the table of migrations").await?;
        let rows = connection.fetch_all(recorded_in(table).as_str()).await.map_err(failed)?;
        *recorded = rows.iter().map(Recorded::read).collect::<Result<_, _>>()?;
    }
    let [engine, domain] = recorded;
    let histories = histories(migrations, engine, domain);
    if histories[1].recorded.iter().any(|one| one.version == ONCE_SHARED) {
        run(connection, &share(TABLES[0], TABLES[1]), "the domain's table of migrations").await?;
    }
    Ok(histories)
}

/// Applies one migration, of which any part may have been applied before.
async fn apply(
    connection: &mut MySqlConnection,
    table: &str,
    Migration { version, name, text }: &Migration,
    checksum: &[u8],
    was_begun: bool,
) -> Result<(), MigrateError> {
    let since = Instant::now();
    let place = format!("migration {version} ({name})");
    if !was_begun {
        let checksum: String = checksum.iter().map(|byte| format!("{byte:02x}")).collect();
        let begin = format!(
            "INSERT INTO {table} (version, description, success, checksum, execution_time) \
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
    let end =
        format!("UPDATE {table} SET success = TRUE, execution_time = {nanoseconds} WHERE version = {version}; COMMIT");
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
    migrate::Migration::new(0, "".into(), MigrationType::Simple, text.into(), false).checksum.into_owned()
}
