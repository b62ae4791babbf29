//! Decisions under way. One that does not come to an end is a bug in the domain which no lock and no time limit of a server
//! can end; it holds its thread, and in the end all of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::HashMap;

use crate::job::EntryId;

/// The batches that are being decided.
#[derive(Debug, Default)]
pub struct DecisionWatch {
    next: AtomicU64,
    begun: Mutex<HashMap<u64, (Instant, Vec<EntryId>)>>,
}

/// A decision; it has come to its end when this is dropped.
pub struct Begun<'a> {
    deciding: &'a DecisionWatch,
    number: u64,
}

impl DecisionWatch {
    /// A batch of these entries is decided from now on.
    pub fn begin(&self, entries: impl Iterator<Item = EntryId>) -> Begun<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, (Instant::now(), entries.collect()));
        Begun { deciding: self, number }
    }

    /// Whether a batch is being decided.
    pub fn is_under_way(&self) -> bool {
        !self.lock().is_empty()
    }

    /// The entries of a batch that has been decided on for longer than `limit`.
    pub fn overdue(&self, limit: Duration) -> Option<Vec<EntryId>> {
        self.lock().values().find(|(since, _)| since.elapsed() > limit).map(|(_, entries)| entries.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, (Instant, Vec<EntryId>)>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.deciding.lock().remove(&self.number);
    }
}
