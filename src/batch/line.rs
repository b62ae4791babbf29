//! A batch's place among those in flight: whom it succeeds, and when it may be succeeded.

use std::sync::Arc;

use foldhash::HashMap;

use super::load::Look;
use super::prospect::{Fallen, Openings, Outcome, Predecessors, Promise, Prospect};
use crate::domain::{AggregateId, Domain};
use crate::job::Job;
use crate::plan::{BatchId, Planned};
use crate::store::{Basis, Packet};

/// A batch's place among those in flight.
pub(super) struct Line<'a, D: Domain> {
    batch: BatchId,
    pub predecessors: Predecessors<D>,
    /// Aggregates of jobs that have gone back already.
    barred: Vec<AggregateId>,
    /// `None` once it was opened: it is so once.
    openings: Option<&'a Openings<D>>,
}

impl<'a, D: Domain> Line<'a, D> {
    pub fn new(batch: BatchId, after: Vec<Prospect<D>>, openings: &'a Openings<D>) -> Self {
        Self { batch, predecessors: Predecessors(after), barred: Vec::new(), openings: Some(openings) }
    }

    /// What the predecessors leave and where it is so, if that is to be believed before the database has said so. Otherwise it
    /// waits for them, and there is nothing that the cache and the database do not have.
    pub async fn left_by_predecessors(
        &mut self,
        aggregates: &[AggregateId],
        look: Look,
    ) -> Result<(HashMap<AggregateId, (u64, D::State)>, Basis), Fallen> {
        if look == Look::AtUnknown
            && let Some(left) = self.predecessors.outcome(aggregates)
        {
            return Ok((left, self.predecessors.basis()));
        }
        self.predecessors.stand().await?;
        Ok((HashMap::default(), Basis::default()))
    }

    /// Nobody may come after jobs that go back, until they have gone back.
    pub fn bar_after<'j>(&mut self, back: impl Iterator<Item = &'j Planned<Job<D>>>) {
        self.barred.extend(back.flat_map(|planned| planned.aggregates.iter().cloned()));
    }

    /// From now on the batch may be succeeded; `None` when it was so before, in an attempt that has failed.
    pub fn open(&mut self, outcome: &Arc<Outcome<D>>, packet: &Packet, basis: &Basis) -> Option<Promise> {
        let openings = self.openings.take()?;
        // The transaction checks its own basis, so its last event proves that too.
        let basis = match &packet.last {
            Some((last, _)) => (Basis { expected: vec![last.clone()], ..Basis::default() }, true),
            None => (basis.clone(), false),
        };
        Some(Promise::open(openings, self.batch, std::mem::take(&mut self.barred), outcome, basis))
    }
}
