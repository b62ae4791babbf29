//! Entries whose consumer died, froze or forgot them, and jobs that kill their process.

use std::time::{Duration, Instant};

use sqlx::Row;

use support::hold::{hold_sequence, pending, release, restock};
use support::{
    PATIENCE, eventually,
    world::{Daemon, World, told},
};

#[tokio::test]
async fn a_thousand_unacknowledged_jobs_of_a_killed_daemon_run_once_within_its_lease_and_five_seconds() {
    let world = World::new().await;
    let pen = world.id("pen");
    let soon = [("LOCKKEEPER_FLEET_LEASE_MS", "1000")];
    let mut killed = world.daemon(&soon).await;
    world.item_on_sale(&pen, 0).await;
    let holder = hold_sequence(&world).await;
    restock(&world, &pen, 1000).await;
    eventually("a thousand jobs are in hand", async || (pending(&world).await.len() == 1000).then_some(())).await;
    killed.process.kill();
    let since = Instant::now();
    release(holder).await;
    let _successor = world.daemon(&soon).await;
    world.drained().await;
    assert!(since.elapsed() < Duration::from_secs(6), "taken over after {:?}", since.elapsed());
    assert_eq!(world.history("item", &pen).await.len(), 1002, "one effect each");
}

#[tokio::test]
async fn a_batch_that_takes_five_leases_runs_once_with_one_worker_and_with_two() {
    for workers in [1, 2] {
        let world = World::new().await;
        let pen = world.id("pen");
        let soon = [("LOCKKEEPER_FLEET_LEASE_MS", "1000")];
        let mut daemons = Vec::new();
        for _ in 0..workers {
            daemons.push(world.daemon(&soon).await);
        }
        world.item_on_sale(&pen, 0).await;
        let holder = hold_sequence(&world).await;
        let since = Instant::now();
        restock(&world, &pen, 20).await;
        let first =
            eventually("the jobs are in hand", async || Some(pending(&world).await).filter(|p| p.len() == 20)).await;
        while since.elapsed() < Duration::from_secs(5) {
            let now = pending(&world).await;
            assert_eq!(now, first, "with {workers} workers: an owner or a delivery count has changed");
            assert!(now.iter().all(|(_, count)| *count == 1));
        }
        release(holder).await;
        world.drained().await;
        assert_eq!(world.history("item", &pen).await.len(), 22);
        for daemon in &daemons {
            assert_eq!(claimed(&world, daemon).await, Some(0.0));
        }
    }
}

