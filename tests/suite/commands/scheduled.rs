//! The schedule on the command line.

use lockkeeper::job::JobId;
use serde_json::Value;

use support::{eventually, lockkeeper, world::World};

/// Pushes three jobs that are due far ahead, one of them without an id, and waits until they are in the schedule.
async fn schedule_three(world: &World) {
    let pen = world.id("pen");
    let restock = r#"{"quantity":1}"#;
    world.push_with("item.restock", &pen, restock, &[("at", "4000000000002"), ("id", "second")]).await;
    world.push_with("item.restock", &pen, restock, &[("at", "4000000000001"), ("id", "first")]).await;
    let [job_type, key, data, at] =
        [("type", "item.restock"), ("key", &pen), ("data", restock), ("at", "4000000000002")]
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    world.push_raw(&[job_type, key, data, at]).await;
    eventually("three jobs are in the schedule", async || {
        (world.redis_do::<u64>(&["ZCARD", &format!("{}:scheduled", world.stream)]).await == 3).then_some(())
    })
    .await;
}

async fn list(world: &World, more: &[&str]) -> Vec<Value> {
    let arguments = [&["scheduled", "list", "--json"], more].concat();
    let (code, output) = lockkeeper(&arguments, &world.environment()).await;
    assert_eq!(code, Some(0), "{output}");
    output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn jobs_are_listed_as_they_fall_due_and_cancelled_by_id_or_text() {
    let world = World::new().await;
    let _daemon = world.daemon(&[]).await;
    schedule_three(&world).await;
    let jobs = list(&world, &[]).await;
    let id = |text: &str| Value::from(JobId::from_text(text).to_string());
    assert_eq!((&jobs[0]["job"], &jobs[0]["due"]), (&id("first"), &4_000_000_000_001_u64.into()));
    assert_eq!((&jobs[1]["type"], &jobs[1]["key"]), (&"item.restock".into(), &world.id("pen").into()));
    assert!(jobs.len() == 3 && jobs[1..].iter().any(|job| job["job"] == id("second")), "{jobs:?}");
    assert_eq!(list(&world, &["--limit", "1"]).await, jobs[..1]);
    let environment = world.environment();
    let (code, table) = lockkeeper(&["scheduled", "list"], &environment).await;
    assert!(code == Some(0) && table.contains("2096-10-02T07:06:40.001Z") && table.contains("item.restock"), "{table}");

    let nameless = jobs[1..].iter().find(|job| job["job"] != id("second")).expect("the job without an id");
    let cancel = ["scheduled", "cancel", "first", nameless["job"].as_str().expect("an id")];
    let (code, output) = lockkeeper(&cancel, &environment).await;
    assert!(code == Some(0) && output.matches("is cancelled").count() == 2, "{output}");
    let (code, output) = lockkeeper(&["scheduled", "cancel", "first", "second"], &environment).await;
    assert!(code == Some(1) && output.contains("lockkeeper: first: ") && !output.contains("second:"), "{output}");
    assert_eq!(list(&world, &[]).await.len(), 0);
    assert_eq!(world.history("item", &world.id("pen")).await.len(), 0);
}

#[tokio::test]
async fn a_list_pages_through_jobs_that_are_due_at_one_moment_and_survives_a_foreign_member() {
    let world = World::new().await;
    let _daemon = world.daemon(&[]).await;
    for number in 0..230 {
        let id = format!("job-{number}");
        world.push_with("item.allow_sale", &world.id(number), "{}", &[("at", "4000000000000"), ("id", &id)]).await;
    }
    let schedule = format!("{}:scheduled", world.stream);
    eventually("the jobs are in the schedule", async || {
        (world.redis_do::<u64>(&["ZCARD", &schedule]).await == 230).then_some(())
    })
    .await;
    world.redis_do::<u64>(&["ZADD", &schedule, "4100000000000", "not packed"]).await;
    let jobs = list(&world, &[]).await;
    let ids: std::collections::HashSet<_> = jobs.iter().map(|job| job["job"].to_string()).collect();
    assert_eq!((jobs.len(), ids.len()), (231, 231), "each job once, and the foreign member without fields");
    let (code, output) = lockkeeper(&["scheduled", "cancel", "job-229", "job-0"], &world.environment()).await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(list(&world, &[]).await.len(), 229);
}

#[tokio::test]
async fn a_foreign_member_that_is_due_goes_to_the_dead_letters_and_holds_nobody_up() {
    let world = World::new().await;
    let pen = world.id("pen");
    let _daemon = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    let schedule = format!("{}:scheduled", world.stream);
    // Text, a number as the one value, and an odd list of values, as packed bytes.
    for member in [&b"not a job"[..], &[0x2a], &[0x91, 0xa1, b'x']] {
        let mut add = redis::cmd("ZADD");
        add.arg(&schedule).arg(1).arg(member);
        add.query_async::<()>(&mut world.redis.clone()).await.expect("ZADD");
    }
    let job = world.push_with("item.restock", &pen, r#"{"quantity":1}"#, &[("at", "4102444800000")]).await;
    // One of the others may be the only one for a moment.
    eventually("the job is scheduled, and alone is left", async || {
        let mut range = redis::cmd("ZRANGE");
        range.arg(&schedule).arg(0).arg(-1);
        let members: Vec<Vec<u8>> = range.query_async(&mut world.redis.clone()).await.ok()?;
        (members.len() == 1 && members[0].windows(4).any(|bytes| bytes == b"item")).then_some(())
    })
    .await;
    let letters = world.entries(&format!("{}:dead", world.stream)).await;
    assert_eq!(letters.len(), 3, "{letters:?}");
    assert!(letters.iter().all(|letter| letter["reason"].starts_with("malformed: ")), "{letters:?}");
    assert!(world.store.read(&[job], &[], &[]).await.expect("a read").receipts.is_empty(), "it is not due");
}
