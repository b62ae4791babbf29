//! Entries that no list has: neither unread nor pending.

use support::world::World;

const GROUP: &str = "lockkeeper";

/// Pushes a job that restocks the pen by `number`.
async fn restock(world: &World, number: u32) {
    let id = world.id(number);
    let data = format!(r#"{{"quantity":{number}}}"#);
    world.push_with("item.restock", &world.id("pen"), &data, &[("id", &id)]).await;
}

/// Has `consumer` read up to `count` entries, and returns their ids.
async fn read_as(world: &World, consumer: &str, count: u32) -> Vec<String> {
    let (stream, count) = (&*world.stream, count.to_string());
    let words = ["XREADGROUP", "GROUP", GROUP, consumer, "COUNT", &count, "STREAMS", stream, ">"];
    let entries = lockkeeper::stream::entries_of(world.redis_do(&words).await);
    entries.iter().map(|entry| entry.id.to_string()).collect()
}

fn counted(world: &World) -> String {
    format!(r#"lockkeeper_queue_entries_orphaned_total{{queue="{}"}}"#, world.stream)
}

/// Registers the pen, with a daemon that is gone when this returns.
async fn register(world: &World) {
    let mut daemon = world.daemon(&[]).await;
    world.item_on_sale(&world.id("pen"), 1).await;
    world.drained().await;
    assert_eq!(daemon.terminate().await, Some(0));
}

#[tokio::test]
async fn entries_that_no_list_has_are_run_in_their_order_and_counted() {
    let world = World::new().await;
    register(&world).await;
    for number in 1..=12 {
        restock(&world, number).await;
    }
    // 1 to 4 are pending of a dead consumer, 5 to 8 were acknowledged by somebody, 9 was lost with a deleted consumer, the group
    // was set past 10 to 12.
    let read = read_as(&world, "dead", 8).await;
    for id in &read[4..] {
        world.redis_do::<u64>(&["XACK", &world.stream, GROUP, id]).await;
    }
    read_as(&world, "gone", 1).await;
    world.redis_do::<u64>(&["XGROUP", "DELCONSUMER", &world.stream, GROUP, "gone"]).await;
    world.redis_do::<()>(&["XGROUP", "SETID", &world.stream, GROUP, "$"]).await;
    restock(&world, 13).await;
    let idle = ["XCLAIM", &world.stream, GROUP, "dead", "0", &read[0], &read[1], &read[2], &read[3], "IDLE", "3600000"];
    world.redis_do::<redis::Value>(&idle).await;

    let daemon = world.daemon(&[]).await;
    world.drained().await;
    assert_eq!(
        world.restocked(&world.id("pen")).await,
        (1..=13).collect::<Vec<_>>(),
        "every job has run once, in their order"
    );
    assert_eq!(daemon.metric(&counted(&world)).await, Some(8.0), "those that no list had");
    let missed = format!(r#"lockkeeper_queue_missed_total{{queue="{}"}}"#, world.stream);
    assert_eq!(daemon.metric(&missed).await, Some(0.0), "and none of them too late");
}

#[tokio::test]
async fn what_becomes_an_orphan_while_a_daemon_runs_is_found_soon() {
    let world = World::new().await;
    let daemon = world.daemon(&[]).await;
    assert_eq!(daemon.metric(&counted(&world)).await, Some(0.0));
    world.item_on_sale(&world.id("pen"), 1).await;
    world.drained().await;
    // Added and taken away from the group in one step, so that no daemon can have read it; the second time for good.
    for (past, already) in [("$", 0.0), ("9999999999999-0", 1.0)] {
        let id = world.id(past);
        let skip = "redis.call('XADD', KEYS[1], '*', 'type', 'item.restock', 'key', ARGV[1], 'data', '{\"quantity\":1}', \
            'id', ARGV[2]) redis.call('XGROUP', 'SETID', KEYS[1], 'lockkeeper', ARGV[3]) return 1";
        world.redis_do::<u64>(&["EVAL", skip, "1", &world.stream, &world.id("pen"), &id, past]).await;
        let receipt = world.receipt(lockkeeper::job::JobId::from_text(&id)).await;
        assert_eq!(receipt.outcome, "applied");
        world.drained().await;
        assert_eq!(daemon.metric(&counted(&world)).await, Some(already + 1.0), "it is counted");
        for number in 1..=300 {
            restock(&world, number).await;
        }
        world.drained().await;
        let further = if already > 0.0 { 300.0 } else { 0.0 };
        assert_eq!(daemon.metric(&counted(&world)).await, Some(already + 1.0 + further), "and nothing that is none");
    }
}

#[tokio::test]
async fn more_orphans_than_there_is_room_for_are_run_and_the_lag_need_not_be_known() {
    let world = World::new().await;
    register(&world).await;
    for number in 1..=1500 {
        restock(&world, number).await;
    }
    let ids = read_as(&world, "other", 700).await;
    for id in ids.iter().step_by(2) {
        world.redis_do::<u64>(&["XACK", &world.stream, GROUP, id]).await;
    }
    // An unread entry that is deleted hides the lag.
    let last: String = world.push_raw(&[(b"type", b"x")]).await;
    restock(&world, 1501).await;
    world.redis_do::<u64>(&["XDEL", &world.stream, &last]).await;
    let daemon = world.daemon(&[("LOCKKEEPER_BATCH_MAX_JOBS", "64"), ("LOCKKEEPER_STREAM_PREFETCH", "64")]).await;
    world.drained().await;
    let mut ran = world.restocked(&world.id("pen")).await;
    ran.sort_unstable();
    assert_eq!(ran, (1..=1501).collect::<Vec<_>>(), "every job has run once");
    assert_eq!(daemon.metric(&counted(&world)).await, Some(350.0));
}

#[tokio::test]
async fn a_job_that_runs_after_younger_ones_since_the_group_was_moved_is_told() {
    let world = World::new().await;
    let daemon = world.daemon(&[]).await;
    let missed = format!(r#"lockkeeper_queue_missed_total{{queue="{}"}}"#, world.stream);
    world.item_on_sale(&world.id("pen"), 1).await;
    world.drained().await;
    assert_eq!(daemon.metric(&missed).await, Some(0.0));
    let skip = "local function add(quantity) redis.call('XADD', KEYS[1], '*', 'type', 'item.restock', 'key', ARGV[1], \
            'data', '{\"quantity\":' .. quantity .. '}') end \
        add(1) redis.call('XGROUP', 'SETID', KEYS[1], 'lockkeeper', '$') add(2) add(3) return 1";
    world.redis_do::<u64>(&["EVAL", skip, "1", &world.stream, &world.id("pen")]).await;
    world.drained().await;
    assert_eq!(world.restocked(&world.id("pen")).await, [2, 3, 1], "it could not be known of before");
    assert_eq!(daemon.metric(&missed).await, Some(1.0));
}
