//! Events that a subscription has gone past without doing them.

use std::collections::BTreeSet;

use super::event::RecordedEvent;
use crate::store::commit::part::Part;
use crate::store::session::IDLE_IN_TRANSACTION_SECONDS;
use crate::store::sql::Sql;
use crate::store::{Outage, Store, StoreError, column, text};

/// An event that is parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The subscription.
    pub name: String,
    /// Where in the log.
    pub position: u64,
    /// The type of its aggregate.
    pub aggregate_type: String,
    /// The aggregate's id.
    pub aggregate_id: String,
    /// Why.
    pub reason: String,
    /// Since when, UTC.
    pub parked_at: String,
}

/// Aggregates of which events are parked: type and id.
pub type ParkedAggregates = BTreeSet<(String, String)>;

/// Appends what parks these events of a subscription, whose `reason` is given.
pub fn park(name: &str, events: &[&RecordedEvent], reason: &str, sql: &mut Sql) {
    if events.is_empty() {
        return;
    }
    sql.raw("INSERT INTO parked (name, position, aggregate_type, aggregate_id, reason) VALUES ");
    sql.list(events, |sql, event| {
        sql.raw("(").text(name).raw(",").number(event.position).raw(",").text(&event.aggregate_type);
        sql.raw(",").text(&event.aggregate_id).raw(",").text(reason).raw(")");
    });
    sql.raw("; ");
}

impl Store {
    /// What is parked, of one subscription or of all, by name and position.
    pub async fn parked(&self, name: Option<&str>, limit: u32) -> Result<Vec<Parked>, StoreError> {
        let mut sql = Sql::new();
        sql.raw("SELECT position, name, aggregate_type, aggregate_id, reason, CAST(parked_at AS CHAR) FROM parked");
        if let Some(name) = name {
            sql.raw(" WHERE name = ").text(name);
        }
        sql.raw(" ORDER BY name, position LIMIT ").number(limit);
        let rows = self.rows(sql.into_string(), false).await?;
        let each = rows.iter().map(|row| {
            Ok(Parked {
                position: column(row, 0)?,
                name: column(row, 1)?,
                aggregate_type: column(row, 2)?,
                aggregate_id: text(column(row, 3)?)?,
                reason: column(row, 4)?,
                parked_at: column(row, 5)?,
            })
        });
        each.collect()
    }

    /// The aggregates of which a subscription has parked events, and how many events these are.
    pub async fn parked_aggregates(&self, name: &str) -> Result<(ParkedAggregates, u64), StoreError> {
        let mut sql = Sql::new();
        sql.raw("SELECT COUNT(*), aggregate_type, aggregate_id FROM parked WHERE name = ").text(name);
        sql.raw(" GROUP BY aggregate_type, aggregate_id");
        let rows = self.rows(sql.into_string(), false).await?;
        let (mut aggregates, mut count) = (ParkedAggregates::new(), 0);
        for row in &rows {
            count += column::<u64>(row, 0)?;
            aggregates.insert((column(row, 1)?, text(column(row, 2)?)?));
        }
        Ok((aggregates, count))
    }

    /// How many events are parked, by subscription.
    pub async fn parked_counts(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let rows = self.rows("SELECT name, COUNT(*) FROM parked GROUP BY name", false).await?;
        rows.iter().map(|row| Ok((column(row, 0)?, column(row, 1)?))).collect()
    }

    /// Forgets what is parked of a subscription, or of one of its aggregates, and has whoever reads it look anew. Returns how much it was.
    pub async fn forget_parked(&self, name: &str, aggregate: Option<(&str, &str)>) -> Result<u64, StoreError> {
        let mut sql = Sql::new();
        sql.raw("START TRANSACTION; ");
        delete(name, aggregate, &mut sql);
        // Whoever reads it takes it anew, and then knows what is parked.
        sql.raw("SET @lockkeeper_forgotten = ROW_COUNT(); UPDATE checkpoints SET token = NULL, beats = beats + 1 ");
        sql.raw("WHERE @lockkeeper_forgotten > 0 AND part = 0 AND name = ").text(name);
        sql.raw("; SELECT CAST(@lockkeeper_forgotten AS UNSIGNED); COMMIT");
        let rows = self.rows(sql.into_string(), true).await?;
        rows.first().map_or(Ok(0), |row| column(row, 0))
    }

