//! The shop's sales per day, kept by daemons that are killed, frozen, paused, and meet what they cannot read.

use std::time::{Duration, Instant};

use sqlx::Executor;

use support::sales::{self, texts};
use support::world::{Daemon, World};
use support::{eventually, lockkeeper};

/// Settings with which nothing takes long.
const FAST: [(&str, &str); 2] =
    [("LOCKKEEPER_SUBSCRIPTIONS_LEASE_MS", "2000"), ("LOCKKEEPER_SUBSCRIPTIONS_POLL_MS", "50")];

/// As [`FAST`], a page an event.
const EVENT_BY_EVENT: [(&str, &str); 4] =
    [FAST[0], FAST[1], ("LOCKKEEPER_SUBSCRIPTIONS_PAGE_EVENTS", "1"), ("LOCKKEEPER_SUBSCRIPTIONS_PACE_MS", "0")];

/// Pushes so many orders of one item, of which each third is cancelled. They are not waited for.
async fn order(world: &World, item: &str, name: &str, count: usize) {
    for number in 0..count {
        let order = world.id(format!("{name}-{number}"));
        let data = format!(r#"{{"member_id":1,"lines":[{{"item_id":"{item}","quantity":{}}}]}}"#, number % 3 + 1);
        world.push("order.place", &order, &data).await;
        if number % 3 == 0 {
            world.push("order.cancel", &order, r#"{"reason":"r"}"#).await;
        }
    }
}

async fn reads(daemon: &Daemon) -> bool {
    daemon.metric(r#"lockkeeper_subscription_owned{subscription="sales_per_day"}"#).await == Some(1.0)
}

/// What `subscriptions list` says of it.
async fn listed(world: &World) -> serde_json::Value {
    let (code, output) = lockkeeper(&["subscriptions", "list", "--json"], &world.environment()).await;
    assert_eq!(code, Some(0), "{output}");
    serde_json::from_str(output.lines().next().expect("a line")).expect("JSON")
}

async fn state_is(world: &World, state: &str) -> serde_json::Value {
    eventually("the subscription has this state", async || {
        let listed = listed(world).await;
        (listed["state"] == state).then_some(listed)
    })
    .await
}

#[tokio::test]
async fn a_read_model_that_is_added_later_has_every_sale_once_though_its_readers_are_killed() {
    let world = World::new().await;
    let item = world.id("pen");
    let mut seller = world.daemon(&[("LOCKKEEPER_SUBSCRIPTIONS_RUN", "false")]).await;
    world.item_on_sale(&item, 10_000).await;
    order(&world, &item, "before", 60).await;
    world.drained().await;
    assert!(
        sales::rows(&mut world.sql().await).await.is_empty()
            && !sales::of_log(&mut world.sql().await, u64::MAX).await.is_empty(),
        "nobody has read the log"
    );
    for round in 0..6 {
        let mut reader = world.daemon(&EVENT_BY_EVENT).await;
        order(&world, &item, &format!("round{round}"), 15).await;
        let takes = r#"lockkeeper_subscription_events_total{subscription="sales_per_day"}"#;
        eventually("it reads", async || reader.metric(takes).await.filter(|events| *events > 7.0)).await;
        reader.process.kill();
    }
    let mut reader = world.daemon(&FAST).await;
    world.drained().await;
    sales::have_caught_up(&world).await;
    let listed = listed(&world).await;
    assert_eq!((&listed["state"], &listed["lag_events"]), (&"running".into(), &0.into()), "{listed}");
    for daemon in [&mut reader, &mut seller] {
        assert_eq!(daemon.terminate().await, Some(0));
    }
}

#[tokio::test]
async fn a_reader_that_drains_hands_over_at_once_and_one_that_froze_writes_nothing_when_it_wakes() {
    let world = World::new().await;
    let item = world.id("pen");
    let mut one = world.daemon(&EVENT_BY_EVENT).await;
    eventually("it reads", async || reads(&one).await.then_some(())).await;
    let mut two = world.daemon(&EVENT_BY_EVENT).await;
    world.item_on_sale(&item, 10_000).await;
    order(&world, &item, "first", 30).await;
    one.process.signal("STOP").expect("it is frozen");
    eventually("the other one goes on", async || reads(&two).await.then_some(())).await;
    order(&world, &item, "second", 30).await;
    one.process.signal("CONT").expect("it wakes");
    eventually("it has noticed", async || (!reads(&one).await).then_some(())).await;
    world.drained().await;
    sales::have_caught_up(&world).await;
    let since = Instant::now();
    assert_eq!(two.terminate().await, Some(0));
    eventually("the first one reads again", async || reads(&one).await.then_some(())).await;
    assert!(since.elapsed() < Duration::from_secs(10), "it is free, and nobody waits for a lease");
    order(&world, &item, "third", 9).await;
    world.drained().await;
    sales::have_caught_up(&world).await;
    assert_eq!(one.terminate().await, Some(0));
}

#[tokio::test]
async fn an_event_that_cannot_be_read_stops_the_read_model_alone_and_it_goes_on_when_that_is_mended() {
    let world = World::new().await;
    let item = world.id("pen");
    let mut daemon = world.daemon(&[FAST[0], FAST[1], ("LOCKKEEPER_SUBSCRIPTIONS_RUN", "false")]).await;
    world.item_on_sale(&item, 1000).await;
    order(&world, &item, "a", 20).await;
    world.drained().await;
    assert_eq!(daemon.terminate().await, Some(0));
    let broken = texts(
        &mut world.sql().await,
        "SELECT CAST(position AS CHAR) FROM events WHERE event_type = 'order.placed' LIMIT 5, 1",
    )
    .await;
    let broken = &broken[0];
    let change = async |text: String| {
        world.sql().await.execute(&*text).await.expect("the log is changed");
    };
    change("CREATE TABLE kept SELECT * FROM events".to_owned()).await;
    change(format!("UPDATE events SET payload = '{{}}' WHERE position = {broken}")).await;

    let mut daemon = world.daemon(&FAST).await;
    let stopped = state_is(&world, "stopped").await;
    let reason = stopped["reason"].as_str().expect("a reason");
    assert!(reason.starts_with(&format!("position {broken}:")), "{reason}");
    let position: u64 = broken.parse().expect("a number");
    assert_eq!(stopped["position"], position - 1, "what came before is done");
    let (code, output) = lockkeeper(&["check"], &world.environment()).await;
    assert!(code == Some(1) && output.contains("subscription sales_per_day"), "{output}");
    assert_eq!(world.outcome("item.restock", &item, r#"{"quantity":1}"#).await, "applied", "jobs go on");
    change(format!("UPDATE events e JOIN kept k USING (position) SET e.payload = k.payload WHERE position = {broken}"))
        .await;
    let resume = async || {
        let (code, output) = lockkeeper(&["subscriptions", "resume", "sales_per_day"], &world.environment()).await;
        assert_eq!(code, Some(0), "{output}");
    };
    resume().await;
    sales::have_caught_up(&world).await;

    order(&world, &item, "b", 3).await;
    world.drained().await;
    sales::have_caught_up(&world).await;
    assert_eq!(daemon.terminate().await, Some(0));
}

#[tokio::test]
async fn an_event_of_a_newer_schema_is_left_to_a_newer_program() {
    let world = World::new().await;
    let item = world.id("pen");
    let mut daemon = world.daemon(&FAST).await;
    world.item_on_sale(&item, 1000).await;
    let (code, _) =
        lockkeeper(&["subscriptions", "pause", "sales_per_day", "--reason", "a newer event"], &world.environment())
            .await;
    assert_eq!(code, Some(0));
    order(&world, &item, "a", 3).await;
    world.drained().await;
    let newer = "UPDATE events SET schema_version = 2 WHERE event_type = 'order.placed' ORDER BY position DESC LIMIT 1";
    world.sql().await.execute(newer).await.expect("a newer program was here");
    let (code, _) = lockkeeper(&["subscriptions", "resume", "sales_per_day"], &world.environment()).await;
    assert_eq!(code, Some(0));
    let waits = eventually("it waits", async || {
        let listed = listed(&world).await;
        listed["reason"].is_string().then_some(listed)
    })
    .await;
    assert_eq!((&waits["state"], &waits["reader"]), (&"running".into(), &serde_json::Value::Null), "{waits}");
    assert_eq!(waits["reason"], "waits for a program that reads order.placed v2");
    assert!(waits["position"].as_u64() > Some(2), "what came before it is done: {waits}");
    let mended = "UPDATE events SET schema_version = 1 WHERE schema_version = 2";
    world.sql().await.execute(mended).await.expect("as if this were the newer program");
    let mut newer = world.daemon(&FAST).await;
    sales::have_caught_up(&world).await;
    for daemon in [&mut newer, &mut daemon] {
        assert_eq!(daemon.terminate().await, Some(0));
    }
}

#[tokio::test]
async fn a_hole_in_the_log_stops_it_and_so_does_a_pause() {
    let world = World::new().await;
    let item = world.id("pen");
    let mut daemon = world.daemon(&FAST).await;
    world.item_on_sale(&item, 1000).await;
    order(&world, &item, "a", 6).await;
    world.drained().await;
    sales::have_caught_up(&world).await;
    let environment = world.environment();
    let (code, output) =
        lockkeeper(&["subscriptions", "pause", "sales_per_day", "--reason", "stocktaking"], &environment).await;
    assert_eq!(code, Some(0), "{output}");
    let before = sales::rows(&mut world.sql().await).await;
    order(&world, &item, "b", 6).await;
    world.drained().await;
    let paused = listed(&world).await;
    assert_eq!((&paused["state"], &paused["reason"]), (&"paused".into(), &"stocktaking".into()));
    assert!(paused["lag_events"].as_u64() > Some(0), "{paused}");
    assert_eq!(sales::rows(&mut world.sql().await).await, before);
    let hole = paused["position"].as_u64().expect("a position") + 2;
    let text = format!(
        "CREATE TABLE kept SELECT * FROM events WHERE position = {hole}; DELETE FROM events WHERE position = {hole}"
    );
    sqlx::raw_sql(&text).execute(&mut world.sql().await).await.expect("a hole");
    let resume = ["subscriptions", "resume", "sales_per_day"];
    assert_eq!(lockkeeper(&resume, &environment).await.0, Some(0));
    let stopped = state_is(&world, "stopped").await;
    assert!(
        stopped["reason"].as_str().is_some_and(|why| why.contains(&format!("no event at position {hole}"))),
        "{stopped}"
    );
    assert_eq!(daemon.metric("lockkeeper_log_gaps_total").await, Some(1.0));
    world.sql().await.execute("INSERT INTO events SELECT * FROM kept").await.expect("the hole is filled");
    assert_eq!(lockkeeper(&resume, &environment).await.0, Some(0));
    sales::have_caught_up(&world).await;
    let (code, output) = lockkeeper(&["subscriptions", "pause", "nobody", "--reason", "r"], &environment).await;
    assert!(code == Some(1) && output.contains("there are: sales_per_day"), "{output}");
    assert_eq!(daemon.terminate().await, Some(0));
}
