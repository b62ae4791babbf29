//! The event store: events, receipts and the sequence row, on MySQL or MariaDB.
//!
//! A batch costs one packet: [`Connection::commit`] sends the whole transaction, from START TRANSACTION to COMMIT. The server
//! runs it whether or not this process is still there, so a frozen daemon holds the sequence row only when a statement failed
//! in between; then the session's own time limit ends the transaction. Before it, [`Store::read`] asks for the receipts and heads
//! that are not known, [`Store::events_of`] reads what the cache lacks, and for what has a long history [`Store::snapshots`] is
//! asked first.

mod audit;
mod commit;
mod error;
mod history;
mod migrate;
mod packet;
mod prune;
mod read;
pub mod sql;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions, MySqlRow};
use sqlx::pool::PoolConnection;
use sqlx::{ConnectOptions, Connection as _, Executor, MySql, MySqlConnection, Row};

use crate::metrics::Metrics;

pub use audit::StoredSnapshot;
pub use commit::{Append, Left, Receipt, Transaction};
pub use error::{Conflict, Outage, Repeat, StoreError};
pub use history::{Past, Snapshot};
pub use migrate::{Applied, MigrateError, SchemaState};
pub use packet::{Basis, Committed, Expected, Packet};
pub use prune::ReceiptPage;
pub use read::{Anchor, Ground, Recorded, StoredReceipt};

/// How long a transaction may sit idle, in seconds, before the server ends it: its daemon is frozen or gone. Together with
/// [`LOCK_WAIT_SECONDS`] it bounds how long anyone can hold the sequence row.
const IDLE_IN_TRANSACTION_SECONDS: u32 = 4;

/// How long a statement waits for a row lock, in seconds.
const LOCK_WAIT_SECONDS: u32 = 2;

/// The same for whoever holds the sequence row. It is shorter, so that one that waits in vain for somebody else gives the row
/// up while those behind it still wait for it, and not at the moment in which they all give up.
const HOLDER_WAIT_SECONDS: u32 = 1;

/// Strict, so that the server refuses what does not fit, rather than cutting it to size.
const SQL_MODE: &str =
    "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION";

/// The event store. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Store {
    pool: MySqlPool,
    limit: Duration,
    metrics: Option<Arc<Metrics>>,
}

impl Store {
    /// Opens the store. `url` is a `mysql://` URL with a database; `limit` bounds each connect and each packet.
    ///
    /// Fails when the URL is wrong or the database does not answer.
    pub async fn connect(url: &str, max_connections: u32, limit: Duration) -> Result<Self, StoreError> {
        let options: MySqlConnectOptions =
            url.parse().map_err(|error: sqlx::Error| StoreError::Unavailable(Outage::Other, error.to_string()))?;
        // Statements carry the jobs' data, and a failure is logged where it is handled.
        let options = options.pipes_as_concat(false).timezone(Some("+00:00".to_owned())).disable_statement_logging();
        // The pool would go on trying until its time limit, and then say no more than that it passed.
        let first = tokio::time::timeout(limit, MySqlConnection::connect_with(&options)).await;
        let first =
            first.map_err(|_| StoreError::Unavailable(Outage::Timeout, format!("no answer within {limit:?}")))?;
        drop(first.map_err(|error| StoreError::classify(error, false))?);
        let pool = MySqlPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(limit)
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute(session().as_str()).await.map(drop) })
            })
            .connect_lazy_with(options);
        Ok(Self { pool, limit, metrics: None })
    }

    /// Tells `metrics` how long it waits for connections from now on.
    pub fn observed(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Closes every connection, waiting for those in use.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Connections in use and idle.
    pub fn connections(&self) -> (u32, u32) {
        let (size, idle) = (self.pool.size(), u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX));
        (size.saturating_sub(idle), idle)
    }

    /// The server's name and version, the account's view of whether it can be written to, and the largest packet in bytes.
    pub async fn server(&self) -> Result<Server, StoreError> {
        let rows = self.rows("SELECT VERSION(), @@global.read_only, @@max_allowed_packet", false).await?;
        let row = rows.first().ok_or_else(|| StoreError::Unavailable(Outage::Other, "no answer".into()))?;
        Ok(Server { version: column(row, 0)?, read_only: column::<i64>(row, 1)? != 0, max_packet: column(row, 2)? })
    }

    /// Waits for a connection that answers, for as long as [`Store::connect`] was told.
    pub async fn connection(&self) -> Result<Connection, StoreError> {
        let since = Instant::now();
        let acquired = self.pool.acquire().await;
        if let Some(metrics) = &self.metrics {
            metrics.pool_acquired(since.elapsed());
            if matches!(acquired, Err(sqlx::Error::PoolTimedOut)) {
                metrics.pool_timed_out();
            }
        }
        let inner = acquired.map_err(|error| StoreError::classify(error, false))?;
        Ok(Connection { lent: Lent { connection: Some(inner), is_used: false }, limit: self.limit })
    }

    /// Sends `statements` as one packet over a connection of its own, and collects the rows.
    pub(crate) async fn rows(
        &self,
        statements: impl Into<String>,
        committing: bool,
    ) -> Result<Vec<MySqlRow>, StoreError> {
        self.connection().await?.rows(statements.into(), committing, |_| {}).await
    }
}

