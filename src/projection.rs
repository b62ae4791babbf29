//! Read models, written in the transaction of the events they come from.
//!
//! A projection turns what a batch changed into statements; the store sends them in the batch's own transaction, before
//! the events. So a read model always equals the fold of the events, and no reader sees one without the other.

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
