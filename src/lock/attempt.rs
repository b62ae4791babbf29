//! One try to lock: a round, of which what a quorum granted is kept and the rest is released.

use super::lease::{Lease, token};
use super::quorum::{KeyResult, validity};
use super::round::Round;
use super::{Acquisition, Op, Redlock};
use std::time::Instant;

/// A try under way. One that is dropped before its conclusion releases everything it asked for.
pub(super) struct Attempt<'a> {
    redlock: &'a Redlock,
    round: Round,
    concluded: bool,
}

impl<'a> Attempt<'a> {
    /// Asks every node for the keys.
    pub fn start(redlock: &'a Redlock, keys: &[String]) -> Attempt<'a> {
        let mut unique = keys.to_vec();
        unique.sort_unstable();
        unique.dedup();
        Attempt { redlock, round: Round::ask(redlock, Op::Acquire, unique.into(), token()), concluded: false }
    }

    pub async fn collect(&mut self) {
        self.round.collect().await;
    }

    /// Makes a lease of what was granted and releases all else on every node, also on those that did not answer: they
    /// may have locked it, or do so later.
    pub fn conclude(mut self, keys: &[String]) -> Acquisition {
        self.concluded = true;
        let (redlock, ttl, claim) = (self.redlock, self.redlock.settings.ttl, &self.round.claim);
        let now = Instant::now();
        let elapsed = now.duration_since(claim.since);
        let results = self.round.conclude(ttl, elapsed);
        let deadline = validity(ttl, elapsed).and_then(|left| now.checked_add(left)).unwrap_or(now);

        let result = |key: &String| claim.keys.binary_search(key).map(|place| results[place]);
        let results_in_order = keys.iter().map(|key| result(key).unwrap_or(KeyResult::Unavailable)).collect();
        let is_granted = |key: &String| result(key) == Ok(KeyResult::Granted);
        let (granted, rest) = claim.keys.iter().cloned().partition(is_granted);
        redlock.send_release(claim.token.clone(), rest);
        let lease = Lease::new(claim.token.clone(), granted, claim.since, deadline);
        Acquisition { lease, results: results_in_order, elapsed }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.concluded {
            let claim = &self.round.claim;
            self.redlock.send_release(claim.token.clone(), claim.keys.to_vec());
        }
    }
}
