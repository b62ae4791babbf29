//! One try to lock: ask all nodes, count until decided, keep what a quorum granted and release the rest.

use super::lease::{Lease, token};
use super::quorum::{KeyResult, Tally, Vote, validity};
use super::request::{Claim, Request};
use super::{Acquisition, Redlock};
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::time::timeout_at;

/// The votes as they come in, one message per node that answers.
pub(super) type Ballots = mpsc::UnboundedReceiver<Vec<Vote>>;

/// A try under way. One that is dropped before its conclusion releases everything it asked for.
pub(super) struct Attempt<'a> {
    redlock: &'a Redlock,
    claim: Claim,
    tally: Tally,
    concluded: bool,
}

impl<'a> Attempt<'a> {
    /// Asks every node for the keys, each named once.
    pub fn start(redlock: &'a Redlock, keys: &[String]) -> (Attempt<'a>, Ballots) {
        let mut unique = keys.to_vec();
        unique.sort_unstable();
        unique.dedup();
        let tally = Tally::new(redlock.nodes.len(), unique.len());
        let claim = Claim { keys: unique.into(), token: token(), since: Instant::now() };
        let (ballot, ballots) = mpsc::unbounded_channel();
        if !claim.keys.is_empty() {
            for node in redlock.nodes.iter() {
                node.send(Request::Acquire { claim: claim.clone(), ballot: ballot.clone() });
            }
        }
        (Attempt { redlock, claim, tally, concluded: false }, ballots)
    }

    /// Counts votes until they decide every key or a node's time limit has passed.
    pub async fn collect(&mut self, mut ballots: Ballots) {
        let limit = (tokio::time::Instant::from_std(self.claim.since)).checked_add(self.redlock.settings.node_timeout);
        let limit = limit.unwrap_or_else(tokio::time::Instant::now);
        while !self.tally.is_decided()
            && let Ok(Some(ballot)) = timeout_at(limit, ballots.recv()).await
        {
            self.tally.count(&ballot);
        }
    }

    /// Makes a lease of what was granted and releases all else on every node, also on those that did not answer: they
    /// may have locked it, or do so later.
    pub fn conclude(mut self, keys: &[String]) -> Acquisition {
        self.concluded = true;
        let (redlock, ttl) = (self.redlock, self.redlock.settings.ttl);
        let now = Instant::now();
        let elapsed = now.duration_since(self.claim.since);
        let results = self.tally.conclude(ttl, elapsed);
        let deadline = validity(ttl, elapsed).and_then(|left| now.checked_add(left)).unwrap_or(now);

        let result = |key: &String| self.claim.keys.binary_search(key).map(|place| results[place]);
        let results_in_order = keys.iter().map(|key| result(key).unwrap_or(KeyResult::Unavailable)).collect();
        let is_granted = |key: &String| result(key) == Ok(KeyResult::Granted);
        let (granted, rest) = self.claim.keys.iter().cloned().partition(is_granted);
        redlock.send_release(self.claim.token.clone(), rest);
        let lease = Lease::new(self.claim.token.clone(), granted, deadline);
        Acquisition { lease, results: results_in_order, elapsed }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.concluded {
            self.redlock.send_release(self.claim.token.clone(), self.claim.keys.to_vec());
        }
    }
}
