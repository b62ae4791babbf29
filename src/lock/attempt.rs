//! One try to lock: a round, of which what a quorum granted is kept and the rest is released.

use super::lease::{Lease, token};
use super::quorum::{KeyResult, validity};
use super::round::Round;
use super::{Acquisition, Op, Redlock};
use std::sync::Arc;
use std::time::Instant;

/// A try under way. One that is dropped before its conclusion releases everything it asked for.
pub(super) struct Attempt<'a> {
    redlock: &'a Redlock,
    round: Round,
    /// Where each given key is among those asked for, which are sorted and each once.
    places: Vec<usize>,
    concluded: bool,
}

impl<'a> Attempt<'a> {
    /// Asks every node for the keys.
    pub fn start(redlock: &'a Redlock, keys: &[String]) -> Attempt<'a> {
        let (unique, places) = sorted(keys);
        Attempt {
            redlock,
            round: Round::ask(redlock, Op::Acquire, unique.into(), token(&redlock.name)),
            places,
            concluded: false,
        }
    }

    pub async fn collect(&mut self) {
        self.round.collect().await;
    }

    /// Makes a lease of what was granted and releases all else on every node, also on those that did not answer: they
    /// may have locked it, or do so later.
    pub fn conclude(mut self) -> Acquisition {
        self.concluded = true;
        let (redlock, ttl, claim) = (self.redlock, self.redlock.settings.ttl, &self.round.claim);
        let now = Instant::now();
        let elapsed = now.duration_since(claim.since);
        let results = self.round.conclude(ttl, elapsed);
        let deadline = validity(ttl, elapsed).and_then(|left| now.checked_add(left)).unwrap_or(now);

        let granted = if results.iter().all(|result| *result == KeyResult::Granted) {
            claim.keys.clone()
        } else {
            let with = |granted| {
                let all = claim.keys.iter().zip(&results);
                let wanted = all.filter(move |(_, result)| (**result == KeyResult::Granted) == granted);
                wanted.map(|(key, _)| key.clone()).collect::<Arc<[String]>>()
            };
            redlock.send_release(claim.token.clone(), with(false));
            with(true)
        };
        let lease = Lease::new(claim.token.clone(), granted, claim.since, deadline);
        let results = self.places.iter().map(|place| results[*place]).collect();
        Acquisition { lease, results, elapsed }
    }
}

/// The keys sorted and each once, and where each of the given ones is among them.
fn sorted(keys: &[String]) -> (Vec<String>, Vec<usize>) {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_unstable_by_key(|given| &keys[*given]);
    let (mut unique, mut places) = (Vec::with_capacity(keys.len()), vec![0; keys.len()]);
    for given in order {
        if unique.last() != Some(&keys[given]) {
            unique.push(keys[given].clone());
        }
        places[given] = unique.len() - 1;
    }
    (unique, places)
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.concluded {
            let claim = &self.round.claim;
            self.redlock.send_release(claim.token.clone(), claim.keys.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_given_key_has_its_place(keys in prop::collection::vec("[a-c]{0,2}", 0..20)) {
            let (unique, places) = sorted(&keys);
            prop_assert!(unique.is_sorted_by(|one, next| one < next));
            prop_assert!(places.iter().map(|place| &unique[*place]).eq(&keys));
            prop_assert!(unique.iter().all(|key| keys.contains(key)));
        }
    }
}
