//! One round: ask every node at once, count their votes until they decide.

use super::quorum::{KeyResult, Tally, Vote};
use super::request::{Claim, Request};
use super::{Op, Redlock};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::timeout_at;

/// A round under way.
pub(super) struct Round {
    pub claim: Claim,
    tally: Tally,
    ballots: mpsc::UnboundedReceiver<Vec<Vote>>,
    node_timeout: Duration,
}

impl Round {
    /// Asks every node for the keys, each named once.
    pub fn ask(redlock: &Redlock, op: Op, keys: Arc<[String]>, token: Arc<str>) -> Round {
        let tally = Tally::new(redlock.nodes.len(), keys.len());
        let legacy = if op == Op::Acquire { redlock.legacy.names().into() } else { Arc::default() };
        let claim = Claim { keys, token, since: Instant::now(), legacy };
        let (ballot, ballots) = mpsc::unbounded_channel();
        if !claim.keys.is_empty() {
            for node in redlock.nodes.iter() {
                node.send(Request::Ask { op, claim: claim.clone(), ballot: ballot.clone() });
            }
        }
        Round { claim, tally, ballots, node_timeout: redlock.settings.node_timeout }
    }

    /// Counts votes until they decide every key or a node's time limit has passed.
    pub async fn collect(&mut self) {
        let limit = tokio::time::Instant::from_std(self.claim.since).checked_add(self.node_timeout);
        let limit = limit.unwrap_or_else(tokio::time::Instant::now);
        while !self.tally.is_decided()
            && let Ok(Some(ballot)) = timeout_at(limit, self.ballots.recv()).await
        {
            self.tally.count(&ballot);
        }
    }

    /// What became of each key, in the claim's order, `elapsed` after the round began.
    pub fn conclude(&self, ttl: Duration, elapsed: Duration) -> Vec<KeyResult> {
        self.tally.conclude(ttl, elapsed)
    }
}
