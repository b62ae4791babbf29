//! The newest position that is known to be committed, and a database that goes back behind it: a failover to a server that
//! lacked the last commits, or a restored copy.

use tokio::sync::watch;

/// The newest position that this process knows to be committed.
#[derive(Debug, Default)]
pub struct CommittedHead(watch::Sender<u64>);

impl CommittedHead {
    /// The position; 0 before the first.
    pub fn get(&self) -> u64 {
        *self.0.borrow()
    }

    /// Waits until something behind `position` is known to be committed.
    pub async fn is_beyond(&self, position: u64) {
        // It never ends before whoever waits: the sender is here.
        let _ = self.0.subscribe().wait_for(|head| *head > position).await;
    }

    /// The database says that `head` is its newest position; `known` was the head when the question was sent. True when commits are gone.
    pub fn has_gone_back(&self, known: u64, head: u64) -> bool {
        let mut is_first = false;
        self.0.send_if_modified(|newest| {
            // Of several who notice, the first one tells.
            is_first = head < known && *newest == known;
            let is_news = is_first || (head >= known && head > *newest);
            if is_news {
                *newest = head;
            }
            is_news
        });
        is_first
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
