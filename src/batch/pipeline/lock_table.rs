//! The locks that batches in flight hold. A successor goes on under those of its predecessors, so that nobody comes in between.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;

use crate::domain::AggregateId;
use crate::lock::Held;

/// Every aggregate that this process has locked, and for how many batches. Which batches may share a lock is the plan's matter.
#[derive(Debug, Default)]
pub struct LockTable(Mutex<HashMap<AggregateId, Key>>);

/// The lock of an aggregate.
#[derive(Debug)]
struct Key {
    held: Arc<Held>,
    users: usize,
}

impl LockTable {
    /// One user more for each of `aggregates` that is locked. Returns these, what holds them, and the others.
    pub(in crate::batch) fn join(
        &self,
        aggregates: Vec<AggregateId>,
    ) -> (Vec<AggregateId>, Vec<Arc<Held>>, Vec<AggregateId>) {
        let (mut keys, mut holders) = (self.lock(), Vec::new());
        let (joined, missing) = aggregates.into_iter().partition(|aggregate| {
            let Some(key) = keys.get_mut(aggregate) else { return false };
            key.users += 1;
            if !holders.iter().any(|known| Arc::ptr_eq(known, &key.held)) {
                holders.push(key.held.clone());
            }
            true
        });
        (joined, holders, missing)
    }

    /// `held` locks these aggregates, each for one user.
    pub(in crate::batch) fn add(&self, aggregates: &[AggregateId], held: &Arc<Held>) {
        let mut keys = self.lock();
        for aggregate in aggregates {
            keys.insert(aggregate.clone(), Key { held: held.clone(), users: 1 });
        }
    }

    /// One user less for each of `aggregates`. What nobody uses any more is released; returns how many that were.
    pub(in crate::batch) fn leave(&self, aggregates: &[AggregateId]) -> usize {
        let mut keys = self.lock();
        let mut unused: Vec<(Arc<Held>, Vec<String>)> = Vec::new();
        for aggregate in aggregates {
            let Some(key) = keys.get_mut(aggregate) else { continue };
            key.users -= 1;
            if key.users > 0 {
                continue;
            }
            let Some(Key { held, .. }) = keys.remove(aggregate) else { continue };
            let name = lock_key(aggregate);
            match unused.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &held)) {
                Some((_, names)) => names.push(name),
                None => unused.push((held, vec![name])),
            }
        }
        // Before anybody else looks: who then finds an aggregate missing asks the nodes after they were told to free it.
        unused.iter().for_each(|(held, names)| held.let_go(names));
        unused.iter().map(|(_, names)| names.len()).sum()
    }

    /// Nothing that is done under this lock panics, so nothing is left half changed.
    fn lock(&self) -> MutexGuard<'_, HashMap<AggregateId, Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The original service's key scheme, so that its clients and this daemon exclude each other.
pub(in crate::batch) fn lock_key(aggregate: &AggregateId) -> String {
    format!("lock:{}:{}", aggregate.kind, aggregate.id)
}
