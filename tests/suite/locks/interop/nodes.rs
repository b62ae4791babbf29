//! Lock nodes and an arbiter of a test's own, all of them redis-server processes.

use std::sync::Arc;

use lockkeeper::lock::{KeyResult, Lease, NodeAddress, Redlock, Settings};
use redis::aio::MultiplexedConnection;
use throwaway::servers::{Folder, LOCK_NODE, RedisServer};

use support::eventually;

use super::{NODE_TIMEOUT, PATIENCE, TTL};

/// A node that forgets its locks with a restart may not vote when it is young; these remember.
const PERSISTENT: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// Lock nodes that both sides use.
pub struct Nodes {
    servers: Vec<RedisServer>,
    connections: Vec<MultiplexedConnection>,
    folder: Arc<Folder>,
}

impl Nodes {
    pub async fn start(number: usize) -> Self {
        let folder = Folder::temporary().expect("a temporary folder");
        let (mut servers, mut connections) = (Vec::new(), Vec::new());
        for index in 0..number {
            let server = RedisServer::start(&folder, &format!("lock-{index}"), PERSISTENT).await.expect("it starts");
            connections.push(connect(&server.url()).await);
            servers.push(server);
        }
        Self { servers, connections, folder }
    }

    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(RedisServer::url).collect()
    }

    /// Our own client, connected to every node.
    pub async fn ours(&self) -> Ours {
        self.ours_for(Settings { node_timeout: NODE_TIMEOUT, ..Settings::new(TTL) }).await
    }

    pub async fn ours_for(&self, settings: Settings) -> Ours {
        let address =
            |url: String| NodeAddress { client: redis::Client::open(url.as_str()).expect("a valid URL"), name: url };
        let addresses = self.urls().into_iter().map(address).collect();
        let redlock = Redlock::start(addresses, settings, Arc::new(|_| ())).expect("an odd number");
        eventually("every node votes", async || redlock.nodes().iter().all(|node| node.is_up()).then_some(())).await;
        Ours { redlock }
    }

    /// What the nodes hold under a key.
    pub async fn values(&self, key: &str) -> Vec<Option<Vec<u8>>> {
        let mut values = Vec::new();
        for connection in &self.connections {
            values
                .push(redis::cmd("GET").arg(key).query_async(&mut connection.clone()).await.expect("the node answers"));
        }
        values
    }

    /// The value that every node has under a key, once they all have one: a majority is enough for a lock, so one node
    /// may be later than the answer.
    pub async fn holder(&self, key: &str) -> Vec<u8> {
        eventually(&format!("{key} is held on every node"), async || {
            let values: Option<Vec<Vec<u8>>> = self.values(key).await.into_iter().collect();
            values.filter(|values| values.windows(2).all(|pair| pair[0] == pair[1]))?.pop()
        })
        .await
    }

    /// Waits until no node has the key.
    pub async fn free(&self, key: &str) {
        eventually(&format!("{key} is free on every node"), async || {
            self.values(key).await.iter().all(Option::is_none).then_some(())
        })
        .await;
    }

    /// The least time that a key has left on any node, in ms; -2 where it is not.
    pub async fn time_left(&self, key: &str) -> i64 {
        let mut least = i64::MAX;
        for connection in &self.connections {
            let left = redis::cmd("PTTL").arg(key).query_async(&mut connection.clone()).await;
            least = least.min(left.expect("the node answers"));
        }
        least
    }

    /// Starts the arbiter, a server beside the lock nodes.
    pub async fn arbiter(&self) -> Arbiter {
        let server = RedisServer::start(&self.folder, "arbiter", LOCK_NODE).await.expect("the arbiter starts");
        Arbiter { connection: connect(&server.url()).await, server: Arc::new(server) }
    }
}

async fn connect(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("a valid URL");
    // The library's own limit of half a second is short for a machine that does much else.
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    client.get_multiplexed_async_connection_with_config(&config).await.expect("the server answers")
}

/// Our client as these tests use it.
#[derive(Clone)]
pub struct Ours {
    redlock: Redlock,
}

impl Ours {
    /// One try for all of these keys.
    pub async fn lock(&self, keys: &[&str]) -> (Vec<KeyResult>, Lease) {
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        let acquisition = self.redlock.acquire(&keys).await;
        (acquisition.results, acquisition.lease)
    }

    /// Releases and waits until every node has done so.
    pub async fn release(&self, lease: Lease) {
        self.redlock.release(lease);
        self.redlock.settle(PATIENCE).await;
    }

    /// Releases and goes on.
    pub fn let_go(&self, lease: Lease) {
        self.redlock.release(lease);
    }
}

/// Sees who is in the critical section: a Redis server of its own, which no lock depends on.
#[derive(Clone)]
pub struct Arbiter {
    server: Arc<RedisServer>,
    connection: MultiplexedConnection,
}

impl Arbiter {
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Enters, looks round, and leaves.
    pub async fn visit(&self, name: &str) {
        if self.ask::<i64>("INCR", "inside").await != 1 {
            self.ask::<i64>("INCR", "met").await;
        }
        self.ask::<i64>("INCR", &format!("entered:{name}")).await;
        self.ask::<i64>("DECR", "inside").await;
    }

    /// How often somebody of this name was inside.
    pub async fn entered(&self, name: &str) -> i64 {
        self.ask::<Option<i64>>("GET", &format!("entered:{name}")).await.unwrap_or_default()
    }

    /// How often somebody was not alone.
    pub async fn met(&self) -> i64 {
        self.ask::<Option<i64>>("GET", "met").await.unwrap_or_default()
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &str, key: &str) -> T {
        redis::cmd(command).arg(key).query_async(&mut self.connection.clone()).await.expect("the arbiter answers")
    }
}
