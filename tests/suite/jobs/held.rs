//! Jobs that share an aggregate with a dead letter, where these are to go behind it.

use lockkeeper::job::JobId;

use support::{
    eventually, lockkeeper,
    world::{Daemon, World, told},
};

const HOLD: (&str, &str) = ("LOCKKEEPER_STREAM_HOLD_AFTER_DEAD", "true");

/// Data that is too large for a daemon that is narrow.
const NARROW: (&str, &str) = ("LOCKKEEPER_STREAM_MAX_DATA_BYTES", "300");

fn restock(quantity: u32) -> String {
    format!(r#"{{"quantity":{quantity}}}"#)
}

fn large(quantity: u32) -> String {
    format!(r#"{{"quantity":{quantity},"note":"{}"}}"#, "x".repeat(300))
}

fn order(lines: &[&str]) -> String {
    let lines: Vec<String> = lines.iter().map(|item| format!(r#"{{"item_id":"{item}","quantity":1}}"#)).collect();
    format!(r#"{{"member_id":1,"lines":[{}]}}"#, lines.join(","))
}

/// The letters of this world, as reasons by job.
async fn reasons(world: &World) -> Vec<(JobId, String)> {
    let letters = world.entries(&format!("{}:dead", world.stream)).await;
    letters.iter().map(|letter| (JobId::from_text(&letter["id"]), letter["reason"].clone())).collect()
}

/// Waits until so many letters are there, and nothing is left of the stream.
async fn letters(world: &World, count: usize) -> Vec<(JobId, String)> {
    eventually(&format!("there are {count} letters"), async || {
        let letters = reasons(world).await;
        (letters.len() == count && world.left().await == (0, 0)).then_some(letters)
    })
    .await
}

async fn held(daemon: &Daemon, world: &World, count: u32) {
    let series = format!(r#"lockkeeper_queue_held{{queue="{}"}}"#, world.stream);
    eventually("the daemon counts those that are held", async || {
        (daemon.metric(&series).await? == f64::from(count)).then_some(())
    })
    .await;
}

async fn act(world: &World, verb: &str, job: JobId) -> String {
    let (code, output) = lockkeeper(&["dead-letters", verb, &job.to_string()], &world.environment()).await;
    assert_eq!(code, Some(0), "{output}");
    output
}

async fn has_run(world: &World, job: JobId) -> bool {
    !world.store.read(&[job], &[], &[]).await.expect("a read").receipts.is_empty()
}

#[tokio::test]
async fn those_behind_a_dead_job_go_on_in_order_when_it_is_dropped() {
    let world = World::new().await;
    let (pen, ink, cap) = (world.id("pen"), world.id("ink"), world.id("cap"));
    let daemon = world.daemon(&[HOLD, NARROW]).await;
    for item in [&pen, &ink, &cap] {
        world.item_on_sale(item, 5).await;
    }
    let dead = world.push("item.restock", &pen, &large(1)).await;
    let first = world.push("item.restock", &pen, &restock(2)).await;
    let both = world.push("order.place", &world.id("both"), &order(&[&pen, &ink])).await;
    let behind_both = world.push("item.restock", &ink, &restock(3)).await;
    let beside = world.push("item.restock", &cap, &restock(9)).await;
    let nameless = world.push_raw(&[(b"type", b"item.restock"), (b"data", b"{}")]).await;
    assert_eq!(told(&world.receipt(beside).await), "applied", "it shares nothing with the dead one");
    let found = letters(&world, 5).await;
    let reason = |job: JobId| found.iter().find(|(of, _)| *of == job).map_or("", |(_, reason)| reason.as_str());
    assert!(reason(dead).starts_with("too_large: "), "{found:?}");
    for job in [first, both, behind_both] {
        assert!(reason(job).starts_with("held: ") && !has_run(&world, job).await, "it is behind {nameless}: {found:?}");
    }
    held(&daemon, &world, 3).await;
    let output = act(&world, "requeue", both).await;
    assert!(output.contains("waits on behind an older one"), "{output}");

    let output = act(&world, "drop", dead).await;
    assert!(output.contains("1 dropped"), "{output}");
    for job in [first, both, behind_both] {
        assert_eq!(told(&world.receipt(job).await), "applied");
    }
    letters(&world, 1).await;
    let positions = async |job| world.receipt(job).await.positions.expect("it has events").0;
    assert!(positions(first).await < positions(both).await && positions(both).await < positions(behind_both).await);
    held(&daemon, &world, 0).await;
    assert_eq!(world.outcome("item.restock", &pen, &restock(4)).await, "applied", "nothing is held any more");
}

#[tokio::test]
async fn a_requeued_job_has_its_old_place_before_those_that_came_after_it() {
    let world = World::new().await;
    let pen = world.id("pen");
    let mut narrow = world.daemon(&[HOLD, NARROW]).await;
    world.item_on_sale(&pen, 5).await;
    let dead = world.push("item.restock", &pen, &large(1)).await;
    for quantity in 2..40 {
        world.push("item.restock", &pen, &restock(quantity)).await;
    }
    letters(&world, 39).await;
    act(&world, "requeue", dead).await;
    eventually("it is dead again", async || has_run(&world, dead).await.then_some(())).await;
    letters(&world, 39).await;
    assert!(world.restocked(&pen).await.is_empty(), "those behind it have overtaken it");
    assert_eq!(narrow.terminate().await, Some(0));

    let _wide = world.daemon(&[HOLD]).await;
    for quantity in 40..50 {
        world.push("item.restock", &pen, &restock(quantity)).await;
    }
    letters(&world, 49).await;
    act(&world, "requeue", dead).await;
    for quantity in 50..60 {
        world.push("item.restock", &pen, &restock(quantity)).await;
    }
    letters(&world, 0).await;
    let expected: Vec<u64> = (1..60).collect();
    assert_eq!(world.restocked(&pen).await, expected, "as if the dead one had been right from the beginning");
    let left: u64 = world.redis_do(&["HLEN", &format!("{}:held", world.stream)]).await;
    assert!(left <= 2, "records are left of letters that are gone");
}

#[tokio::test]
async fn what_is_held_outlives_its_owner_and_the_option() {
    let world = World::new().await;
    let pen = world.id("pen");
    let lease = ("LOCKKEEPER_FLEET_LEASE_MS", "400");
    let mut first = world.daemon(&[HOLD, NARROW, lease]).await;
    world.item_on_sale(&pen, 5).await;
    let dead = world.push("item.restock", &pen, &large(1)).await;
    world.push("item.restock", &pen, &restock(2)).await;
    letters(&world, 2).await;
    first.process.kill();
    for quantity in 3..=300 {
        world.push("item.restock", &pen, &restock(quantity)).await;
    }
    let mut second = world.daemon(&[lease, ("LOCKKEEPER_BATCH_MAX_JOBS", "8")]).await;
    letters(&world, 300).await;
    held(&second, &world, 299).await;
    act(&world, "requeue", dead).await;
    eventually("some have gone on", async || (world.restocked(&pen).await.len() > 20).then_some(())).await;
    second.process.kill();
    assert!(world.restocked(&pen).await.len() < 300, "all had gone on before it was killed");
    let mut third = world.daemon(&[lease]).await;
    letters(&world, 0).await;
    assert_eq!(world.restocked(&pen).await, (1..=300).collect::<Vec<_>>());
    assert_eq!(third.terminate().await, Some(0));
}

#[tokio::test]
async fn letters_that_somebody_deletes_by_hand_hold_nobody() {
    let world = World::new().await;
    let pen = world.id("pen");
    let _daemon = world.daemon(&[HOLD, NARROW]).await;
    world.item_on_sale(&pen, 5).await;
    world.push("item.restock", &pen, &large(1)).await;
    let behind = world.push("item.restock", &pen, &restock(2)).await;
    letters(&world, 2).await;
    let dead = format!("{}:dead", world.stream);
    let found: Vec<(String, Vec<String>)> = world.redis_do(&["XRANGE", &dead, "-", "+"]).await;
    let too_large = found.iter().find(|(_, fields)| fields[1].starts_with("too_large")).expect("the dead one");
    world.redis_do::<u64>(&["XDEL", &dead, &too_large.0]).await;
    assert_eq!(told(&world.receipt(behind).await), "applied");
}
