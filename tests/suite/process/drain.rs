//! SIGTERM, a second SIGTERM, SIGTSTP and SIGCONT.

use std::time::{Duration, Instant};

use support::hold::{hold_sequence, pending, release, restock};
use support::{PATIENCE, eventually, world::World};

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight_and_leaves_the_rest_to_a_peer() {
    let world = World::new().await;
    let pen = world.id("pen");
    let unhurried = [("LOCKKEEPER_FLEET_LEASE_MS", "60000")];
    let mut leaving = world.daemon(&unhurried).await;
    world.item_on_sale(&pen, 0).await;
    for _ in 0..500 {
        world.push("item.restock", &pen, r#"{"quantity":1}"#).await;
    }
    assert_eq!(leaving.terminate().await, Some(0), "{}", leaving.process.last_lines());
    // Whoever drains leaves its streams, so nobody waits for its silence.
    let _peer = world.daemon(&unhurried).await;
    world.drained().await;
    assert_eq!(world.history("item", &pen).await.len(), 502);
    let keys: Vec<String> =
        redis::cmd("KEYS").arg(format!("lock:item:{pen}")).query_async(&mut world.redis.clone()).await.expect("KEYS");
    assert!(keys.is_empty(), "no lock is left behind: {keys:?}");
}

#[tokio::test]
async fn a_drain_that_runs_out_of_time_exits_75_with_the_ids_and_a_peer_goes_on_at_once() {
    let world = World::new().await;
    let pen = world.id("pen");
    let mut daemon = world.daemon(&[("LOCKKEEPER_DRAIN_TIMEOUT_MS", "700")]).await;
    world.item_on_sale(&pen, 0).await;
    let holder = hold_sequence(&world).await;
    restock(&world, &pen, 10).await;
    eventually("the jobs are in hand", async || (pending(&world).await.len() == 10).then_some(())).await;
    daemon.process.signal("TERM").expect("SIGTERM");
    eventually("readiness is gone at once", async || {
        (daemon.get("/readyz").await?.0 == 503 && daemon.get("/metrics").await?.0 == 200).then_some(())
    })
    .await;
    assert_eq!(daemon.process.finished(PATIENCE).await.expect("it ends").code(), Some(75));
    let log = daemon.process.last_lines();
    assert!(log.contains("abandoned in flight") && log.contains("entries=\"") && log.contains("end=Overrun"), "{log}");
    for node in &world.lock_nodes {
        let client = redis::Client::open(node.as_str()).expect("the node's URL");
        let mut node = client.get_multiplexed_async_connection().await.expect("the node answers");
        let held: u64 =
            redis::cmd("EXISTS").arg(format!("lock:item:{pen}")).query_async(&mut node).await.expect("EXISTS");
        assert_eq!(held, 0, "a lock is left behind");
    }
    release(holder).await;
    let since = Instant::now();
    let _peer = world.daemon(&[]).await;
    world.drained().await;
    assert!(since.elapsed() < Duration::from_secs(10), "it took {:?}", since.elapsed());
    assert_eq!(world.history("item", &pen).await.len(), 12);
}

#[tokio::test]
async fn a_second_signal_is_out_in_a_second_and_its_jobs_run_elsewhere() {
    let world = World::new().await;
    let pen = world.id("pen");
    let mut daemon = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    let holder = hold_sequence(&world).await;
    restock(&world, &pen, 10).await;
    eventually("the jobs are in hand", async || (pending(&world).await.len() == 10).then_some(())).await;
    daemon.process.signal("TERM").expect("SIGTERM");
    eventually("it drains", async || (daemon.get("/readyz").await?.0 == 503).then_some(())).await;
    let since = Instant::now();
    daemon.process.signal("TERM").expect("SIGTERM");
    assert_eq!(daemon.process.finished(PATIENCE).await.expect("it ends").code(), Some(143));
    assert!(since.elapsed() < Duration::from_secs(1), "it took {:?}", since.elapsed());
    release(holder).await;
    let _peer = world.daemon(&[]).await;
    world.drained().await;
    assert_eq!(world.history("item", &pen).await.len(), 12);
}

#[tokio::test]
async fn sigtstp_makes_quiet_and_sigcont_resumes() {
    let world = World::new().await;
    let pen = world.id("pen");
    let daemon = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    daemon.process.signal("TSTP").expect("SIGTSTP");
    let polls = async || daemon.metric("lockkeeper_queue_last_poll_timestamp_seconds").await;
    eventually("it has stopped reading", async || {
        let before = polls().await?;
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(300) {
            if polls().await? != before {
                return None;
            }
        }
        Some(())
    })
    .await;
    assert_eq!(daemon.get("/livez").await.map(|(status, _)| status), Some(200), "it stays up");
    restock(&world, &pen, 1).await;
    assert!(pending(&world).await.is_empty(), "nothing is read");
    daemon.process.signal("CONT").expect("SIGCONT");
    world.drained().await;
    assert_eq!(world.history("item", &pen).await.len(), 3);
}