async fn claimed(world: &World, daemon: &Daemon) -> Option<f64> {
    daemon.metric(&format!(r#"lockkeeper_jobs_fetched_total{{queue="{}",source="claimed"}}"#, world.stream)).await
}

#[tokio::test]
async fn a_job_that_kills_its_process_is_dead_lettered_alone_among_five_hundred() {
    let world = World::new().await;
    let (pen, bomb) = (world.id("pen"), world.id("bomb"));
    let abort = format!("decide:{bomb}");
    let soon = [
        ("LOCKKEEPER_FLEET_LEASE_MS", "300"),
        ("LOCKKEEPER_FLEET_LOOK_MS", "50"),
        ("LOCKKEEPER_TEST_ABORT", abort.as_str()),
    ];
    let mut calm = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    assert_eq!(calm.terminate().await, Some(0));
    restock(&world, &pen, 250).await;
    let poison = world.push("item.restock", &bomb, r#"{"quantity":1}"#).await;
    restock(&world, &pen, 250).await;
    let mut crashes = 0;
    // As a supervisor would: start it again whenever it ends.
    let mut daemon = world.start(&soon);
    let deadline = Instant::now() + PATIENCE;
    while world.store.read(&[poison], &[], &[]).await.expect("a read").receipts.is_empty() {
        assert!(Instant::now() < deadline, "the poison job is not dead after {crashes} crashes");
        if daemon.process.exit_status().is_some() {
            crashes += 1;
            daemon = world.start(&soon);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(crashes, 5, "one crash for each of max_deliveries");
    let receipt = world.receipt(poison).await;
    assert!(told(&receipt).starts_with("dead: max_deliveries: "), "{}", told(&receipt));
    world.drained().await;
    let letters = world.entries(&format!("{}:dead", world.stream)).await;
    assert_eq!(letters.len(), 1, "the job and none beside it: {letters:?}");
    assert_eq!(letters[0]["deliveries"], "5");
    assert_eq!(world.history("item", &pen).await.len(), 502);
}

#[tokio::test]
async fn jobs_committed_and_not_acknowledged_are_recognised_without_deciding_again_fifty_times() {
    let world = World::new().await;
    let pen = world.id("pen");
    let mut calm = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    assert_eq!(calm.terminate().await, Some(0));
    restock(&world, &pen, 1050).await;
    let abort = [
        ("LOCKKEEPER_FLEET_LEASE_MS", "300"),
        ("LOCKKEEPER_FLEET_LOOK_MS", "50"),
        ("LOCKKEEPER_BATCH_MAX_JOBS", "20"),
        ("LOCKKEEPER_STREAM_PREFETCH", "40"),
        ("LOCKKEEPER_BATCH_IN_FLIGHT", "1"),
        ("LOCKKEEPER_TEST_ABORT", "committed"),
    ];
    for _ in 0..50 {
        let mut daemon = world.start(&abort);
        daemon.process.finished(PATIENCE).await.expect("it aborts after its first commit");
    }
    let survivor = world.daemon(&[]).await;
    world.drained().await;
    assert_eq!(world.history("item", &pen).await.len(), 1052, "each job once");
    let mut sql = world.sql().await;
    let receipts = sqlx::raw_sql("SELECT COUNT(*) FROM receipts").fetch_one(&mut sql).await.expect("the receipts");
    assert_eq!(receipts.get::<i64, _>(0), 1052);
    let dead = world.entries(&format!("{}:dead", world.stream)).await;
    assert!(dead.is_empty(), "{dead:?}");
    let series = |outcome| {
        format!(
            r#"lockkeeper_jobs_processed_total{{queue="{}",job_type="item.restock",outcome="{outcome}"}}"#,
            world.stream
        )
    };
    let duplicates = survivor.metric(&series("duplicate")).await;
    assert!(duplicates >= Some(1.0), "the last crash left committed jobs behind: {duplicates:?}");
}

#[tokio::test]
async fn consumers_of_dead_processes_are_removed_and_none_that_holds_an_entry() {
    let world = World::new().await;
    let mut create = redis::cmd("XGROUP");
    create.arg("CREATE").arg(&world.stream).arg("lockkeeper").arg("0").arg("MKSTREAM");
    create.query_async::<()>(&mut world.redis.clone()).await.expect("the group");
    for dead in 0..5 {
        let mut consumer = redis::cmd("XGROUP");
        consumer.arg("CREATECONSUMER").arg(&world.stream).arg("lockkeeper").arg(format!("2/dead-{dead}"));
        consumer.query_async::<()>(&mut world.redis.clone()).await.expect("a consumer");
    }
    let mut daemon = world.daemon(&[]).await;
    let consumers = async || {
        let mut command = redis::cmd("XINFO");
        command.arg("CONSUMERS").arg(&world.stream).arg("lockkeeper");
        let consumers: Vec<redis::Value> =
            command.query_async(&mut world.redis.clone()).await.expect("XINFO CONSUMERS");
        consumers.len()
    };
    let pen = world.id("pen");
    world.item_on_sale(&pen, 0).await;
    eventually("only the living consumer is left", async || {
        // Redis makes a consumer of a reader when it has an entry for it.
        restock(&world, &pen, 1).await;
        (consumers().await == 1).then_some(())
    })
    .await;
    world.drained().await;
    assert_eq!(daemon.terminate().await, Some(0));
    assert_eq!(consumers().await, 0, "a daemon that drains takes its own leave");
}

#[tokio::test]
async fn a_sleeper_that_wakes_after_a_peer_has_done_its_jobs_writes_nothing() {
    let world = World::new().await;
    let pen = world.id("pen");
    let soon = [("LOCKKEEPER_FLEET_LEASE_MS", "1000"), ("LOCKKEEPER_LOCK_TTL_MS", "500")];
    let sleeper = world.daemon(&soon).await;
    world.item_on_sale(&pen, 0).await;
    let holder = hold_sequence(&world).await;
    restock(&world, &pen, 10).await;
    eventually("the jobs are in hand", async || (pending(&world).await.len() == 10).then_some(())).await;
    sleeper.process.freeze().expect("SIGSTOP");
    release(holder).await;
    let _peer = world.daemon(&soon).await;
    world.drained().await;
    let before = world.store.events_from(0, 1000).await.expect("the log").len();
    assert_eq!(before, 12);
    sleeper.process.thaw().expect("SIGCONT");
    let done = world.outcome("item.restock", &pen, r#"{"quantity":1}"#).await;
    assert_eq!(done, "applied");
    eventually("the sleeper is awake and stands by", async || {
        (sleeper.metric(r#"lockkeeper_reading_state{state="stands_by"}"#).await? == 1.0).then_some(())
    })
    .await;
    assert_eq!(world.store.events_from(0, 1000).await.expect("the log").len(), before + 1);
    let statement = "SELECT COUNT(*) FROM receipts";
    let receipts = sqlx::raw_sql(statement).fetch_one(&mut world.sql().await).await.expect("the receipts");
    assert_eq!(receipts.get::<i64, _>(0), 13);
}
