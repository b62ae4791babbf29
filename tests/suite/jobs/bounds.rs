//! Nothing grows with the backlog: neither what is in hand nor the process.

use std::time::{Duration, Instant};

use sqlx::Row;
use throwaway::servers::{Folder, RedisServer};

use support::hold::{hold_sequence, release};
use support::world::World;

/// Pushes restocks of a hundred items, from within the broker.
const FILL: &str = "for i = 1, tonumber(ARGV[2]) do \
    redis.call('XADD', KEYS[1], '*', 'type', 'item.restock', 'key', ARGV[1] .. i % 100, 'data', '{\"quantity\":1}') \
    end return redis.call('XLEN', KEYS[1])";

/// Jobs that each daemon runs before it is measured.
const RUN: i64 = 6000;

/// What a daemon's memory came to at most while it ran [`RUN`] jobs from a stream that never had fewer than `backlog` entries
/// waiting, or about as many; in KiB.
async fn peak_with(backlog: u64) -> u64 {
    let mut world = World::new().await;
    let folder = Folder::temporary().expect("a folder");
    let broker = RedisServer::start(&folder, "own", &[]).await.expect("a broker of its own");
    world.broker = broker.url();
    let client = redis::Client::open(world.broker.as_str()).expect("the broker's URL");
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
    world.redis = client.get_multiplexed_async_connection_with_config(&config).await.expect("the broker answers");
    let fill = async |count: u64| {
        let count = count.to_string();
        world.redis_do::<u64>(&["EVAL", FILL, "1", &world.stream, &world.prefix, &count]).await
    };
    for _ in 0..backlog / 1000 {
        fill(1000).await;
    }
    let daemon = world.daemon(&[("LOCKKEEPER_STREAM_PREFETCH", "2048")]).await;
    let mut sql = world.sql().await;
    let mut most_in_hand = 0;
    loop {
        let count = sqlx::raw_sql("SELECT COUNT(*) FROM receipts").fetch_one(&mut sql).await.expect("the receipts");
        let (waiting, in_hand) = world.left().await;
        most_in_hand = most_in_hand.max(in_hand);
        if count.get::<i64, _>(0) >= RUN {
            break;
        }
        if waiting < backlog.min(1000) {
            fill(1000).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(most_in_hand <= 2048, "{most_in_hand} jobs were in hand");
    let (waiting, _) = world.left().await;
    assert!(backlog <= 1000 || waiting + 2 * RUN as u64 > backlog, "{waiting} of {backlog} are left");
    let pid = daemon.process.pid().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the kernel tells");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a high-water mark");
    peak.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test]
async fn memory_is_as_flat_with_a_million_entries_waiting_as_with_a_thousand() {
    let small = peak_with(1000).await;
    let large = peak_with(1_000_000).await;
    eprintln!("peak of the daemon: {small} KiB with 1,000 entries waiting, {large} KiB with 1,000,000");
    assert!(large * 2 < small * 3, "{large} KiB with a million entries waiting, {small} KiB with a thousand");
}

#[tokio::test]
async fn heavy_jobs_are_read_a_few_at_a_time() {
    let world = World::new().await;
    let pen = world.id("pen");
    let _daemon = world.daemon(&[("LOCKKEEPER_STREAM_PREFETCH_BYTES", "1048576")]).await;
    world.item_on_sale(&pen, 0).await;
    let holder = hold_sequence(&world).await;
    let data = format!(r#"{{"quantity":1,"pad":"{}"}}"#, "x".repeat(200_000));
    for _ in 0..100 {
        let mut command = redis::cmd("XADD");
        command.arg(&world.stream).arg("*").arg("type").arg("item.restock").arg("key").arg(&pen).arg("data").arg(&data);
        command.query_async::<()>(&mut world.redis.clone()).await.expect("XADD");
    }
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(1) {
        let (_, in_hand) = world.left().await;
        assert!(in_hand <= 30, "{in_hand} jobs of 200 kB are in hand, where a megabyte was allowed");
    }
    release(holder).await;
    world.drained().await;
    assert_eq!(world.history("item", &pen).await.len(), 102);
}
