//! Dead letters on the command line: listed, shown, requeued, dropped.

use lockkeeper::job::JobId;
use serde_json::Value;

use support::{
    eventually, lockkeeper,
    world::{World, told},
};

/// A daemon that finds data of 100 bytes too large.
const NARROW: [(&str, &str); 1] = [("LOCKKEEPER_STREAM_MAX_DATA_BYTES", "100")];

fn large(quantity: u32) -> String {
    format!(r#"{{"quantity":{quantity},"note":"{}"}}"#, "x".repeat(100))
}

/// Runs a command and takes its lines as JSON.
async fn json(world: &World, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let (code, output) = lockkeeper(&[arguments, &["--json"]].concat(), &world.environment()).await;
    let lines = output.lines().filter(|line| line.starts_with('{'));
    (code, lines.map(|line| serde_json::from_str(line).expect("JSON")).collect())
}

async fn letters(world: &World) -> Vec<Value> {
    json(world, &["dead-letters", "list"]).await.1
}

/// Lets a narrow daemon dead-letter a restock that is too large and one that is malformed. Returns their ids.
async fn bury_two(world: &World, pen: &str) -> (JobId, JobId) {
    let mut daemon = world.daemon(&NARROW).await;
    let register = r#"{"name":"pen","supply_price":"1","vat":"0","is_tax_free":true,"stock":0,"member_id":1}"#;
    assert_eq!(world.outcome("item.register", pen, register).await, "applied");
    let too_large = world.push("item.restock", pen, &large(5)).await;
    assert_eq!(world.receipt(too_large).await.outcome, "dead");
    // Batches end beside each other, so only a drained stream makes it the older letter.
    world.drained().await;
    let malformed = world.push("item.reprice", pen, r#"{"vat":"\u001b[31m"}"#).await;
    assert_eq!(world.receipt(malformed).await.outcome, "dead");
    world.drained().await;
    assert_eq!(daemon.terminate().await, Some(0));
    (too_large, malformed)
}

#[tokio::test]
async fn letters_are_listed_with_filters_and_shown_whole() {
    let world = World::new().await;
    let pen = world.id("pen");
    let (too_large, malformed) = bury_two(&world, &pen).await;
    world
        .redis_do::<String>(&["XADD", &format!("{}:dead", world.stream), "*", "type", "\u{1b}[2J", "id", "forged"])
        .await;
    let list = async |more: &[&str]| {
        let (code, found) = json(&world, &[&["dead-letters", "list"], more].concat()).await;
        assert_eq!(code, Some(0));
        found.iter().map(|letter| letter["job"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    let forged = JobId::from_text("forged").to_string();
    let [too_large, malformed] = [too_large, malformed].map(|job| job.to_string());
    assert_eq!(list(&[]).await, [&too_large, &malformed, &forged].map(String::as_str), "oldest first");
    assert_eq!(list(&["--type", "item.reprice"]).await, [malformed.as_str()]);
    assert_eq!(list(&["--reason", "too_large"]).await, [too_large.as_str()]);
    assert_eq!(list(&["--type", "item.reprice", "--reason", "too_large"]).await, [""; 0]);
    assert_eq!(list(&["--limit", "2"]).await.len(), 2);
    assert_eq!(list(&["--older-than", "1h"]).await.len(), 0);
    assert_eq!(list(&["--newer-than", "1h", "--stream", &world.stream]).await.len(), 3);

    let environment = world.environment();
    let (code, table) = lockkeeper(&["dead-letters", "list"], &environment).await;
    assert_eq!(code, Some(0), "{table}");
    assert!(table.contains(&too_large) && table.contains("too_large: data has"), "{table}");
    assert!(table.contains(r"\u{1b}[2J") && !table.contains('\u{1b}'), "a letter speaks to the terminal: {table}");
    let (code, text) = lockkeeper(&["dead-letters", "show", &malformed], &environment).await;
    assert!(code == Some(0) && text.contains("malformed: ") && text.contains(&pen), "{text}");
    let (_, shown) = json(&world, &["dead-letters", "show", &too_large]).await;
    let data = shown[0]["fields"].as_array().expect("fields").iter().find(|field| field[0] == "data").expect("data");
    assert_eq!(data[1], large(5).as_str(), "values are whole");
    assert_eq!(shown[0]["deliveries"], 1);
    let by_letter = json(&world, &["dead-letters", "show", shown[0]["letter"].as_str().expect("an id")]).await;
    assert_eq!(by_letter.1, shown);
}

#[tokio::test]
async fn what_cannot_be_meant_is_a_usage_error_and_an_unknown_id_is_exit_1() {
    let world = World::new().await;
    let environment = world.environment();
    for wrong in [
        &["dead-letters", "drop"][..],
        &["dead-letters", "requeue"],
        &["dead-letters", "drop", "1-0", "--all"],
        &["dead-letters", "drop", "1-0", "--type", "item.restock"],
        &["dead-letters", "list", "--older-than", "soon"],
        &["dead-letters", "list", "--stream", "elsewhere"],
        &["scheduled", "cancel"],
        &["prune"],
    ] {
        let (code, output) = lockkeeper(wrong, &environment).await;
        assert_eq!(code, Some(64), "{wrong:?}: {output}");
    }
    for unknown in ["1-0", "nobody"] {
        for verb in ["show", "requeue", "drop"] {
            let (code, output) = lockkeeper(&["dead-letters", verb, unknown], &environment).await;
            assert!(code == Some(1) && output.contains(unknown), "{verb} {unknown}: {output}");
        }
    }
}

#[tokio::test]
async fn a_dead_job_runs_once_its_cause_is_mended_and_it_is_requeued() {
    let world = World::new().await;
    let pen = world.id("pen");
    let (too_large, malformed) = bury_two(&world, &pen).await;
    let _wide = world.daemon(&[]).await;
    let (code, found) = json(&world, &["dead-letters", "requeue", "--all", "--dry-run"]).await;
    assert_eq!((code, found.len()), (Some(0), 2));
    assert_eq!((letters(&world).await.len(), world.receipt(too_large).await.outcome.as_str()), (2, "dead"));

    let again = [too_large.to_string(), malformed.to_string()];
    let (code, output) = lockkeeper(&["dead-letters", "requeue", &again[0], &again[1]], &world.environment()).await;
    assert!(code == Some(0) && output.contains("2 requeued"), "{output}");
    world.drained().await;
    assert_eq!(told(&world.receipt(too_large).await), "applied");
    assert_eq!(world.history("item", &pen).await.len(), 2, "registered, and restocked under the same id");
    let left = letters(&world).await;
    assert_eq!(left.len(), 1, "what is still wrong is a letter again: {left:?}");
    assert_eq!((&left[0]["job"], &left[0]["deliveries"]), (&again[1].as_str().into(), &1.into()));
    let show = json(&world, &["dead-letters", "show", &again[1]]).await.1;
    let names: Vec<_> = show[0]["fields"].as_array().expect("fields").iter().map(|field| field[0].clone()).collect();
    assert_eq!(names, ["type", "key", "data", "id"], "the letter has the job's own fields and no others");
}

#[tokio::test]
async fn a_requeued_job_that_was_applied_meanwhile_has_no_second_effect() {
    let world = World::new().await;
    let pen = world.id("pen");
    let mut daemon = world.daemon(&NARROW).await;
    let register = r#"{"name":"pen","supply_price":"1","vat":"0","is_tax_free":true,"stock":0,"member_id":1}"#;
    assert_eq!(world.outcome("item.register", &pen, register).await, "applied");
    world.push_with("item.restock", &pen, &large(5), &[("id", "twice")]).await;
    world.drained().await;
    assert_eq!(daemon.terminate().await, Some(0));
    // As after a crash between the letter and what follows it: there are two letters of one job.
    let copy =
        "local letter = redis.call('XRANGE', KEYS[1], '-', '+')[1] redis.call('XADD', KEYS[1], '*', unpack(letter[2]))";
    world.redis_do::<redis::Value>(&["EVAL", copy, "1", &format!("{}:dead", world.stream)]).await;
    let found = letters(&world).await;
    assert_eq!(found.len(), 2, "{found:?}");
    let _wide = world.daemon(&[]).await;
    for letter in found {
        let id = letter["letter"].as_str().expect("an id").to_owned();
        let (code, output) = lockkeeper(&["dead-letters", "requeue", &id], &world.environment()).await;
        assert_eq!(code, Some(0), "{output}");
        world.drained().await;
    }
    assert_eq!(told(&world.receipt(JobId::from_text("twice")).await), "applied");
    assert_eq!(world.history("item", &pen).await.len(), 2, "registered, and restocked once");
    assert_eq!(letters(&world).await.len(), 0);
}

#[tokio::test]
async fn a_requeue_that_was_killed_half_way_or_is_done_twice_at_once_yields_one_entry() {
    let world = World::new().await;
    let pen = world.id("pen");
    let (too_large, malformed) = bury_two(&world, &pen).await;
    // As a requeue leaves it that was killed between its two steps.
    assert_eq!(world.store.forget_dead(&[too_large, malformed]).await.ok(), Some(2));
    let environment = world.environment();
    let requeue = || lockkeeper(&["dead-letters", "requeue", "--all"], &environment);
    let ((first, one), (second, two), (third, three)) = tokio::join!(requeue(), requeue(), requeue());
    assert_eq!([first, second, third], [Some(0); 3], "{one}{two}{three}");
    let entries = world.entries(&world.stream).await;
    assert_eq!(entries.len(), 2, "{entries:?}");
    assert!(entries.iter().all(|entry| entry.len() == 4), "the job's own fields and no others: {entries:?}");
    assert_eq!(letters(&world).await.len(), 0);
}

#[tokio::test]
async fn an_entry_with_an_empty_id_has_one_id_when_it_comes_back() {
    let world = World::new().await;
    let pen = world.id("pen");
    let mut daemon = world.daemon(&NARROW).await;
    world.push_with("item.restock", &pen, &large(1), &[("id", "")]).await;
    world.push_with("item.restock", &pen, r#"{"quantity":1}"#, &[("id", ""), ("at", "99999999999999")]).await;
    world.drained().await;
    assert_eq!(daemon.terminate().await, Some(0));
    let entries = world.entries(&format!("{}:dead", world.stream)).await;
    assert!(entries.len() == 1 && !entries[0]["id"].is_empty(), "{entries:?}");
    let (_, scheduled) = json(&world, &["scheduled", "list"]).await;
    let _wide = world.daemon(&[]).await;
    let (code, output) = lockkeeper(&["dead-letters", "requeue", "--all"], &world.environment()).await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(told(&world.receipt(JobId::from_text(&entries[0]["id"])).await), "rejected: item_not_found");
    // Makes the scheduled one due now.
    let schedule = format!("{}:scheduled", world.stream);
    let member: Vec<Vec<u8>> =
        redis::cmd("ZRANGE").arg(&schedule).arg(0).arg(0).query_async(&mut world.redis.clone()).await.expect("ZRANGE");
    let mut due = redis::cmd("ZADD");
    due.arg(&schedule).arg(1).arg(&member[0]);
    due.query_async::<()>(&mut world.redis.clone()).await.expect("ZADD");
    let job = JobId::from_text(scheduled[0]["job"].as_str().expect("an id"));
    // Two ids would make it malformed. Its `at` still lies ahead, so it goes back to the schedule.
    eventually("the job is in the schedule again", async || {
        let due: f64 =
            world.redis_do::<Vec<(Vec<u8>, f64)>>(&["ZRANGE", &schedule, "0", "0", "WITHSCORES"]).await.first()?.1;
        (due > 1.0).then_some(())
    })
    .await;
    assert_eq!(letters(&world).await.len(), 0);
    let after = json(&world, &["scheduled", "list"]).await.1;
    assert_eq!(JobId::from_text(after[0]["job"].as_str().expect("an id")), job);
}

#[tokio::test]
async fn drop_deletes_what_is_named_or_described_and_nothing_on_a_dry_run() {
    let world = World::new().await;
    let pen = world.id("pen");
    let (too_large, malformed) = bury_two(&world, &pen).await;
    let environment = world.environment();
    let run =
        async |arguments: &[&str]| lockkeeper(&[&["dead-letters", "drop"], arguments].concat(), &environment).await;
    let (code, output) = run(&["--all", "--dry-run"]).await;
    assert!(code == Some(0) && output.contains("2 would be dropped"), "{output}");
    assert_eq!(letters(&world).await.len(), 2);
    let (code, output) = run(&["--all", "--older-than", "1h"]).await;
    assert!(code == Some(0) && output.contains("0 dropped"), "{output}");
    let (code, output) = run(&[&too_large.to_string(), "nobody"]).await;
    assert!(code == Some(1) && output.contains("1 dropped") && output.contains("nobody"), "{output}");
    let left = letters(&world).await;
    assert_eq!(left.iter().map(|letter| letter["job"].clone()).collect::<Vec<_>>(), [malformed.to_string().as_str()]);
    let (code, output) = run(&["--all", "--reason", "malformed"]).await;
    assert!(code == Some(0) && output.contains("1 dropped"), "{output}");
    assert_eq!(letters(&world).await.len(), 0);
    assert_eq!(world.receipt(too_large).await.outcome, "dead", "a dropped job stays dead");
}

#[tokio::test]
async fn more_letters_than_a_page_holds_are_all_requeued_once() {
    let world = World::new().await;
    let dead = format!("{}:dead", world.stream);
    let mut pipeline = redis::pipe();
    for number in 0..250 {
        let (id, key) = (format!("job-{number}"), world.id(number));
        pipeline.cmd("XADD").arg(&dead).arg("*").arg("reason").arg("malformed: x").arg("source").arg("1-0").arg("id");
        pipeline.arg(id).arg("type").arg("item.allow_sale").arg("key").arg(key).arg("data").arg("{}").ignore();
    }
    pipeline.query_async::<()>(&mut world.redis.clone()).await.expect("the letters are written");
    assert_eq!(letters(&world).await.len(), 250);
    let (code, output) = lockkeeper(&["dead-letters", "requeue", "--all"], &world.environment()).await;
    assert!(code == Some(0) && output.contains("250 requeued"), "{output}");
    assert_eq!((world.entries(&world.stream).await.len(), letters(&world).await.len()), (250, 0));
}

#[tokio::test]
async fn a_dead_job_that_is_sent_again_leaves_one_letter_and_hears_again_why() {
    let world = World::new().await;
    let (pen, reply) = (world.id("pen"), format!("reply:{}", world.prefix));
    let daemon = world.daemon(&NARROW).await;
    let send = async || {
        world.push_with("item.restock", &pen, &large(5), &[("id", "again"), ("reply", &reply)]).await;
    };
    for _ in 0..3 {
        send().await;
        world.drained().await;
    }
    // And twice in one batch.
    daemon.process.signal("TSTP").expect("SIGTSTP");
    eventually("nothing is read", async || {
        daemon.metric(r#"lockkeeper_reading_state{state="quiet"}"#).await.filter(|quiet| *quiet == 1.0)
    })
    .await;
    send().await;
    send().await;
    daemon.process.signal("CONT").expect("SIGCONT");
    world.drained().await;
    assert_eq!(letters(&world).await.len(), 1);
    let replies = eventually("a reply each time", async || {
        Some(world.entries(&reply).await).filter(|replies| replies.len() == 5)
    })
    .await;
    assert!(replies.iter().all(|reply| *reply == replies[0] && reply["outcome"] == "dead"), "{replies:?}");
    let series = format!(
        r#"lockkeeper_jobs_processed_total{{queue="{}",job_type="item.restock",outcome="duplicate"}}"#,
        world.stream
    );
    assert_eq!(daemon.metric(&series).await, Some(4.0));
}

#[tokio::test]
async fn a_daemon_killed_between_a_dead_jobs_receipt_and_its_letter_leaves_the_letter_to_its_peer() {
    let world = World::new().await;
    let pen = world.id("pen");
    let soon = ("LOCKKEEPER_FLEET_LEASE_MS", "500");
    let mut killed = world.start(&[NARROW[0], soon, ("LOCKKEEPER_TEST_ABORT", "committed")]);
    world.push_with("item.restock", &pen, &large(5), &[("id", "once")]).await;
    killed.process.finished(support::PATIENCE).await.expect("its first commit kills it");
    assert_eq!(world.receipt(JobId::from_text("once")).await.outcome, "dead");
    assert_eq!(letters(&world).await.len(), 0);
    // Its producer has heard nothing and sends it again, which says nothing about the first entry.
    world.push_with("item.restock", &pen, &large(5), &[("id", "once")]).await;
    let _peer = world.daemon(&[NARROW[0], soon]).await;
    world.drained().await;
    assert_eq!(letters(&world).await.len(), 1);
}
