//! The newest position that is known to be committed, and a database that goes back behind it: a failover to a server that
//! lacked the last commits, or a restored copy.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Engine, Footing};
use crate::domain::Domain;

/// The newest position that this process knows to be committed.
#[derive(Debug, Default)]
pub struct Newest(AtomicU64);

impl Newest {
    /// The position; 0 before the first.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// The database says that `head` is its newest position; it was asked when `known` was. True when commits are gone.
    pub fn has_gone_back(&self, known: u64, head: u64) -> bool {
        if head >= known {
            self.0.fetch_max(head, Ordering::AcqRel);
            return false;
        }
        // Of several who notice, the first one tells.
        self.0.compare_exchange(known, head, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl<D: Domain> Engine<D> {
    /// Takes note of the database's newest position, which was asked for when `known` was. States that rest on commits which
    /// are gone must not be used, so all of them are loaded again.
    pub fn note_head(&self, known: u64, head: u64) {
        let footing = self.cache.footing();
        if self.newest.has_gone_back(known, head) && self.cache.forget(&footing) {
            self.tell_of_lost_commits(known, head);
        }
        self.metrics.head(Some(self.newest.get()));
    }

    /// An event that states in the cache rest on, those of `footing`, is not in the log, whose newest position is `head`.
    pub(super) fn lost_commits(&self, footing: &Footing, head: u64) {
        let known = self.newest.get();
        self.newest.has_gone_back(known, head);
        if self.cache.forget(footing) {
            self.tell_of_lost_commits(known, head);
        }
    }

    fn tell_of_lost_commits(&self, known: u64, head: u64) {
        self.metrics.went_back();
        tracing::error!(
            known,
            head,
            "the database has lost commits that it had confirmed; jobs whose receipts it lost run again when they are sent \
             again"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_behind_a_known_commit_is_told_once_and_an_answer_that_was_overtaken_is_none() {
        let newest = Newest::default();
        assert!(!newest.has_gone_back(0, 7));
        assert!(!newest.has_gone_back(0, 5), "asked before 7 was known");
        assert_eq!(newest.get(), 7);
        assert!(newest.has_gone_back(7, 6));
        assert!(!newest.has_gone_back(7, 6), "the second one to notice");
        assert!(!newest.has_gone_back(6, 8));
        assert_eq!(newest.get(), 8);
    }
}
