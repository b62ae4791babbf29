//! Changes of what is written: each is one transaction that holds the sequence row.

use uuid::Uuid;

use super::build::{BuildState, Mode, subscription_of};
use crate::store::commit::part::Part;
use crate::store::session::{IDLE_IN_TRANSACTION_SECONDS, LOCK_WAIT_SECONDS};
use crate::store::sql::Sql;
use crate::store::{RecordedEvent, Store, StoreError};

/// A build that is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewBuild<'a> {
    /// The read model.
    pub name: &'a str,
    /// The number of its tables.
    pub build: u16,
    /// The version of its code.
    pub version: u16,
    /// How it is written.
    pub mode: Mode,
    /// A digest of how its tables are described.
    pub shape: Uuid,
}

impl NewBuild<'_> {
    fn insert(&self, state: BuildState, sql: &mut Sql) {
        sql.raw("INSERT INTO projections (name, build, version, mode, state, shape) VALUES (").text(self.name);
        sql.raw(",").number(self.build).raw(",").number(self.version).raw(",").text(self.mode.as_str());
        sql.raw(",").text(state.as_str()).raw(",").bytes(self.shape.as_bytes()).raw("); ");
    }
}

/// Whoever writes has to write something else from now on. Numbers go by the time: one that a failover has lost is not given again.
const NEXT_GENERATION: &str =
    "UPDATE event_sequence SET generation = GREATEST(generation + 1, UNIX_TIMESTAMP()) WHERE id = 1; ";

impl Store {
    /// Adds a build that is filled from the first event on.
    pub async fn add_build(&self, new: &NewBuild<'_>) -> Result<(), StoreError> {
        let mut sql = Sql::new();
        sql.raw("START TRANSACTION; ");
        new.insert(BuildState::Building, &mut sql);
        sql.raw("INSERT INTO checkpoints (name, kind, state) VALUES (").text(&subscription_of(new.name, new.build));
        sql.raw(",'build','building') ON DUPLICATE KEY UPDATE kind = 'build', state = 'building', position = 0, ");
        sql.raw("event_id = NULL, token = NULL, reason = NULL, beats = beats + 1; COMMIT");
        self.rows(sql.into_string(), true).await.map(drop)
    }

    /// Adds a build that is complete as it is and shown. With `of_empty_log` only as long as the log has no event: else
    /// [`StoreError::Conflict`].
    pub async fn adopt_build(&self, new: &NewBuild<'_>, of_empty_log: bool) -> Result<(), StoreError> {
        let mut sql = Sql::new();
        sql.raw("START TRANSACTION; UPDATE event_sequence SET generation = GREATEST(generation + 1, UNIX_TIMESTAMP())");
        sql.raw(if of_empty_log { ", unchanged = IF(position = 0, 1, NULL)" } else { "" }).raw(" WHERE id = 1; ");
        new.insert(BuildState::Shown, &mut sql);
        if new.mode != Mode::Inline {
            // Once and for all: one that somebody deletes is not made again, since its rows are there.
            sql.raw("INSERT INTO checkpoints (name, kind, state) VALUES (").text(&subscription_of(new.name, new.build));
            sql.raw(",").text(new.mode.as_str()).raw(",'running') ON DUPLICATE KEY UPDATE kind = VALUES(kind); ");
        }
        sql.raw("COMMIT");
        let part = |done| if done == 1 { Part::Sequence } else { Part::Frame };
        self.connection().await?.rows(sql.as_str(), true, part, |_| {}).await.map(drop)
    }

    /// A daemon that knows these builds, and may write their tables, says so.
    pub async fn vouch(&self, builds: &[(&str, u16)]) -> Result<(), StoreError> {
        let mut sql = Sql::new();
        for (name, build) in builds {
            sql.raw("UPDATE projections SET vouched_at = UTC_TIMESTAMP(6) WHERE build = ").number(*build);
            sql.raw(" AND name = ").text(name).raw("; ");
        }
        self.rows(sql.into_string(), true).await.map(drop)
    }

    /// Has a build go from one of the states `from` to another. Who writes events writes it from now on or no more, when that changes
    /// by it. [`StoreError::Fenced`] when it is in none of these.
    pub async fn set_build(
        &self,
        (name, build): (&str, u16),
        from: &[BuildState],
        to: BuildState,
        mode: Mode,
    ) -> Result<(), StoreError> {
        let mut sql = Sql::new();
        sql.raw("START TRANSACTION; ");
        sql.raw(if mode == Mode::Inline { NEXT_GENERATION } else { "SELECT 1; " });
        change(&mut sql, (name, build), from, to);
        if !to.is_written() {
            sql.raw("UPDATE checkpoints SET state = 'dropped', token = NULL, beats = beats + 1 WHERE name = ");
            sql.text(&subscription_of(name, build)).raw("; ");
        }
        sql.raw("COMMIT");
        let part = |done| if done == 2 { Part::Checkpoint } else { Part::Frame };
        self.connection().await?.rows(sql.as_str(), true, part, |_| {}).await.map(drop)
    }

    /// The plain name shows `build` now.
    pub async fn note_shown(&self, name: &str, build: u16) -> Result<(), StoreError> {
        let mut sql = Sql::new();
        sql.raw("START TRANSACTION; UPDATE projections SET state = 'kept' WHERE state = 'shown' AND name = ")
            .text(name);
        sql.raw(" AND build <> ").number(build).raw("; ");
        sql.raw("UPDATE projections SET state = 'shown' WHERE state IN ('ready', 'kept') AND name = ").text(name);
        sql.raw(" AND build = ").number(build).raw("; COMMIT");
        self.rows(sql.into_string(), true).await.map(drop)
    }

