//! The broker: streams read through a consumer group, and everything that is done with an entry afterwards.
//!
//! ```text
//!            XADD                 read, claim                 batch committed
//! producer ───────▶ undelivered ─────────────▶ pending ──┬──▶ acknowledged and deleted
//!                                  ▲      │               ├──▶ dead letters   (<stream>:dead)
//!                                  └──────┘               └──▶ schedule       (<stream>:scheduled) ──▶ undelivered
//!                                 handed back
//! ```
//!
//! Every step out of "pending" is one script, so an entry is never in two places and never in none. Nothing here decides:
//! an entry leaves only when the batch that ran it says so.

mod claim;
mod letters;
mod nature;
mod probe;
mod read;
mod replies;
mod sample;
mod schedule;
mod settle;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncConnectionConfig, RedisError};

use crate::job::EntryId;

pub use letters::{Letter, Letters, Selection};
pub use nature::{Nature, Unfit};
pub use probe::{Finding, Lack};
pub use read::{Reader, streams as entries_of};
pub use replies::Swept;
pub use schedule::{Place, Waiting};
pub use settle::{DeadLetter, Postponed, Reply};

/// The name of the stream that holds `stream`'s dead letters.
pub fn dead_letters(stream: &str) -> String {
    format!("{stream}:dead")
}

/// The name of the counter of `stream`'s entries that have been run: what is neither in the stream nor counted here was
/// trimmed or deleted by somebody else.
pub fn finished(stream: &str) -> String {
    format!("{stream}:finished")
}

/// The name of the key that says whose turn it is to look for what is old.
fn retention(stream: &str) -> String {
    format!("{stream}:retention")
}

/// The name of the sorted set that holds `stream`'s jobs that are not due.
pub fn scheduled(stream: &str) -> String {
    format!("{stream}:scheduled")
}

