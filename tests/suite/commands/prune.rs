//! What `prune` and the daemon's own retention take away, and what they never do.

use std::time::{Duration, Instant};

use throwaway::servers::{BROKER, Folder, RedisServer};

use support::{
    eventually, lockkeeper,
    world::{Daemon, World},
};

/// Makes every receipt as old as this.
async fn age_receipts(world: &World, days: u32) {
    let update = format!("UPDATE receipts SET recorded_at = UTC_TIMESTAMP(6) - INTERVAL {days} DAY");
    sqlx::raw_sql(&update).execute(&mut world.sql().await).await.expect("the receipts age");
}

async fn receipts(world: &World) -> usize {
    world.store.receipts_from(None, 5000).await.expect("the receipts").len()
}

#[tokio::test]
async fn young_receipts_are_kept_and_old_ones_go_unless_the_broker_holds_their_job() {
    let world = World::new().await;
    let _daemon = world.daemon(&[("LOCKKEEPER_STREAM_MAX_DATA_BYTES", "200")]).await;
    let pen = world.id("pen");
    world.item_on_sale(&pen, 1).await;
    let large = format!(r#"{{"quantity":1,"note":"{}"}}"#, "x".repeat(300));
    let dead = world.push("item.restock", &pen, &large).await;
    world.receipt(dead).await;
    world.drained().await;
    let environment = world.environment();
    let prune = async |arguments: &[&str]| {
        let (code, output) = lockkeeper(&[&["prune"], arguments].concat(), &environment).await;
        assert_eq!(code, Some(0), "{output}");
        output
    };
    let output = prune(&["--receipts-older-than", "1s"]).await;
    assert!(
        output.contains("receipts younger than 1day are kept") && output.contains("receipts: 0 deleted"),
        "{output}"
    );
    assert_eq!(receipts(&world).await, 3);

    age_receipts(&world, 10).await;
    // A job far ahead: what its schedule reaches over may be needed again.
    world.push_with("item.restock", &pen, r#"{"quantity":1}"#, &[("at", "4000000000000"), ("id", "ahead")]).await;
    let schedule = format!("{}:scheduled", world.stream);
    eventually("the job is in the schedule", async || {
        (world.redis_do::<u64>(&["ZCARD", &schedule]).await == 1).then_some(())
    })
    .await;
    let output = prune(&["--receipts-older-than", "9d"]).await;
    assert!(output.contains("the schedule of") && output.contains("receipts: 0 deleted"), "{output}");
    world.redis_do::<u64>(&["DEL", &schedule]).await;

    let output = prune(&["--receipts-older-than", "9d", "--dry-run"]).await;
    assert!(output.contains("receipts: 2 would be deleted, 1 kept"), "{output}");
    assert_eq!(receipts(&world).await, 3);
    let output = prune(&["--receipts-older-than", "9d"]).await;
    assert!(output.contains("receipts: 2 deleted, 1 kept"), "{output}");
    assert_eq!((receipts(&world).await, world.receipt(dead).await.outcome.as_str()), (1, "dead"));
    assert_eq!(world.history("item", &pen).await.len(), 2, "the log is as it was");

    let output = prune(&["--dead-letters-older-than", "0s", "--receipts-older-than", "9d", "--json"]).await;
    assert!(output.contains(r#""what":"dead letters""#) && !output.contains("kept"), "{output}");
    assert_eq!((receipts(&world).await, world.entries(&format!("{}:dead", world.stream)).await.len()), (0, 0));
}

#[tokio::test]
async fn a_receipt_stays_while_a_second_copy_of_its_job_waits_in_the_stream_or_the_schedule() {
    let world = World::new().await;
    let pen = world.id("pen");
    let mut daemon = world.daemon(&[]).await;
    world.item_on_sale(&pen, 1).await;
    for id in ["in-stream", "in-schedule"] {
        world.push_with("item.restock", &pen, r#"{"quantity":1}"#, &[("id", id)]).await;
    }
    world.drained().await;
    assert_eq!(daemon.terminate().await, Some(0));
    age_receipts(&world, 40).await;
    world.push_with("item.restock", &pen, r#"{"quantity":1}"#, &[("id", "in-stream")]).await;
    // As if it had been scheduled before its other copy was applied; due in an hour.
    let pack = "return redis.call('ZADD', KEYS[1], redis.call('TIME')[1] * 1000 + 3600000, \
                cmsgpack.pack({'type', 'item.restock', 'key', ARGV[1], 'data', '{\"quantity\":1}', 'id', 'in-schedule'}))";
    world.redis_do::<u64>(&["EVAL", pack, "1", &format!("{}:scheduled", world.stream), &pen]).await;
    let (code, output) = lockkeeper(&["prune", "--receipts-older-than", "30d"], &world.environment()).await;
    assert!(code == Some(0) && output.contains("receipts: 2 deleted, 2 kept"), "{output}");
    let _again = world.daemon(&[]).await;
    world.drained().await;
    assert_eq!(world.history("item", &pen).await.len(), 4, "registered, on sale, and restocked twice");
}

#[tokio::test]
async fn thousands_of_receipts_go_in_batches() {
    let world = World::new().await;
    let fill = "INSERT INTO receipts SELECT UNHEX(LEFT(SHA2(seq, 256), 32)), 'applied', NULL, NULL, NULL, UNHEX(LEFT(SHA2(seq, 256), 32)), \
                UTC_TIMESTAMP(6) - INTERVAL 40 DAY FROM (WITH RECURSIVE n AS (SELECT 1 AS seq UNION ALL \
                SELECT seq + 1 FROM n WHERE seq < 900) SELECT a.seq * 1000 + b.seq AS seq FROM n a, n b \
                WHERE a.seq <= 3) numbers";
    sqlx::raw_sql(fill).execute(&mut world.sql().await).await.expect("the receipts are written");
    assert_eq!(receipts(&world).await, 2700);
    let (code, output) = lockkeeper(&["prune", "--receipts-older-than", "30d"], &world.environment()).await;
    assert!(code == Some(0) && output.contains("receipts: 2700 deleted"), "{output}");
    assert_eq!(receipts(&world).await, 0);
}

#[tokio::test]
async fn reply_streams_that_are_still_may_go_and_fresh_or_waiting_ones_stay() {
    let world = World::new().await;
    let [old, fresh, waiting, other] =
        ["old", "fresh", "waiting", "other"].map(|name| format!("reply:{}:{name}", world.prefix));
    world.redis_do::<String>(&["XADD", &old, "1000-0", "id", "x"]).await;
    world.redis_do::<String>(&["XADD", &fresh, "*", "id", "x"]).await;
    world.redis_do::<String>(&["XGROUP", "CREATE", &waiting, "me", "0", "MKSTREAM"]).await;
    world.redis_do::<String>(&["SET", &other, "a key of another type"]).await;
    let there = async || world.redis_do::<u64>(&["EXISTS", &old, &fresh, &waiting, &other]).await;
    let prune = ["prune", "--replies-older-than", "10000d"];
    let environment = world.environment();
    let (code, output) = lockkeeper(&[&prune[..], &["--dry-run"]].concat(), &environment).await;
    assert!(code == Some(0) && output.contains("would be deleted"), "{output}");
    assert_eq!(there().await, 4);
    let (code, output) = lockkeeper(&prune, &environment).await;
    assert_eq!((code, there().await), (Some(0), 3), "{output}");
    assert_eq!(world.redis_do::<u64>(&["EXISTS", &old]).await, 0);
}

/// What a daemon is told that keeps things for a while only, and looks for old ones all the time.
const KEEPING: [(&str, &str); 5] = [
    ("LOCKKEEPER_RETENTION_RECEIPTS_DAYS", "9"),
    ("LOCKKEEPER_RETENTION_DEAD_LETTERS_DAYS", "1"),
    ("LOCKKEEPER_RETENTION_REPLIES_DAYS", "1"),
    ("LOCKKEEPER_RETENTION_INTERVAL_MS", "200"),
    ("LOCKKEEPER_DRAIN_TIMEOUT_MS", "10000"),
];

async fn deleted(daemons: &[&Daemon], what: &str) -> Option<f64> {
    let mut sum = 0.0;
    for daemon in daemons {
        sum += daemon.metric(&format!(r#"lockkeeper_retention_deleted_total{{what="{what}"}}"#)).await?;
    }
    Some(sum)
}

#[tokio::test]
async fn daemons_that_are_told_for_how_long_delete_what_is_old_by_themselves_and_each_thing_once() {
    let mut world = World::new().await;
    // Reply streams are looked for in the whole broker.
    let folder = Folder::temporary().expect("a folder");
    let broker = RedisServer::start(&folder, "own", BROKER).await.expect("a broker of its own");
    world.broker = broker.url();
    let client = redis::Client::open(world.broker.as_str()).expect("the broker's URL");
    world.redis = client.get_multiplexed_async_connection().await.expect("the broker answers");
    let pen = world.id("pen");
    let mut calm = world.daemon(&[]).await;
    world.item_on_sale(&pen, 1).await;
    let held = world.push_with("item.restock", &pen, r#"{"quantity":1}"#, &[("id", "held")]).await;
    world.drained().await;
    assert_eq!(calm.terminate().await, Some(0));
    age_receipts(&world, 10).await;
    let fill = "INSERT INTO receipts SELECT UNHEX(LEFT(SHA2(seq, 256), 32)), 'applied', NULL, NULL, NULL, \
                UNHEX(LEFT(SHA2(seq, 256), 32)), UTC_TIMESTAMP(6) - INTERVAL IF(seq % 2, 40, 5) DAY FROM \
                (WITH RECURSIVE n AS (SELECT 1 AS seq UNION ALL SELECT seq + 1 FROM n WHERE seq < 900) \
                SELECT a.seq * 1000 + b.seq AS seq FROM n a, n b WHERE a.seq <= 3) numbers";
    sqlx::raw_sql(fill).execute(&mut world.sql().await).await.expect("the receipts are written");
    let dead = format!("{}:dead", world.stream);
    let [old_reply, fresh_reply] = ["old", "fresh"].map(|name| format!("reply:{}:{name}", world.prefix));
    for (stream, id) in [(&dead, "1000-0"), (&dead, "*"), (&old_reply, "1000-0"), (&fresh_reply, "*")] {
        world.redis_do::<String>(&["XADD", stream, id, "id", "held", "reason", "malformed: x", "source", "1-0"]).await;
    }

    let (mut one, mut two) = (world.daemon(&KEEPING).await, world.daemon(&KEEPING).await);
    eventually("all that is old is gone", async || {
        (receipts(&world).await == 1351 && world.redis_do::<u64>(&["EXISTS", &old_reply]).await == 0).then_some(())
    })
    .await;
    assert_eq!(world.entries(&dead).await.len(), 1, "the letter of today is there");
    assert_eq!(world.redis_do::<u64>(&["EXISTS", &fresh_reply]).await, 1);
    assert_eq!(world.receipt(held).await.outcome, "applied", "it is old, and the broker holds its job");
    eventually("each thing is counted once, by one of the two", async || {
        let counted = [
            deleted(&[&one, &two], "receipts").await?,
            deleted(&[&one, &two], "dead_letters").await?,
            deleted(&[&one, &two], "reply_streams").await?,
        ];
        (counted == [1352.0, 1.0, 1.0]).then_some(())
    })
    .await;
    // The letter gone, its job's receipt goes as well.
    world.redis_do::<u64>(&["DEL", &dead]).await;
    eventually("the receipt is gone", async || (receipts(&world).await == 1350).then_some(())).await;
    assert_eq!(world.outcome("item.restock", &pen, r#"{"quantity":1}"#).await, "applied");
    assert_eq!((one.terminate().await, two.terminate().await), (Some(0), Some(0)));
}

#[tokio::test]
async fn a_retention_that_is_stuck_holds_up_neither_jobs_nor_the_drain() {
    let world = World::new().await;
    let pen = world.id("pen");
    let mut calm = world.daemon(&[]).await;
    world.item_on_sale(&pen, 1).await;
    assert_eq!(calm.terminate().await, Some(0));
    age_receipts(&world, 10).await;
    let mut holder = world.sql().await;
    // The rows alone, and not the gaps between them, into which new receipts go.
    let hold =
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION; SELECT job_id FROM receipts FOR UPDATE";
    sqlx::raw_sql(hold).fetch_all(&mut holder).await.expect("the receipts are held");
    let keeping: Vec<_> = KEEPING.into_iter().filter(|(name, _)| !name.contains("REPLIES")).collect();
    let mut daemon = world.daemon(&keeping).await;
    let mut watcher = world.sql().await;
    let waits = async |watcher: &mut sqlx::MySqlConnection| {
        let list = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                    WHERE DB = DATABASE() AND INFO LIKE 'DELETE FROM receipts%'";
        let count: i64 = sqlx::Row::get(&sqlx::raw_sql(list).fetch_one(watcher).await.expect("the list"), 0);
        count > 0
    };
    eventually("a deletion waits", async || waits(&mut watcher).await.then_some(())).await;
    // Its own row is not among those that are held.
    assert_eq!(world.outcome("item.restock", &pen, r#"{"quantity":1}"#).await, "applied");
    eventually("a deletion waits again", async || waits(&mut watcher).await.then_some(())).await;
    let since = Instant::now();
    assert_eq!(daemon.terminate().await, Some(0), "{}", daemon.process.last_lines());
    assert!(since.elapsed() < Duration::from_millis(1500), "the drain took {:?}", since.elapsed());
    let failing = world.daemon(&keeping).await;
    eventually("a look that came to nothing is counted", async || {
        failing.metric("lockkeeper_retention_failures_total").await.filter(|count| *count >= 1.0)
    })
    .await;
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.expect("the receipts are free");
    eventually("the next look deletes them", async || (receipts(&world).await == 1).then_some(())).await;
}

#[tokio::test]
async fn a_daemon_that_is_to_delete_receipts_and_may_not_says_so_at_its_start() {
    let world = World::new().await;
    let database = world.database.rsplit('/').next().unwrap_or_default().to_owned();
    let account = format!("'keeper_{}'@'127.0.0.1'", world.prefix);
    let create = format!("CREATE USER {account}; GRANT SELECT, INSERT, UPDATE ON {database}.* TO {account}");
    sqlx::raw_sql(&create).execute(&mut world.sql().await).await.expect("an account");
    let mut environment = world.environment();
    let server = world.database.split('@').nth(1).expect("user@host");
    environment.insert("DATABASE_URL".into(), format!("mysql://keeper_{}@{server}", world.prefix));
    let (code, output) = lockkeeper(&["check"], &environment).await;
    assert_eq!(code, Some(0), "{output}");
    environment.insert("LOCKKEEPER_RETENTION_RECEIPTS_DAYS".into(), "30".into());
    for command in ["run", "check"] {
        let (code, output) = lockkeeper(&[command], &environment).await;
        assert!(code == Some(77) && output.contains("DELETE") && output.contains("receipts"), "{code:?} {output}");
    }
}
