//! Jobs about items that no job has been about.

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::jobs::backlog::{ITEMS, Job};

/// Every item but those of the other cases, each to be taken once, in an order that has nothing to do with where it lies.
#[derive(Debug)]
pub struct Cold {
    numbers: Vec<u32>,
    used: usize,
}

impl Cold {
    /// All items of so many.
    pub fn of(aggregates: u64) -> Cold {
        let last = u32::try_from(aggregates).unwrap_or(u32::MAX);
        let mut numbers: Vec<u32> = (ITEMS as u32..last).collect();
        numbers.shuffle(&mut SmallRng::seed_from_u64(2));
        Cold { numbers, used: 0 }
    }

    /// Up to so many jobs, about the items that come next.
    pub fn jobs(&self, count: usize) -> Vec<Job> {
        self.numbers.iter().skip(self.used).take(count).map(|number| Job::restock(*number as usize)).collect()
    }

    /// The next so many have been taken.
    pub fn used(&mut self, count: usize) {
        self.used += count;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_item_is_taken_twice_and_none_of_those_that_are_warm() {
        let mut cold = Cold::of(3_000);
        let mut seen: HashSet<String> = (0..ITEMS).map(crate::jobs::backlog::item).collect();
        for count in [500, 1_000] {
            let jobs = cold.jobs(count);
            assert_eq!(jobs.len(), count);
            assert!(jobs.into_iter().all(|job| seen.insert(job.key)));
            cold.used(count);
        }
        assert_eq!(cold.jobs(1_000).len(), 500, "there are no more");
        assert_ne!(cold.jobs(2)[0].key, "item-2500");
    }
}
