//! Redlock: locks for many keys at once, granted by a majority of independent Redis servers.
//!
//! `SET key token NX PX ttl` on every node and compare-and-delete afterwards, as the Redis documentation has it and
//! node-redlock does it, so clients of either exclude each other. The module needs nothing of the rest of the crate.
//!
//! - [`quorum`]: the arithmetic. Pure.
//! - [`Redlock::acquire`]: one try, one script call per node for all keys, decided by the fastest majority.
//! - [`Redlock::lock`]: one key, held and extended until it is dropped.
//! - [`Held`] and [`Lease`]: what is held, until when, and how it is extended.
//! - `round`, `attempt`: asking all nodes, and keeping what a majority granted.
//! - `node`: one task per node owns its connection, keeps the requests to it in order, and stops asking a node that is
//!   silent (`breaker`), that was restarted too recently, or that is no independent master (`inspect`).
//!
//! ```no_run
//! use lockkeeper::lock::{NodeAddress, Redlock, Settings};
//! use std::{sync::Arc, time::Duration};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let node = |name: &str| -> redis::RedisResult<NodeAddress> {
//!     Ok(NodeAddress { name: name.into(), client: redis::Client::open(format!("redis://{name}:6379"))? })
//! };
//! let nodes = vec![node("redis1")?, node("redis2")?, node("redis3")?];
//! let redlock = Redlock::start(nodes, Settings::new(Duration::from_secs(2)), Arc::new(|_| ()))?;
//!
//! let held = redlock.lock_within("lock:item:1", Duration::from_secs(5), Duration::from_millis(100)).await?;
//! tokio::select! {
//!     () = held.over() => println!("the lock ran out: stop"),
//!     () = async { /* the work */ } => println!("done under the lock"),
//! }
//! held.release();
//! # Ok(())
//! # }
//! ```
//!
//! # Fencing: what happens when the lock fails
//!
//! A Redlock can be held by two clients at once. Then nothing becomes wrong here, and each step of why has its test.
//!
//! 1. *The lock may fail.* It rests on clocks that run alike and on holders that do not pause. A holder that is frozen
//!    beyond its lease wakes up and goes on (`faults` case 4); a key that is expired early or a majority of nodes that
//!    is restarted empty grants the key twice (cases 27 and 28); a node's clock that jumps does the same (case 31).
//!    A token by which the database could tell the younger holder cannot come from here: a counter on each node is not
//!    monotonic over majorities.
//! 2. *The holder looks first.* Immediately before it sends its transaction it asks how much of its lease is left, and
//!    gives up when that is too little (`suite` `lease`). This keeps most losers from trying, and proves nothing: the
//!    process may be frozen between the question and the packet.
//! 3. *The database decides.* Both holders have read some version v of an aggregate, and both write v + 1. The unique key
//!    over (aggregate type, aggregate id, version) lets one of them commit; the other's whole transaction, receipts and
//!    read models with it, is rolled back, decided again on what is true now, or handed to a peer (`suite` `engine`: a
//!    second writer in between; `faults` case 36: daemons without a common lock).
//! 4. *What was only read is guarded as well.* A rejection writes no version, so the heads it rests on are checked in the
//!    same transaction, after the sequence row is held, which serialises all writers (`suite` `engine`).
//! 5. *A job is applied once.* Two holders with the same job are told apart by the primary key of its receipt
//!    (`suite` `engine`, `recovery`).
//!
//! So the lock saves the work of deciding in vain, and nothing else depends on it.

mod attempt;
mod breaker;
mod held;
mod inspect;
mod lease;
mod node;
pub mod quorum;
mod request;
mod round;
mod script;
mod single;

pub use held::{ExtendError, Held};
pub use inspect::{Identity, NodeFinding, Refusal};
pub use lease::Lease;
use lease::Legacy;
pub use quorum::KeyResult;
pub use single::LockError;

use attempt::Attempt;
use futures_util::future::join_all;
use node::{Node, Roster};
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
    /// How long a lease may be extended, counted from its first request. Then it runs out, so that work which does not end
    /// does not keep its keys for ever.
    pub hold_limit: Duration,
}

impl Settings {
    /// Locks that live for `ttl`, nodes that may take a twentieth of it and at least 5 ms to answer, and leases that are
    /// extended for ten lives at most.
    pub fn new(ttl: Duration) -> Settings {
        let node_timeout = (ttl / 20).max(Duration::from_millis(5));
        Settings { ttl, node_timeout, hold_limit: ttl.saturating_mul(10) }
    }
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
    /// Let keys that are ours live for longer.
    Extend,
    /// Delete keys that are ours.
    Release,
}

