//! A daemon with endless work for a key shares it: a node-redlock client and a second daemon get their turns.

use std::time::{Duration, Instant};

use lockkeeper::job::JobId;
use redis::aio::MultiplexedConnection;
use sqlx::Row;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::node::{NodeRedlock, Version};
use support::{
    PATIENCE, eventually,
    world::{Daemon, World},
};

/// Within this time somebody else has the key, every time.
const TURN: Duration = Duration::from_secs(5);
const TIMES: usize = 8;

/// Jobs that wait for the item at any time: more than the daemon gets through while a busy machine lets this test wait.
const BACKLOG: u64 = 10_000;

/// Jobs of several batches in a row.
const SWING: u64 = 2_000;

/// What a service with node-redlock does when its key is taken: it comes back every 100 ms.
const RETRY: Duration = Duration::from_millis(100);

/// How long a service holds the key.
const HOLD: Duration = Duration::from_millis(300);

/// A daemon, an item, and jobs for it without end.
struct Rush {
    world: World,
    item: String,
    _daemon: Daemon,
    feeder: JoinHandle<()>,
}

impl Rush {
    async fn start() -> Self {
        let world = World::new().await;
        let daemon = world.daemon(&[]).await;
        let item = world.id("hot");
        world.item_on_sale(&item, 1).await;
        let feeder = tokio::spawn(feed(world.redis.clone(), world.stream.clone(), item.clone()));
        let rush = Self { world, item, _daemon: daemon, feeder };
        rush.goes_on().await;
        rush
    }

    /// Waits until the busy daemon is in full swing again: right after somebody else's turn it is in no hurry.
    async fn goes_on(&self) {
        let begun = self.version().await;
        eventually("the daemon is at work", async || (self.version().await > begun + SWING).then_some(())).await;
    }

    /// How many events the item has by now.
    async fn version(&self) -> u64 {
        let query = sqlx::query("SELECT version FROM items WHERE item_id = ?").bind(&self.item);
        let row = query.fetch_one(&mut self.world.sql().await).await.expect("the item is there");
        row.get("version")
    }

    /// Fails unless there has been work for the daemon all the time, and every turn came in time.
    async fn judge(&self, who: &str, turns: &[Option<Duration>]) {
        assert!(!self.feeder.is_finished(), "the jobs have come to an end");
        assert!(self.world.left().await.0 > 0, "the daemon has nothing to do");
        println!("{who} had its turns after {turns:?}");
        let in_time = turns.iter().all(|turn| turn.is_some_and(|turn| turn <= TURN));
        assert!(in_time, "{who} should have the key within {TURN:?}, every time, and had it after {turns:?}");
    }
}

impl Drop for Rush {
    fn drop(&mut self) {
        self.feeder.abort();
    }
}

/// Keeps a backlog of jobs for one item.
async fn feed(mut redis: MultiplexedConnection, stream: String, item: String) {
    loop {
        let waiting: u64 = redis::cmd("XLEN").arg(&stream).query_async(&mut redis).await.expect("XLEN");
        let mut pipeline = redis::pipe();
        for _ in waiting..BACKLOG {
            pipeline.cmd("XADD").arg(&stream).arg("*").arg(&["type", "item.restock", "key", &item]);
            pipeline.arg(&["data", r#"{"quantity":1}"#, "id", &Uuid::now_v7().to_string()]).ignore();
        }
        if waiting < BACKLOG {
            pipeline.exec_async(&mut redis).await.expect("XADD");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_service_with_node_redlock_has_its_turns_beside_a_busy_daemon_and_is_alone_in_them() {
    let rush = Rush::start().await;
    let retries = 2 * (TURN.as_millis() / RETRY.as_millis()) as u32;
    let service = NodeRedlock::start(Version::V5, &rush.world.lock_nodes, retries, RETRY);
    let key = format!("lock:item:{}", rush.item);
    // A lock that nobody else wants: the process has started and is connected before its turns are timed.
    let free = service.lock(&[&rush.world.id("free")], PATIENCE).await.expect("nobody holds this key");
    service.release(free).await;
    rush.goes_on().await;
    let mut turns = Vec::new();
    for _ in 0..TIMES {
        let wanted = Instant::now();
        let lock = service.lock(&[&key], PATIENCE).await;
        turns.push(lock.map(|_| wanted.elapsed()));
        if let Some(lock) = lock {
            let version = rush.version().await;
            tokio::time::sleep(HOLD).await;
            assert_eq!(rush.version().await, version, "the daemon has written under the service's lock");
            service.release(lock).await;
        }
        rush.goes_on().await;
    }
    rush.judge("node-redlock", &turns).await;
}

#[tokio::test]
async fn a_second_daemon_has_its_turns_beside_a_busy_one() {
    let rush = Rush::start().await;
    let stream = format!("{}:second", rush.world.stream);
    let _second = rush.world.daemon(&[("LOCKKEEPER_STREAM_NAMES", &stream)]).await;
    let mut turns = Vec::new();
    for _ in 0..TIMES {
        let id = Uuid::now_v7().to_string();
        let fields = ["type", "item.restock", "key", &rush.item, "id", &id, "data", r#"{"quantity":1}"#];
        let wanted = Instant::now();
        let _: String = rush.world.redis_do(&[&["XADD", &stream, "*"][..], &fields].concat()).await;
        assert_eq!(rush.world.receipt(JobId::from_text(&id)).await.outcome, "applied");
        turns.push(Some(wanted.elapsed()));
        rush.goes_on().await;
    }
    rush.judge("the second daemon", &turns).await;
}
