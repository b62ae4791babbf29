//! Read models that are written in the transaction of the events.

use super::table::Table;
use crate::domain::{AggregateId, Domain};
use crate::store::sql::Sql;

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

/// One read model, with statements of its own. It owns its tables and writes at most a few multi-row statements per batch. Where rows
/// follow from the state of an aggregate, [`StateProjection`](super::StateProjection) needs no statements.
///
/// Cutting a history into changes anywhere must give the same rows: a change of three events is three of one.
pub trait Projection<D: Domain>: Send + Sync {
    /// The name in logs and metrics, and in commands; at most 50 characters of ASCII, since builds add their numbers to it.
    fn name(&self) -> &'static str;

    /// The version of this code, from 1: see [`StateProjection::version`](super::StateProjection::version).
    fn version(&self) -> u16 {
        1
    }

    /// Whether it is written from the log, a moment later, and not in the batch: then it costs no job anything, and an event that it
    /// cannot take is parked. Its tables must be described.
    fn is_later(&self) -> bool {
        false
    }

    /// The aggregate types that it is about; nothing else is read when it is filled.
    fn aggregates(&self) -> &'static [&'static str] {
        D::AGGREGATES
    }

    /// Its tables, whose names are written with [`Sql::table`]. One that describes none is never filled anew, and is not kept apart.
    fn tables(&self) -> &'static [Table] {
        &[]
    }

    /// Appends the statements that bring the read model up to date, each ended by a semicolon; nothing when the changes
    /// do not concern it. `changes` are sorted by aggregate and hold
    /// each once; a batch of rejections has none.
    fn write(&self, changes: &[Change<'_, D>], sql: &mut Sql);
}
