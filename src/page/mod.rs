//! One page's story: read a piece of the log, have a projection say what it means, commit that together with its checkpoint.
//!
//! The log is an array: positions are dense and in commit order, so a piece that has no hole is complete, and never changes. A
//! projection of aggregates is filled by pages too, which are folded into states on the way ([`Fold`]).

mod decoded;
mod failure;
mod fold;

use uuid::Uuid;

use crate::domain::Domain;
use crate::fail;
use crate::projection::{Code, Happened, LogProjection};
use crate::store::sql::{Sql, Tables};
use crate::store::{LogPage, Only, ParkedAggregates, RecordedEvent, Store, StoreError, park};
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

/// What a page is done with.
pub struct Reading<'a, D: Domain> {
    /// The code of the read model.
    pub code: Code<'a, D>,
    /// The states so far, of a read model of aggregates.
    pub fold: &'a mut Fold<D>,
    /// Of these aggregates events are parked, and so are all that come.
    pub parked: &'a ParkedAggregates,
}

/// Does the next page of a build, of at most `limit` events; `None` when there is nothing behind the checkpoint.
pub async fn run<D: Domain>(
    store: &Store,
    reading: Reading<'_, D>,
    place: Place<'_>,
    (limit, max_packet): (u32, u64),
) -> Result<Option<Done>, Failure> {
    let Reading { code, fold, parked } = reading;
    let Some(mut page) = read(store, code.only(), place.position, limit).await? else { return Ok(None) };
    let mut rows = Sql::new();
    rows.of(place.tables);
    let bytes = page.events.iter().map(|event| event.payload.len()).sum();
    // What adds up the log goes past single events alone.
    if matches!(code, Code::States(_)) && !parked.is_empty() {
        let is_behind =
            |event: &RecordedEvent| parked.contains(&(event.aggregate_type.clone(), event.aggregate_id.clone()));
        let behind: Vec<RecordedEvent> = page.events.extract_if(.., |event| is_behind(event)).collect();
        park(place.name, &behind.iter().collect::<Vec<_>>(), "an earlier event of its aggregate is parked", &mut rows);
    }
    let folded = write(store, code, fold, &page, &mut rows).await?;
    let done = commit(store, place, &page, &rows, max_packet).await?;
    folded.into_iter().for_each(|folded| fold.keep(folded));
    Ok(Some(Done { bytes, ..done }))
}

/// Goes past the next event, which cannot be done, and parks it.
pub async fn run_past<D: Domain>(
    store: &Store,
    code: Code<'_, D>,
    place: Place<'_>,
    why: &str,
) -> Result<Option<Done>, Failure> {
    let Some(page) = read(store, code.only(), place.position, 1).await? else { return Ok(None) };
    let mut rows = Sql::new();
    park(place.name, &page.events.iter().collect::<Vec<_>>(), why, &mut rows);
    commit(store, place, &page, &rows, u64::MAX).await.map(Some)
}

/// Has the code write what a page means. Returns the states after it, of a read model of aggregates.
pub async fn write<D: Domain>(
    store: &Store,
    code: Code<'_, D>,
    fold: &mut Fold<D>,
    page: &LogPage,
    rows: &mut Sql,
) -> Result<Option<Folded<D>>, Failure> {
    match code {
        Code::Log(projection) => log_rows(projection, page, rows).map(|()| None),
        Code::States(projection) => {
            let folded = fold.page(store, &page.events).await?;
            folded.write(projection, rows)?;
            Ok(Some(folded))
        }
    }
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
