//! Whether what this process remembers is likely to be so.

use std::sync::atomic::{AtomicU32, Ordering};

/// How much of what this process remembers is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadMode {
    /// States out of the cache are those of the database, and no job has been run before. The commit notices if not.
    Optimistic,
    /// Nothing is believed.
    Verified,
}

/// Goes by what happened lately. A daemon that has its aggregates to itself need not read before it commits; one that shares
/// them with others, or whose producers send jobs twice, would decide in vain.
///
/// Nothing depends on it but speed: a commit that rests on what is not so is refused.
#[derive(Debug, Default)]
pub struct ReadPolicy(AtomicU32);

/// Batches that look before they decide, after one that would have been wrong. At most one batch of so many is decided in
/// vain.
const WARY: u32 = 64;

impl ReadPolicy {
    /// How the next batch should look.
    pub(in crate::batch) fn look(&self) -> ReadMode {
        if self.0.load(Ordering::Relaxed) == 0 { ReadMode::Optimistic } else { ReadMode::Verified }
    }

    /// A batch that looked found something that would not have been believed, or nothing.
    pub(in crate::batch) fn looked(&self, is_news: bool) {
        if is_news {
            self.missed();
        } else {
            let one_less = |left: u32| Some(left.saturating_sub(1));
            let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        }
    }

    /// A batch was decided in vain.
    pub(in crate::batch) fn missed(&self) {
        self.0.store(WARY, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_miss_so_many_batches_look_and_every_find_begins_anew() {
        let trust = ReadPolicy::default();
        assert_eq!(trust.look(), ReadMode::Optimistic);
        trust.looked(false);
        assert_eq!(trust.look(), ReadMode::Optimistic);
        trust.missed();
        (1..WARY).for_each(|_| trust.looked(false));
        assert_eq!(trust.look(), ReadMode::Verified);
        trust.looked(true);
        (1..WARY).for_each(|_| trust.looked(false));
        assert_eq!(trust.look(), ReadMode::Verified);
        trust.looked(false);
        assert_eq!(trust.look(), ReadMode::Optimistic);
    }
}
