//! How many streams each daemon of a fleet owns when they are shared out. Pure.
//!
//! Nobody assigns anything: each daemon looks at who owns what and does its part. Whoever has more than its share leaves one stream at
//! a time, whoever has less takes what is free at once, and all others take it only when nobody has for a while.

use std::hash::{DefaultHasher, Hash, Hasher};

/// What one daemon is to do for the balance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// The stream that it leaves to others.
    pub leaves: Option<usize>,
    /// Whether it takes a stream at once that is free.
    pub takes: bool,
}

impl Share {
    /// The part of the daemon `me`, which is one of `members`, when these own the streams; a stream that nobody of them owns is about
    /// to be taken.
    pub fn of(me: &str, members: &[&str], streams: &[String], owners: &[Option<&str>]) -> Self {
        let mut counts: Vec<(&str, usize)> = members
            .iter()
            .map(|member| (*member, owners.iter().filter(|owner| **owner == Some(*member)).count()))
            .collect();
        counts.sort_unstable();
        let Some(mine) = counts.iter().find(|(member, _)| *member == me).map(|(_, count)| *count) else {
            return Self::default();
        };
        let (least, with_more) = (streams.len() / counts.len(), streams.len() % counts.len());
        let above: Vec<&str> = counts.iter().filter(|(_, count)| *count > least).map(|(member, _)| *member).collect();
        let takes = mine < least || (mine == least && above.len() < with_more);
        // Somebody lacks one, and of those with more than the least some have to do without it.
        let is_any_short = counts.iter().any(|(_, count)| *count < least);
        let gives = mine > least + 1
            || (mine == least + 1 && is_any_short && !above.iter().take(with_more).any(|member| *member == me));
        let ours = owners.iter().enumerate().filter(|(_, owner)| **owner == Some(me)).map(|(number, _)| number);
        Self { leaves: ours.min_by_key(|number| weight(me, &streams[*number])).filter(|_| gives), takes }
    }
}

/// How much a stream belongs to a daemon: another order for each, so that streams do not follow each other around.
fn weight(member: &str, stream: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (member, stream).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

    fn streams(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("jobs:{number}")).collect()
    }

    /// Lets the members act in turn until nobody does, and returns how many streams were left.
    fn balance<'a>(members: &[&'a str], streams: &[String], owners: &mut [Option<&'a str>]) -> usize {
        let (mut moves, mut is_calm) = (0, false);
        while !is_calm {
            is_calm = true;
            for &me in members {
                let share = Share::of(me, members, streams, owners);
                if let Some(number) = share.leaves {
                    assert_eq!(owners[number].take(), Some(me), "it leaves what it does not own");
                    (moves, is_calm) = (moves + 1, false);
                } else if share.takes
                    && let Some(free) = owners.iter_mut().find(|owner| owner.is_none())
                {
                    (*free, is_calm) = (Some(me), false);
                }
            }
            assert!(moves <= 1000, "they never come to rest");
        }
        moves
    }

    fn counts(members: &[&str], owners: &[Option<&str>]) -> Vec<usize> {
        members.iter().map(|me| owners.iter().filter(|owner| **owner == Some(*me)).count()).collect()
    }

    #[test]
    fn one_daemon_takes_all_and_a_second_gets_half() {
        let (streams, mut owners) = (streams(5), [None; 5]);
        assert_eq!(balance(&["a"], &streams, &mut owners), 0);
        assert_eq!(counts(&["a"], &owners), [5]);
        assert_eq!(balance(&["a", "b"], &streams, &mut owners), 2);
        assert_eq!(counts(&["a", "b"], &owners), [3, 2]);
        assert_eq!(Share::of("z", &["a", "b"], &streams, &owners), Share::default(), "it is none of them");
    }

    proptest! {
        #[test]
        fn shares_differ_by_one_at_most_and_a_join_moves_no_more_than_the_newcomers_share(
            count in 1usize..20, first in 1usize..5
        ) {
            let (streams, mut owners) = (streams(count), vec![None; count]);
            for daemons in first..=NAMES.len() {
                let members = &NAMES[..daemons];
                let moves = balance(members, &streams, &mut owners);
                let counts = counts(members, &owners);
                prop_assert_eq!(counts.iter().sum::<usize>(), count, "a stream has no owner, or two");
                prop_assert!(counts.iter().all(|owned| (count / daemons..=count.div_ceil(daemons)).contains(owned)));
                prop_assert!(daemons == first || moves <= count.div_ceil(daemons), "{moves} moves");
                prop_assert_eq!(balance(members, &streams, &mut owners), 0, "none at balance");
            }
        }

        #[test]
        fn what_a_daemon_leaves_behind_is_shared_by_the_others(count in 1usize..20, daemons in 2usize..5, gone in 0usize..5) {
            let (streams, mut owners) = (streams(count), vec![None; count]);
            balance(&NAMES[..daemons], &streams, &mut owners);
            let gone = NAMES[gone % daemons];
            let left: Vec<&str> = NAMES[..daemons].iter().copied().filter(|member| *member != gone).collect();
            for owner in owners.iter_mut().filter(|owner| **owner == Some(gone)) {
                *owner = None;
            }
            prop_assert_eq!(balance(&left, &streams, &mut owners), 0, "nobody else has too many");
            let counts = counts(&left, &owners);
            prop_assert_eq!(counts.iter().sum::<usize>(), count);
            prop_assert!(counts.iter().all(|owned| (count / left.len()..=count.div_ceil(left.len())).contains(owned)));
        }
    }
}
