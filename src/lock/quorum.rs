//! The arithmetic of Redlock: how many nodes decide, how long a lock may be trusted, what a set of votes means. Pure.

use std::time::Duration;

/// How many of `nodes` must grant a key: more than half of all configured nodes, whether they answer or not.
pub fn quorum(nodes: usize) -> usize {
    nodes / 2 + 1
}

/// What is taken off a lock's life because clocks run at different speeds and Redis expires keys by the millisecond.
pub fn drift(ttl: Duration) -> Duration {
    (ttl / 100).saturating_add(Duration::from_millis(2))
}

/// How long a lock may still be trusted `elapsed` after its first request was sent, or `None` when it may not be.
pub fn validity(ttl: Duration, elapsed: Duration) -> Option<Duration> {
    let left = ttl.checked_sub(elapsed)?.checked_sub(drift(ttl))?;
    (!left.is_zero()).then_some(left)
}

/// How long a lock may be trusted that a quorum has extended, `elapsed` after the first request for it was sent, or `None`
/// when the old deadline stays in force: an extension that is known only when `left` of the old life is nothing came too
/// late, since somebody else may have the key by then.
pub fn extended(ttl: Duration, elapsed: Duration, left: Duration) -> Option<Duration> {
    validity(ttl, elapsed).filter(|_| !left.is_zero())
}

/// What one node said about one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vote {
    Granted,
    Held,
    Failed,
}

/// What became of one key of an acquisition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyResult {
    /// A quorum granted the key in time: it is held until the lease's deadline.
    Granted,
    /// A quorum answered, and too many of its nodes said that somebody else holds the key. Trying again later helps.
    Busy,
    /// Too few nodes answered, or they answered when the lock's life was already over.
    Unavailable,
}

/// The votes on one key so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Votes {
    granted: usize,
    held: usize,
    failed: usize,
}

impl Votes {
    fn count(&mut self, vote: Vote) {
        match vote {
            Vote::Granted => self.granted += 1,
            Vote::Held => self.held += 1,
            Vote::Failed => self.failed += 1,
        }
    }

    /// The result that no outstanding vote can change any more, if there is one yet.
    fn decided(&self, nodes: usize) -> Option<KeyResult> {
        let quorum = quorum(nodes);
        let outstanding = nodes.saturating_sub(self.granted + self.held + self.failed);
        if self.granted >= quorum {
            return Some(KeyResult::Granted);
        }
        if self.granted + outstanding >= quorum {
            return None;
        }
        if self.granted + self.held >= quorum {
            Some(KeyResult::Busy)
        } else if self.granted + self.held + outstanding < quorum {
            Some(KeyResult::Unavailable)
        } else {
            None
        }
    }

    /// The result when nobody waits any longer: who has not voted by now has failed.
    fn concluded(&self, nodes: usize) -> KeyResult {
        let quorum = quorum(nodes);
        if self.granted >= quorum {
            KeyResult::Granted
        } else if self.granted + self.held >= quorum {
            KeyResult::Busy
        } else {
            KeyResult::Unavailable
        }
    }
}

/// The votes of all nodes on all keys of one acquisition.
#[derive(Debug)]
pub(super) struct Tally {
    nodes: usize,
    votes: Vec<Votes>,
}

impl Tally {
    pub fn new(nodes: usize, keys: usize) -> Tally {
        Tally { nodes, votes: vec![Votes::default(); keys] }
    }

    /// Counts one node's votes, one per key in the order of the keys.
    pub fn count(&mut self, ballot: &[Vote]) {
        for (votes, vote) in self.votes.iter_mut().zip(ballot) {
            votes.count(*vote);
        }
    }

    /// Whether no outstanding ballot can change any result.
    pub fn is_decided(&self) -> bool {
        self.votes.iter().all(|votes| votes.decided(self.nodes).is_some())
    }

