//! Read models: written in the transaction of the events they come from, or read from the log later.
//!
//! A projection turns what a batch changed into statements; the store sends them in the batch's own transaction, before
//! the events. So a read model always equals the fold of the events, and no reader sees one without the other.
//!
//! A log projection is about what happened when, across aggregates: sales per day. It reads the log in order, page by page, each with
//! its checkpoint in one transaction, so its rows are at any moment those of all events up to the checkpoint. One that is added to an
//! old log begins with the first event.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::{AggregateId, Domain};

pub use crate::store::Migration;
pub use crate::store::sql::{JSON_ID, Sql};

/// What one batch did to one aggregate.
pub struct Change<'a, D: Domain> {
    /// The aggregate; it has at least one new event.
    pub aggregate: &'a AggregateId,
    /// Its version after the batch.
    pub version: u64,
    /// Its state after the batch.
    pub state: &'a D::State,
    /// Its new events, oldest first.
    pub events: &'a [D::Event],
}

/// One read model. It owns its tables and writes at most a few multi-row statements per batch.
pub trait Projection<D: Domain>: Send + Sync {
    /// The name in logs and metrics.
    fn name(&self) -> &'static str;

    /// Appends the statements that bring the read model up to date, each ended by a semicolon; nothing when the changes
    /// do not concern it. `changes` are sorted by aggregate and hold
    /// each once; a batch of rejections has none.
    fn write(&self, changes: &[Change<'_, D>], sql: &mut Sql);
}

/// An event as the log has it.
pub struct Happened<'a, D: Domain> {
    /// Its place in the log.
    pub position: u64,
    /// Its id.
    pub event_id: Uuid,
    /// When it was written, by the database's clock.
    pub recorded_at: DateTime<Utc>,
    /// The aggregate that it belongs to.
    pub aggregate: &'a AggregateId,
    /// Its place in the aggregate's history, from 1.
    pub version: u64,
    /// What happened.
    pub event: &'a D::Event,
}

/// A read model that is read from the log: what happened when. Pure: the same events give the same rows, however they are cut into
/// pages.
pub trait LogProjection<D: Domain>: Send + Sync {
    /// The name of its subscription, in logs, metrics and commands; at most 64 characters of ASCII.
    fn name(&self) -> &'static str;

    /// The event types that concern it, of [`Domain::EVENTS`]; all others pass by without being decoded.
    fn events(&self) -> &'static [&'static str];

    /// Appends the statements that add what these events mean, in the order of their positions, each ended by a semicolon. They are
    /// committed together with the checkpoint, so each event is added once.
    fn write(&self, page: &[Happened<'_, D>], sql: &mut Sql);
}
