//! Checkpoints: how far each subscription has come, and whose turn it is.
//!
//! A page's rows and its checkpoint are one packet, in which the checkpoint comes first: its row says whether the page follows the
//! last one and whether the token is still ours. If not, a column that cannot be NULL turns to NULL, and nothing of the packet is
//! there. So whoever has lost a subscription, or only believes to have it, commits nothing.

use uuid::Uuid;

use crate::store::commit::part::Part;
use crate::store::session::IDLE_IN_TRANSACTION_SECONDS;
use crate::store::sql::Sql;
use crate::store::{Outage, Store, StoreError, column};

/// Whether a subscription is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointState {
    /// It is.
    Running,
    /// Somebody keeps it from being read.
    Paused,
    /// It stands before an event that it cannot get past.
    Stopped,
    /// It is gone for good.
    Dropped,
    /// A build is filled, by whoever was told to.
    Building,
}

impl CheckpointState {
    /// Every state, for metrics.
    pub const ALL: [Self; 5] = [Self::Running, Self::Paused, Self::Stopped, Self::Dropped, Self::Building];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Dropped => "dropped",
            Self::Building => "building",
        }
    }

    fn of(text: &str) -> Result<Self, StoreError> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| StoreError::Unavailable(Outage::Other, format!("a checkpoint has the state `{text}`")))
    }
}

/// Why a subscription is left to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave<'a> {
    /// The process ends.
    Free,
    /// It cannot go on, and another program can.
    Waits(&'a str),
    /// Nobody can.
    Stopped(&'a str),
}

/// A checkpoint as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The subscription.
    pub name: String,
    /// All events up to this position are done.
    pub position: u64,
    /// The event there, unless it is 0.
    pub event_id: Option<Uuid>,
    /// The event that the log has there.
    pub in_log: Option<Uuid>,
    /// Whether it is read.
    pub state: CheckpointState,
    /// Why not.
    pub reason: Option<String>,
    /// Of whoever reads on.
    pub token: Option<Uuid>,
    /// Its signs of life.
    pub beats: u64,
    /// Machine and process, for people.
    pub holder: String,
    /// When it moved last, UTC, as `2026-01-31 12:00:00.000000`.
    pub moved_at: String,
    /// Where the log ends.
    pub head: u64,
    /// How long ago the first event was written that is not done, in seconds.
    pub age_seconds: Option<f64>,
}

impl Checkpoint {
    /// Whether the log has something else where the last event was that was done: it is another log, or has lost its end.
    pub fn is_of_another_log(&self) -> bool {
        self.event_id.is_some() && self.event_id != self.in_log
    }

    /// How many events are not done.
    pub fn lag(&self) -> u64 {
        self.head.saturating_sub(self.position)
    }
}

