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
mod dial;
mod holder;
mod letters;
mod lineage;
mod nature;
mod orphans;
mod probe;
mod read;
mod replies;
mod sample;
mod schedule;
mod settle;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;

use crate::job::EntryId;
use dial::dial;
use holder::Holder;
use trouble::Trouble;

pub use letters::{Letter, Letters, Selection};
pub use nature::{Nature, Unfit};
pub use orphans::Sought;
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
        Trouble::of(&self.0) == Trouble::GroupGone
    }

    /// True when the broker refuses a key, a command or an argument of the call, and may well do others: what shares the call
    /// with it is better tried apart.
    pub fn is_about_keys(&self) -> bool {
        let is_refused = matches!(Trouble::of(&self.0), Trouble::Forbidden | Trouble::Refused);
        is_refused && self.0.code().is_some_and(|code| !matches!(code, "OOM" | "BUSY"))
    }

    /// The kind of trouble in a word, of which there are few.
    pub fn cause(&self) -> &'static str {
        Trouble::of(&self.0).as_str()
    }

    /// True when the broker says no to our name, password or rights; waiting does not help.
    pub fn is_denied(&self) -> bool {
        matches!(Trouble::of(&self.0), Trouble::LoggedOut | Trouble::Forbidden)
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

/// The streams of one broker. Clones share one connection, which is replaced by itself when it is of no use any more.
#[derive(Clone)]
pub struct Broker {
    client: redis::Client,
    holder: Holder,
    settings: Arc<Settings>,
    consumer: Arc<str>,
    probed: probe::Probed,
}

/// How long the broker may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The same for a read, whose connection nothing else looks after.
const READ_LIMIT: Duration = Duration::from_secs(4);

/// A connection that had an answer of more bytes is replaced, since it keeps the room for it.
pub const LARGE_ANSWER: usize = 4 << 20;

impl Broker {
    /// Connects. `consumer` must be unique per process start, so that a successor never takes a dead process's entries for
    /// its own.
    pub async fn connect(client: redis::Client, settings: Settings, consumer: String) -> Result<Self, BrokerError> {
        let settings = Arc::new(settings);
        let holder = Holder::start(client.clone(), settings.clone()).await?;
        Ok(Self { client, holder, settings, consumer: consumer.into(), probed: probe::Probed::default() })
    }

    /// The names and limits it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The shared connection.
    fn connection(&self) -> Holder {
        self.holder.clone()
    }

    /// Begins anew with all connections, though nothing is wrong with them: their buffers may have grown with a large answer,
    /// and never shrink. Requests under way are answered all the same.
    pub fn retire(&self) {
        self.holder.retire();
    }

    /// The broker's clock, Unix milliseconds.
    pub async fn time_ms(&self) -> Result<u64, BrokerError> {
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut self.connection()).await?;
        Ok(seconds * 1000 + micros / 1000)
    }

    /// Creates each stream and group that does not exist, and returns the streams whose group was missing.
    pub async fn ensure_groups(&self) -> Result<Vec<String>, BrokerError> {
        let (mut created, mut refused) = (Vec::new(), None);
        for name in &self.settings.names {
            match self.make_group(name).await {
                Ok(true) => created.push(name.clone()),
                Ok(false) => {}
                // The others are not kept waiting for it.
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            Some(error) if created.is_empty() => Err(error),
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

    /// A reader with a connection of its own, to the server of the shared one: it blocks, and it must never be cancelled.
    pub async fn reader(&self) -> Result<Reader, BrokerError> {
        let generation = self.holder.current().await?;
        let dialled = dial(&self.client, &self.settings, self.settings.block).await?;
        if dialled.run_id != generation.run_id {
            let moved = holder::moved();
            self.holder.end(generation.number, moved.clone());
            return Err(moved.into());
        }
        let mut connection = dialled.connection;
        connection.set_response_timeout(self.settings.block + READ_LIMIT);
        Ok(Reader::new(connection, self.clone(), generation))
    }
}

/// Ids as arguments of a script.
fn id_args(ids: &[EntryId]) -> impl Iterator<Item = String> + '_ {
    ids.iter().map(EntryId::to_string)
}
