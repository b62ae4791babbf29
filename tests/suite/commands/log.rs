//! The log on the command line: events in every form, as they come, and states of any moment.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use support::{lockkeeper, program, world::World};

/// Runs a command, whose lines are JSON.
async fn objects(world: &World, arguments: &[&str]) -> Vec<Value> {
    let (code, output) = lockkeeper(arguments, &world.environment()).await;
    assert_eq!(code, Some(0), "{arguments:?}: {output}");
    output.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The positions of the events that a command prints.
async fn positions(world: &World, arguments: &[&str]) -> Vec<u64> {
    let found = objects(world, &[arguments, &["--json"]].concat()).await;
    found.iter().map(|event| event["position"].as_u64().expect("a position")).collect()
}

/// Two items with four events each: registered, on sale, and restocked by 1 and by 2; positions 1 to 8.
async fn two_items(world: &World) -> (String, String) {
    let (pen, ink) = (world.id("pen"), world.id("ink"));
    let mut daemon = world.daemon(&[]).await;
    for item in [&pen, &ink] {
        world.item_on_sale(item, 0).await;
        for quantity in [1, 2] {
            let data = format!(r#"{{"quantity":{quantity}}}"#);
            assert_eq!(world.outcome("item.restock", item, &data).await, "applied");
        }
    }
    assert_eq!(daemon.terminate().await, Some(0));
    (format!("item/{pen}"), format!("item/{ink}"))
}

#[tokio::test]
async fn events_are_chosen_by_aggregate_type_position_and_time() {
    let world = World::new().await;
    let (pen, ink) = two_items(&world).await;
    let all: Vec<u64> = (1..=8).collect();
    assert_eq!(positions(&world, &["events"]).await, all);
    assert_eq!(positions(&world, &["events", &ink]).await, [5, 6, 7, 8]);
    assert_eq!(positions(&world, &["events", "--from", "3", "--to", "6"]).await, [3, 4, 5, 6]);
    assert_eq!(positions(&world, &["events", &ink, "--from", "6", "--to", "7"]).await, [6, 7]);
    assert_eq!(positions(&world, &["events", "--limit", "2"]).await, [1, 2]);
    assert_eq!(positions(&world, &["events", "--type", "item.restocked"]).await, [3, 4, 7, 8]);
    let two = ["events", &pen, "--type", "item.registered", "--type", "item.restocked", "--limit", "2"];
    assert_eq!(positions(&world, &two).await, [1, 3]);
    assert_eq!(positions(&world, &["events", "--since", "1h"]).await, all);
    assert_eq!(positions(&world, &["events", "--since", "2100-01-01T00:00:00Z"]).await, [0; 0]);
    let stored = objects(&world, &["events", "--json"]).await;
    let time = stored[4]["recorded_at"].as_str().expect("a time").replace(' ', "T") + "Z";
    assert_eq!(positions(&world, &["events", "--since", &time]).await, [5, 6, 7, 8]);
    assert_eq!(positions(&world, &["events", &ink, "--since", &time]).await, [5, 6, 7, 8]);

    let clouds = objects(&world, &["events", &ink, "--format", "cloudevents"]).await;
    assert_eq!((&clouds[2]["specversion"], &clouds[2]["subject"]), (&"1.0".into(), &ink.as_str().into()));
    assert_eq!(
        (&clouds[2]["data"], &clouds[2]["sequence"]),
        (&json!({ "quantity": 1 }), &"00000000000000000007".into())
    );
    assert_eq!(
        (&clouds[2]["id"], &clouds[2]["time"].as_str().map(|time| time.ends_with('Z'))),
        (&stored[6]["id"], &Some(true))
    );
    for (wrong, code) in [
        (&["events", "item"][..], 64),
        (&["events", "--since", "soon"], 64),
        (&["events", "--from", "1", "--since", "1h"], 64),
        (&["events", "item/nobody"], 1),
    ] {
        let (ended, output) = lockkeeper(wrong, &world.environment()).await;
        assert_eq!(ended, Some(code), "{wrong:?}: {output}");
    }
}

#[tokio::test]
async fn a_position_that_is_missing_is_told_and_nothing_is_passed_over() {
    let world = World::new().await;
    let (pen, ink) = two_items(&world).await;
    sqlx::raw_sql("DELETE FROM events WHERE position IN (2, 5)")
        .execute(&mut world.sql().await)
        .await
        .expect("it is deleted");
    for (arguments, told) in [
        (&["events"][..], "the log has no event at 2"),
        (&["events", "--from", "3"], "the log has no event at 5"),
        (&["events", &pen], "has no event at 2"),
        (&["events", &ink], "has no event at 1"),
    ] {
        let (code, output) = lockkeeper(arguments, &world.environment()).await;
        assert!(code == Some(1) && output.contains(told), "{arguments:?}: {output}");
    }
    assert_eq!(positions(&world, &["events", "--from", "6"]).await, [6, 7, 8]);
}

#[tokio::test]
async fn what_is_followed_is_printed_as_it_comes_until_it_is_interrupted() {
    let world = World::new().await;
    let (pen, _) = two_items(&world).await;
    let mut command = Command::new(program());
    command.args(["events", "-f", "--json"]).env_clear().envs(world.environment()).stdout(Stdio::piped());
    let mut whole = command.kill_on_drop(true).spawn().expect("it starts");
    command.args(["--from", "4", &pen]);
    let mut one = command.spawn().expect("it starts");
    let reader = |child: &mut tokio::process::Child| BufReader::new(child.stdout.take().expect("its output")).lines();
    let (mut whole_lines, mut one_lines) = (reader(&mut whole), reader(&mut one));
    let next = async |lines: &mut tokio::io::Lines<BufReader<tokio::process::ChildStdout>>| {
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.expect("in time");
        let line = line.expect("it is read").expect("there is one more");
        serde_json::from_str::<Value>(&line).expect("JSON")["position"].as_u64().expect("a position")
    };
    assert_eq!(next(&mut one_lines).await, 4, "what was there already");
    let _daemon = world.daemon(&[]).await;
    let id = pen.trim_start_matches("item/").to_owned();
    let other = world.id("ink");
    // It begins at the head, wherever that is when it looks.
    let mut seen = Vec::new();
    for quantity in 3..=5 {
        let data = format!(r#"{{"quantity":{quantity}}}"#);
        assert_eq!(world.outcome("item.restock", &id, &data).await, "applied");
        assert_eq!(world.outcome("item.restock", &other, &data).await, "applied");
        seen.push(next(&mut whole_lines).await);
        assert_eq!(next(&mut one_lines).await, 9 + 2 * (quantity - 3), "only its own");
    }
    assert!(seen[0] >= 9 && seen.is_sorted(), "{seen:?}");
    for child in [&whole, &one] {
        let pid = nix::unistd::Pid::from_raw(child.id().expect("it runs").cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it is there");
    }
    assert_eq!(whole.wait().await.expect("it ends").code(), Some(0), "whoever follows ends it like this");
    assert_eq!(one.wait().await.expect("it ends").code(), Some(0));
}

#[tokio::test]
async fn a_state_of_any_version_equals_the_fold_of_the_events_up_to_it() {
    const RESTOCKS: u64 = 1_100;
    let world = World::new().await;
    let pen = world.id("pen");
    let mut daemon = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    support::hold::restock(&world, &pen, RESTOCKS as usize).await;
    world.drained().await;
    assert_eq!(daemon.terminate().await, Some(0));
    let name = format!("item/{pen}");
    let newest = 2 + RESTOCKS;
    // Around the pages in which a history is read, and the snapshots that are kept of it.
    let versions = (1..=12).chain(254..=258).chain(999..=1003).chain(1024..=1026).chain([newest]);
    for version in versions {
        let number = version.to_string();
        let found = objects(&world, &["state", &name, "--version", &number, "--json"]).await;
        assert_eq!(found[0]["version"], version);
        assert_eq!(found[0]["state"]["item"]["stock"], version.saturating_sub(2), "v{version}: {}", found[0]);
    }
    let newest_state = &objects(&world, &["state", &name, "--json"]).await[0];
    assert_eq!((&newest_state["version"], &newest_state["position"]), (&newest.into(), &newest.into()));
    let at_position = &objects(&world, &["state", &name, "--position", "500", "--json"]).await[0];
    assert_eq!((&at_position["version"], &at_position["state"]["item"]["stock"]), (&500.into(), &498.into()));
    let events = objects(&world, &["events", &name, "--json"]).await;
    let time = events[299]["recorded_at"].as_str().expect("a time");
    let last_then = events.iter().filter(|event| event["recorded_at"].as_str() <= Some(time)).count();
    let at = time.replace(' ', "T") + "Z";
    let then = &objects(&world, &["state", &name, "--at", &at, "--json"]).await[0];
    assert_eq!(then["version"], last_then, "the last one of that moment");
    let changed = &objects(&world, &["state", &name, "--version", "7", "--diff", "4", "--json"]).await[0];
    assert_eq!(changed["changes"], json!([{ "path": "/item/stock", "was": 2, "is": 5 }]));
    for (wrong, code, text) in [
        (&["state", &name, "--version", "5000"][..], 1, "has only 1102 events"),
        (&["state", &name, "--at", "2000-01-01T00:00:00Z"], 1, "had no events then"),
        (&["state", "item/nobody"], 1, "has no events"),
        (&["state", "cat/tom"], 64, "it has item, order"),
        (&["state", &name, "--version", "3", "--diff", "9"], 64, "before 3"),
    ] {
        let (ended, output) = lockkeeper(wrong, &world.environment()).await;
        assert!(ended == Some(code) && output.contains(text), "{wrong:?}: {ended:?} {output}");
    }
}