impl Op {
    /// Every operation, for metrics that start at zero.
    pub const ALL: [Op; 3] = [Op::Acquire, Op::Extend, Op::Release];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Op::Acquire => "set",
            Op::Extend => "extend",
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
    /// The node has not answered in time.
    Timeout,
    /// The node answered with an error, or its connection broke.
    Error,
    /// The node was not asked: it is away, silent, or may not vote.
    Skipped,
}

impl NodeOutcome {
    /// Every outcome, for metrics that start at zero.
    pub const ALL: [NodeOutcome; 5] =
        [NodeOutcome::Ok, NodeOutcome::Held, NodeOutcome::Timeout, NodeOutcome::Error, NodeOutcome::Skipped];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeOutcome::Ok => "ok",
            NodeOutcome::Held => "held",
            NodeOutcome::Timeout => "timeout",
            NodeOutcome::Error => "error",
            NodeOutcome::Skipped => "skipped",
        }
    }
}

/// What the observer hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report<'a> {
    /// One request to one node.
    Request {
        /// The node's name.
        node: &'a str,
        /// What it was asked for.
        op: Op,
        /// What came of it.
        outcome: NodeOutcome,
        /// The time since the request was made, its wait for the connection included.
        duration: Duration,
    },
    /// A node's server is another than at the last connect: it was restarted, or replaced.
    Restarted {
        /// The node's name.
        node: &'a str,
    },
    /// A lease that is held was extended, or was not.
    Extension(Result<(), ExtendError>),
}

/// Hears of what happens. It is called in the tasks that do the work and must not block.
pub type Observer = Arc<dyn Fn(Report<'_>) + Send + Sync>;

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeHealth {
    /// It has not been connected yet.
    Unknown,
    /// It is connected and grants locks.
    Up,
    /// It was started less than a ttl ago and may have forgotten locks, so it does not vote yet.
    Quarantined,
    /// It is connected, but answers every acquire with an error.
    Refusing,
    /// It is connected, but does not answer in time. It is not asked but probed.
    Silent,
    /// It is no independent master, see [`Refusal`].
    Barred,
    /// It is not connected.
    Down,
}

/// Whether a node can be counted on at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The node's name.
    pub name: String,
    /// How it is.
    pub health: NodeHealth,
    /// Why it is not up; empty when it is.
    pub why: String,
}

impl NodeStatus {
    /// Whether it is connected and grants locks.
    pub fn is_up(&self) -> bool {
        self.health == NodeHealth::Up
    }
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
    observer: Observer,
    /// What tokens begin with.
    name: Arc<str>,
    legacy: Arc<Legacy>,
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
        let roster = Arc::new(Roster::default());
        let start = |address| Node::start(address, settings, observer.clone(), roster.clone());
        let nodes = nodes.into_iter().map(start).collect();
        Ok(Redlock { nodes, settings, observer, name: "".into(), legacy: Arc::default() })
    }

    /// What it was started with.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// How many nodes must grant a key.
    pub fn quorum(&self) -> usize {
        quorum::quorum(self.nodes.len())
    }

    /// The state of every node, as of its last answer.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        self.nodes.iter().map(Node::status).collect()
    }

    /// Tries once to lock all of `keys`. It asks all nodes at once, and returns as soon as their votes decide every key
    /// or the time limit of a node has passed. What is not granted is released on every node before this returns.
    ///
    /// A call that is dropped half way releases what it may have locked.
    pub async fn acquire(&self, keys: &[String]) -> Acquisition {
        let mut attempt = Attempt::start(self, keys);
        attempt.collect().await;
        attempt.conclude()
    }

    /// Releases a lease on every node and does not wait for them. The requests have their place in each node's order
    /// when this returns, so an acquire after it does not find these keys. What is not ours any more stays untouched.
    pub fn release(&self, lease: Lease) {
        self.send_release(lease.token().clone(), lease.shared_keys());
    }

    /// Releases some keys of a lease, as [`release`](Redlock::release) does all.
    pub fn release_keys(&self, lease: &mut Lease, keys: &[String]) {
        lease.forget(keys);
        self.send_release(lease.token().clone(), keys.into());
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

    fn send_release(&self, token: Arc<str>, keys: Arc<[String]>) {
        if keys.is_empty() {
            return;
        }
        let claim = Claim { keys, token, since: Instant::now(), legacy: Arc::default() };
        for node in self.nodes.iter() {
            node.send(Request::Release { claim: claim.clone() });
        }
    }
}
