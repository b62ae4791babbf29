//! One connection at work: a packet out, rows in; and when it is not to be used again.
//!
//! A connection may live and lead to the wrong place: to a server that has been demoted, or to none, when its host has vanished
//! without a word. So each is asked before it is used, within a second, and an answer that says "cannot write here", or silence,
//! costs it and all that were made before that moment.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use sqlx::mysql::{MySqlConnectOptions, MySqlRow};
use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, Either, Executor, MySql, MySqlConnection, Row};

use super::commit::part::{self, Part};
use super::error::{Outage, StoreError, is_broken};
use super::row::column;
use super::session::{LOCK_WAIT_SECONDS, ONE_BY_ONE};

/// How long a connection may take to say that it is alive.
const ALIVE_WITHIN: Duration = Duration::from_secs(1);

/// After so long without an answer the server is asked whether it is still at work for it.
const SLOW: Duration = Duration::from_secs(2);

/// At least so many bytes of a packet reach the server in a second; until they do it says that it is idle.
const BYTES_PER_SECOND: f64 = 524_288.0;

/// An answer that the server has sent may be on its way for so long.
const ON_ITS_WAY: Duration = Duration::from_millis(300);

/// Which connections are to be trusted: those that were made since.
#[derive(Debug)]
pub(super) struct Standing {
    options: MySqlConnectOptions,
    trusted_from: Mutex<Instant>,
}

impl Standing {
    pub fn new(options: MySqlConnectOptions) -> Self {
        Self { options, trusted_from: Mutex::new(Instant::now()) }
    }

