//! A server whose defaults are not what we rest on: what a session is, it says itself.

use lockkeeper::job::JobId;

use support::{eventually, lockkeeper, world::World};

/// Every default that a server can give its sessions, at its worst.
const WORST: [&str; 7] = [
    "--autocommit=0",
    "--sql-mode=",
    "--default-time-zone=+05:00",
    "--transaction-isolation=SERIALIZABLE",
    "--completion-type=CHAIN",
    "--innodb-lock-wait-timeout=1",
    "--init-connect=SET sql_select_limit = 2, sql_safe_updates = 1, max_sort_length = 8, foreign_key_checks = 0, \
     unique_checks = 0, sql_auto_is_null = 1, group_concat_max_len = 4",
];

async fn letters(world: &World) -> usize {
    world.entries(&format!("{}:dead", world.stream)).await.len()
}

#[tokio::test]
async fn a_letter_that_is_put_back_runs_and_what_prune_deletes_is_gone() {
    let (world, _server) = World::with_database(&WORST).await;
    let daemon = world.daemon(&[("LOCKKEEPER_STREAM_MAX_DATA_BYTES", "200")]).await;
    let pen = world.id("pen");
    world.item_on_sale(&pen, 1).await;
    // Too large for this daemon, and not for the next.
    let data = format!(r#"{{"quantity":5,"note":"{}"}}"#, "x".repeat(300));
    let id = world.push("item.restock", &pen, &data).await;
    assert_eq!(world.receipt(id).await.outcome, "dead");
    eventually("it has a letter", async || (letters(&world).await == 1).then_some(())).await;
    drop(daemon);
    let _daemon = world.daemon(&[]).await;
    let environment = world.environment();
    let (code, output) = lockkeeper(&["dead-letters", "requeue", "--all"], &environment).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("1 requeued"), "{output}");
    let applied = async || (world.receipt(id).await.outcome == "applied").then_some(());
    eventually("what was put back has run", applied).await;
    world.drained().await;

    let age = "SET sql_safe_updates = 0; UPDATE receipts SET recorded_at = UTC_TIMESTAMP(6) - INTERVAL 10 DAY; COMMIT";
    sqlx::raw_sql(age).execute(&mut world.sql().await).await.expect("the receipts age");
    let (code, output) = lockkeeper(&["prune", "--receipts-older-than", "5d"], &environment).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("receipts: 3 deleted"), "{output}");
    let left: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM receipts").fetch_one(&mut world.sql().await).await.expect("a count");
    assert_eq!(left, 0, "what is told to be deleted is gone for everybody");
}

#[tokio::test]
async fn an_aggregate_with_more_events_than_the_limit_is_loaded_whole_by_every_start_and_command() {
    let (world, _server) = World::with_database(&WORST).await;
    let pen = world.id("pen");
    for start in 1..=3 {
        let mut daemon = world.daemon(&[]).await;
        if start == 1 {
            world.item_on_sale(&pen, 1).await;
        }
        for _ in 0..4 {
            assert_eq!(world.outcome("item.restock", &pen, r#"{"quantity":1}"#).await, "applied", "start {start}");
        }
        assert_eq!(daemon.terminate().await, Some(0));
    }
    assert_eq!(world.history("item", &pen).await.len(), 2 + 12);
    let environment = world.environment();
    let (code, output) = lockkeeper(&["events", &format!("item/{pen}")], &environment).await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(output.matches("item.restocked").count(), 12, "{output}");
    let (code, output) = lockkeeper(&["check"], &environment).await;
    assert_eq!(code, Some(0), "{output}");
    let other = JobId::from_text("nobody's");
    let (_, output) = lockkeeper(&["job", &other.to_string()], &environment).await;
    assert!(output.contains("receipt"), "{output}");
}
