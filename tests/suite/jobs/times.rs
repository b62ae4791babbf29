//! Times that cannot be meant: in fields, in entry ids, in the schedule.

use support::{eventually, lockkeeper, world::World};

#[tokio::test]
async fn times_in_another_unit_are_refused_by_their_field_and_hold_up_nothing() {
    let world = World::new().await;
    let daemon = world.daemon(&[]).await;
    let pen = world.id("pen");
    let (seconds, micros, nanos) = ("1790000000", "1790000000000000", "1790000000000000000");
    for (name, value, unit) in
        [("at", seconds, "seconds"), ("at", micros, "micro"), ("exp", nanos, "nano"), ("exp", seconds, "seconds")]
    {
        let job = world.push_with("item.restock", &pen, r#"{"quantity":1}"#, &[(name, value)]).await;
        let receipt = world.receipt(job).await;
        let reason = receipt.reason.unwrap_or_default();
        assert_eq!(receipt.outcome, "dead");
        assert!(reason.starts_with(&format!("malformed: {name} must be Unix milliseconds")), "{reason}");
        assert!(reason.contains(unit), "{reason}");
    }
    // What an earlier version took for a date in the year 58,000 is in the schedule.
    let far = "redis.call('ZADD', KEYS[1], ARGV[1], cmsgpack.pack({'id', 'far', 'type', 'item.restock', 'key', 'pen', 'data', \
        '{\"quantity\":1}', 'at', ARGV[1]})) return 1";
    world.redis_do::<u64>(&["EVAL", far, "1", &format!("{}:scheduled", world.stream), micros]).await;
    let receipt = world.receipt(lockkeeper::job::JobId::from_text("far")).await;
    assert!(receipt.reason.unwrap_or_default().starts_with("malformed: at must be"), "it does not wait for ever");
    world.drained().await;
    drop(daemon);
    // Without a daemon it stays there, and is none of retention's business.
    world.redis_do::<u64>(&["EVAL", far, "1", &format!("{}:scheduled", world.stream), micros]).await;
    let (code, output) = lockkeeper(&["prune", "--receipts-older-than", "2d", "--dry-run"], &world.environment()).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(!output.contains("reaches so far"), "{output}");
}

#[tokio::test]
async fn ages_of_entries_whose_ids_are_no_times_are_unknown_and_never_nothing() {
    for (id, known) in [("1790000000000000000-1", false), ("7-1", false), ("9000000000000-1", false), ("*", true)] {
        let world = World::new().await;
        let daemon = world.daemon(&[]).await;
        // Waits for a lock that nobody gives, in hand, and then behind it unread.
        let mut sql = world.sql().await;
        let hold = "START TRANSACTION; UPDATE event_sequence SET position = position WHERE id = 1";
        sqlx::raw_sql(hold).execute(&mut sql).await.expect("the sequence is held");
        let pen = world.id("pen");
        let words =
            ["XADD", &world.stream, id, "type", "item.restock", "key", &pen, "data", r#"{"quantity":1}"#, "id", &pen];
        world.redis_do::<String>(&words).await;
        let age = format!(r#"lockkeeper_queue_oldest_age_seconds{{queue="{}",state="pending"}}"#, world.stream);
        let flag = format!(r#"lockkeeper_queue_oldest_age_known{{queue="{}"}}"#, world.stream);
        let expected = if known { 1.0 } else { 0.0 };
        eventually(&format!("whether the age of {id} is known is {expected}"), async || {
            let pending = format!(r#"lockkeeper_queue_pending{{queue="{}",group="lockkeeper"}}"#, world.stream);
            let is_pending = daemon.metric(&pending).await == Some(1.0);
            (is_pending && daemon.metric(&flag).await == Some(expected)).then_some(())
        })
        .await;
        match daemon.metric(&age).await {
            Some(age) => assert!(known && age < 60.0, "{id}: {age}"),
            None => assert!(!known, "{id}"),
        }
        drop(sql);
        world.drained().await;
    }
}
