//! One bad thing beside good ones: they go on.

use std::time::Duration;

use throwaway::servers::{Folder, RedisServer};

use support::hold::consumer;
use support::{
    eventually, lockkeeper,
    world::{World, told},
};

/// A world with a broker of its own, whose account `app` may use every key but those that begin with `reply:forbidden`.
async fn world_with_an_account() -> (World, RedisServer) {
    let mut world = World::new().await;
    let folder = Folder::temporary().expect("a folder");
    let account =
        ["--user", "app", "on", ">canary", "~jobs*", "~reply:lock*", "~reply:free*", "~reply:text", "&*", "+@all"];
    let broker = RedisServer::start(&folder, "own", &account).await.expect("a broker of its own");
    let client = redis::Client::open(broker.url()).expect("the broker's URL");
    world.redis = client.get_multiplexed_async_connection().await.expect("the broker answers");
    world.broker = broker.url().replace("redis://", "redis://app:canary@");
    (world, broker)
}

#[tokio::test]
async fn a_reply_stream_that_is_refused_stops_no_other_reply() {
    let (world, _broker) = world_with_an_account().await;
    let daemon = world.daemon(&[]).await;
    world.redis_do::<()>(&["SET", "reply:text", "no stream"]).await;
    let mut pipeline = redis::pipe();
    for number in 0..60 {
        let reply = match number {
            7 | 30 => "reply:forbidden".to_owned(),
            8 | 59 => "reply:text".to_owned(),
            number => format!("reply:free:{number}"),
        };
        let command = pipeline.cmd("XADD").arg(&world.stream).arg("*").arg("type").arg("item.restock");
        command.arg("key").arg(world.id("pen")).arg("data").arg(r#"{"quantity":1}"#).arg("reply").arg(reply);
    }
    pipeline.query_async::<()>(&mut world.redis.clone()).await.expect("sixty jobs");
    world.drained().await;
    for number in (0..60).filter(|number| ![7, 30, 8, 59].contains(number)) {
        let replies = world.entries(&format!("reply:free:{number}")).await;
        assert_eq!(replies.len(), 1, "reply {number}");
        assert!(replies[0]["outcome"].starts_with("rejected"), "{replies:?}");
        assert!(!replies[0].contains_key("traceparent"), "a reply looks as it always did: {replies:?}");
    }
    let failed = daemon.metric("lockkeeper_reply_errors_total").await;
    assert_eq!(failed, Some(4.0), "each refused reply is counted, and no other");
}

#[tokio::test]
async fn old_replies_are_deleted_beside_one_that_is_forbidden() {
    let (world, _broker) = world_with_an_account().await;
    for stream in ["reply:free:1", "reply:forbidden", "reply:free:2"] {
        world.redis_do::<String>(&["XADD", stream, "1-1", "id", "old"]).await;
    }
    let broker = consumer(&world, "sweeper").await;
    let swept = broker.sweep_replies(0, Duration::from_secs(1), false).await.expect("a sweep");
    assert_eq!((swept.seen, swept.stale), (3, 2));
    let left: Vec<String> = world.redis_do(&["KEYS", "reply:*"]).await;
    assert_eq!(left, ["reply:forbidden"]);
}

#[tokio::test]
async fn due_jobs_pass_those_that_cannot_be_moved() {
    let world = World::new().await;
    let pen = world.id("pen");
    world.redis_do::<()>(&["SET", &format!("{}:dead", world.stream), "no stream"]).await;
    let schedule = format!("{}:scheduled", world.stream);
    for number in 0..250 {
        world.redis_do::<u64>(&["ZADD", &schedule, "1", &format!("not ours {number}")]).await;
    }
    let pack = "return redis.call('ZADD', KEYS[1], '2', cmsgpack.pack({'type', 'item.restock', 'key', ARGV[1], 'id', ARGV[2], \
        'data', '{\"quantity\":1}'}))";
    world.redis_do::<u64>(&["EVAL", pack, "1", &schedule, &pen, "due"]).await;
    let broker = consumer(&world, "promoter").await;
    broker.ensure_groups().await.expect("the group");
    assert_eq!(broker.promote(&world.stream, 100).await.expect("the due one is moved"), 1);
    broker.promote(&world.stream, 100).await.expect_err("nothing is left but what is refused, and it is told");
    assert_eq!(world.redis_do::<u64>(&["ZCARD", &schedule]).await, 250, "none of them is lost");
}

#[tokio::test]
async fn letters_that_are_refused_hold_up_no_acknowledgement_and_no_other_stream() {
    let world = World::new().await;
    let other = format!("{}:other", world.stream);
    let names = format!("{},{other}", world.stream);
    let daemon = world.daemon(&[("LOCKKEEPER_STREAM_NAMES", &names)]).await;
    let dead = format!("{}:dead", world.stream);
    world.redis_do::<()>(&["SET", &dead, "no stream"]).await;
    for number in 0..20 {
        world.push("no.such.type", &world.id(number), "{}").await;
    }
    let good = world.push("item.restock", &world.id("pen"), r#"{"quantity":1}"#).await;
    assert!(told(&world.receipt(good).await).starts_with("rejected"));
    eventually("only the refused ones are left", async || (world.left().await.0 == 20).then_some(())).await;
    let mut command = redis::cmd("XADD");
    command.arg(&other).arg("*").arg("type").arg("item.restock").arg("key").arg(world.id("pen"));
    command.arg("data").arg(r#"{"quantity":1}"#);
    command.query_async::<()>(&mut world.redis.clone()).await.expect("XADD");
    let length = async || world.redis_do::<u64>(&["XLEN", &other]).await;
    eventually("the other stream is read", async || (length().await == 0).then_some(())).await;
    eventually("/readyz names the key", async || {
        let (status, text) = daemon.get("/readyz").await?;
        (status == 503 && text.contains(&dead)).then_some(())
    })
    .await;
    world.redis_do::<()>(&["DEL", &dead]).await;
    world.drained().await;
    assert_eq!(world.entries(&dead).await.len(), 20, "each letter is written once the key is free");
}

#[tokio::test]
async fn a_stream_that_cannot_be_read_or_counted_stops_none_of_the_others() {
    let world = World::new().await;
    let (bad, gone) = (format!("{}:bad", world.stream), format!("{}:gone", world.stream));
    let names = format!("{bad},{gone},{}", world.stream);
    let daemon = world.daemon(&[("LOCKKEEPER_STREAM_NAMES", &names)]).await;
    let restock = async || {
        let job = world.push("item.restock", &world.id("pen"), r#"{"quantity":1}"#).await;
        assert!(told(&world.receipt(job).await).starts_with("rejected"));
    };
    restock().await;
    world.redis_do::<u64>(&["DEL", &bad, &gone]).await;
    world.redis_do::<()>(&["SET", &bad, "no stream"]).await;
    world.redis_do::<()>(&["SET", &format!("{}:scheduled", world.stream), "no schedule"]).await;
    for _ in 0..3 {
        restock().await;
    }
    world.drained().await;
    eventually("/readyz names the key", async || {
        let (status, text) = daemon.get("/readyz").await?;
        (status == 503 && text.contains(&bad)).then_some(())
    })
    .await;
    // The one that can be mended is, beside the one that cannot.
    let groups = async || {
        let mut command = redis::cmd("XINFO");
        let groups: Vec<redis::Value> =
            command.arg("GROUPS").arg(&gone).query_async(&mut world.redis.clone()).await.ok()?;
        (groups.len() == 1).then_some(())
    };
    eventually("the group that was gone is there again", groups).await;
    let length = |stream: &str| format!(r#"lockkeeper_queue_length{{queue="{stream}"}}"#);
    eventually("what can be told is told, and nothing else", async || {
        let (known, unknown) = (daemon.metric(&length(&world.stream)).await, daemon.metric(&length(&bad)).await);
        let schedule = format!(r#"lockkeeper_schedule_length{{queue="{}"}}"#, world.stream);
        (known == Some(0.0) && unknown.is_none() && daemon.metric(&schedule).await.is_none()).then_some(())
    })
    .await;
    world.redis_do::<u64>(&["DEL", &bad, &format!("{}:scheduled", world.stream)]).await;
    eventually("/readyz is well again", async || daemon.get("/readyz").await.filter(|(status, _)| *status == 200))
        .await;
}

#[tokio::test]
async fn old_letters_go_beside_those_that_are_refused_and_the_refusal_is_told() {
    let world = World::new().await;
    let (bad, good) = (format!("{}:bad", world.stream), format!("{}:dead", world.stream));
    world.redis_do::<()>(&["SET", &format!("{bad}:dead"), "no stream"]).await;
    world.redis_do::<String>(&["XADD", &good, "1-1", "reason", "malformed: x", "id", "a"]).await;
    let mut environment = world.environment();
    environment.insert("LOCKKEEPER_STREAM_NAMES".into(), format!("{bad},{}", world.stream));
    let (code, output) = lockkeeper(&["prune", "--dead-letters-older-than", "1d"], &environment).await;
    assert!(code != Some(0) && output.to_uppercase().contains("WRONG"), "{code:?}: {output}");
    assert!(world.entries(&good).await.is_empty(), "the other stream's old letter is gone");
}
