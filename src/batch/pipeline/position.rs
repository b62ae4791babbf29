//! Where the log will end when a transaction takes the sequence row, so that its positions can be numbers: sums with a variable
//! cost the database more.
//!
//! Nothing depends on it but speed: a transaction with wrong numbers is refused, and sent again with sums.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most transactions with sums between two with numbers, for as long as these are wrong: most likely another daemon writes
/// too.
const MOST_WARY: u32 = 64;

/// What is known of the log's end.
#[derive(Debug, Default)]
pub struct PositionPredictor(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Where it is once all transactions on their way are committed, in the order in which they were sent.
    end: Option<u64>,
    /// Where it is once those are committed that have had the sequence row.
    placed: u64,
    /// Transactions on their way that have not had it yet.
    unplaced: u32,
    /// Another daemon writes to the log as well, so nothing is foreseen.
    is_shared: bool,
    /// How many transactions to come have sums.
    wary: u32,
    /// How many there were after the last one that was wrong; fewer with each that was right.
    caution: u32,
}

impl PositionPredictor {
    /// A transaction of `count` events is about to be sent.
    pub(in crate::batch) fn transaction(&self, count: u64) -> Prediction<'_> {
        let mut state = self.state();
        let base = state.end.filter(|_| state.wary == 0 && !state.is_shared);
        state.end = state.end.map(|end| end + count);
        state.unplaced += 1;
        state.wary = state.wary.saturating_sub(1);
        Prediction { predictor: self, count, base, is_placed: false, is_committed: false }
    }

    /// Whether another daemon writes to the log as well: it owns other streams.
    pub fn share(&self, is_shared: bool) {
        self.state().is_shared = is_shared;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whatever it holds is only a guess.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transaction on its way. It has failed when it is dropped before it was told to be committed.
#[derive(Debug)]
pub(in crate::batch) struct Prediction<'a> {
    predictor: &'a PositionPredictor,
    count: u64,
    /// The last position before it, if that can be prediction.
    pub base: Option<u64>,
    is_placed: bool,
    is_committed: bool,
}

impl Prediction<'_> {
    /// It has the sequence row, in which it found `base`.
    pub fn is_next(&mut self, base: u64) {
        if !self.is_placed {
            self.is_placed = true;
            let mut state = self.predictor.state();
            // Of two, the later one may be told first.
            state.placed = state.placed.max(base + self.count);
            state.unplaced -= 1;
            if state.unplaced == 0 {
                state.end = Some(state.placed);
            }
        }
    }

    /// It is committed.
    pub fn committed(mut self) {
        self.is_committed = true;
        if self.base.is_some() {
            self.predictor.state().caution /= 2;
        }
    }

    /// The log did not end where it was prediction.
    pub fn wrong(self) {
        let forecast = self.predictor;
        drop(self);
        let mut state = forecast.state();
        state.caution = (2 * state.caution).clamp(1, MOST_WARY);
        state.wary = state.caution;
    }
}

impl Drop for Prediction<'_> {
    fn drop(&mut self) {
        if self.is_committed && self.is_placed {
            return;
        }
        let mut state = self.predictor.state();
        (state.end, state.placed) = (None, 0);
        if !self.is_placed {
            state.unplaced -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A predictor that knows the end.
    fn at(end: u64) -> PositionPredictor {
        let predictor = PositionPredictor::default();
        commit(&predictor, end, 0);
        predictor
    }

    fn commit(predictor: &PositionPredictor, base: u64, count: u64) -> Option<u64> {
        let mut prediction = predictor.transaction(count);
        let base_foreseen = prediction.base;
        prediction.is_next(base);
        prediction.committed();
        base_foreseen
    }

    #[test]
    fn transactions_follow_each_other_in_the_order_in_which_they_are_sent() {
        let predictor = PositionPredictor::default();
        assert_eq!(predictor.transaction(3).base, None, "nobody has said where the log ends");
        let predictor = at(10);
        let (mut first, mut second) = (predictor.transaction(3), predictor.transaction(4));
        assert_eq!((first.base, second.base), (Some(10), Some(13)));
        second.is_next(13);
        first.is_next(10);
        assert_eq!(predictor.transaction(1).base, Some(17), "though the second was heard of first");
        first.committed();
        second.committed();
    }

    #[test]
    fn what_fails_leaves_nothing_to_go_by_until_the_log_has_said_where_it_ends() {
        let predictor = at(10);
        let (first, mut second) = (predictor.transaction(3), predictor.transaction(4));
        drop(first);
        assert_eq!(predictor.transaction(1).base, None);
        second.is_next(10);
        second.committed();
        assert_eq!(commit(&predictor, 14, 1), Some(14));
        let mut third = predictor.transaction(2);
        third.is_next(15);
        drop(third);
        assert_eq!(predictor.transaction(1).base, None, "it had the row, and was not committed");
    }

    #[test]
    fn the_more_often_it_is_wrong_the_longer_it_is_silent() {
        let predictor = at(10);
        let wrong_after = || {
            for silent in 0.. {
                let mut prediction = predictor.transaction(1);
                if prediction.base.is_some() {
                    prediction.wrong();
                    return silent;
                }
                prediction.is_next(20);
                prediction.committed();
            }
            0
        };
        assert_eq!([(); 9].map(|()| wrong_after()), [0, 1, 2, 4, 8, 16, 32, 64, 64]);
        (0..64).for_each(|_| assert_eq!(commit(&predictor, 20, 1), None));
        assert_eq!(commit(&predictor, 21, 1), Some(21));
        assert_eq!(
            (wrong_after(), wrong_after()),
            (0, 64),
            "one that was right halves it, and one that was wrong doubles it"
        );
    }
}