impl Store {
    /// All of them that are not dropped, by name.
    pub async fn checkpoints(&self) -> Result<Vec<Checkpoint>, StoreError> {
        let text = "SELECT CAST(c.name AS CHAR), c.position, c.event_id, l.event_id, CAST(c.state AS CHAR), c.reason, c.token, \
                    c.beats, c.holder, CAST(c.moved_at AS CHAR), s.position, \
                    TIMESTAMPDIFF(MICROSECOND, e.recorded_at, UTC_TIMESTAMP(6)) \
                    FROM checkpoints c JOIN event_sequence s ON s.id = 1 LEFT JOIN events l ON l.position = c.position \
                    LEFT JOIN events e ON e.position = c.position + 1 WHERE c.part = 0 AND c.state <> 'dropped' ORDER BY 1";
        let rows = self.rows(text, false).await?;
        let id = |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| Uuid::from_slice(&bytes).ok());
        let each = rows.iter().map(|row| {
            let state: String = column(row, 4)?;
            Ok(Checkpoint {
                name: column(row, 0)?,
                position: column(row, 1)?,
                event_id: id(column(row, 2)?),
                in_log: id(column(row, 3)?),
                state: CheckpointState::of(&state)?,
                reason: column(row, 5)?,
                token: id(column(row, 6)?),
                beats: column(row, 7)?,
                holder: column(row, 8)?,
                moved_at: column(row, 9)?,
                head: column(row, 10)?,
                age_seconds: column::<Option<i64>>(row, 11)?.map(|micros| micros.max(0) as f64 / 1e6),
            })
        });
        each.collect()
    }

    /// Adds a checkpoint before the first event, unless there is one of this name.
    pub async fn add_checkpoint(&self, name: &str, kind: &'static str) -> Result<(), StoreError> {
        let mut sql = Sql::new();
        sql.raw("INSERT INTO checkpoints (name, kind, state) VALUES (").text(name).raw(",").text(kind);
        sql.raw(",'running') ON DUPLICATE KEY UPDATE kind = VALUES(kind)");
        self.rows(sql.into_string(), true).await.map(drop)
    }

    /// Makes the subscription ours, if it is still as it was `seen`; false when somebody was faster.
    pub async fn take_checkpoint(&self, seen: &Checkpoint, token: Uuid, holder: &str) -> Result<bool, StoreError> {
        let mut sql = Sql::new();
        sql.raw("UPDATE checkpoints SET token = ").bytes(token.as_bytes()).raw(", beats = beats + 1, holder = ");
        sql.text(holder).raw(" WHERE part = 0 AND state IN ('running', 'building') AND name = ").text(&seen.name);
        sql.raw(" AND beats = ").number(seen.beats).raw(" AND token <=> ");
        match seen.token {
            Some(token) => sql.bytes(token.as_bytes()),
            None => sql.raw("NULL"),
        };
        sql.raw("; ");
        self.is_ours(sql, &seen.name, token).await
    }

    /// Says that whoever has the token is there; false when it has lost the subscription.
    pub async fn beat_checkpoint(&self, name: &str, token: Uuid) -> Result<bool, StoreError> {
        let mut sql = Sql::new();
        sql.raw(
            "UPDATE checkpoints SET beats = beats + 1 WHERE part = 0 AND state IN ('running', 'building') AND name = ",
        )
        .text(name);
        sql.raw(" AND token = ").bytes(token.as_bytes()).raw("; ");
        self.is_ours(sql, name, token).await
    }

    async fn is_ours(&self, mut sql: Sql, name: &str, token: Uuid) -> Result<bool, StoreError> {
        sql.raw("SELECT COUNT(*) FROM checkpoints WHERE part = 0 AND state IN ('running', 'building') AND name = ")
            .text(name);
        sql.raw(" AND token = ").bytes(token.as_bytes());
        let rows = self.rows(sql.into_string(), true).await?;
        Ok(rows.first().map(|row| column::<i64>(row, 0)).transpose()? == Some(1))
    }

    /// Leaves the subscription to others, if it is still ours.
    pub async fn leave_checkpoint(&self, name: &str, token: Uuid, why: Leave<'_>) -> Result<(), StoreError> {
        let mut sql = Sql::new();
        sql.raw("UPDATE checkpoints SET token = NULL, beats = beats + 1");
        match why {
            Leave::Free => {}
            Leave::Waits(reason) => drop(sql.raw(", reason = ").text(reason)),
            Leave::Stopped(reason) => drop(sql.raw(", state = 'stopped', reason = ").text(reason)),
        }
        sql.raw(" WHERE part = 0 AND name = ").text(name).raw(" AND token = ").bytes(token.as_bytes());
        self.rows(sql.into_string(), true).await.map(drop)
    }

    /// Has the subscription read or not from now on; false when there is none of this name, or it is dropped.
    pub async fn set_checkpoint(
        &self,
        name: &str,
        state: CheckpointState,
        reason: Option<&str>,
    ) -> Result<bool, StoreError> {
        let mut sql = Sql::new();
        sql.raw("UPDATE checkpoints SET state = ").text(state.as_str()).raw(", reason = ").text_or_null(reason);
        sql.raw(
            ", token = NULL, beats = beats + 1 WHERE part = 0 AND state NOT IN ('dropped', 'building') AND name = ",
        )
        .text(name);
        sql.raw(
            "; SELECT COUNT(*) FROM checkpoints WHERE part = 0 AND state NOT IN ('dropped', 'building') AND name = ",
        )
        .text(name);
        let rows = self.rows(sql.into_string(), true).await?;
        Ok(rows.first().map(|row| column::<i64>(row, 0)).transpose()? == Some(1))
    }

    /// Commits `rows`, statements that each end in a semicolon, with the checkpoint that moves by them: from one position to
    /// another, where this event is. [`StoreError::Fenced`] when somebody else has moved it or has it.
    pub async fn move_checkpoint(
        &self,
        (name, token): (&str, Uuid),
        (from, to): (u64, u64),
        event_id: Uuid,
        rows: &Sql,
    ) -> Result<(), StoreError> {
        let mut sql = Sql::new();
        sql.raw("SET SESSION wait_timeout = ").number(IDLE_IN_TRANSACTION_SECONDS).raw("; START TRANSACTION; ");
        sql.raw("UPDATE checkpoints SET beats = IF(state IN ('running', 'building') AND position = ").number(from);
        sql.raw(" AND token = ").bytes(token.as_bytes());
        // What was read may be gone since, from the server that was failed over to.
        sql.raw(" AND EXISTS(SELECT 1 FROM events e WHERE e.position = ").number(to).raw(" AND e.event_id = ");
        sql.bytes(event_id.as_bytes()).raw("), beats + 1, NULL), position = ").number(to);
        sql.raw(", event_id = ").bytes(event_id.as_bytes());
        sql.raw(", reason = NULL, moved_at = UTC_TIMESTAMP(6) WHERE part = 0 AND name = ");
        // A row that is gone would let everything through.
        sql.text(name).raw("; SET SESSION completion_type = IF(ROW_COUNT() = 1, 'NO_CHAIN', 'no row'); ");
        sql.append(rows).raw("COMMIT; SET SESSION wait_timeout = DEFAULT");
        let part = |done| match done {
            GUARD | BEHIND => Part::Checkpoint,
            _ if done < GUARD => Part::Frame,
            _ => Part::ReadModels,
        };
        self.connection().await?.rows(sql.as_str(), true, part, |_| {}).await.map(drop)
    }
}

/// Statements before the one that moves the checkpoint.
const GUARD: usize = 2;
/// And before the one that looks whether there was one.
const BEHIND: usize = 3;
