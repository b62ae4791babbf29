//! Versions of events that this program does not read: who starts, who goes on, and who is told.

use serde_json::{Value, json};
use sqlx::Executor;

use support::world::{Daemon, World};
use support::{eventually, lockkeeper};

/// A newer program is started, which may write another version of an event and an event of another type.
async fn newer_program(world: &World) {
    let statement =
        "INSERT INTO event_schemas VALUES ('item.repriced', 2, UTC_TIMESTAMP(6)), ('item.sold', 1, UTC_TIMESTAMP(6))";
    world.sql().await.execute(statement).await.expect("the table takes them");
}

#[tokio::test]
async fn a_program_does_not_start_on_a_log_that_may_have_what_it_does_not_read() {
    let world = World::new().await;
    let mut daemon = world.daemon(&[]).await;
    assert_eq!(daemon.terminate().await, Some(0));
    let (code, output) = lockkeeper(&["schemas", "--json"], &world.environment()).await;
    assert_eq!(code, Some(0), "{output}");
    let listed: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(listed.len(), 9, "one of each event type: {output}");
    for one in &listed {
        assert_eq!(
            (&one["reads"], &one["writes"], &one["log"][0]["version"]),
            (&json!(1), &json!(1), &json!(1)),
            "{one}"
        );
        assert!(one["schema"].is_object() && one["log"][0]["since"].is_string(), "{one}");
    }

    newer_program(&world).await;
    let unread = ["item.repriced v2, of which it reads up to v1", "item.sold v1, of which it reads no version"];
    for (arguments, expected) in [(["run"], 78), (["check"], 78), (["schemas"], 1)] {
        let (code, output) = lockkeeper(&arguments, &world.environment()).await;
        assert_eq!(code, Some(expected), "{arguments:?}: {output}");
        assert!(unread.iter().all(|text| output.contains(text)), "{arguments:?}: {output}");
    }
    let (_, output) = lockkeeper(&["run"], &world.environment()).await;
    assert!(output.contains("--despite-schemas"), "{output}");

    let mut despite = world.start_with(&["--despite-schemas"], &[]);
    despite.await_ready().await;
    world.item_on_sale(&world.id("pen"), 1).await;
    assert_eq!(despite.terminate().await, Some(0));
}

#[tokio::test]
async fn a_program_that_runs_leaves_its_streams_to_one_that_reads_what_the_log_may_have() {
    let world = World::new().await;
    let mut older = world.daemon(&[]).await;
    let mut newer = world.start_with(&["--despite-schemas"], &[]);
    newer.await_ready().await;
    let series = format!(r#"lockkeeper_stream_owned{{queue="{}"}}"#, world.stream);
    let owns = async |daemon: &Daemon| daemon.metric(&series).await == Some(1.0);
    assert!(owns(&older).await && !owns(&newer).await, "whoever came first owns the stream");
    newer_program(&world).await;
    eventually("the newer program owns the stream", async || owns(&newer).await.then_some(())).await;
    let (code, text) = older.get("/readyz").await.expect("it answers");
    assert!(code == 503 && text.contains("item.repriced v2"), "{text}");
    world.item_on_sale(&world.id("pen"), 1).await;
    assert!(!owns(&older).await);
    for daemon in [&mut newer, &mut older] {
        assert_eq!(daemon.terminate().await, Some(0));
    }
}
