//! The row that gives positions, when it is not there or does not say where the log ends: no job's fault.

use std::time::{Duration, Instant};

use support::{eventually, lockkeeper, world::World};

/// What a partial restore, or a hand, leaves behind.
const WRONG: [&str; 3] = [
    "DELETE FROM event_sequence",
    "UPDATE event_sequence SET position = position - 1 WHERE id = 1",
    "UPDATE event_sequence SET position = position + 5 WHERE id = 1",
];

async fn run(world: &World, statement: &str) {
    sqlx::raw_sql(statement).execute(&mut world.sql().await).await.expect(statement);
}

async fn repaired(world: &World) {
    let (code, output) = lockkeeper(&["migrate", "--repair-sequence"], &world.environment()).await;
    assert_eq!(code, Some(0), "{output}");
}

#[tokio::test]
async fn a_start_and_a_check_with_a_wrong_sequence_say_what_mends_it() {
    let world = World::new().await;
    let mut daemon = world.daemon(&[]).await;
    world.item_on_sale(&world.id("pen"), 1).await;
    world.drained().await;
    assert_eq!(daemon.terminate().await, Some(0));
    for wrong in WRONG {
        run(&world, wrong).await;
        for command in ["check", "run"] {
            let (code, output) = lockkeeper(&[command], &world.environment()).await;
            assert_eq!(code, Some(78), "{command} after {wrong}: {output}");
            assert!(output.contains("lockkeeper migrate --repair-sequence"), "{command} after {wrong}: {output}");
        }
        repaired(&world).await;
        let (code, output) = lockkeeper(&["check"], &world.environment()).await;
        assert_eq!(code, Some(0), "after the repair of {wrong}: {output}");
        repaired(&world).await;
    }
}

#[tokio::test]
async fn no_job_dies_of_a_sequence_that_goes_wrong_under_a_daemon() {
    let world = World::new().await;
    let daemon = world.daemon(&[]).await;
    let pen = world.id("pen");
    world.item_on_sale(&pen, 1).await;
    world.drained().await;
    // A row that is ahead is made true by the next batch, which leaves a gap; only a start notices in time.
    for wrong in &WRONG[..2] {
        run(&world, wrong).await;
        let mut jobs = Vec::new();
        for _ in 0..10 {
            jobs.push(world.push("item.restock", &pen, r#"{"quantity":1}"#).await);
        }
        let refused = world.push("item.restock", &world.id("unknown"), r#"{"quantity":1}"#).await;
        let since = Instant::now();
        eventually(&format!("/readyz says what is wrong after {wrong}"), async || {
            let (status, text) = daemon.get("/readyz").await?;
            (status == 503 && text.contains("event_sequence") && text.contains("--repair-sequence")).then_some(())
        })
        .await;
        assert!(since.elapsed() < Duration::from_secs(3), "told after {:?}", since.elapsed());
        for job in &jobs {
            let receipts = world.store.read(&[*job], &[], &[]).await.expect("the receipts").receipts;
            assert!(receipts.is_empty(), "nothing is committed after {wrong}");
        }
        repaired(&world).await;
        let mended = Instant::now();
        for job in jobs {
            assert_eq!(world.receipt(job).await.outcome, "applied", "{wrong}");
        }
        assert_eq!(world.receipt(refused).await.outcome, "rejected", "{wrong}");
        eventually("/readyz says 200", async || daemon.get("/readyz").await.filter(|(status, _)| *status == 200)).await;
        assert!(mended.elapsed() < Duration::from_secs(5), "{wrong}: {:?} after the repair", mended.elapsed());
        world.drained().await;
    }
    let history = world.history("item", &pen).await;
    assert_eq!(history.len(), 2 + 20, "every job once");
    let positions: Vec<u64> = sqlx::query_scalar("SELECT position FROM events ORDER BY position")
        .fetch_all(&mut world.sql().await)
        .await
        .expect("the positions");
    assert_eq!(positions, (1..=positions.len() as u64).collect::<Vec<_>>(), "without gaps");
}
