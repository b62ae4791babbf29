//! Read models that are read from the log.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::table::Table;
use crate::domain::{AggregateId, Domain};
use crate::store::sql::Sql;

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
    /// The name of its subscription, in logs, metrics and commands; at most 50 characters of ASCII, since builds add their numbers to it.
    fn name(&self) -> &'static str;

    /// The version of this code, from 1: see [`StateProjection::version`](super::StateProjection::version).
    fn version(&self) -> u16 {
        1
    }

    /// Its tables: see [`Projection::tables`](super::Projection::tables).
    fn tables(&self) -> &'static [Table] {
        &[]
    }

    /// The event types that concern it, of [`Domain::EVENTS`]; all others pass by without being decoded.
    fn events(&self) -> &'static [&'static str];

    /// Appends the statements that add what these events mean, in the order of their positions, each ended by a semicolon. They are
    /// committed together with the checkpoint, so each event is added once.
    fn write(&self, page: &[Happened<'_, D>], sql: &mut Sql);
}
