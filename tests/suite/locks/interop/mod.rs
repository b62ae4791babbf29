//! Other clients of the same algorithm on the same lock nodes: whoever holds a key keeps the other out, both ways. A
//! service that locks with one of them and a daemon may therefore share the aggregates.
//!
//! The peers are node-redlock in both published versions and the crates `redlock` and `rslock`; each on one node and on
//! three.

mod node;
mod nodes;
mod peer;
mod turns;

use std::time::Duration;

use lockkeeper::lock::KeyResult::{Busy, Granted};
use lockkeeper::lock::Settings;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::node::{NodeRedlock, Version};
use self::nodes::{Arbiter, Nodes, Ours};
use self::peer::{Kind, Peer};
use support::{PATIENCE, eventually};

/// Long enough that no key expires within a test by itself.
const TTL: Duration = Duration::from_secs(120);
/// The life of a lock that is meant to expire.
const SHORT: Duration = Duration::from_secs(1);
/// A busy machine may keep a healthy node from answering for a while.
const NODE_TIMEOUT: Duration = Duration::from_millis(800);

const KEY: &str = "lock:item:pen";

/// How often either side has to be inside before a contention is over.
const VISITS: i64 = 150;

macro_rules! peer {
    ($peer:ident, $kind:expr) => {
        mod $peer {
            use super::*;

            #[tokio::test]
            async fn holds_and_is_held_off() {
                for nodes in [1, 3] {
                    super::holds_and_is_held_off($kind, nodes).await;
                }
            }

            #[tokio::test]
            async fn and_we_leave_each_other_alone_after_expiry() {
                for nodes in [1, 3] {
                    super::leave_each_other_alone_after_expiry($kind, nodes).await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn is_never_inside_with_us() {
                for nodes in [1, 3] {
                    super::never_inside_together($kind, nodes).await;
                }
            }
        }
    };
}

peer!(node_redlock_5, Kind::Node(Version::V5));
peer!(node_redlock_4, Kind::Node(Version::V4));
peer!(redlock, Kind::Redlock);
peer!(rslock, Kind::Rslock);

/// Who holds the key keeps the other out, and lets it in by releasing.
async fn holds_and_is_held_off(kind: Kind, number: usize) {
    let nodes = Nodes::start(number).await;
    let (ours, peer) = (nodes.ours().await, Peer::start(kind, &nodes.urls()));

    let theirs = peer.lock(KEY, TTL).await.unwrap_or_else(|| panic!("{kind:?} gets a free key of {number} nodes"));
    let holder = nodes.holder(KEY).await;
    let (results, lease) = ours.lock(&[KEY, "lock:item:ink"]).await;
    assert_eq!(results, [Busy, Granted], "{kind:?} holds the first key, and nobody the second");
    ours.release(lease).await;
    assert_eq!(nodes.holder(KEY).await, holder, "our release has left the key of {kind:?} alone");

    peer.release(theirs).await;
    let (results, lease) = ours.lock(&[KEY]).await;
    assert_eq!(results, [Granted], "{kind:?} has released it");
    let holder = nodes.holder(KEY).await;
    assert!(peer.lock(KEY, TTL).await.is_none(), "{kind:?} got a key that we hold");
    assert_eq!(nodes.holder(KEY).await, holder, "the refused {kind:?} has left our key alone");

    ours.release(lease).await;
    assert!(peer.lock(KEY, TTL).await.is_some(), "we have released it, and {kind:?} does not get it");
}

/// A release that comes too late removes nobody else's key.
async fn leave_each_other_alone_after_expiry(kind: Kind, number: usize) {
    let nodes = Nodes::start(number).await;
    let peer = Peer::start(kind, &nodes.urls());
    let brief = nodes.ours_for(Settings { node_timeout: SHORT / 2, ..Settings::new(SHORT) }).await;

    let (results, lease) = brief.lock(&[KEY]).await;
    assert_eq!(results, [Granted]);
    nodes.free(KEY).await;
    let theirs = peer.lock(KEY, TTL).await.unwrap_or_else(|| panic!("{kind:?} gets what we held too long"));
    let holder = nodes.holder(KEY).await;
    brief.release(lease).await;
    assert_eq!(nodes.holder(KEY).await, holder, "our late release has left the key of {kind:?} alone");
    peer.release(theirs).await;

    nodes.free(KEY).await;
    let theirs = peer.lock(KEY, SHORT).await.unwrap_or_else(|| panic!("{kind:?} gets a free key"));
    nodes.free(KEY).await;
    let (results, _lease) = nodes.ours().await.lock(&[KEY]).await;
    assert_eq!(results, [Granted], "{kind:?} has held it too long");
    let holder = nodes.holder(KEY).await;
    peer.release(theirs).await;
    assert_eq!(nodes.holder(KEY).await, holder, "the late release of {kind:?} has left our key alone");
}

/// Two of theirs and two of ours want the same key: one at a time is inside, and each kind gets its turns.
async fn never_inside_together(kind: Kind, number: usize) {
    let nodes = Nodes::start(number).await;
    let arbiter = nodes.arbiter().await;
    let (stop, stopped) = watch::channel(false);
    let mut clients = JoinSet::new();
    for _ in 0..2 {
        clients.spawn(contend(nodes.ours().await, arbiter.clone(), stopped.clone()));
        clients.spawn(Peer::start(kind, &nodes.urls()).contend(KEY, arbiter.clone(), stopped.clone()));
    }
    for side in ["ours", "theirs"] {
        let what = format!("{side} are inside {VISITS} times, with {kind:?} on {number} nodes");
        eventually(&what, async || (arbiter.entered(side).await >= VISITS).then_some(())).await;
    }
    stop.send_replace(true);
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client ends in good order");
    }
    let (ours, theirs) = (arbiter.entered("ours").await, arbiter.entered("theirs").await);
    let met = arbiter.met().await;
    assert_eq!(met, 0, "with {kind:?} on {number} nodes, {met} of {ours} + {theirs} visits were not alone");
}

/// Locks the key with another one, visits the arbiter and releases, over and over.
async fn contend(ours: Ours, arbiter: Arbiter, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow_and_update() {
        let (results, lease) = ours.lock(&["lock:item:apart", KEY]).await;
        if results == [Granted, Granted] {
            arbiter.visit("ours").await;
        }
        ours.let_go(lease);
        pause().await;
    }
}

/// Whoever comes back at once would hardly ever let the others in.
async fn pause() {
    tokio::time::sleep(Duration::from_micros(rand::random_range(0..4_000))).await;
}

/// Resources of several keys are one script of node-redlock: all or nothing, against one key of ours and the other way.
#[tokio::test]
async fn several_keys_of_node_redlock_are_all_or_nothing() {
    for (version, number) in [(Version::V5, 1), (Version::V5, 3), (Version::V4, 1), (Version::V4, 3)] {
        let nodes = Nodes::start(number).await;
        let ours = nodes.ours().await;
        let peer = NodeRedlock::start(version, &nodes.urls(), 0, Duration::ZERO);
        let order = ["lock:order:1", "lock:item:a", "lock:item:b"];

        let theirs = peer.lock(&order, TTL).await.expect("free keys");
        let (results, lease) = ours.lock(&["lock:item:0", "lock:item:a", "lock:item:b", "lock:item:c"]).await;
        assert_eq!(results, [Granted, Busy, Busy, Granted], "with {version:?} on {number} nodes");
        peer.release(theirs).await;
        ours.release(lease).await;

        let (results, lease) = ours.lock(&["lock:item:b"]).await;
        assert_eq!(results, [Granted]);
        assert_eq!(peer.lock(&order, TTL).await, None, "{version:?} on {number} nodes: one of three keys is ours");
        nodes.free("lock:item:a").await;
        ours.release(lease).await;
        assert!(peer.lock(&order, TTL).await.is_some());
    }
}

/// An extension of theirs is a lock like any other: the key stays busy for the new time.
#[tokio::test]
async fn an_extended_lock_of_node_redlock_stays_busy() {
    for (version, number) in [(Version::V5, 1), (Version::V5, 3), (Version::V4, 1), (Version::V4, 3)] {
        let nodes = Nodes::start(number).await;
        let ours = nodes.ours().await;
        let peer = NodeRedlock::start(version, &nodes.urls(), 0, Duration::ZERO);
        let lock = peer.lock(&[KEY], SHORT * 20).await.expect("a free key");
        let holder = nodes.holder(KEY).await;
        peer.extend(lock, TTL).await;
        let extended = async || (nodes.time_left(KEY).await > (SHORT * 20).as_millis() as i64).then_some(());
        eventually("every node has the new time", extended).await;
        assert_eq!(ours.lock(&[KEY]).await.0, [Busy]);
        assert_eq!(nodes.holder(KEY).await, holder);
    }
}
