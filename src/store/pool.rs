//! The store: a pool of sessions, each asked whether it answers before it is used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions, MySqlRow};
use sqlx::{ConnectOptions, Connection as _, MySqlConnection};

use super::commit::part::Part;
use super::connection::{Connection, Standing};
use super::error::{Outage, StoreError};
use super::row::column;
use super::schema::Migration;
use super::session;
use crate::metrics::Metrics;

/// How long a packet of [`Store::patient`] may take.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// The event store. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) pool: MySqlPool,
    limit: Duration,
    metrics: Option<Arc<Metrics>>,
    standing: Arc<Standing>,
    only_to_write: bool,
    pub(super) migrations: &'static [Migration],
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
        let first = async {
            let mut connection = MySqlConnection::connect_with(&options).await?;
            session::begin(&mut connection).await
        };
        let first = tokio::time::timeout(limit, first).await;
        first
            .map_err(|_| StoreError::Unavailable(Outage::Timeout, format!("no answer within {limit:?}")))?
            .map_err(|error| StoreError::classify(error, false, Part::Frame))?;
        let standing = Arc::new(Standing::new(options.clone()));
        let trusted = standing.clone();
        let pool = MySqlPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(limit)
            .after_connect(|connection, _| Box::pin(session::begin(connection)))
            // Whether it is alive is asked with a limit of its own.
            .test_before_acquire(false)
            .before_acquire(move |_, about| {
                let is_trusted = trusted.trusts(about.age);
                Box::pin(async move { Ok(is_trusted) })
            })
            .connect_lazy_with(options);
        Ok(Self { pool, limit, metrics: None, standing, only_to_write: false, migrations: &[] })
    }

    /// Has these tables beside the engine's from now on.
    pub fn with_migrations(self, migrations: &'static [Migration]) -> Self {
        Self { migrations, ..self }
    }

    /// Takes no connection from now on that leads to a server which only reads.
    pub fn only_to_write(self) -> Self {
        Self { only_to_write: true, ..self }
    }

    /// Tells `metrics` how long it waits for connections from now on.
    pub fn observed(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// The same store through one session of its own, whose settings, transactions and temporary tables last from one packet to the next. When
    /// it is lost, another takes its place, without them.
    pub(super) fn one_session(&self) -> Self {
        let pool = MySqlPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.limit)
            .idle_timeout(None)
            .max_lifetime(None)
            .after_connect(|connection, _| Box::pin(session::begin(connection)))
            .test_before_acquire(false)
            .connect_lazy_with((*self.pool.connect_options()).clone());
        Self { pool, only_to_write: false, ..self.clone() }
    }

    /// The same store, whose packets may take as long as they like: for what goes over whole tables.
    pub fn patient(&self) -> Self {
        Self { limit: PATIENCE, ..self.clone() }
    }

    /// The same store, read as it is at this moment, whoever writes to it meanwhile: all that is read goes through one session, in
    /// one transaction.
    pub async fn at_one_moment(&self) -> Result<Self, StoreError> {
        let store = self.one_session();
        let begin = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET @lockkeeper_moment = 1; \
                     START TRANSACTION WITH CONSISTENT SNAPSHOT";
        store.rows(begin, false).await?;
        Ok(store)
    }

    /// Fails when the session of [`Store::at_one_moment`] was lost on the way, so that not all was read of one moment.
    pub async fn is_still_of_that_moment(&self) -> Result<(), StoreError> {
        let rows = self.rows("SELECT @lockkeeper_moment IS NOT NULL", false).await?;
        match rows.first().map(|row| column::<i64>(row, 0)).transpose()? {
            Some(1) => Ok(()),
            _ => Err(StoreError::Unavailable(
                Outage::Other,
                "the session was lost: what was read is of two moments".into(),
            )),
        }
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
        let connection = self.lend().await?;
        let text = "SELECT VERSION(), @@global.read_only OR @@global.innodb_read_only, @@max_allowed_packet";
        let rows = connection.rows(text, false, |_| Part::Frame, |_| {}).await?;
        let row = rows.first().ok_or_else(|| StoreError::Unavailable(Outage::Other, "no answer".into()))?;
        Ok(Server { version: column(row, 0)?, read_only: column::<i64>(row, 1)? != 0, max_packet: column(row, 2)? })
    }

    /// Waits for a connection that answers, for as long as [`Store::connect`] was told, and that leads to a server which can be
    /// written to, if that is asked for.
    pub async fn connection(&self) -> Result<Connection, StoreError> {
        let connection = self.lend().await?;
        if connection.is_writable || !self.only_to_write {
            return Ok(connection);
        }
        // It may have been another server when this connection was made.
        drop(connection);
        self.standing.distrust();
        let connection = self.lend().await?;
        if connection.is_writable {
            return Ok(connection);
        }
        drop(connection);
        self.standing.distrust();
        Err(StoreError::Unavailable(Outage::ReadOnly, "the server only reads".to_owned()))
    }

    /// A connection that answers.
    async fn lend(&self) -> Result<Connection, StoreError> {
        let since = Instant::now();
        let lent = match self.acquire().await {
            // What did not answer was not asked for long, and nothing as old is tried again.
            Err(StoreError::Unavailable(Outage::Timeout | Outage::Other | Outage::FailingOver, _))
                if since.elapsed() < self.limit =>
            {
                self.acquire().await
            }
            lent => lent,
        };
        if let Some(metrics) = &self.metrics {
            metrics.pool_acquired(since.elapsed());
        }
        lent
    }

    async fn acquire(&self) -> Result<Connection, StoreError> {
        let acquired = self.pool.acquire().await;
        if let (Some(metrics), Err(sqlx::Error::PoolTimedOut)) = (&self.metrics, &acquired) {
            metrics.pool_timed_out();
        }
        let inner = acquired.map_err(|error| StoreError::classify(error, false, Part::Frame))?;
        let asked = Connection::ask(inner, self.limit, self.standing.clone()).await;
        if asked.is_err() {
            self.standing.distrust();
        }
        asked
    }

    /// Sends `statements` as one packet over a connection of its own, and collects the rows.
    pub async fn rows(&self, statements: impl AsRef<str>, committing: bool) -> Result<Vec<MySqlRow>, StoreError> {
        self.connection().await?.rows(statements.as_ref(), committing, |_| Part::Frame, |_| {}).await
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