    /// Goes past the event at `position` without doing it, before which the subscription stands, and parks it. False when it stands
    /// elsewhere, or the log has no event there.
    pub async fn skip(&self, name: &str, position: u64, reason: &str) -> Result<bool, StoreError> {
        let Some(event) = self.events_between(position, position).await?.into_iter().next() else { return Ok(false) };
        let mut sql = Sql::new();
        sql.raw("START TRANSACTION; UPDATE checkpoints SET beats = IF(position = ").number(position - 1);
        sql.raw(" AND state IN ('stopped', 'paused'), beats + 1, NULL), position = ").number(position);
        sql.raw(", event_id = ")
            .bytes(event.event_id.as_bytes())
            .raw(", token = NULL, state = IF(state = 'stopped', 'running', state), reason = NULL, ");
        sql.raw("moved_at = UTC_TIMESTAMP(6) WHERE part = 0 AND name = ").text(name).raw("; ");
        sql.raw("SET SESSION completion_type = IF(ROW_COUNT() = 1, 'NO_CHAIN', 'no row'); ");
        park(name, &[&event], reason, &mut sql);
        sql.raw("COMMIT");
        let part = |done| if done == 1 || done == 2 { Part::Checkpoint } else { Part::Frame };
        match self.connection().await?.rows(sql.as_str(), true, part, |_| {}).await {
            Ok(_) => Ok(true),
            Err(StoreError::Fenced(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Holds a subscription where it is, for as long as a second passes without a word.
    pub async fn hold_checkpoint(&self, name: &str) -> Result<HeldCheckpoint, StoreError> {
        let session = self.one_session();
        let mut sql = Sql::new();
        sql.raw("SET SESSION wait_timeout = ").number(IDLE_IN_TRANSACTION_SECONDS).raw(", @lockkeeper_holds = 1; ");
        sql.raw("START TRANSACTION; SELECT position FROM checkpoints WHERE part = 0 AND name = ").text(name);
        sql.raw(" FOR UPDATE");
        let rows = session.rows(sql.into_string(), false).await;
        let none = || StoreError::Unavailable(Outage::Other, format!("there is no checkpoint {name}"));
        let position = rows.and_then(|rows| column(rows.first().ok_or_else(none)?, 0));
        match position {
            Ok(position) => Ok(HeldCheckpoint { session, name: name.to_owned(), position }),
            Err(error) => {
                session.close().await;
                Err(error)
            }
        }
    }
}

/// A subscription that is held where it is.
#[derive(Debug)]
pub struct HeldCheckpoint {
    session: Store,
    name: String,
    /// Where it is.
    pub position: u64,
}

impl HeldCheckpoint {
    /// Lets it go on; nothing has happened.
    pub async fn let_go(self) {
        let _ = self.session.rows("ROLLBACK", false).await;
        self.session.close().await;
    }

    /// Commits the rows of an aggregate, of which nothing is parked any more.
    pub async fn commit(self, aggregate: (&str, &str), rows: &Sql) -> Result<(), StoreError> {
        let mut sql = Sql::new();
        sql.raw("UPDATE checkpoints SET beats = IF(@lockkeeper_holds = 1, beats + 1, NULL), token = NULL WHERE part = 0 AND name = ");
        sql.text(&self.name).raw("; ");
        delete(&self.name, Some(aggregate), &mut sql);
        sql.append(rows).raw("COMMIT; SET SESSION wait_timeout = DEFAULT");
        let part = |done| if done == 0 { Part::Checkpoint } else { Part::ReadModels };
        let committed = match self.session.connection().await {
            Ok(connection) => connection.rows(sql.as_str(), true, part, |_| {}).await.map(drop),
            Err(error) => Err(error),
        };
        self.session.close().await;
        committed
    }
}

fn delete(name: &str, aggregate: Option<(&str, &str)>, sql: &mut Sql) {
    sql.raw("DELETE FROM parked WHERE name = ").text(name);
    if let Some((kind, id)) = aggregate {
        sql.raw(" AND aggregate_type = ").text(kind).raw(" AND aggregate_id = ").text(id);
    }
    sql.raw("; ");
}
