//! Answers that say "cannot write here".

use super::*;

#[tokio::test]
async fn a_replica_without_its_master_refuses_and_is_a_master_again() {
    let mut moving = Moving::new(&["--replica-serve-stale-data", "no"]).await;
    let daemon = moving.daemon().await;
    for stale in ["no", "yes"] {
        tell::<()>(&moving.first, &["CONFIG", "SET", "replica-serve-stale-data", stale]).await;
        // Nobody listens there: MASTERDOWN without stale data, READONLY with it.
        tell::<()>(&moving.first, &["REPLICAOF", "127.0.0.1", "1"]).await;
        not_ready(&daemon, "broker").await;
        tell::<()>(&moving.first, &["REPLICAOF", "NO", "ONE"]).await;
        moving.goes_on(&daemon).await;
    }
    moving.whole().await;
}

#[tokio::test]
async fn a_master_that_has_lost_its_replicas_takes_no_writes() {
    let mut moving = Moving::new(&[]).await;
    let daemon = moving.daemon().await;
    tell::<()>(&moving.first, &["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let why = not_ready(&daemon, "broker").await;
    assert!(why.contains("NOREPLICAS"), "{why}");
    tell::<()>(&moving.first, &["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    moving.goes_on(&daemon).await;
    moving.whole().await;
}

#[tokio::test]
async fn a_server_that_loads_its_data_is_waited_for() {
    // Twenty milliseconds for each key, and it answers in between.
    let slow = ["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"];
    let mut moving = Moving::new(&slow).await;
    let daemon = moving.daemon().await;
    let mut fill = redis::pipe();
    for key in 0..250 {
        fill.cmd("SET").arg(format!("filler:{key}")).arg("x".repeat(200)).ignore();
    }
    fill.query_async::<()>(&mut moving.world.redis.clone()).await.expect("the keys are set");
    moving.push(20).await;
    moving.world.drained().await;
    // Only what is read as a snapshot is read with delay.
    tell::<redis::Value>(&moving.first, &["BGREWRITEAOF"]).await;
    eventually("the snapshot is written", async || {
        let info: String = tell(&moving.first, &["INFO", "persistence"]).await;
        let base: u64 = info.lines().find_map(|line| line.strip_prefix("aof_base_size:"))?.trim().parse().ok()?;
        (info.contains("aof_rewrite_in_progress:0") && base > 2_000).then_some(())
    })
    .await;
    let (restarted, why) = tokio::join!(moving.first.restart(), async {
        eventually("/readyz says that it loads", async || {
            let (_, text) = daemon.get("/readyz").await?;
            text.lines().find(|line| line.starts_with("broker") && line.contains("oading")).map(str::to_owned)
        })
        .await
    });
    restarted.expect("the broker starts again");
    assert!(!why.is_empty());
    moving.world.redis = connect(&moving.first).await;
    moving.goes_on(&daemon).await;
    moving.whole().await;
}

#[tokio::test]
async fn a_node_of_a_cluster_that_is_down_is_not_used() {
    let mut moving = Moving::new(&[]).await;
    let node = RedisServer::start(&moving.folder, "node", &["--cluster-enabled", "yes"]).await.expect("a cluster node");
    let daemon = moving.daemon().await;
    // It is a master, and it has no slot.
    moving.proxy.lead_to(address(&node));
    tell::<u64>(&moving.first, &["CLIENT", "KILL", "TYPE", "NORMAL"]).await;
    let why = not_ready(&daemon, "broker").await;
    assert!(why.contains("CLUSTERDOWN") || why.contains("ClusterDown"), "{why}");
    moving.proxy.lead_to(address(&moving.first));
    moving.world.redis = connect(&moving.first).await;
    moving.goes_on(&daemon).await;
    moving.whole().await;
}

#[tokio::test]
async fn a_stream_that_is_deleted_under_a_blocked_read_is_made_anew_at_once() {
    let mut moving = Moving::new(&[]).await;
    let daemon = moving.daemon().await;
    for _ in 0..3 {
        moving.world.redis_do::<()>(&["DEL", &moving.world.stream]).await;
        moving.goes_on(&daemon).await;
    }
    moving.whole().await;
}
