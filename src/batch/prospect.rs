//! What a batch under way will come to if the database accepts it, and whether the database does. Its successors decide on the
//! one while they wait for the other.

use std::sync::{Arc, Weak};

use foldhash::HashMap;
use tokio::sync::{mpsc, watch};

use crate::domain::{AggregateId, Domain};
use crate::plan::BatchId;
use crate::store::Basis;

/// Aggregates as a batch leaves them.
#[derive(Debug)]
pub(super) struct Outcome<D: Domain> {
    pub states: HashMap<AggregateId, D::State>,
    pub versions: HashMap<AggregateId, u64>,
}

impl<D: Domain> Outcome<D> {
    /// Takes it, or a copy while a successor looks at it.
    pub fn take(shared: Arc<Self>) -> Self {
        let copy = |shared: Arc<Self>| Self { states: shared.states.clone(), versions: shared.versions.clone() };
        Arc::try_unwrap(shared).unwrap_or_else(copy)
    }
}

/// What the database says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    /// Nothing yet.
    None,
    /// Nobody comes before the batch any more.
    IsNext,
    /// The batch is committed.
    Stands,
    /// The batch has failed, or its task has ended.
    Falls,
}

/// What can be expected of a batch.
#[derive(Debug)]
pub struct Prospect<D: Domain> {
    /// Gone when the batch has ended: then the cache and the database have it.
    outcome: Weak<Outcome<D>>,
    /// What a log has in which the batch is.
    basis: Arc<Basis>,
    /// Whether no other log has that.
    is_proof: bool,
    word: watch::Receiver<Word>,
}

impl<D: Domain> Clone for Prospect<D> {
    fn clone(&self) -> Self {
        Self {
            outcome: self.outcome.clone(),
            basis: self.basis.clone(),
            is_proof: self.is_proof,
            word: self.word.clone(),
        }
    }
}

impl<D: Domain> Prospect<D> {
    /// Whether nothing can be expected of the batch any more.
    pub fn falls(&self) -> bool {
        *self.word.borrow() == Word::Falls
    }

    async fn wait(&mut self, is_enough: impl Fn(&Word) -> bool) -> Result<(), Fallen> {
        match self.word.wait_for(|word| is_enough(word) || matches!(word, Word::Falls)).await.as_deref() {
            Ok(Word::None | Word::IsNext | Word::Stands) => Ok(()),
            Ok(Word::Falls) | Err(_) => Err(Fallen),
        }
    }
}

/// A batch may be succeeded from now on.
#[derive(Debug)]
pub struct Opening<D: Domain> {
    /// The batch.
    pub batch: BatchId,
    /// Aggregates of jobs that will go back: nobody may come after these yet.
    pub except: Vec<AggregateId>,
    /// What its successors go by.
    pub prospect: Prospect<D>,
}

/// Where batches say that they may be succeeded.
pub type Openings<D> = mpsc::UnboundedSender<Opening<D>>;

/// The batch's own end: it says what became of it. When it is dropped without a word, the batch has failed.
pub(super) struct Promise(watch::Sender<Word>);

impl Promise {
    /// Opens a batch whose transaction is on its way.
    pub fn open<D: Domain>(
        openings: &Openings<D>,
        batch: BatchId,
        except: Vec<AggregateId>,
        outcome: &Arc<Outcome<D>>,
        (basis, is_proof): (Basis, bool),
    ) -> Self {
        let (sender, word) = watch::channel(Word::None);
        let prospect = Prospect { outcome: Arc::downgrade(outcome), basis: Arc::new(basis), is_proof, word };
        // A dispatcher that is gone plans no successors.
        let _ = openings.send(Opening { batch, except, prospect });
        Self(sender)
    }

    /// The batch has the sequence row.
    pub fn is_next(&self) {
        self.0.send_replace(Word::IsNext);
    }

    /// The batch is committed.
    pub fn keep(self) {
        self.0.send_replace(Word::Stands);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.send_if_modified(|word| {
            let is_broken = *word != Word::Stands;
            if is_broken {
                *word = Word::Falls;
            }
            is_broken
        });
    }
}

/// A predecessor has failed, and with it what was decided on its outcome.
#[derive(Debug)]
pub(super) struct Fallen;

/// The batches that one succeeds.
pub(super) struct Predecessors<D: Domain>(pub Vec<Prospect<D>>);

impl<D: Domain> Predecessors<D> {
    /// The states and versions of those of `aggregates` that predecessors leave; `None` when one of them has ended, so that
    /// these are no news any more.
    pub fn outcome(&self, aggregates: &[AggregateId]) -> Option<HashMap<AggregateId, (u64, D::State)>> {
        let outcomes = self.0.iter().map(|prospect| prospect.outcome.upgrade()).collect::<Option<Vec<_>>>()?;
        let mut left = HashMap::default();
        for aggregate in aggregates {
            // One of them may have succeeded another.
            let versions = outcomes.iter().filter_map(|outcome| Some((*outcome.versions.get(aggregate)?, outcome)));
            if let Some((version, outcome)) = versions.max_by_key(|(version, _)| *version)
                && let Some(state) = outcome.states.get(aggregate)
            {
                left.insert(aggregate.clone(), (version, state.clone()));
            }
        }
        Some(left)
    }

    /// What a log has in which all of them are.
    pub fn basis(&self) -> Basis {
        let mut basis = Basis::default();
        for prospect in &self.0 {
            basis.add(&prospect.basis);
        }
        basis
    }

    /// Waits until a transaction that rests on the [basis](Self::basis) cannot come before theirs. Whether they stand is then left
    /// to the database, if it can tell from the basis; otherwise it waits for that.
    pub async fn are_next(&mut self) -> Result<(), Fallen> {
        for prospect in &mut self.0 {
            let is_proof = prospect.is_proof;
            prospect.wait(|word| matches!(word, Word::Stands) || (is_proof && matches!(word, Word::IsNext))).await?;
        }
        Ok(())
    }

    /// Waits until it is known whether all of them are committed.
    pub async fn stand(&mut self) -> Result<(), Fallen> {
        for prospect in &mut self.0 {
            prospect.wait(|word| matches!(word, Word::Stands)).await?;
        }
        Ok(())
    }
}
