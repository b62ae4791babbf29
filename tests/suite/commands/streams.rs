//! Streams on the command line: listed, paused for the whole fleet, and resumed.

use serde_json::Value;

use support::{
    eventually, lockkeeper,
    world::{Daemon, World},
};

const RESTOCK: &str = r#"{"quantity":1}"#;

async fn streams(world: &World, arguments: &[&str], code: i32) -> String {
    let arguments = [&["streams"], arguments].concat();
    let (exit, output) = lockkeeper(&arguments, &world.environment()).await;
    assert_eq!(exit, Some(code), "{arguments:?}: {output}");
    output
}

async fn listed(world: &World) -> Value {
    let output = streams(world, &["list", "--json"], 0).await;
    serde_json::from_str(&output).expect("one stream, one object")
}

/// Waits until the daemon says that the stream is paused.
async fn knows(daemon: &Daemon) {
    eventually("the daemon says that the stream is paused", async || {
        let (status, text) = daemon.get("/readyz").await?;
        (status == 200 && text.contains("is paused by ann: stocktaking")).then_some(())
    })
    .await;
}

/// Waits until the daemon owns the stream, paused or not.
async fn owns(daemon: &Daemon, world: &World) {
    let owned = format!(r#"lockkeeper_stream_owned{{queue="{}"}}"#, world.stream);
    eventually("the daemon owns the stream", async || daemon.metric(&owned).await.filter(|is| *is == 1.0).map(drop))
        .await;
}

#[tokio::test]
async fn nothing_of_a_paused_stream_is_started_whoever_owns_it_until_it_is_resumed() {
    let world = World::new().await;
    let (pen, stream) = (world.id("pen"), world.stream.clone());
    let mut daemon = world.daemon(&[]).await;
    world.item_on_sale(&pen, 1).await;
    let other = world.daemon(&[]).await;
    let pause = ["pause", &stream, "--reason", "stocktaking", "--actor", "ann"];
    let told = streams(&world, &pause, 0).await;
    assert!(told.contains("is paused by ann since") && told.contains("stocktaking"), "{told}");
    knows(&daemon).await;
    knows(&other).await;
    let paused = format!(r#"lockkeeper_stream_paused{{queue="{stream}"}}"#);
    assert_eq!(daemon.metric(&paused).await, Some(1.0));

    let mut jobs = vec![world.push("item.restock", &pen, RESTOCK).await];
    let due = world.push_with("item.restock", &pen, RESTOCK, &[("at", "1000000000000")]).await;
    jobs.push(due);
    // Whoever takes it over keeps it paused, and so does one that starts when no other is left.
    assert_eq!(daemon.terminate().await, Some(0));
    owns(&other, &world).await;
    knows(&other).await;
    drop(other);
    let last = world.daemon(&[]).await;
    owns(&last, &world).await;
    knows(&last).await;
    assert_eq!(world.left().await, (2, 0), "two entries that nobody has read");
    let listed = listed(&world).await;
    assert_eq!((&listed["paused"]["actor"], &listed["paused"]["reason"]), (&"ann".into(), &"stocktaking".into()));
    assert!(listed["owner"].is_string() && listed["entries"] == 2, "{listed}");

    streams(&world, &["resume", "--all"], 0).await;
    for job in jobs {
        world.receipt(job).await;
    }
    assert!(self::listed(&world).await["paused"].is_null());
    let output = streams(&world, &["resume", &stream], 0).await;
    assert!(output.contains("was not paused"), "{output}");
}

#[tokio::test]
async fn a_pause_ends_by_itself_when_it_is_said_until_when() {
    let world = World::new().await;
    let pen = world.id("pen");
    let daemon = world.daemon(&[]).await;
    world.item_on_sale(&pen, 1).await;
    let pause = ["pause", "--all", "--reason", "stocktaking", "--actor", "ann", "--until", "3s", "--json"];
    let told: Value = serde_json::from_str(&streams(&world, &pause, 0).await).expect("an object");
    let (since, until) = (told["paused"]["since"].as_u64(), told["paused"]["until"].as_u64());
    assert!(since.zip(until).is_some_and(|(since, until)| until.abs_diff(since + 3000) < 1000), "{told}");
    knows(&daemon).await;
    let job = world.push("item.restock", &pen, RESTOCK).await;
    world.receipt(job).await;
    assert!(listed(&world).await["paused"].is_null());
}

#[tokio::test]
async fn a_pause_of_a_busy_stream_lets_what_is_in_flight_finish_and_keeps_the_order() {
    let world = World::new().await;
    let (pen, stream) = (world.id("pen"), world.stream.clone());
    let daemon = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    let pause = ["pause", &stream, "--reason", "stocktaking", "--actor", "ann"];
    let quantities = 1..=600_u64;
    for round in 0..3 {
        for quantity in quantities.clone().skip(round * 200).take(200) {
            world.push("item.restock", &pen, &format!(r#"{{"quantity":{quantity}}}"#)).await;
        }
        streams(&world, &pause, 0).await;
        knows(&daemon).await;
        eventually("nothing is in hand any more", async || {
            daemon.metric("lockkeeper_jobs_in_flight").await.filter(|jobs| *jobs == 0.0).map(drop)
        })
        .await;
        streams(&world, &["resume", &stream], 0).await;
    }
    world.drained().await;
    assert_eq!(world.restocked(&pen).await, quantities.collect::<Vec<_>>(), "in the order of the stream");
}

#[tokio::test]
async fn what_a_pause_cannot_be_is_told_and_changes_nothing() {
    let world = World::new().await;
    let daemon = world.daemon(&[]).await;
    let stream = world.stream.clone();
    for (arguments, words) in [
        (vec!["pause", "other", "--reason", "x"], "other: stream.names has only"),
        (vec!["pause", &stream, "--reason", " "], "--reason must have"),
        (vec!["pause", &stream, "--reason", "x\nbroker: ok"], "without control characters"),
        (vec!["pause", &stream, "--reason", "x", "--actor", "a\u{1b}[2J"], "without control characters"),
        (vec!["pause", &stream, "--reason", "x", "--until", "2001-09-09T01:46:40Z"], "is past"),
        (vec!["pause", &stream, "--reason", "x", "--until", "soon"], "neither a duration"),
        (vec!["pause", &stream], "--reason"),
        (vec!["pause", "--reason", "x"], "<STREAM|--all>"),
    ] {
        let output = streams(&world, &arguments, 64).await;
        assert!(output.contains(words), "{arguments:?}: {output}");
    }
    assert!(listed(&world).await["paused"].is_null());
    // What somebody has written past this program stays in its line.
    let forged = ["HSET", &format!("{stream}:paused"), "reason", "x\nbroker: ok", "actor", "mallory", "since", "1"];
    world.redis_do::<()>(&forged).await;
    eventually("the daemon says that it is paused, in one line", async || {
        let (_, text) = daemon.get("/readyz").await?;
        let line = format!(r"fleet: {stream} is paused by mallory: x\nbroker: ok");
        text.lines().any(|told| told == line).then_some(())
    })
    .await;
}
