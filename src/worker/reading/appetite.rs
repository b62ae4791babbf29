//! How many entries a read may ask for, since the broker counts entries and not their bytes. Pure.

/// About what one read may bring, once it is known what entries weigh.
const READ_BYTES: usize = 8 << 20;

/// How many times as many as the last read brought the next one may ask for.
const GROWTH: usize = 4;

/// Goes by what the last reads brought: their heaviest entry, of which no read may bring more than fit, and their number, so that
/// a burst of entries unlike those before is met by a small read: by one of a single entry after a pause. The full number is
/// asked for after four reads that were full. After a heavy entry the number doubles with every read that brings none.
#[derive(Debug)]
pub(super) struct Appetite {
    heaviest: usize,
    most: usize,
}

impl Default for Appetite {
    fn default() -> Self {
        Self { heaviest: 0, most: 1 }
    }
}

impl Appetite {
    /// How many of `wanted` entries the next read asks for.
    pub fn count(&self, wanted: usize) -> usize {
        wanted.min(self.most).min(READ_BYTES / self.heaviest.max(1)).max(1)
    }

    /// A read brought nothing in time: what it asked for may be more than can be had.
    pub fn choked(&mut self) {
        *self = Self { heaviest: READ_BYTES, most: 1 };
    }

    /// A read brought entries of these weights.
    pub fn fed(&mut self, weights: impl Iterator<Item = usize>) {
        let (number, heaviest) = weights.fold((0, 0), |(number, heaviest), bytes| (number + 1, bytes.max(heaviest)));
        self.heaviest = heaviest.max(self.heaviest / 2);
        self.most = (GROWTH * number).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_of_small_entries_is_read_in_full_after_four_reads() {
        let mut appetite = Appetite::default();
        let mut asked = Vec::new();
        for _ in 0..6 {
            let count = appetite.count(256);
            asked.push(count);
            appetite.fed(std::iter::repeat_n(100, count));
        }
        assert_eq!(asked, [1, 4, 16, 64, 256, 256]);
    }

    #[test]
    fn after_a_heavy_entry_a_read_brings_no_more_than_fit_until_they_are_light_again() {
        let mut appetite = Appetite::default();
        appetite.fed(std::iter::repeat_n(100, 256));
        assert_eq!(appetite.count(256), 256);
        appetite.fed([100, 64 << 20].into_iter());
        assert_eq!(appetite.count(256), 1, "one is more than fits");
        let mut asked = Vec::new();
        for _ in 0..8 {
            appetite.fed(std::iter::repeat_n(100, 256));
            asked.push(appetite.count(256));
        }
        assert_eq!(asked, [1, 1, 1, 2, 4, 8, 16, 32]);
    }

    #[test]
    fn after_a_read_that_came_to_nothing_one_entry_is_asked_for() {
        let mut appetite = Appetite::default();
        appetite.fed(std::iter::repeat_n(100, 256));
        appetite.choked();
        assert_eq!(appetite.count(256), 1);
        appetite.fed([100].into_iter());
        assert_eq!(appetite.count(256), 2);
    }

    #[test]
    fn whoever_read_a_few_asks_for_few() {
        let mut appetite = Appetite::default();
        appetite.fed(std::iter::repeat_n(100, 256));
        appetite.fed([100].into_iter());
        assert_eq!(appetite.count(256), 4);
        appetite.fed(std::iter::empty());
        assert_eq!(appetite.count(256), 1);
        assert_eq!(appetite.count(0), 1, "a read without a number has no bound");
    }
}