    /// Leaves a build that is read from the log to the daemons, which go on from where it is.
    pub async fn hand_over(&self, (name, build): (&str, u16), token: Uuid) -> Result<(), StoreError> {
        let mut sql = Sql::new();
        sql.raw("START TRANSACTION; UPDATE checkpoints SET beats = IF(token = ").bytes(token.as_bytes());
        sql.raw(", beats + 1, NULL), state = 'running', kind = 'log', token = NULL WHERE part = 0 AND name = ");
        sql.text(&subscription_of(name, build)).raw("; ");
        sql.raw("SET SESSION completion_type = IF(ROW_COUNT() = 1, 'NO_CHAIN', 'no row'); ");
        change(&mut sql, (name, build), &[BuildState::Building], BuildState::Ready);
        sql.raw("COMMIT");
        let part = |done| if (1..=3).contains(&done) { Part::Checkpoint } else { Part::Frame };
        self.connection().await?.rows(sql.as_str(), true, part, |_| {}).await.map(drop)
    }

    /// Takes the sequence row, so that nobody commits until [`TakeOver::commit`] or for a second, and reads the events behind
    /// `after`: one more than `most` when there are too many.
    pub async fn take_over(&self, after: u64, most: u32) -> Result<TakeOver, StoreError> {
        let session = self.one_session();
        let mut sql = Sql::new();
        sql.raw("SET SESSION wait_timeout = ")
            .number(IDLE_IN_TRANSACTION_SECONDS)
            .raw(", @lockkeeper_takes_over = 1; ");
        sql.raw("START TRANSACTION; ").raw(NEXT_GENERATION);
        sql.raw(
            "SELECT position, aggregate_type, aggregate_id, version, event_type, schema_version, payload, '', \
             CAST(recorded_at AS CHAR), event_id FROM events WHERE position > ",
        );
        sql.number(after).raw(" ORDER BY position LIMIT ").number(most + 1);
        let rows = session.rows(sql.into_string(), false).await;
        let events = rows.and_then(|rows| rows.iter().map(RecordedEvent::read).collect());
        match events {
            Ok(events) => Ok(TakeOver { session, events }),
            Err(error) => {
                session.close().await;
                Err(error)
            }
        }
    }
}

fn change(sql: &mut Sql, (name, build): (&str, u16), from: &[BuildState], to: BuildState) {
    sql.raw("UPDATE projections SET state = IF(state IN (").list(from, |sql, state| {
        sql.text(state.as_str());
    });
    sql.raw("), ").text(to.as_str()).raw(", NULL) WHERE name = ").text(name).raw(" AND build = ").number(build);
    sql.raw("; ");
}

/// The moment in which a build catches up with the log for good: the sequence row is held.
#[derive(Debug)]
pub struct TakeOver {
    /// The one session that holds it.
    session: Store,
    /// What is in the log behind the build.
    pub events: Vec<RecordedEvent>,
}

impl TakeOver {
    /// Gives the row back; nothing has happened.
    pub async fn give_up(self) {
        let _ = self.session.rows("ROLLBACK", false).await;
        self.session.close().await;
    }

    /// Commits the rows of these events: from now on everybody writes the build. [`StoreError::Fenced`] when it has been done or
    /// begun by somebody else, or has taken too long.
    pub async fn commit(
        self,
        (name, build): (&str, u16),
        (from, to): (u64, u64),
        token: Uuid,
        rows: &Sql,
    ) -> Result<(), StoreError> {
        let event_id = self.events.last().map(|event| event.event_id);
        let mut sql = Sql::new();
        // First of all: a session that is not the one that holds the row commits nothing.
        sql.raw("UPDATE checkpoints SET beats = IF(@lockkeeper_takes_over = 1 AND position = ").number(from);
        sql.raw(" AND state = 'building' AND token = ")
            .bytes(token.as_bytes())
            // What it was filled from may be gone, with commits that a failover has lost.
            .raw(" AND (position = 0 OR EXISTS(SELECT 1 FROM events e WHERE e.position = checkpoints.position ")
            .raw("AND e.event_id = checkpoints.event_id)), beats + 1, NULL), position = ")
            .number(to);
        if let Some(event_id) = event_id {
            sql.raw(", event_id = ").bytes(event_id.as_bytes());
        }
        sql.raw(", state = 'dropped', token = NULL, moved_at = UTC_TIMESTAMP(6) WHERE part = 0 AND name = ");
        sql.text(&subscription_of(name, build)).raw("; ");
        sql.raw("SET SESSION completion_type = IF(ROW_COUNT() = 1, 'NO_CHAIN', 'no row'); ");
        sql.raw("UPDATE projections SET state = IF(state = 'building', 'ready', NULL), taken_over = ").number(to);
        sql.raw(" WHERE name = ").text(name).raw(" AND build = ").number(build).raw("; ");
        sql.append(rows).raw("COMMIT; SET SESSION wait_timeout = DEFAULT, innodb_lock_wait_timeout = ");
        sql.number(LOCK_WAIT_SECONDS);
        let part = |done| match done {
            0..=2 => Part::Checkpoint,
            _ => Part::ReadModels,
        };
        let committed = self.session.connection().await;
        let committed = match committed {
            Ok(connection) => connection.rows(sql.as_str(), true, part, |_| {}).await.map(drop),
            Err(error) => Err(error),
        };
        self.session.close().await;
        committed
    }
}
