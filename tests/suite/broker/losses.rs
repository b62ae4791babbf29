//! Deliveries, groups, streams and entries that are lost.

use std::time::{Duration, Instant};

use throwaway::servers::{BROKER, Folder, RedisServer};

use support::hold::restock;
use support::{eventually, world::World};

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
    assert!(since.elapsed() < Duration::from_secs(10), "it took {:?}", since.elapsed());
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