/// A connection of the pool, for one packet.
#[derive(Debug)]
pub struct Connection {
    lent: Lent,
    limit: Duration,
}

/// A connection out of the pool. Once it has been used it is closed unless it is given back, so that nobody ever has one
/// whose packet was left half way: with a transaction open, or with answers still to come.
#[derive(Debug)]
struct Lent {
    connection: Option<PoolConnection<MySql>>,
    is_used: bool,
}

impl Lent {
    fn get(&mut self) -> Result<&mut MySqlConnection, StoreError> {
        self.is_used = true;
        let given_back = || StoreError::Unavailable(Outage::Other, "the connection was given back".into());
        self.connection.as_deref_mut().ok_or_else(given_back)
    }

    fn give_back(&mut self) {
        if let Some(connection) = &mut self.connection {
            // Otherwise each connection keeps as much memory as its largest packet took.
            connection.shrink_buffers();
        }
        self.connection = None;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(connection), true) = (self.connection.take(), self.is_used) {
            drop(connection.detach());
        }
    }
}

impl Connection {
    /// Sends `statements` as one packet and collects the rows. When the time limit passes, the connection is closed, never
    /// reused: what it was doing may still happen, so for a commit the outcome is unknown. `seen` gets each row as it
    /// comes.
    async fn rows(
        mut self,
        statements: String,
        committing: bool,
        mut seen: impl FnMut(&MySqlRow) + Send,
    ) -> Result<Vec<MySqlRow>, StoreError> {
        let collected = self.lent.get()?.fetch(statements.as_str()).inspect_ok(|row| seen(row)).try_collect();
        match tokio::time::timeout(self.limit, collected).await {
            Ok(Ok(rows)) => {
                self.lent.give_back();
                Ok(rows)
            }
            Ok(Err(error)) => {
                if !committing || self.clean_up().await {
                    self.lent.give_back();
                }
                Err(StoreError::classify(error, committing))
            }
            Err(_) => {
                let text = format!("no answer within {:?}", self.limit);
                Err(if committing { StoreError::Unknown(text) } else { StoreError::Unavailable(Outage::Timeout, text) })
            }
        }
    }

    /// Ends what a packet left open that came to its end before its time; true when that is done.
    async fn clean_up(&mut self) -> bool {
        let clean_up =
            format!("ROLLBACK; SET SESSION wait_timeout = DEFAULT, innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}");
        let Ok(connection) = self.lent.get() else { return false };
        let work = connection.execute(clean_up.as_str());
        matches!(tokio::time::timeout(self.limit, work).await, Ok(Ok(_)))
    }

    /// Sends `statements`, which only read, as one packet and hands each row over as it comes, so that no more than one of them
    /// is held in memory. Waits for `ready` before it hands over the first one. The time limit is as in [`Connection::rows`],
    /// for the first row and for all others.
    async fn each<E: From<StoreError>>(
        mut self,
        statements: String,
        ready: impl Future<Output = Result<(), E>> + Send,
        mut take: impl FnMut(&MySqlRow) -> Result<(), StoreError> + Send,
    ) -> Result<(), E> {
        let limit = self.limit;
        let late = |_| StoreError::Unavailable(Outage::Timeout, format!("no answer within {limit:?}"));
        let failed = |error| StoreError::classify(error, false);
        let mut rows = self.lent.get()?.fetch(statements.as_str());
        let first = tokio::time::timeout(limit, rows.try_next()).await.map_err(late)?.map_err(failed)?;
        if let Some(first) = first {
            ready.await?;
            let work = async {
                take(&first)?;
                while let Some(row) = rows.try_next().await.map_err(failed)? {
                    take(&row)?;
                }
                Ok::<_, StoreError>(())
            };
            tokio::time::timeout(limit, work).await.map_err(late)??;
        }
        drop(rows);
        self.lent.give_back();
        Ok(())
    }
}

/// What a database server says of itself.
#[derive(Clone, Debug)]
pub struct Server {
    /// As `VERSION()` prints it; MariaDB's contains its name.
    pub version: String,
    /// True on a replica, or when the operator said so.
    pub read_only: bool,
    /// `max_allowed_packet` in bytes.
    pub max_packet: u64,
}

fn session() -> String {
    format!(
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET SESSION innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}, sql_mode = '{SQL_MODE}'"
    )
}

/// Reads a column, with the error as one of the server's: a column of another type is a schema of another version. What the
/// column says of its type is not compared, since the library takes text with a binary collation for bytes.
pub(crate) fn column<'r, T>(row: &'r MySqlRow, index: usize) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::MySql>,
{
    row.try_get_unchecked(index).map_err(|error| StoreError::Unavailable(Outage::Other, error.to_string()))
}
