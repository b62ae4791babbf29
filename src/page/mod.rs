//! One page's story: read a piece of the log, have a log projection say what it means, commit that together with its checkpoint.
//!
//! The log is an array: positions are dense and in commit order, so a piece that has no hole is complete, and never changes. A
//! projection of aggregates is filled by pages too, which are folded into states on the way ([`Fold`]).

mod decoded;
mod failure;
mod fold;

use uuid::Uuid;

use crate::domain::Domain;
use crate::fail;
use crate::projection::{Happened, LogProjection};
use crate::store::sql::{Sql, Tables};
use crate::store::{LogPage, Only, Store, StoreError};
use decoded::{Decoded, decode, unwinding};
pub use failure::Failure;
pub use fold::{Fold, Folded};

/// Where a subscription stands, and as whom it is read.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The subscription.
    pub name: &'a str,
    /// Ours.
    pub token: Uuid,
    /// All events up to this position are done.
    pub position: u64,
    /// The build's tables.
    pub tables: Tables,
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

/// Does the next page of a log projection's build, of at most `limit` events; `None` when there is nothing behind the checkpoint.
pub async fn run<D: Domain>(
    store: &Store,
    projection: &dyn LogProjection<D>,
    place: Place<'_>,
    (limit, max_packet): (u32, u64),
) -> Result<Option<Done>, Failure> {
    let Some(page) = read(store, Only::Types(projection.events()), place.position, limit).await? else {
        return Ok(None);
    };
    let mut rows = Sql::new();
    rows.of(place.tables);
    log_rows(projection, &page, &mut rows)?;
    commit(store, place, &page, &rows, max_packet).await.map(Some)
}

/// Reads the page behind the position `after`; `None` when there is nothing.
pub async fn read(store: &Store, only: Only<'_>, after: u64, limit: u32) -> Result<Option<LogPage>, Failure> {
    let Some(page) = store.page(after, limit, only).await? else { return Ok(None) };
    if page.count != page.last.0 - after {
        let missing = store.hole(after, page.last.0).await?;
        return Err(Failure::Gap(missing.unwrap_or(page.last.0)));
    }
    Ok(Some(page))
}

/// Has a log projection write what the page means.
pub fn log_rows<D: Domain>(projection: &dyn LogProjection<D>, page: &LogPage, rows: &mut Sql) -> Result<(), Failure> {
    let decoded = decode::<D>(&page.events)?;
    let Some(first) = decoded.first() else { return Ok(()) };
    let happened: Vec<Happened<'_, D>> = decoded.iter().map(Decoded::happened).collect();
    unwinding(first.stored.position, || projection.write(&happened, rows))
}

/// Commits what a page writes, with the checkpoint that moves by it.
pub async fn commit(
    store: &Store,
    place: Place<'_>,
    page: &LogPage,
    rows: &Sql,
    max_packet: u64,
) -> Result<Done, Failure> {
    fits(rows, max_packet)?;
    let (position, event_id) = page.last;
    fail::point("page", place.name);
    store.move_checkpoint((place.name, place.token), (place.position, position), event_id, rows).await?;
    let bytes = page.events.iter().map(|event| event.payload.len()).sum();
    Ok(Done { position, events: page.count as usize, bytes })
}

/// Fails unless the rows have room in a packet.
pub fn fits(rows: &Sql, max_packet: u64) -> Result<(), Failure> {
    if rows.len() as u64 + ROOM > max_packet {
        return Err(StoreError::Data(format!("{} bytes of statements exceed max_allowed_packet", rows.len())).into());
    }
    Ok(())
}

/// What a packet has beside its rows.
const ROOM: u64 = 4096;
