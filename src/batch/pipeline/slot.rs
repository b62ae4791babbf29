//! A batch's place in the pipeline: whose results it builds on, and when others may build on its own.

use std::sync::Arc;

use foldhash::HashMap;

use super::prepared::{CommitResolver, PredecessorAborted, Predecessors, PreparedBatch, PreparedSender, StatesAfter};
use crate::batch::load::ReadMode;
use crate::domain::{AggregateId, Domain};
use crate::job::Job;
use crate::plan::{BatchId, Planned};
use crate::store::{AppendCondition, Packet};

/// A batch's place in the pipeline.
pub(in crate::batch) struct PipelineSlot<'a, D: Domain> {
    batch: BatchId,
    pub predecessors: Predecessors<D>,
    /// Aggregates of jobs that have gone back already.
    barred: Vec<AggregateId>,
    /// Taken by the first `open`: a batch is announced at most once.
    openings: Option<&'a PreparedSender<D>>,
}

impl<'a, D: Domain> PipelineSlot<'a, D> {
    pub fn new(batch: BatchId, after: Vec<PreparedBatch<D>>, openings: &'a PreparedSender<D>) -> Self {
        Self { batch, predecessors: Predecessors(after), barred: Vec::new(), openings: Some(openings) }
    }

    /// The predecessors' states and the condition under which they hold, when this batch may decide before they commit. Otherwise it
    /// waits for them, and then the cache and the database have everything.
    pub async fn left_by_predecessors(
        &mut self,
        aggregates: &[AggregateId],
        mode: ReadMode,
    ) -> Result<(HashMap<AggregateId, (u64, D::State)>, AppendCondition), PredecessorAborted> {
        if mode == ReadMode::Optimistic
            && let Some(left) = self.predecessors.states_after(aggregates)
        {
            return Ok((left, self.predecessors.basis()));
        }
        self.predecessors.stand().await?;
        Ok((HashMap::default(), AppendCondition::default()))
    }

    /// Nobody may come after jobs that go back, until they have gone back.
    pub fn bar_after<'j>(&mut self, back: impl Iterator<Item = &'j Planned<Job<D>>>) {
        self.barred.extend(back.flat_map(|planned| planned.aggregates().iter().cloned()));
    }

    /// Announces the batch as prepared; `None` when an earlier attempt, which has failed, did so.
    pub fn open(
        &mut self,
        after: &Arc<StatesAfter<D>>,
        packet: &Packet,
        basis: &AppendCondition,
    ) -> Option<CommitResolver> {
        let openings = self.openings.take()?;
        // The transaction checks its own basis, so its last event proves that too.
        let basis = match &packet.last {
            Some((last, _)) => (AppendCondition { expected: vec![last.clone()], ..AppendCondition::default() }, true),
            None => (basis.clone(), false),
        };
        Some(CommitResolver::announce(openings, self.batch, std::mem::take(&mut self.barred), after, basis))
    }
}
