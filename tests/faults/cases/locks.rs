//! Faults of the lock nodes: down, frozen, empty, cut off, lying. Whatever the locks do, the log stays right.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockkeeper::lock::{NodeAddress, Redlock, Settings};
use throwaway::proxy::{Fault, Proxy};
use throwaway::servers::RedisServer;

use crate::load::ITEMS;
use crate::site::Site;
use support::{PATIENCE, eventually, lockkeeper};

/// The life of a lock, as the daemons have it by default.
const TTL: Duration = Duration::from_secs(2);

/// How soon work has to go on once a majority of nodes is back: they are kept out for a lock's life.
const RECOVERY: Duration = Duration::from_secs(5);

/// A lock node that may drop locks is refused by name, and so is a broker that may drop jobs.
pub async fn evicting(site: &mut Site) {
    let node = client(&site.servers.lock_nodes[0]);
    ask::<()>(&node, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    for command in ["run", "check"] {
        let (code, output) = lockkeeper(&[command], &site.world.environment()).await;
        assert_eq!(code, Some(78), "I7: {command} accepts a node that evicts:\n{output}");
        assert!(output.contains("redis1") && output.contains("allkeys-lru"), "I7: {output}");
    }
    ask::<()>(&node, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    site.under_load().await;
    site.mended().await;
}

pub async fn one_down(site: &mut Site) {
    site.under_load().await;
    for node in 0..3 {
        site.servers.lock_nodes[node].kill();
        node_is(site, node, 0.0).await;
        for _ in 0..3 {
            site.progress().await;
        }
        let (status, text) = site.daemons[0].get("/readyz").await.expect("the daemon answers");
        assert_eq!(status, 200, "two of three nodes are a quorum: {text}");
        site.servers.lock_nodes[node].restart().await.expect("the node starts again");
        node_is(site, node, 1.0).await;
    }
    site.counted(r#"lockkeeper_lock_node_restarts_total{node="redis1"}"#, 1.0).await;
    site.mended().await;
}

pub async fn two_down(site: &mut Site) {
    site.under_load().await;
    site.servers.lock_nodes[0].kill();
    site.servers.lock_nodes[1].kill();
    nothing_happens(site, 2).await;
    for node in 0..2 {
        site.servers.lock_nodes[node].restart().await.expect("the node starts again");
    }
    goes_on(site).await;
}

pub async fn one_frozen_one_down(site: &mut Site) {
    site.under_load().await;
    site.servers.lock_nodes[0].freeze().expect("SIGSTOP");
    site.servers.lock_nodes[1].kill();
    nothing_happens(site, 2).await;
    site.servers.lock_nodes[0].thaw().expect("SIGCONT");
    goes_on(site).await;
    site.servers.lock_nodes[1].restart().await.expect("the node starts again");
    node_is(site, 1, 1.0).await;
}

/// A majority is restarted empty while a daemon holds locks and another wants them.
pub async fn restarted_empty(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    for _ in 0..3 {
        let holder = site.hold_sequence().await;
        lock_is_held(site).await;
        // Both at once: the first must still be kept from voting when the second is up.
        if let [first, second, ..] = &mut site.servers.lock_nodes[..] {
            tokio::try_join!(first.restart(), second.restart()).expect("the nodes start again");
        }
        site.counted(r#"lockkeeper_lock_node_quarantined{node="redis1"}"#, 1.0).await;
        drop(holder);
        goes_on(site).await;
    }
    site.counted(r#"lockkeeper_lock_node_restarts_total{node="redis1"}"#, 3.0).await;
}

/// All locks run out on a majority of nodes while a daemon is about to commit, and another daemon takes them.
pub async fn expired_early(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    for _ in 0..5 {
        let holder = site.hold_sequence().await;
        lock_is_held(site).await;
        for node in 0..2 {
            let client = client(&site.servers.lock_nodes[node]);
            let script = "for _, key in ipairs(redis.call('KEYS', 'lock:*')) do redis.call('PEXPIRE', key, 1) end";
            ask::<()>(&client, &["EVAL", script, "0"]).await;
        }
        // Long enough for the other daemon to find them free and to stand behind the same row.
        tokio::time::sleep(Duration::from_millis(500)).await;
        drop(holder);
        site.progress().await;
    }
    site.mended().await;
}

/// The nodes cannot be reached while a batch needs more time than its locks have.
pub async fn extension_fails(site: &mut Site) {
    behind_proxies(site).await;
    site.under_load().await;
    let holder = site.hold_sequence().await;
    // It has just begun to wait, under locks that it will have to extend before the wait is over.
    site.batch_waits().await;
    site.to_nodes[..2].iter().for_each(|proxy| proxy.set(Fault::Stall));
    site.counted(r#"lockkeeper_lock_extensions_total{outcome="no_quorum"}"#, 1.0).await;
    eventually("I7: a batch gives up because its locks ran out", async || {
        let (_, text) = site.daemons[0].get("/metrics").await?;
        let lost = text.lines().filter(|line| line.starts_with("lockkeeper_lock_lost_total"));
        lost.into_iter().any(|line| !line.ends_with(" 0")).then_some(())
    })
    .await;
    drop(holder);
    site.to_nodes.iter().for_each(|proxy| proxy.set(Fault::None));
    goes_on(site).await;
    // A batch that is slow, and nothing else is wrong: its locks are extended.
    let holder = site.hold_sequence().await;
    site.counted(r#"lockkeeper_lock_extensions_total{outcome="ok"}"#, 1.0).await;
    drop(holder);
    site.mended().await;
}

/// Replies to releases are lost, and somebody writes over a lock: what is another's is never deleted.
pub async fn foreign_values(site: &mut Site) {
    behind_proxies(site).await;
    site.under_load().await;
    site.to_nodes[0].set(Fault::DropReplies);
    for _ in 0..3 {
        site.progress().await;
    }
    site.to_nodes[0].set(Fault::None);
    for _ in 0..3 {
        let holder = site.hold_sequence().await;
        let lock = lock_is_held(site).await;
        for node in &site.servers.lock_nodes {
            ask::<()>(&client(node), &["SET", &lock, "another client", "PX", "600000"]).await;
        }
        let before = site.receipts().await;
        drop(holder);
        eventually("the batch ends, and releases what it holds", async || {
            let held = site.daemons[0].metric("lockkeeper_locks_held").await?;
            (held == 0.0 && site.receipts().await > before).then_some(())
        })
        .await;
        for node in &site.servers.lock_nodes {
            let value: Option<String> = ask(&client(node), &["GET", &lock]).await;
            assert_eq!(value.as_deref(), Some("another client"), "a daemon released a lock that was not its own");
            ask::<()>(&client(node), &["DEL", &lock]).await;
        }
    }
    site.mended().await;
}

/// The daemon's wall clock is wrong, and jumps. Nothing that it measures goes by it.
pub async fn clock_jumps(site: &mut Site) {
    let library = fake_time().expect("libfaketime is installed: see `make faults`");
    let offset = tempfile::NamedTempFile::new().expect("a file");
    let set = |text: &str| std::fs::write(offset.path(), text).expect("the offset is written");
    set("-60");
    let path = offset.path().to_string_lossy().into_owned();
    let fake = [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", path.as_str()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    site.daemon(&fake).await;
    site.stock_up().await;
    site.load();
    for jump in ["+60", "-60", "+3600", "-3600", "+0"] {
        set(jump);
        for _ in 0..3 {
            site.progress().await;
        }
    }
    let (_, metrics) = site.daemons[0].get("/metrics").await.expect("the daemon answers");
    let value = |name: &str| -> f64 {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    assert_eq!(value("lockkeeper_lock_lost_total"), 0.0, "a lock's life does not depend on the clock on the wall");
    let (sum, count) =
        (value("lockkeeper_job_end_to_end_seconds_sum"), value("lockkeeper_job_end_to_end_seconds_count"));
    assert!(count > 0.0 && sum / count < 30.0, "ages go by the broker's clock: {sum} s for {count} jobs");
    site.mended().await;
}

/// A hundred clients want the daemon's busiest aggregate: all of them get it, and so does the daemon.
pub async fn many_clients(site: &mut Site) {
    site.under_load().await;
    let key: Arc<str> = format!("lock:item:{}", site.world.id("item0")).into();
    let nodes = site.servers.lock_nodes.iter().enumerate();
    let nodes: Vec<NodeAddress> =
        nodes.map(|(index, node)| NodeAddress { name: format!("redis{index}"), client: client(node) }).collect();
    let started = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let redlock = Redlock::start(nodes.clone(), Settings::new(TTL), Arc::new(|_| ())).expect("three nodes");
        for _ in 0..10 {
            let (redlock, key) = (redlock.clone(), key.clone());
            clients.spawn(async move {
                let held = redlock.lock_within(&key, PATIENCE, Duration::from_millis(100)).await;
                let held = held.expect("every client gets the lock");
                tokio::time::sleep(Duration::from_millis(2)).await;
                held.release();
                started.elapsed()
            });
        }
    }
    let mut last = Duration::ZERO;
    while let Some(waited) = clients.join_next().await {
        last = last.max(waited.expect("the client ends"));
    }
    println!("    100 clients had the lock within {last:.1?}");
    site.mended().await;
}

fn client(node: &RedisServer) -> redis::Client {
    redis::Client::open(node.url()).expect("the node's URL")
}

async fn ask<T: redis::FromRedisValue>(client: &redis::Client, words: &[&str]) -> T {
    let mut connection = client.get_multiplexed_async_connection().await.expect("the node answers");
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).query_async(&mut connection).await.expect("the node obeys")
}

/// Waits until the first daemon says that a node is up, or is not.
async fn node_is(site: &Site, node: usize, up: f64) {
    let series = format!(r#"lockkeeper_lock_node_up{{node="redis{}"}}"#, node + 1);
    eventually(&format!("I7: {series} is {up}"), async || {
        site.daemons[0].metric(&series).await.filter(|value| *value == up)
    })
    .await;
}

/// Waits until a daemon holds the lock of some item, on the node that no case restarts, and returns its key.
pub async fn lock_is_held(site: &Site) -> String {
    let items = (0..ITEMS).map(|number| format!("lock:item:{}", site.world.id(format!("item{number}"))));
    let items: Vec<String> = items.collect();
    let node = client(&site.servers.lock_nodes[2]);
    eventually("a lock is held", async || {
        for item in &items {
            if ask::<u64>(&node, &["EXISTS", item]).await == 1 {
                return Some(item.clone());
            }
        }
        None
    })
    .await
}

/// Without a quorum nothing is appended, nobody is ready, and the node that is left keeps no lock.
async fn nothing_happens(site: &Site, left: usize) {
    site.not_ready("locks").await;
    let node = client(&site.servers.lock_nodes[left]);
    let pattern = format!("lock:*{}*", site.world.prefix);
    eventually("what the last node granted is released", async || {
        let kept: Vec<String> = ask(&node, &["KEYS", &pattern]).await;
        kept.is_empty().then_some(())
    })
    .await;
    let before = site.receipts().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(site.receipts().await, before, "something was appended without a quorum");
    site.counted(r#"lockkeeper_lock_attempts_total{outcome="no_quorum"}"#, 1.0).await;
}

/// A quorum is back: work goes on by itself.
async fn goes_on(site: &mut Site) {
    let since = Instant::now();
    site.resumed().await;
    assert!(since.elapsed() < RECOVERY, "I6: work went on only {:?} after the nodes were back", since.elapsed());
}

/// Daemons of this case reach the lock nodes through proxies.
pub async fn behind_proxies(site: &mut Site) {
    for node in &site.servers.lock_nodes {
        let target = SocketAddr::from(([127, 0, 0, 1], node.port()));
        site.to_nodes.push(Proxy::start(target).await.expect("a proxy"));
    }
    site.world.lock_nodes = site.to_nodes.iter().map(|proxy| format!("redis://{}", proxy.address())).collect();
}

/// The library that gives a process another time, where Debian puts it.
pub fn fake_time() -> Option<&'static str> {
    let places = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    ];
    places.into_iter().find(|place| std::path::Path::new(place).exists())
}
