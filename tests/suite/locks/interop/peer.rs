//! The other clients, made alike.

use std::time::Duration;

use redlock::RedLock;
use rslock::LockManager;
use tokio::sync::watch;

use super::node::{NodeRedlock, Version};
use super::nodes::Arbiter;
use super::{PATIENCE, TTL, pause};

/// Which client.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Node(Version),
    /// The crate `redlock`, which blocks its thread.
    Redlock,
    /// The crate `rslock`.
    Rslock,
}

/// A client that tries once per call.
pub enum Peer {
    Node(Box<NodeRedlock>),
    Redlock(RedLock),
    Rslock(LockManager),
}

/// What a peer holds.
pub enum Held {
    Node(u64),
    Redlock { resource: Vec<u8>, val: Vec<u8> },
    Rslock(rslock::Lock),
}

impl Peer {
    pub fn start(kind: Kind, nodes: &[String]) -> Self {
        match kind {
            Kind::Node(version) => Peer::Node(Box::new(NodeRedlock::start(version, nodes, 0, Duration::ZERO))),
            Kind::Redlock => {
                let mut redlock = RedLock::new(nodes.to_vec());
                redlock.set_retry(1, 1);
                Peer::Redlock(redlock)
            }
            Kind::Rslock => {
                let mut manager = LockManager::new(nodes.to_vec());
                manager.set_retry(1, Duration::from_millis(1));
                Peer::Rslock(manager)
            }
        }
    }

    /// Tries once to lock a key.
    pub async fn lock(&self, key: &str, ttl: Duration) -> Option<Held> {
        match self {
            Peer::Node(node) => node.lock(&[key], ttl).await.map(Held::Node),
            Peer::Redlock(redlock) => {
                let (redlock, key) = (redlock.clone(), key.as_bytes().to_vec());
                let lock = move || {
                    let lock = redlock.lock(&key, ttl.as_millis() as usize).expect("every node answers")?;
                    Some(Held::Redlock { resource: lock.resource.clone(), val: lock.val.clone() })
                };
                tokio::task::spawn_blocking(lock).await.expect("it ends")
            }
            Peer::Rslock(manager) => match manager.lock(key, ttl).await {
                Ok(lock) => Some(Held::Rslock(lock)),
                Err(rslock::LockError::Unavailable) => None,
                Err(error) => panic!("rslock: {error}"),
            },
        }
    }

    pub async fn release(&self, held: Held) {
        match (self, held) {
            (Peer::Node(node), Held::Node(lock)) => node.release(lock).await,
            (Peer::Redlock(redlock), Held::Redlock { resource, val }) => {
                let redlock = redlock.clone();
                let unlock = move || {
                    redlock.unlock(&redlock::Lock { resource, val, validity_time: 0, lock_manager: &redlock });
                };
                tokio::task::spawn_blocking(unlock).await.expect("it ends");
            }
            (Peer::Rslock(manager), Held::Rslock(lock)) => manager.unlock(&lock).await,
            _ => panic!("a lock goes back to the client that it is from"),
        }
    }

    /// Locks a key, visits the arbiter and releases, over and over until `stop` says so.
    pub async fn contend(self, key: &'static str, arbiter: Arbiter, mut stop: watch::Receiver<bool>) {
        if let Peer::Node(node) = &self {
            // Several keys at once, which only this one of them can.
            node.contend(&["lock:item:beside", key], TTL, &arbiter.url(), "theirs").await;
            tokio::time::timeout(PATIENCE * 2, stop.wait_for(|stop| *stop)).await.expect("a stop").expect("a sender");
            return node.stop().await;
        }
        while !*stop.borrow_and_update() {
            if let Some(held) = self.lock(key, TTL).await {
                arbiter.visit("theirs").await;
                self.release(held).await;
            }
            pause().await;
        }
    }
}
