//! Redlock: locks for many keys at once, granted by a majority of independent Redis servers.
//!
//! `SET key token NX PX ttl` on every node and compare-and-delete afterwards, as the Redis documentation has it and
//! node-redlock does it, so clients of either exclude each other. A lock saves work and decides nothing: a holder that
//! pauses for longer than its lease must be stopped where it writes.
//!
//! - [`quorum`]: the arithmetic. Pure.
//! - [`Redlock::acquire`]: one try, one script call per node for all keys, decided by the fastest majority.
//! - `attempt`: one try, from the first request to the lease.
//! - `node`: one task per node owns its connection and keeps the requests to it in order.
//! - [`Lease`]: what is held, and until when.

mod attempt;
mod inspect;
mod lease;
mod node;
pub mod quorum;
mod request;
mod script;

pub use inspect::{NodeFinding, Refusal};
pub use lease::Lease;
pub use quorum::KeyResult;

use attempt::Attempt;
use futures_util::future::join_all;
use node::Node;
use request::{Claim, Request};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long locks live and how long nodes may take.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The time after which a node frees a key that nobody released.
    pub ttl: Duration,
    /// The time after which a node that has not answered counts as not granting. Small against `ttl`.
    pub node_timeout: Duration,
}

/// One lock node.
#[derive(Clone)]
pub struct NodeAddress {
    /// What logs, metrics and messages call the node. Never its URL, which may carry a password.
    pub name: String,
    /// Where the node is.
    pub client: redis::Client,
}

/// What a node was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Set keys that are free.
    Acquire,
    /// Delete keys that are ours.
    Release,
}

impl Op {
    /// Every operation, for metrics that start at zero.
    pub const ALL: [Op; 2] = [Op::Acquire, Op::Release];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Op::Acquire => "set",
            Op::Release => "release",
        }
    }
}

/// What came of one request to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeOutcome {
    /// The node did it, for every key.
    Ok,
    /// Somebody else holds at least one of the keys.
    Held,
    /// The node has not answered in time, or was not asked because it does not answer.
    Timeout,
    /// The node is not connected, or answered with an error.
    Error,
}

impl NodeOutcome {
    /// Every outcome, for metrics that start at zero.
    pub const ALL: [NodeOutcome; 4] = [NodeOutcome::Ok, NodeOutcome::Held, NodeOutcome::Timeout, NodeOutcome::Error];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeOutcome::Ok => "ok",
            NodeOutcome::Held => "held",
            NodeOutcome::Timeout => "timeout",
            NodeOutcome::Error => "error",
        }
    }
}

/// One request to one node, as the observer hears of it.
#[derive(Clone, Copy, Debug)]
pub struct NodeReport<'a> {
    /// The node's name.
    pub node: &'a str,
    /// What it was asked for.
    pub op: Op,
    /// What came of it.
    pub outcome: NodeOutcome,
    /// The time since the request was made, its wait for the connection included.
    pub duration: Duration,
}

/// Hears of every request to a node. It is called in the node's task and must not block.
pub type Observer = Arc<dyn Fn(NodeReport<'_>) + Send + Sync>;

/// Whether a node can be counted on at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The node's name.
    pub name: String,
    /// Whether it is connected and grants locks.
    pub up: bool,
}

/// Why a set of nodes makes no Redlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// There is nobody to ask.
    #[error("no lock node is given; name one, or an odd number of independent masters")]
    NoNode,
    /// One of the nodes is of no use.
    #[error(
        "{0} lock nodes are given, but a majority of {0} tolerates no more failures than one of {less}; take one away or \
         add one",
        less = .0 - 1
    )]
    EvenNodes(usize),
}

/// What one try brought.
#[derive(Debug)]
pub struct Acquisition {
    /// The granted keys, to be released.
    pub lease: Lease,
    /// What became of each key, in the order in which they were given.
    pub results: Vec<KeyResult>,
    /// How long the try took.
    pub elapsed: Duration,
}

/// A set of lock nodes. Cheap to clone; the connections end when the last clone is gone.
#[derive(Clone)]
pub struct Redlock {
    nodes: Arc<[Node]>,
    settings: Settings,
}

impl Redlock {
    /// Starts a task for each node that connects and stays connected. It never waits for a node, so it also starts while
    /// nodes are away. Must be called within a tokio runtime.
    pub fn start(nodes: Vec<NodeAddress>, settings: Settings, observer: Observer) -> Result<Redlock, SetupError> {
        match nodes.len() {
            0 => return Err(SetupError::NoNode),
            even if even % 2 == 0 => return Err(SetupError::EvenNodes(even)),
            _ => (),
        }
        let nodes = nodes.into_iter().map(|address| Node::start(address, settings, observer.clone()));
        Ok(Redlock { nodes: nodes.collect(), settings })
    }

    /// How many nodes must grant a key.
    pub fn quorum(&self) -> usize {
        quorum::quorum(self.nodes.len())
    }

    /// The state of every node, as of its last answer.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        let status = |node: &Node| NodeStatus { name: node.address.name.clone(), up: node.is_up() };
        self.nodes.iter().map(status).collect()
    }

    /// Asks every node what it is, all at once and for a second at most. A cluster node, a replica or a Sentinel would
    /// break the promise of a lock and is refused.
    pub async fn inspect(&self) -> Vec<NodeFinding> {
        join_all(self.nodes.iter().map(|node| inspect::inspect(&node.address))).await
    }

    /// Tries once to lock all of `keys`. It asks all nodes at once, and returns as soon as their votes decide every key
    /// or the time limit of a node has passed. What is not granted is released on every node before this returns.
    ///
    /// A call that is dropped half way releases what it may have locked.
    pub async fn acquire(&self, keys: &[String]) -> Acquisition {
        let (mut attempt, ballots) = Attempt::start(self, keys);
        attempt.collect(ballots).await;
        attempt.conclude(keys)
    }

    /// Releases a lease on every node and does not wait for them. The requests have their place in each node's order
    /// when this returns, so an acquire after it does not find these keys. What is not ours any more stays untouched.
    pub fn release(&self, lease: Lease) {
        let (token, keys) = lease.into_parts();
        self.send_release(token, keys);
    }

    /// Releases some keys of a lease, as [`release`](Redlock::release) does all. Releasing them again later is harmless.
    pub fn release_keys(&self, lease: &Lease, keys: &[String]) {
        self.send_release(lease.token().clone(), keys.to_vec());
    }

    /// Waits until the releases queued so far have been answered, `limit` at most. Nodes that are not connected are not
    /// waited for: the ttl frees their keys.
    pub async fn settle(&self, limit: Duration) {
        let answers = self.nodes.iter().map(|node| {
            let (done, answered) = oneshot::channel();
            node.send(Request::Ping(Some(done)));
            answered
        });
        let _ = timeout(limit, join_all(answers)).await;
    }

    fn send_release(&self, token: Arc<str>, keys: Vec<String>) {
        if keys.is_empty() {
            return;
        }
        let claim = Claim { keys: keys.into(), token, since: Instant::now() };
        for node in self.nodes.iter() {
            node.send(Request::Release { claim: claim.clone() });
        }
    }
}