    /// No connection that was made until now is used again.
    pub fn distrust(&self) {
        *self.trusted_from.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether a connection of this age may be used.
    pub fn trusts(&self, age: Duration) -> bool {
        let made = Instant::now().checked_sub(age);
        made.is_some_and(|made| made >= *self.trusted_from.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the server, asked over a connection of its own, does nothing for the session `id`, or has none of that number. When
    /// it cannot be asked, nobody knows.
    async fn is_idle(&self, id: u64) -> bool {
        let asked = async {
            let mut connection = MySqlConnection::connect_with(&self.options).await?;
            let text = format!("SELECT COMMAND FROM information_schema.PROCESSLIST WHERE ID = {id}");
            let row = connection.fetch_optional(text.as_str()).await?;
            let idle = row.is_none_or(|row| row.try_get_unchecked::<String, _>(0).is_ok_and(|does| does == "Sleep"));
            let _ = connection.close().await;
            Ok::<_, sqlx::Error>(idle)
        };
        matches!(tokio::time::timeout(ALIVE_WITHIN, asked).await, Ok(Ok(true)))
    }

    /// Returns when an answer to a packet of so many bytes is not to be waited for any longer: the server says that it has nothing
    /// to do for the session `id`.
    async fn is_lost(&self, id: u64, bytes: usize) {
        tokio::time::sleep(SLOW + Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND)).await;
        loop {
            if self.is_idle(id).await {
                tokio::time::sleep(ON_ITS_WAY).await;
                // Between two statements it has nothing to do either.
                if self.is_idle(id).await {
                    return;
                }
            }
            tokio::time::sleep(ALIVE_WITHIN).await;
        }
    }
}

/// A connection of the pool, for one packet.
#[derive(Debug)]
pub struct Connection {
    lent: PooledGuard,
    limit: Duration,
    standing: Arc<Standing>,
    /// What the server calls it.
    id: u64,
    /// Whether the server can be written to.
    pub(super) is_writable: bool,
    /// Whether each statement of a packet has to be sent by itself ([`super::session`]).
    one_by_one: bool,
}

/// A connection out of the pool. Once it has been used it is closed unless it is given back, so that nobody ever has one
/// whose packet was left half way: with a transaction open, or with answers still to come.
#[derive(Debug)]
struct PooledGuard {
    connection: Option<PoolConnection<MySql>>,
    is_used: bool,
}

impl PooledGuard {
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

impl Drop for PooledGuard {
    fn drop(&mut self) {
        if let (Some(connection), true) = (self.connection.take(), self.is_used) {
            drop(connection.detach());
        }
    }
}

/// Why there is no answer.
enum Unanswered {
    Failed(sqlx::Error),
    Silent,
}

impl Connection {
    /// Takes `inner` for one packet, if it answers.
    pub(super) async fn ask(
        inner: PoolConnection<MySql>,
        limit: Duration,
        standing: Arc<Standing>,
    ) -> Result<Self, StoreError> {
        let mut lent = PooledGuard { connection: Some(inner), is_used: false };
        let question = format!("SELECT CONNECTION_ID(), @@global.read_only, @@global.innodb_read_only, {ONE_BY_ONE}");
        let asked = tokio::time::timeout(ALIVE_WITHIN.min(limit), lent.get()?.fetch_one(question.as_str())).await;
        let row = asked
            .map_err(|_| StoreError::Unavailable(Outage::Timeout, format!("no answer within {ALIVE_WITHIN:?}")))?
            .map_err(|error| StoreError::classify(error, false, Part::Frame))?;
        let is_writable = column::<i64>(&row, 1)? == 0 && column::<i64>(&row, 2)? == 0;
        let one_by_one = column::<i64>(&row, 3)? != 0;
        lent.is_used = false;
        Ok(Self { lent, limit, standing, id: column(&row, 0)?, is_writable, one_by_one })
    }

    /// Waits for `work`, which is the answer to a packet of so many bytes.
    async fn answer<T>(
        standing: &Standing,
        (id, bytes, limit): (u64, usize, Duration),
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Unanswered> {
        tokio::select! {
            biased;
            done = work => done.map_err(Unanswered::Failed),
            () = standing.is_lost(id, bytes) => Err(Unanswered::Silent),
            () = tokio::time::sleep(limit) => Err(Unanswered::Silent),
        }
    }

    /// Sends `statements` as one packet and collects the rows. When the answer does not come, the connection is closed, never
    /// reused: what it was doing may still happen, so for a commit the outcome is unknown. `seen` gets each row as it
    /// comes. When a statement fails, `part_of` says what it was part of, by how many came before it.
    pub(super) async fn rows(
        mut self,
        statements: &str,
        committing: bool,
        part_of: impl Fn(usize) -> Part,
        mut seen: impl FnMut(&MySqlRow) + Send,
    ) -> Result<Vec<MySqlRow>, StoreError> {
        let (standing, terms) = (self.standing.clone(), (self.id, statements.len(), self.limit));
        let (mut rows, mut done) = (Vec::new(), 0);
        let packets: Vec<&str> = match self.one_by_one {
            true => part::statements(statements).map(|(_, statement)| statement).collect(),
            false => vec![statements],
        };
        let connection = self.lent.get()?;
        let collected = async {
            for packet in packets {
                let mut answers = connection.fetch_many(packet);
                while let Some(answer) = answers.try_next().await? {
                    match answer {
                        Either::Left(_) => done += 1,
                        Either::Right(row) => {
                            seen(&row);
                            rows.push(row);
                        }
                    }
                }
            }
            Ok(())
        };
        let answered = Self::answer(&standing, terms, collected).await;
        match answered {
            Ok(()) => {
                self.lent.give_back();
                Ok(rows)
            }
            Err(Unanswered::Failed(error)) => {
                let is_lost = is_broken(&error);
                let error = StoreError::classify(error, committing, part_of(done));
                if is_lost || leads_astray(&error) {
                    standing.distrust();
                } else if !committing || self.clean_up().await {
                    self.lent.give_back();
                }
                Err(error)
            }
            Err(Unanswered::Silent) => Err(self.silent(committing)),
        }
    }

    fn silent(&self, committing: bool) -> StoreError {
        self.standing.distrust();
        let text = "the answer did not come".to_owned();
        if committing { StoreError::Unknown(text) } else { StoreError::Unavailable(Outage::Timeout, text) }
    }

    /// Ends what a packet left open that came to its end before its time; true when that is done.
    async fn clean_up(&mut self) -> bool {
        let clean_up =
            format!("ROLLBACK; SET SESSION wait_timeout = DEFAULT, innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}");
        let Ok(connection) = self.lent.get() else { return false };
        let work = connection.execute(clean_up.as_str());
        matches!(tokio::time::timeout(ALIVE_WITHIN, work).await, Ok(Ok(_)))
    }

    /// Sends `statements`, which only read, as one packet and hands each row over as it comes, so that no more than one of them
    /// is held in memory. Waits for `ready` before it hands over the first one. The time limit is as in [`Connection::rows`],
    /// for the first row and for all others.
    pub(super) async fn each<E: From<StoreError>>(
        mut self,
        statements: String,
        ready: impl Future<Output = Result<(), E>> + Send,
        mut take: impl FnMut(&MySqlRow) -> Result<(), StoreError> + Send,
    ) -> Result<(), E> {
        let (standing, terms) = (self.standing.clone(), (self.id, statements.len(), self.limit));
        let failed = |unanswered| match unanswered {
            Unanswered::Failed(error) => {
                let is_lost = is_broken(&error);
                let error = StoreError::classify(error, false, Part::Frame);
                if is_lost || leads_astray(&error) {
                    standing.distrust();
                }
                error
            }
            Unanswered::Silent => {
                standing.distrust();
                StoreError::Unavailable(Outage::Timeout, "the answer did not come".to_owned())
            }
        };
        let mut rows = self.lent.get()?.fetch(statements.as_str());
        let first = Self::answer(&standing, terms, rows.try_next()).await.map_err(failed)?;
        if let Some(first) = first {
            ready.await?;
            take(&first)?;
            // What is taken ill with a row is kept, since the answer is waited for as a whole.
            let mut taken = Ok(());
            let work = async {
                while let Some(row) = rows.try_next().await? {
                    taken = take(&row);
                    if taken.is_err() {
                        break;
                    }
                }
                Ok::<_, sqlx::Error>(())
            };
            Self::answer(&standing, terms, work).await.map_err(failed)?;
            taken?;
        }
        drop(rows);
        self.lent.give_back();
        Ok(())
    }
}

/// Whether an error says that this connection, and all older ones, lead to a server that cannot be used as it could when they were
/// made: it only reads, is going away, or gives the account other rights. A new connection may find it mended, or find another.
fn leads_astray(error: &StoreError) -> bool {
    match error {
        StoreError::Unavailable(class, _) => match class {
            Outage::ReadOnly | Outage::Denied | Outage::FailingOver => true,
            Outage::TooManyConnections | Outage::Timeout | Outage::Sequence | Outage::Other => false,
        },
        StoreError::Unknown(_) => true,
        StoreError::Conflict(_)
        | StoreError::Repeat(_)
        | StoreError::Data(_)
        | StoreError::Fenced(_)
        | StoreError::Undecodable(_) => false,
    }
}
