//! What `prune` takes away, and what it never does.

use crate::world::{World, eventually, lockkeeper};

/// Makes every receipt as old as this.
async fn age_receipts(world: &World, days: u32) {
    let update = format!("UPDATE receipts SET recorded_at = UTC_TIMESTAMP(6) - INTERVAL {days} DAY");
    sqlx::raw_sql(sqlx::AssertSqlSafe(update)).execute(&mut world.sql().await).await.expect("the receipts age");
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
