//! Entries whose consumer died, froze or forgot them; jobs that kill their process; streams that vanish.

use std::time::{Duration, Instant};

use lockkeeper::dev::servers::{BROKER, Folder, RedisServer};
use sqlx::{AssertSqlSafe, MySqlConnection, Row};

use crate::world::{Daemon, PATIENCE, World, eventually, told};

/// Keeps every daemon from committing until it is dropped.
async fn hold_sequence(world: &World) -> MySqlConnection {
    let mut holder = world.sql().await;
    let take = "START TRANSACTION; SELECT position FROM event_sequence WHERE id = 1 FOR UPDATE";
    sqlx::raw_sql(take).fetch_all(&mut holder).await.expect("the sequence row is held");
    holder
}

async fn release(mut holder: MySqlConnection) {
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.expect("the sequence row is free");
}

/// Pending entries as consumer and delivery count, oldest first.
async fn pending(world: &World) -> Vec<(String, u64)> {
    let mut command = redis::cmd("XPENDING");
    command.arg(&world.stream).arg("lockkeeper").arg("-").arg("+").arg(5000);
    let rows: Vec<(String, String, u64, u64)> = command.query_async(&mut world.redis.clone()).await.expect("XPENDING");
    rows.into_iter().map(|(_, consumer, _, count)| (consumer, count)).collect()
}

