//! When few jobs wait for others to come. Pure.

use std::time::{Duration, Instant};

/// Fewer jobs than this are few.
const FEW: usize = 32;

/// The longest that few jobs wait.
const PATIENCE: Duration = Duration::from_millis(5);

/// Until when the `waiting` jobs wait for the batches under way, of which the youngest was begun at `last_begun`; `None` when a
/// batch of them may be begun at once.
///
/// A batch of few jobs costs nearly as much as one of many, and several of them stand in each other's way at the sequence row.
/// So there is one of few at a time, unless it takes long. At 500 jobs a second that made the median latency half as long.
pub(super) fn wait_for_company(under_way: usize, waiting: usize, last_begun: Instant) -> Option<Instant> {
    (under_way > 0 && (1..FEW).contains(&waiting)).then_some(last_begun + PATIENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_few_jobs_wait_and_only_beside_a_batch() {
        let begun = Instant::now();
        let waits = |under_way, waiting| wait_for_company(under_way, waiting, begun);
        assert_eq!(waits(0, 1), None, "an idle daemon never makes a job wait");
        assert_eq!(waits(1, 1), Some(begun + PATIENCE));
        assert_eq!(waits(3, FEW - 1), Some(begun + PATIENCE));
        assert_eq!(waits(1, FEW), None, "a batch of many is worth its cost");
        assert_eq!(waits(1, 0), None, "nobody waits");
    }
}
