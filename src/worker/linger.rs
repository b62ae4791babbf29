//! When few jobs linger for others to come. Pure.

use std::time::{Duration, Instant};

/// Fewer jobs than this are few.
const FEW: usize = 32;

/// The longest that few jobs wait.
const PATIENCE: Duration = Duration::from_millis(5);

/// So many batches are enough: the database has the one, and the other is prepared meanwhile.
const ENOUGH: usize = 2;

/// The longest that a batch which is not worth its cost waits beside so many.
const LONG: Duration = Duration::from_millis(25);

/// Until when the `waiting` jobs wait for the batches under way, of which the youngest was begun at `last_begun`; `None` when a
/// batch of them may be begun at once.
///
/// A batch of few jobs costs nearly as much as one of many, and several of them stand in each other's way at the sequence row.
/// So there is one of few at a time, unless it takes long. At 500 jobs a second that made the median latency half as long.
pub(super) fn linger_until(under_way: usize, waiting: usize, last_begun: Instant) -> Option<Instant> {
    (under_way > 0 && (1..FEW).contains(&waiting)).then_some(last_begun + PATIENCE)
}

/// How many jobs a batch has to have at least beside those under way, and until when. A batch may have `most`.
///
/// Beside two, a small one would only take aggregates that the next large one could have had together: orders of three items out
/// of a thousand came in batches of 270 instead of 430, and a third fewer a second.
pub(super) fn least_jobs(under_way: usize, most: usize, last_begun: Instant) -> Option<(usize, Instant)> {
    (under_way >= ENOUGH).then_some((most / 2, last_begun + LONG))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_few_jobs_wait_and_only_beside_a_batch() {
        let begun = Instant::now();
        let waits = |under_way, waiting| linger_until(under_way, waiting, begun);
        assert_eq!(waits(0, 1), None, "an idle daemon never makes a job wait");
        assert_eq!(waits(1, 1), Some(begun + PATIENCE));
        assert_eq!(waits(3, FEW - 1), Some(begun + PATIENCE));
        assert_eq!(waits(1, FEW), None, "a batch of many is worth its cost");
        assert_eq!(waits(1, 0), None, "nobody waits");
    }

    #[test]
    fn beside_two_a_batch_is_large_unless_they_take_long() {
        let begun = Instant::now();
        assert_eq!(least_jobs(1, 512, begun), None);
        assert_eq!(least_jobs(2, 512, begun), Some((256, begun + LONG)));
    }
}