async fn restock(world: &World, item: &str, times: usize) {
    let mut pipeline = redis::pipe();
    for _ in 0..times {
        let command = pipeline.cmd("XADD").arg(&world.stream).arg("*").arg("type").arg("item.restock");
        command.arg("key").arg(item).arg("data").arg(r#"{"quantity":1}"#).ignore();
    }
    pipeline.query_async::<()>(&mut world.redis.clone()).await.expect("the jobs are pushed");
}

#[tokio::test]
async fn a_thousand_unacknowledged_jobs_of_a_killed_daemon_run_once_within_claim_time_and_five_seconds() {
    let world = World::new().await;
    let pen = world.id("pen");
    let soon = [("LOCKKEEPER_STREAM_CLAIM_AFTER_MS", "1000")];
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
    assert!(since.elapsed() < Duration::from_secs(6), "reclaimed after {:?}", since.elapsed());
    assert_eq!(world.history("item", &pen).await.len(), 1002, "one effect each");
}

#[tokio::test]
async fn a_batch_that_takes_five_claim_times_runs_once_with_one_worker_and_with_two() {
    for workers in [1, 2] {
        let world = World::new().await;
        let pen = world.id("pen");
        let soon = [("LOCKKEEPER_STREAM_CLAIM_AFTER_MS", "1000")];
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
    let soon = [("LOCKKEEPER_STREAM_CLAIM_AFTER_MS", "300"), ("LOCKKEEPER_TEST_ABORT", abort.as_str())];
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
    while world.store.read(&[poison], &[]).await.expect("a read").receipts.is_empty() {
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
        ("LOCKKEEPER_STREAM_CLAIM_AFTER_MS", "100"),
        ("LOCKKEEPER_BATCH_MAX_JOBS", "20"),
        ("LOCKKEEPER_STREAM_PREFETCH", "40"),
        ("LOCKKEEPER_BATCH_IN_FLIGHT", "1"),
        ("LOCKKEEPER_TEST_ABORT", "committed"),
    ];
    for _ in 0..50 {
        let mut daemon = world.start(&abort);
        daemon.process.finished(PATIENCE).await.expect("it aborts after its first commit");
    }
    let survivor = world.daemon(&[("LOCKKEEPER_STREAM_CLAIM_AFTER_MS", "100")]).await;
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
async fn an_entry_whose_delivery_was_lost_on_the_way_is_taken_up_by_its_own_consumer() {
    let world = World::new().await;
    let pen = world.id("pen");
    let daemon = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    let mut command = redis::cmd("XINFO");
    command.arg("CONSUMERS").arg(&world.stream).arg("lockkeeper");
    let consumers: Vec<std::collections::HashMap<String, redis::Value>> =
        command.query_async(&mut world.redis.clone()).await.expect("XINFO CONSUMERS");
    let name: String = redis::from_redis_value(consumers[0]["name"].clone()).expect("the consumer's name");
    daemon.process.freeze().expect("SIGSTOP");
    restock(&world, &pen, 3).await;
    let mut steal = redis::cmd("XREADGROUP");
    steal.arg("GROUP").arg("lockkeeper").arg(&name).arg("STREAMS").arg(&world.stream).arg(">");
    steal.query_async::<redis::Value>(&mut world.redis.clone()).await.expect("XREADGROUP");
    daemon.process.thaw().expect("SIGCONT");
    let since = Instant::now();
    world.drained().await;
    assert!(since.elapsed() < Duration::from_secs(10), "long before claim_after: {:?}", since.elapsed());
    assert_eq!(world.history("item", &pen).await.len(), 5);
}

#[tokio::test]
async fn a_stream_or_group_that_vanishes_is_created_again_from_its_beginning() {
    let mut world = World::new().await;
    let folder = Folder::temporary().expect("a folder");
    let mut broker = RedisServer::start(&folder, "own", BROKER).await.expect("a broker of its own");
    world.broker = broker.url();
    let connect = async |url: String| {
        let client = redis::Client::open(url).expect("the broker's URL");
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(20)));
        client.get_multiplexed_async_connection_with_config(&config).await.expect("the broker answers")
    };
    world.redis = connect(broker.url()).await;
    let daemon = world.daemon(&[]).await;
    let pen = world.id("pen");
    world.item_on_sale(&pen, 0).await;
    let mut events = 2;
    for what in ["FLUSHALL", "DEL", "XGROUP"] {
        let mut command = redis::cmd(what);
        match what {
            "DEL" => drop(command.arg(&world.stream)),
            "XGROUP" => drop(command.arg("DESTROY").arg(&world.stream).arg("lockkeeper")),
            _ => {}
        }
        command.query_async::<redis::Value>(&mut world.redis).await.expect(what);
        let since = Instant::now();
        restock(&world, &pen, 1).await;
        world.drained().await;
        events += 1;
        assert_eq!(world.history("item", &pen).await.len(), events, "after {what}");
        assert!(since.elapsed() < Duration::from_secs(5), "after {what}: {:?}", since.elapsed());
    }
    let recreated = format!(r#"lockkeeper_queue_groups_recreated_total{{queue="{}"}}"#, world.stream);
    assert_eq!(daemon.metric(&recreated).await, Some(3.0));
    broker.kill();
    std::fs::remove_dir_all(folder.path().join("own")).ok();
    broker.restart().await.expect("the broker starts again");
    world.redis = connect(broker.url()).await;
    restock(&world, &pen, 1).await;
    eventually("a job is run after a restart", async || {
        (world.history("item", &pen).await.len() == events + 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn consumers_of_dead_processes_are_removed_and_none_that_holds_an_entry() {
    let world = World::new().await;
    let mut create = redis::cmd("XGROUP");
    create.arg("CREATE").arg(&world.stream).arg("lockkeeper").arg("0").arg("MKSTREAM");
    create.query_async::<()>(&mut world.redis.clone()).await.expect("the group");
    for dead in 0..5 {
        let mut consumer = redis::cmd("XGROUP");
        consumer.arg("CREATECONSUMER").arg(&world.stream).arg("lockkeeper").arg(format!("dead-{dead}"));
        consumer.query_async::<()>(&mut world.redis.clone()).await.expect("a consumer");
    }
    let mut daemon = world.daemon(&[("LOCKKEEPER_STREAM_CLAIM_AFTER_MS", "100")]).await;
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
async fn a_drain_that_runs_out_of_time_exits_75_with_the_ids_and_a_peer_goes_on_at_once() {
    let world = World::new().await;
    let pen = world.id("pen");
    let mut daemon = world.daemon(&[("LOCKKEEPER_DRAIN_TIMEOUT_MS", "700")]).await;
    world.item_on_sale(&pen, 0).await;
    let holder = hold_sequence(&world).await;
    restock(&world, &pen, 10).await;
    eventually("the jobs are in hand", async || (pending(&world).await.len() == 10).then_some(())).await;
    daemon.process.signal("TERM").expect("SIGTERM");
    eventually("readiness is gone at once", async || {
        (daemon.get("/readyz").await?.0 == 503 && daemon.get("/metrics").await?.0 == 200).then_some(())
    })
    .await;
    assert_eq!(daemon.process.finished(PATIENCE).await.expect("it ends").code(), Some(75));
    let log = daemon.process.last_words();
    assert!(log.contains("abandoned in flight") && log.contains("entries=\"") && log.contains("end=Overrun"), "{log}");
    for node in &world.lock_nodes {
        let client = redis::Client::open(node.as_str()).expect("the node's URL");
        let mut node = client.get_multiplexed_async_connection().await.expect("the node answers");
        let held: u64 =
            redis::cmd("EXISTS").arg(format!("lock:item:{pen}")).query_async(&mut node).await.expect("EXISTS");
        assert_eq!(held, 0, "a lock is left behind");
    }
    release(holder).await;
    let since = Instant::now();
    let _peer = world.daemon(&[]).await;
    world.drained().await;
    assert!(since.elapsed() < Duration::from_secs(10), "long before claim_after: {:?}", since.elapsed());
    assert_eq!(world.history("item", &pen).await.len(), 12);
}

#[tokio::test]
async fn a_second_signal_is_out_in_a_second_and_its_jobs_run_elsewhere() {
    let world = World::new().await;
    let pen = world.id("pen");
    let mut daemon = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    let holder = hold_sequence(&world).await;
    restock(&world, &pen, 10).await;
    eventually("the jobs are in hand", async || (pending(&world).await.len() == 10).then_some(())).await;
    daemon.process.signal("TERM").expect("SIGTERM");
    eventually("it drains", async || (daemon.get("/readyz").await?.0 == 503).then_some(())).await;
    let since = Instant::now();
    daemon.process.signal("TERM").expect("SIGTERM");
    assert_eq!(daemon.process.finished(PATIENCE).await.expect("it ends").code(), Some(143));
    assert!(since.elapsed() < Duration::from_secs(1), "it took {:?}", since.elapsed());
    release(holder).await;
    let _peer = world.daemon(&[]).await;
    world.drained().await;
    assert_eq!(world.history("item", &pen).await.len(), 12);
}

#[tokio::test]
async fn sigtstp_makes_quiet_and_sigcont_resumes() {
    let world = World::new().await;
    let pen = world.id("pen");
    let daemon = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    daemon.process.signal("TSTP").expect("SIGTSTP");
    let polls = async || daemon.metric("lockkeeper_queue_last_poll_timestamp_seconds").await;
    eventually("it has stopped reading", async || {
        let before = polls().await?;
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(300) {
            if polls().await? != before {
                return None;
            }
        }
        Some(())
    })
    .await;
    assert_eq!(daemon.get("/livez").await.map(|(status, _)| status), Some(200), "it stays up");
    restock(&world, &pen, 1).await;
    assert!(pending(&world).await.is_empty(), "nothing is read");
    daemon.process.signal("CONT").expect("SIGCONT");
    world.drained().await;
    assert_eq!(world.history("item", &pen).await.len(), 3);
}

#[tokio::test]
async fn a_sleeper_that_wakes_after_a_peer_has_done_its_jobs_writes_nothing() {
    let world = World::new().await;
    let pen = world.id("pen");
    let soon = [("LOCKKEEPER_STREAM_CLAIM_AFTER_MS", "1000"), ("LOCKKEEPER_LOCK_TTL_MS", "500")];
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
    let polled = sleeper.metric("lockkeeper_queue_last_poll_timestamp_seconds").await;
    eventually("the sleeper is awake and reads", async || {
        (sleeper.metric("lockkeeper_queue_last_poll_timestamp_seconds").await > polled).then_some(())
    })
    .await;
    assert_eq!(world.store.events_from(0, 1000).await.expect("the log").len(), before + 1);
    let statement = AssertSqlSafe("SELECT COUNT(*) FROM receipts".to_owned());
    let receipts = sqlx::raw_sql(statement).fetch_one(&mut world.sql().await).await.expect("the receipts");
    assert_eq!(receipts.get::<i64, _>(0), 13);
}

#[tokio::test]
async fn entries_that_a_producer_trims_before_they_are_run_are_noticed_and_told_once() {
    let world = World::new().await;
    let pen = world.id("pen");
    let daemon = world.daemon(&[]).await;
    let second = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    for quiet in [&daemon, &second] {
        quiet.process.signal("TSTP").expect("SIGTSTP");
    }
    // A read that is under way may still bring entries for a moment.
    eventually("nothing is read any more", async || {
        restock(&world, &pen, 1).await;
        let length: u64 = redis::cmd("XLEN").arg(&world.stream).query_async(&mut world.redis.clone()).await.ok()?;
        (length >= 20).then_some(())
    })
    .await;
    restock(&world, &pen, 100).await;
    let mut trim = redis::cmd("XTRIM");
    trim.arg(&world.stream).arg("MAXLEN").arg(40);
    let trimmed: u64 = trim.query_async(&mut world.redis.clone()).await.expect("XTRIM");
    for awake in [&daemon, &second] {
        awake.process.signal("CONT").expect("SIGCONT");
    }
    world.drained().await;
    let series = format!(r#"lockkeeper_queue_entries_lost_total{{queue="{}"}}"#, world.stream);
    eventually("the loss is counted, by one of the two", async || {
        let counted = daemon.metric(&series).await? + second.metric(&series).await?;
        (counted == trimmed as f64).then_some(())
    })
    .await;
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
