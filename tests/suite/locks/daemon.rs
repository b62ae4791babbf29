//! The daemon and its locks: nodes of its own that are frozen, and others who want what it has endless work for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lockkeeper::lock::{NodeAddress, Redlock, Settings};
use throwaway::servers::{LOCK_NODE, RedisServer};

use support::{eventually, lockkeeper, world::World};

/// Whoever wants a lock has it within this time, whatever the daemon has to do.
const FAIR: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_daemon_is_ready_although_a_node_was_frozen_before_it_started() {
    let mut world = World::new().await;
    let mut nodes = Vec::new();
    for name in ["frozen", "second", "third"] {
        let name = format!("{name}-{}", world.prefix);
        nodes.push(RedisServer::start(&world.folder, &name, LOCK_NODE).await.expect("a node"));
    }
    nodes[0].freeze().expect("SIGSTOP");
    world.lock_nodes = nodes.iter().map(RedisServer::url).collect();
    let daemon = world.daemon(&[]).await;
    world.item_on_sale("pen", 3).await;
    let (status, text) = daemon.get("/readyz").await.expect("the daemon answers");
    assert_eq!(status, 200, "{text}");
    nodes[0].thaw().expect("SIGCONT");
    eventually("the node is used", async || {
        daemon.metric(r#"lockkeeper_lock_node_up{node="redis1"}"#).await.filter(|up| *up == 1.0)
    })
    .await;
}

/// Pushes restocks of one item without end.
fn endless(world: &World, item: &str) -> (Arc<AtomicBool>, tokio::task::JoinHandle<u64>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, mut redis, stream, item) = (stop.clone(), world.redis.clone(), world.stream.clone(), item.to_owned());
    let push = async move {
        let mut pushed = 0;
        while !stopped.load(Ordering::Relaxed) {
            let waiting: u64 =
                redis::cmd("XLEN").arg(&stream).query_async(&mut redis).await.expect("the broker answers");
            if waiting < 2_000 {
                let mut pipeline = redis::pipe();
                for _ in 0..500 {
                    let command = pipeline.cmd("XADD").arg(&stream).arg("*").arg("type").arg("item.restock");
                    command.arg("key").arg(&item).arg("data").arg(r#"{"quantity":1}"#).ignore();
                }
                pipeline.query_async::<()>(&mut redis).await.expect("the broker answers");
                pushed += 500;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        pushed
    };
    (stop, tokio::spawn(push))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_daemon_has_endless_work_for_is_had_by_others_within_five_seconds() {
    let world = World::new().await;
    let daemon = world.daemon(&[]).await;
    let item = world.id("hot");
    world.item_on_sale(&item, 1).await;
    let (stop, pushing) = endless(&world, &item);
    let nodes = world.lock_nodes.iter().enumerate().map(|(index, url)| NodeAddress {
        name: format!("redis{}", index + 1),
        client: redis::Client::open(url.as_str()).expect("a URL"),
    });
    let redlock =
        Redlock::start(nodes.collect(), Settings::new(Duration::from_secs(2)), Arc::new(|_| {})).expect("odd");
    eventually("all nodes are connected", async || redlock.nodes().iter().all(|node| node.is_up()).then_some(())).await;
    let key = format!("lock:item:{item}");
    for round in 0..4 {
        let before = receipts(&world).await;
        eventually("the daemon is busy", async || (receipts(&world).await > before + 300).then_some(())).await;
        // As node-redlock does it: one try every 100 ms, and nothing that tells anyone that it waits.
        let since = Instant::now();
        let held = loop {
            match redlock.lock(&key).await {
                Ok(held) => break held,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let waited = since.elapsed();
        held.release();
        assert!(waited < FAIR, "round {round}: it took {waited:?}");
    }
    stop.store(true, Ordering::Relaxed);
    let pushed = pushing.await.expect("the producer ends");
    world.drained().await;
    assert_eq!(receipts(&world).await, pushed + 2, "and no job was lost over it");
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_share_a_key_that_both_have_endless_work_for() {
    let world = World::new().await;
    let mut other =
        World::on(&server_of(&world.database), &world.broker, world.lock_nodes.clone(), world.folder.clone()).await;
    let (first_stream, item) = (world.stream.clone(), world.id("hot"));
    // The same database, the same item, and a stream of its own, so that neither can take the other's jobs.
    other.database = world.database.clone();
    let daemons = [world.daemon(&[]).await, other.daemon(&[]).await];
    world.item_on_sale(&item, 1).await;
    let loads = [endless(&world, &item), endless(&other, &item)];
    assert_ne!(first_stream, other.stream);
    for _ in 0..3 {
        for daemon in &daemons {
            let series = "lockkeeper_store_append_events_count";
            let before = daemon.metric(series).await.unwrap_or_default();
            let since = Instant::now();
            eventually("the daemon commits", async || daemon.metric(series).await.filter(|count| *count > before))
                .await;
            assert!(since.elapsed() < FAIR, "a daemon had to wait {:?} for the key", since.elapsed());
        }
    }
    for (stop, pushing) in loads {
        stop.store(true, Ordering::Relaxed);
        pushing.await.expect("the producer ends");
    }
    world.drained().await;
    other.drained().await;
}

async fn receipts(world: &World) -> u64 {
    use sqlx::Row;
    let count: i64 =
        sqlx::raw_sql("SELECT COUNT(*) FROM receipts").fetch_one(&mut world.sql().await).await.expect("a count").get(0);
    u64::try_from(count).unwrap_or_default()
}

fn server_of(database: &str) -> String {
    database.rsplit_once('/').map_or(database, |(server, _)| server).to_owned()
}

#[tokio::test]
async fn one_node_says_what_it_is_good_for() {
    let mut world = World::new().await;
    world.lock_nodes.truncate(1);
    let daemon = world.daemon(&[]).await;
    eventually("the log says so", async || daemon.process.last_lines().contains("only saves work").then_some(())).await;
    let (code, output) = lockkeeper(&["check"], &world.environment()).await;
    assert!(code == Some(0) && output.contains("single: one node saves work"), "{output}");
    assert!(output.contains("noeviction") && output.contains("standalone"), "{output}");
}
