//! A prepared batch: what it will have written if the database accepts it, and whether the database does. Its successors decide on
//! the one while they wait for the other.

use std::sync::{Arc, Weak};

use foldhash::HashMap;
use tokio::sync::{mpsc, watch};

use crate::batch::failure::Failure;
use crate::domain::{AggregateId, Domain};
use crate::plan::BatchId;
use crate::store::AppendCondition;

/// Aggregates as a batch leaves them.
#[derive(Debug)]
pub(in crate::batch) struct StatesAfter<D: Domain> {
    pub states: HashMap<AggregateId, D::State>,
    pub versions: HashMap<AggregateId, u64>,
}

impl<D: Domain> StatesAfter<D> {
    /// Takes it, or a copy while a successor looks at it.
    pub fn take(shared: Arc<Self>) -> Self {
        let copy = |shared: Arc<Self>| Self { states: shared.states.clone(), versions: shared.versions.clone() };
        Arc::try_unwrap(shared).unwrap_or_else(copy)
    }
}

/// How far the commit of a prepared batch is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum CommitState {
    /// It is decided, and nothing has been heard of its commit.
    Prepared,
    /// It holds the sequence row: nobody comes before it any more.
    Sequenced,
    /// It is durable.
    Committed,
    /// It has failed, or its task has ended.
    Aborted,
}

/// A handle to a batch that is decided and not committed.
#[derive(Debug)]
pub struct PreparedBatch<D: Domain> {
    /// Gone when the batch has ended: then the cache and the database have it.
    after: Weak<StatesAfter<D>>,
    /// Holds in every log that contains this batch.
    basis: Arc<AppendCondition>,
    /// Whether only such a log can satisfy it.
    is_proof: bool,
    word: watch::Receiver<CommitState>,
}

impl<D: Domain> Clone for PreparedBatch<D> {
    fn clone(&self) -> Self {
        Self { after: self.after.clone(), basis: self.basis.clone(), is_proof: self.is_proof, word: self.word.clone() }
    }
}

impl<D: Domain> PreparedBatch<D> {
    /// Whether nothing can be expected of the batch any more.
    pub fn is_aborted(&self) -> bool {
        *self.word.borrow() == CommitState::Aborted
    }

    async fn wait(&mut self, is_enough: impl Fn(&CommitState) -> bool) -> Result<(), PredecessorAborted> {
        match self.word.wait_for(|word| is_enough(word) || matches!(word, CommitState::Aborted)).await.as_deref() {
            Ok(CommitState::Prepared | CommitState::Sequenced | CommitState::Committed) => Ok(()),
            Ok(CommitState::Aborted) | Err(_) => Err(PredecessorAborted),
        }
    }
}

/// A batch is prepared: from now on others may be decided on its result.
#[derive(Debug)]
pub struct Prepared<D: Domain> {
    /// The batch.
    pub batch: BatchId,
    /// Aggregates of jobs that will go back: nobody may come after these yet.
    pub blocked: Vec<AggregateId>,
    /// What its successors go by.
    pub prospect: PreparedBatch<D>,
}

/// Where batches announce that they are prepared.
pub type PreparedSender<D> = mpsc::UnboundedSender<Prepared<D>>;

/// The batch's own end: it says what became of it. When it is dropped without a word, the batch has failed.
pub(in crate::batch) struct CommitResolver(watch::Sender<CommitState>);

impl CommitResolver {
    /// Announces a batch whose transaction is on its way.
    pub fn announce<D: Domain>(
        openings: &PreparedSender<D>,
        batch: BatchId,
        blocked: Vec<AggregateId>,
        after: &Arc<StatesAfter<D>>,
        (basis, is_proof): (AppendCondition, bool),
    ) -> Self {
        let (sender, word) = watch::channel(CommitState::Prepared);
        let prospect = PreparedBatch { after: Arc::downgrade(after), basis: Arc::new(basis), is_proof, word };
        // A dispatcher that is gone plans no successors.
        let _ = openings.send(Prepared { batch, blocked, prospect });
        Self(sender)
    }

    /// The batch has the sequence row.
    pub fn sequenced(&self) {
        self.0.send_replace(CommitState::Sequenced);
    }

    /// The batch is committed.
    pub fn committed(self) {
        self.0.send_replace(CommitState::Committed);
    }
}

impl Drop for CommitResolver {
    fn drop(&mut self) {
        self.0.send_if_modified(|word| {
            let is_broken = *word != CommitState::Committed;
            if is_broken {
                *word = CommitState::Aborted;
            }
            is_broken
        });
    }
}

/// A predecessor has failed, and with it what was decided on the states after it.
#[derive(Debug)]
pub(in crate::batch) struct PredecessorAborted;

/// The batches that one succeeds.
pub(in crate::batch) struct Predecessors<D: Domain>(pub Vec<PreparedBatch<D>>);

impl<D: Domain> Predecessors<D> {
    /// The states and versions of those of `aggregates` that predecessors leave; `None` when one of them has ended, so that
    /// these are no news any more.
    pub fn states_after(&self, aggregates: &[AggregateId]) -> Option<HashMap<AggregateId, (u64, D::State)>> {
        let after = self.0.iter().map(|prospect| prospect.after.upgrade()).collect::<Option<Vec<_>>>()?;
        let mut left = HashMap::default();
        for aggregate in aggregates {
            // One of them may have succeeded another.
            let versions = after.iter().filter_map(|after| Some((*after.versions.get(aggregate)?, after)));
            if let Some((version, after)) = versions.max_by_key(|(version, _)| *version)
                && let Some(state) = after.states.get(aggregate)
            {
                left.insert(aggregate.clone(), (version, state.clone()));
            }
        }
        Some(left)
    }

    /// What a log has in which all of them are.
    pub fn basis(&self) -> AppendCondition {
        let mut basis = AppendCondition::default();
        for prospect in &self.0 {
            basis.add(&prospect.basis);
        }
        basis
    }

    /// Waits until a transaction that rests on the [basis](Self::basis) cannot come before theirs. Whether they stand is then left
    /// to the database, if it can tell from the basis; otherwise it waits for that.
    pub async fn are_next(&mut self) -> Result<(), PredecessorAborted> {
        for prospect in &mut self.0 {
            let is_proof = prospect.is_proof;
            prospect
                .wait(|word| {
                    matches!(word, CommitState::Committed) || (is_proof && matches!(word, CommitState::Sequenced))
                })
                .await?;
        }
        Ok(())
    }

    /// Waits until it is known whether all of them are committed.
    pub async fn stand(&mut self) -> Result<(), PredecessorAborted> {
        for prospect in &mut self.0 {
            prospect.wait(|word| matches!(word, CommitState::Committed)).await?;
        }
        Ok(())
    }
}

impl From<PredecessorAborted> for Failure {
    fn from(_: PredecessorAborted) -> Self {
        Self::PredecessorAborted
    }
}
