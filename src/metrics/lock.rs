//! What the locks are doing.

use std::time::Duration;

use super::families::*;
use super::registry::{Metrics, flag};

/// Why a batch could not trust its locks any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockLoss {
    /// Their time was over, or too little of it was left to commit in.
    Expired,
    /// They needed more time and did not get it.
    ExtendFailed,
    /// Somebody else's token was found under one of the keys.
    ValueChanged,
}

impl LockLoss {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Expired, Self::ExtendFailed, Self::ValueChanged];

    /// The reason as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::ExtendFailed => "extend_failed",
            Self::ValueChanged => "value_changed",
        }
    }
}

/// What came of asking for more time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// A quorum extended every lock.
    Extended,
    /// A quorum answered, and a lock was not ours any more.
    Lost,
    /// Too few nodes answered in time.
    NoQuorum,
}

impl Extension {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Extended, Self::Lost, Self::NoQuorum];

    /// The outcome as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Extended => "ok",
            Self::Lost => "lost",
            Self::NoQuorum => "no_quorum",
        }
    }
}

/// How one lock node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeState<'a> {
    /// Its alias, never its URL.
    pub name: &'a str,
    /// It is connected and grants locks.
    pub up: bool,
    /// It is probed and not asked.
    pub breaker_open: bool,
    /// It has restarted and is kept out for a while.
    pub quarantined: bool,
}

impl Metrics {
    /// Creates the series of the locks: of these nodes, asked for these operations with these outcomes.
    pub(super) fn start_locks(&self, nodes: &[String], ops: &[&'static str], outcomes: &[&'static str]) {
        for outcome in ["acquired", "contended", "no_quorum"] {
            self.add(&LOCK_ATTEMPTS, [("outcome", outcome)], 0);
            drop(self.histogram(&LOCK_ACQUIRE, [("outcome", outcome)]));
        }
        LockLoss::ALL.iter().for_each(|reason| self.add(&LOCK_LOST, [("reason", reason.as_str())], 0));
        Extension::ALL.iter().for_each(|outcome| self.add(&LOCK_EXTENSIONS, [("outcome", outcome.as_str())], 0));
        self.set(&LOCKS_HELD, [], 0.0);
        for node in nodes {
            for (op, outcome) in ops.iter().flat_map(|op| outcomes.iter().map(move |outcome| (*op, *outcome))) {
                self.add(&NODE_REQUESTS, [("node", node), ("op", op), ("outcome", outcome)], 0);
            }
            ops.iter().for_each(|op| drop(self.histogram(&NODE_DURATION, [("node", node), ("op", *op)])));
            self.add(&NODE_RESTARTS, [("node", node)], 0);
        }
    }

    /// A round of locking ended, with so many aggregates granted, busy and unavailable.
    pub fn locked(&self, elapsed: Duration, granted: usize, busy: usize, unavailable: usize) {
        let worst = if unavailable > 0 {
            "no_quorum"
        } else if busy > 0 {
            "contended"
        } else {
            "acquired"
        };
        self.record(&LOCK_ACQUIRE, [("outcome", worst)], elapsed.as_secs_f64());
        for (outcome, count) in [("acquired", granted), ("contended", busy), ("no_quorum", unavailable)] {
            self.add(&LOCK_ATTEMPTS, [("outcome", outcome)], count as u64);
        }
    }

    /// So many more locks are held than before; fewer, when negative.
    pub fn locks_held(&self, change: f64) {
        self.change(&LOCKS_HELD, [], change);
    }

    /// A batch gave its locks back.
    pub fn released(&self, held: Duration) {
        self.record(&LOCK_HOLD, [], held.as_secs_f64());
    }

    /// A batch asked for more time.
    pub fn extended(&self, outcome: Extension) {
        self.add(&LOCK_EXTENSIONS, [("outcome", outcome.as_str())], 1);
    }

    /// A batch could not trust its locks any more and gave up before its commit.
    pub fn lock_lost(&self, reason: LockLoss) {
        self.add(&LOCK_LOST, [("reason", reason.as_str())], 1);
    }

    /// A batch is about to commit, and its locks have this long to live.
    pub fn commit_margin(&self, margin: Duration) {
        self.record(&COMMIT_MARGIN, [], margin.as_secs_f64());
    }

    /// A lock node answered, or did not.
    pub fn node_request(&self, node: &str, op: &'static str, outcome: &'static str, duration: Duration) {
        self.add(&NODE_REQUESTS, [("node", node), ("op", op), ("outcome", outcome)], 1);
        self.record(&NODE_DURATION, [("node", node), ("op", op)], duration.as_secs_f64());
    }

    /// How many lock nodes must grant, and how each of them is.
    pub fn nodes(&self, quorum: usize, nodes: &[NodeState<'_>]) {
        self.set(&LOCK_NODES, [], nodes.len() as f64);
        self.set(&LOCK_QUORUM, [], quorum as f64);
        for NodeState { name, up, breaker_open, quarantined } in nodes {
            self.set(&NODE_UP, [("node", name)], flag(*up));
            self.set(&NODE_BREAKER, [("node", name)], flag(*breaker_open));
            self.set(&NODE_QUARANTINED, [("node", name)], flag(*quarantined));
        }
    }

    /// A lock node was found to have restarted.
    pub fn node_restarted(&self, node: &str) {
        self.add(&NODE_RESTARTS, [("node", node)], 1);
    }
}