/// The broker could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
#[error("the broker is unavailable: {0}")]
pub struct BrokerError(#[from] RedisError);

impl BrokerError {
    /// True when a stream or its group is gone, which [`Broker::ensure_groups`] mends.
    pub fn is_group_gone(&self) -> bool {
        // Redis 7.0 wakes a blocked reader with UNBLOCKED when the stream is deleted.
        matches!(self.0.code(), Some("NOGROUP" | "UNBLOCKED")) || self.0.to_string().contains("no longer exists")
    }

    /// True when the broker refuses a key, a command or an argument of the call, and may well do others: what shares the call
    /// with it is better tried apart.
    pub fn is_about_keys(&self) -> bool {
        let of_the_server = ["LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "OOM", "MISCONF"];
        let of_the_account = ["NOAUTH", "WRONGPASS", "NOREPLICAS"];
        self.0.code().is_some_and(|code| !of_the_server.contains(&code) && !of_the_account.contains(&code))
    }

    /// The kind of trouble in a word, of which there are few.
    pub fn cause(&self) -> &'static str {
        if self.is_denied() {
            "denied"
        } else if self.is_group_gone() {
            "group_gone"
        } else if self.0.is_timeout() {
            "timeout"
        } else if self.0.code().is_some() {
            "refused"
        } else {
            "away"
        }
    }

    /// True when the broker says no to our name, password or rights; waiting does not help.
    pub fn is_denied(&self) -> bool {
        self.0.kind() == redis::ErrorKind::AuthenticationFailed
            || matches!(self.0.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
    }
}

/// Names and limits of the streams.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The streams to read.
    pub names: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// How long a read waits for entries.
    pub block: Duration,
    /// An entry that was silent for so long belongs to a dead consumer.
    pub claim_after: Duration,
    /// About how many outcomes a reply stream keeps.
    pub reply_length: u32,
}

/// The streams of one broker. Clones share one connection, which reconnects by itself.
#[derive(Clone)]
pub struct Broker {
    client: redis::Client,
    connection: Arc<RwLock<ConnectionManager>>,
    settings: Arc<Settings>,
    consumer: Arc<str>,
    probed: probe::Probed,
}

/// How long the broker may take to answer, and to accept a connection.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// A connection that had an answer of more bytes is replaced, since it keeps the room for it.
pub const LARGE_ANSWER: usize = 4 << 20;

impl Broker {
    /// Connects. `consumer` must be unique per process start, so that a successor never takes a dead process's entries for
    /// its own.
    pub async fn connect(client: redis::Client, settings: Settings, consumer: String) -> Result<Self, BrokerError> {
        let connection = ConnectionManager::new_with_config(client.clone(), manager_config()).await?;
        let connection = Arc::new(RwLock::new(connection));
        Ok(Self {
            client,
            connection,
            settings: Arc::new(settings),
            consumer: consumer.into(),
            probed: probe::Probed::default(),
        })
    }

    /// The names and limits it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The shared connection.
    fn connection(&self) -> ConnectionManager {
        self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins anew with the shared connection. The library's own keeps for ever the answer of a reconnect that was refused
    /// for its password, or because the broker had too many clients, which it takes for the same.
    fn renew(&self) -> Result<(), BrokerError> {
        let fresh = ConnectionManager::new_lazy_with_config(self.client.clone(), manager_config())?;
        *self.connection.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Begins anew with all connections, though nothing is wrong with them: their buffers may have grown with a large answer,
    /// and never shrink. Requests under way are answered all the same.
    pub fn retire(&self) {
        // A URL that was good at the start stays so.
        let _ = self.renew();
    }

    /// The broker's clock, Unix milliseconds. It is asked for every few seconds, which is when a connection that was
    /// refused is tried again.
    pub async fn time_ms(&self) -> Result<u64, BrokerError> {
        let answer = redis::cmd("TIME").query_async(&mut self.connection()).await;
        if answer.as_ref().is_err_and(|error: &RedisError| error.kind() == redis::ErrorKind::AuthenticationFailed) {
            self.renew()?;
        }
        let (seconds, micros): (u64, u64) = answer?;
        Ok(seconds * 1000 + micros / 1000)
    }

    /// Creates each stream and group that does not exist. A group starts at 0: at `$` it would skip every job that was
    /// added before it. Returns the streams whose group was missing.
    pub async fn ensure_groups(&self) -> Result<Vec<String>, BrokerError> {
        let (mut created, mut refused) = (Vec::new(), None);
        for name in &self.settings.names {
            let mut command = redis::cmd("XGROUP");
            command.arg("CREATE").arg(name).arg(&self.settings.group).arg("0").arg("MKSTREAM");
            match command.query_async::<()>(&mut self.connection()).await {
                Ok(()) => created.push(name.clone()),
                Err(error) if error.code() == Some("BUSYGROUP") => {}
                // The others are not kept waiting for it.
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            Some(error) if created.is_empty() => Err(error.into()),
            _ => Ok(created),
        }
    }

    /// True for one of all daemons that ask within `interval`: it is its turn to look for what is old.
    pub async fn take_turn(&self, interval: Duration) -> Result<bool, BrokerError> {
        let Some(first) = self.settings.names.first() else { return Ok(false) };
        let mut command = redis::cmd("SET");
        command.arg(retention(first)).arg(&*self.consumer).arg("NX").arg("PX").arg(interval.as_millis() as u64);
        Ok(command.query_async::<Option<String>>(&mut self.connection()).await?.is_some())
    }

    /// A reader with a connection of its own: it blocks, and it must never be cancelled.
    pub async fn reader(&self) -> Result<Reader, BrokerError> {
        // The library's own limit on answers is shorter than a blocked read may take.
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(self.settings.block + ANSWER_LIMIT))
            .set_connection_timeout(Some(CONNECT_LIMIT));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Reader::new(connection, self.settings.clone(), self.consumer.clone()))
    }
}

fn manager_config() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_response_timeout(Some(ANSWER_LIMIT))
        .set_connection_timeout(Some(CONNECT_LIMIT))
        .set_number_of_retries(1)
}

/// Ids as arguments of a script.
fn id_args(ids: &[EntryId]) -> impl Iterator<Item = String> + '_ {
    ids.iter().map(EntryId::to_string)
}
