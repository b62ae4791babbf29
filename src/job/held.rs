//! Dead letters that later jobs of the same aggregates wait behind: what the broker keeps of each, and which may go. Pure.

use std::collections::HashSet;

use super::EntryId;

/// A letter whose aggregates no later job of its stream may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLetter {
    /// Its id among the dead letters.
    pub letter: EntryId,
    /// The entry that it was made of, which is its job's place in the order.
    pub source: EntryId,
    /// What is to become of it.
    pub state: HeldState,
    /// What its job touches, as text.
    pub aggregates: Vec<String>,
}

/// What is to become of a letter that holds others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldState {
    /// Its job is dead. It stays until an operator says what becomes of it.
    Dead,
    /// Its job was behind a dead one. It goes when nothing older that it shares an aggregate with is left.
    Held,
    /// An operator wants it to run.
    Requeued,
    /// An operator has dropped it.
    Dropped,
}

impl HeldState {
    /// How the state is spelled in front of a record.
    pub fn letter(self) -> char {
        match self {
            Self::Dead => 'd',
            Self::Held => 'h',
            Self::Requeued => 'r',
            Self::Dropped => 'x',
        }
    }

    fn of(letter: char) -> Option<Self> {
        [Self::Dead, Self::Held, Self::Requeued, Self::Dropped].into_iter().find(|state| state.letter() == letter)
    }
}

impl HeldLetter {
    /// The record of a letter, as the broker keeps it under the letter's id: `d1700000000000-0 ["item/pen"]`.
    pub fn record(source: EntryId, state: HeldState, aggregates: &[String]) -> String {
        let list: serde_json::Value = aggregates.into();
        format!("{}{source} {list}", state.letter())
    }

    /// A record, if it is one.
    pub fn parse(letter: &str, record: &str) -> Option<Self> {
        let mut letters = record.chars();
        let state = HeldState::of(letters.next()?)?;
        let (source, aggregates) = letters.as_str().split_once(' ')?;
        let aggregates = serde_json::from_str(aggregates).ok()?;
        Some(Self { letter: letter.parse().ok()?, source: source.parse().ok()?, state, aggregates })
    }
}

/// Those of a stream's letters that may go on, in the order of their jobs: nothing older that stays touches what they touch.
pub fn going(letters: &[HeldLetter]) -> Vec<&HeldLetter> {
    let mut in_order: Vec<&HeldLetter> = letters.iter().filter(|one| one.state != HeldState::Dropped).collect();
    in_order.sort_by_key(|one| one.source);
    let mut held: HashSet<&str> = HashSet::new();
    in_order.retain(|one| {
        let goes = one.state != HeldState::Dead && one.aggregates.iter().all(|aggregate| !held.contains(&**aggregate));
        if !goes {
            held.extend(one.aggregates.iter().map(String::as_str));
        }
        goes
    });
    in_order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn letter(ms: u64, state: HeldState, aggregates: &[u8]) -> HeldLetter {
        let source = EntryId { ms, seq: 0 };
        let aggregates = aggregates.iter().map(|n| format!("item/{n}")).collect();
        HeldLetter { letter: EntryId { ms: 1_000 - ms, seq: 7 }, source, state, aggregates }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let odd = HeldLetter {
            aggregates: vec!["item/a b\"c\\".to_owned(), "order/é".to_owned()],
            ..letter(5, HeldState::Requeued, &[])
        };
        for one in [odd, letter(1, HeldState::Dead, &[]), letter(2, HeldState::Held, &[1, 2])] {
            let record = HeldLetter::record(one.source, one.state, &one.aggregates);
            assert_eq!(HeldLetter::parse(&one.letter.to_string(), &record), Some(one));
        }
        for wrong in ["", "d", "q1-0 []", "d1-0", "d1-0 {}", "dx []"] {
            assert_eq!(HeldLetter::parse("1-0", wrong), None, "{wrong}");
        }
    }

    #[test]
    fn those_behind_a_letter_that_stays_stay_and_pass_it_on() {
        use HeldState::{Dead, Dropped, Held, Requeued};
        let letters = |first| {
            [
                letter(1, first, &[1]),
                letter(2, Held, &[1, 2]),
                letter(3, Held, &[2]),
                letter(4, Dead, &[3]),
                letter(5, Requeued, &[3, 4]),
                letter(6, Held, &[5]),
            ]
        };
        let going = |first| going(&letters(first)).into_iter().map(|one| one.source.ms).collect::<Vec<_>>();
        assert_eq!(going(Dead), [6]);
        assert_eq!(going(Requeued), [1, 2, 3, 6]);
        assert_eq!(going(Dropped), [2, 3, 6]);
    }

    proptest! {
        #[test]
        fn nothing_goes_before_an_older_one_that_stays_and_touches_the_same(
            given in proptest::collection::vec((0u8..4, proptest::collection::btree_set(0u8..5, 0..3)), 0..12)
        ) {
            let states = [HeldState::Dead, HeldState::Held, HeldState::Requeued, HeldState::Dropped];
            let letters: Vec<_> = given.iter().enumerate().map(|(at, (state, touched))| {
                letter(at as u64 + 1, states[usize::from(*state)], &touched.iter().copied().collect::<Vec<_>>())
            }).collect();
            let goes: Vec<_> = going(&letters).into_iter().map(|one| one.source).collect();
            prop_assert!(goes.is_sorted());
            for (at, one) in letters.iter().enumerate() {
                let stays_before = letters[..at].iter().any(|older| {
                    older.state != HeldState::Dropped
                        && !goes.contains(&older.source)
                        && older.aggregates.iter().any(|aggregate| one.aggregates.contains(aggregate))
                });
                let may = matches!(one.state, HeldState::Held | HeldState::Requeued) && !stays_before;
                prop_assert_eq!(goes.contains(&one.source), may, "{:?} among {:?}", one, letters);
            }
        }
    }
}
