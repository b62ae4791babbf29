//! The newest position that is known to be committed, and a database that goes back behind it: a failover to a server that
//! lacked the last commits, or a restored copy.

use std::sync::atomic::{AtomicU64, Ordering};

/// The newest position that this process knows to be committed.
#[derive(Debug, Default)]
pub struct CommittedHead(AtomicU64);

impl CommittedHead {
    /// The position; 0 before the first.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// The database says that `head` is its newest position; `known` was the head when the question was sent. True when commits are gone.
    pub fn has_gone_back(&self, known: u64, head: u64) -> bool {
        if head >= known {
            self.0.fetch_max(head, Ordering::AcqRel);
            return false;
        }
        // Of several who notice, the first one tells.
        self.0.compare_exchange(known, head, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_behind_a_known_commit_is_told_once_and_an_answer_that_was_overtaken_is_none() {
        let newest = CommittedHead::default();
        assert!(!newest.has_gone_back(0, 7));
        assert!(!newest.has_gone_back(0, 5), "asked before 7 was known");
        assert_eq!(newest.get(), 7);
        assert!(newest.has_gone_back(7, 6));
        assert!(!newest.has_gone_back(7, 6), "the second one to notice");
        assert!(!newest.has_gone_back(6, 8));
        assert_eq!(newest.get(), 8);
    }
}
