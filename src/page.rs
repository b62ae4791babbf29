//! One page's story: read a piece of the log, have a log projection say what it means, commit that together with its checkpoint.
//!
//! The log is an array: positions are dense and in commit order, so a piece that has no hole is complete, and never changes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::{AggregateId, Domain, upcast};
use crate::fail;
use crate::projection::{Happened, LogProjection};
use crate::store::sql::Sql;
use crate::store::{LogPage, RecordedEvent, Store, StoreError};

/// Where a subscription stands, and as whom it is read.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The subscription.
    pub name: &'a str,
    /// Ours.
    pub token: Uuid,
    /// All events up to this position are done.
    pub position: u64,
}

/// A page that is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// All events up to this position are done now.
    pub position: u64,
    /// How many there were.
    pub events: usize,
    /// How many bytes their payloads had.
    pub bytes: usize,
}

/// Why a page is not committed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The database did not take it, or could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log has no event at this position, and has some behind it.
    #[error("the log has no event at position {0}, and has some behind it")]
    Gap(u64),
    /// A newer program wrote the event at this position.
    #[error("position {0} is {1} v{2}, which a newer program has written")]
    Newer(u64, String, u16),
    /// An event of this page cannot be read, or the projection's code fails on it.
    #[error("position {position}: {problem}")]
    Poison {
        /// Where; of several, the first.
        position: u64,
        /// What is wrong.
        problem: String,
    },
}

/// Does the next page, of at most `limit` events; `None` when there is nothing behind the checkpoint.
pub async fn run<D: Domain>(
    store: &Store,
    projection: &dyn LogProjection<D>,
    place: Place<'_>,
    (limit, max_packet): (u32, u64),
) -> Result<Option<Done>, Failure> {
    let Some(LogPage { count, last: (position, event_id), events }) =
        store.page(place.position, limit, projection.events()).await?
    else {
        return Ok(None);
    };
    if count != position - place.position {
        let missing = store.hole(place.position, position).await?;
        return Err(Failure::Gap(missing.unwrap_or(position)));
    }
    let mut rows = Sql::new();
    let decoded = decode::<D>(&events)?;
    write(projection, &decoded, &mut rows)?;
    if rows.len() as u64 + ROOM > max_packet {
        return Err(StoreError::Data(format!("{} bytes of statements exceed max_allowed_packet", rows.len())).into());
    }
    let bytes = events.iter().map(|event| event.payload.len()).sum();
    fail::point("page", place.name);
    store.move_checkpoint((place.name, place.token), (place.position, position), event_id, &rows).await?;
    Ok(Some(Done { position, events: count as usize, bytes }))
}

/// What a packet has beside its rows.
const ROOM: u64 = 4096;

/// An event of a page that concerns the projection.
struct Decoded<'a, D: Domain> {
    stored: &'a RecordedEvent,
    recorded_at: DateTime<Utc>,
    aggregate: AggregateId,
    event: D::Event,
}

impl<D: Domain> Decoded<'_, D> {
    fn happened(&self) -> Happened<'_, D> {
        Happened {
            position: self.stored.position,
            event_id: self.stored.event_id,
            recorded_at: self.recorded_at,
            aggregate: &self.aggregate,
            version: self.stored.version,
            event: &self.event,
        }
    }
}

fn decode<D: Domain>(events: &[RecordedEvent]) -> Result<Vec<Decoded<'_, D>>, Failure> {
    let each = events.iter().map(|stored| {
        let poison = |problem: String| Failure::Poison { position: stored.position, problem };
        let RecordedEvent { event_type, schema_version, payload, .. } = stored;
        if upcast::is_newer::<D>(event_type, *schema_version) {
            return Err(Failure::Newer(stored.position, event_type.clone(), *schema_version));
        }
        let event = upcast::decode::<D>(event_type, *schema_version, payload);
        let event = event.map_err(|error| poison(error.to_string()))?;
        let kind = D::AGGREGATES.iter().find(|kind| **kind == stored.aggregate_type);
        let kind = kind.ok_or_else(|| poison(format!("there is no aggregate type {}", stored.aggregate_type)))?;
        let recorded_at = stored.moment().ok_or_else(|| poison(format!("{} is no time", stored.recorded_at)))?;
        Ok(Decoded { stored, recorded_at, aggregate: AggregateId::new(kind, &*stored.aggregate_id), event })
    });
    each.collect()
}

/// Has the projection write, whose code may panic.
fn write<D: Domain>(
    projection: &dyn LogProjection<D>,
    decoded: &[Decoded<'_, D>],
    rows: &mut Sql,
) -> Result<(), Failure> {
    let Some(first) = decoded.first() else { return Ok(()) };
    let page: Vec<Happened<'_, D>> = decoded.iter().map(Decoded::happened).collect();
    let written = catch_unwind(AssertUnwindSafe(|| projection.write(&page, rows)));
    written.map_err(|panic| Failure::Poison {
        position: first.stored.position,
        problem: format!(
            "the projection's code panicked: {}",
            panic
                .downcast_ref::<&str>()
                .copied()
                .or(panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message")
        ),
    })
}