    /// The results, given that the votes were in `elapsed` after the first request: a lock that is over before it is
    /// known to be held was never held.
    pub fn conclude(&self, ttl: Duration, elapsed: Duration) -> Vec<KeyResult> {
        let in_time = validity(ttl, elapsed).is_some();
        let result = |votes: &Votes| match votes.concluded(self.nodes) {
            KeyResult::Granted if !in_time => KeyResult::Unavailable,
            result => result,
        };
        self.votes.iter().map(result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vote() -> impl Strategy<Value = Option<Vote>> {
        prop_oneof![Just(None), Just(Some(Vote::Granted)), Just(Some(Vote::Held)), Just(Some(Vote::Failed))]
    }

    fn duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            (0u64..5).prop_map(Duration::from_millis),
            (0u64..20_000).prop_map(Duration::from_millis),
            any::<u64>().prop_map(Duration::from_nanos),
            (any::<u64>(), 0u32..1_000_000_000).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)),
        ]
    }

    fn number(ballots: &[Option<Vote>], wanted: Vote) -> usize {
        ballots.iter().flatten().filter(|vote| **vote == wanted).count()
    }

    /// The cast ballots in order; what is `None` never arrives.
    fn tally(ballots: &[Option<Vote>]) -> Tally {
        let mut tally = Tally::new(ballots.len(), 1);
        ballots.iter().flatten().for_each(|vote| tally.count(&[*vote]));
        tally
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_lock_is_held_only_by_a_quorum_and_while_its_life_lasts(
            ballots in prop::collection::vec(vote(), 1..10), ttl in duration(), elapsed in duration(),
        ) {
            let result = tally(&ballots).conclude(ttl, elapsed)[0];
            let granted = number(&ballots, Vote::Granted);
            let in_time = elapsed.checked_add(drift(ttl)).is_some_and(|used| used < ttl);
            prop_assert_eq!(result == KeyResult::Granted, granted * 2 > ballots.len() && in_time);
        }

        #[test]
        fn validity_is_positive_and_never_more_than_what_is_left(ttl in duration(), elapsed in duration()) {
            if let Some(left) = validity(ttl, elapsed) {
                prop_assert!(!left.is_zero() && elapsed < ttl);
                prop_assert_eq!(left + drift(ttl) + elapsed, ttl);
            }
        }

        #[test]
        fn an_extension_counts_only_before_the_old_deadline(
            ttl in duration(), elapsed in duration(), left in duration(),
        ) {
            match extended(ttl, elapsed, left) {
                Some(life) => prop_assert!(!left.is_zero() && life + elapsed < ttl),
                None => prop_assert!(left.is_zero() || validity(ttl, elapsed).is_none()),
            }
        }

        #[test]
        fn two_holders_of_one_key_would_need_a_node_that_voted_twice(nodes in 1usize..100) {
            prop_assert!(quorum(nodes) * 2 > nodes && (quorum(nodes) - 1) * 2 <= nodes);
        }

        #[test]
        fn an_early_decision_is_what_the_remaining_votes_would_confirm(
            ballots in prop::collection::vec(vote(), 1..10), rest in prop::collection::vec(vote(), 10),
        ) {
            let early = tally(&ballots);
            if early.is_decided() {
                let filled = ballots.iter().zip(rest).map(|(vote, late)| vote.or(late)).collect::<Vec<_>>();
                let life = Duration::from_secs(10);
                prop_assert_eq!(early.conclude(life, Duration::ZERO), tally(&filled).conclude(life, Duration::ZERO));
            }
        }

        #[test]
        fn all_votes_decide(ballots in prop::collection::vec(vote().prop_filter("cast", Option::is_some), 1..10)) {
            prop_assert!(tally(&ballots).is_decided());
        }

        #[test]
        fn busy_means_that_a_quorum_answered_and_unavailable_that_none_did(
            ballots in prop::collection::vec(vote(), 1..10),
        ) {
            let answered = number(&ballots, Vote::Granted) + number(&ballots, Vote::Held);
            match tally(&ballots).conclude(Duration::from_secs(10), Duration::ZERO)[0] {
                KeyResult::Unavailable => prop_assert!(answered * 2 <= ballots.len()),
                KeyResult::Busy => prop_assert!(answered * 2 > ballots.len() && number(&ballots, Vote::Held) > 0),
                KeyResult::Granted => prop_assert!(answered * 2 > ballots.len()),
            }
        }
    }

    #[test]
    fn a_life_of_next_to_nothing_is_never_a_lock() {
        for millis in 0..=2 {
            assert_eq!(validity(Duration::from_millis(millis), Duration::ZERO), None);
        }
        assert!(validity(Duration::from_millis(3), Duration::ZERO).is_some());
        assert_eq!(validity(Duration::from_secs(1), Duration::from_millis(2_500)), None);
    }

    #[test]
    fn keys_are_decided_each_by_its_own_votes() {
        let mut tally = Tally::new(3, 3);
        tally.count(&[Vote::Granted, Vote::Held, Vote::Failed]);
        assert!(!tally.is_decided());
        tally.count(&[Vote::Granted, Vote::Held, Vote::Failed]);
        assert!(tally.is_decided());
        let results = tally.conclude(Duration::from_secs(1), Duration::ZERO);
        assert_eq!(results, [KeyResult::Granted, KeyResult::Busy, KeyResult::Unavailable]);
    }

    #[test]
    fn a_split_vote_with_one_node_silent_is_busy_only_once_nobody_waits() {
        let mut tally = Tally::new(3, 1);
        tally.count(&[Vote::Granted]);
        tally.count(&[Vote::Held]);
        assert!(!tally.is_decided());
        assert_eq!(tally.conclude(Duration::from_secs(1), Duration::ZERO), [KeyResult::Busy]);
    }
}
