//! Faults of the daemon itself: killed, frozen, told to end, out of descriptors.

use std::process::Command;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::locks::lock_is_held;
use crate::load::Job;
use crate::site::Site;
use support::{PATIENCE, eventually};

const CLAIMED: &str = r#"lockkeeper_jobs_fetched_total{queue="QUEUE",source="claimed"}"#;

pub async fn killed_in_the_handler(site: &mut Site) {
    let bomb = site.world.id("bomb");
    let abort = format!("decide:{bomb}");
    site.daemon(&[("LOCKKEEPER_TEST_ABORT", &abort)]).await;
    site.stock_up().await;
    site.load();
    site.progress().await;
    site.push(&[Job::new("item.restock", &bomb, r#"{"quantity":1}"#)]).await;
    site.daemons[0].process.finished(PATIENCE).await.expect("the job kills it");
    site.daemons.clear();
    site.daemon(&[]).await;
    site.mended().await;
    site.counted(CLAIMED, 1.0).await;
}

pub async fn killed_after_commit(site: &mut Site) {
    site.under_load().await;
    assert_eq!(site.daemons[0].terminate().await, Some(0));
    site.daemons.clear();
    for _ in 0..5 {
        let mut daemon = site.world.start(&Site::settings(&[("LOCKKEEPER_TEST_ABORT", "committed")]));
        daemon.process.finished(PATIENCE).await.expect("its first commit kills it");
    }
    site.daemon(&[]).await;
    site.mended().await;
    site.counted(CLAIMED, 1.0).await;
    eventually("redeliveries are recognised", async || {
        let (_, text) = site.daemons[0].get("/metrics").await?;
        let duplicates = text.lines().filter(|line| line.contains(r#"outcome="duplicate""#));
        duplicates.into_iter().any(|line| !line.ends_with(" 0")).then_some(())
    })
    .await;
}

pub async fn killed_with_locks(site: &mut Site) {
    site.under_load().await;
    let holder = site.hold_sequence().await;
    lock_is_held(site).await;
    site.daemons.remove(0).process.kill();
    drop(holder);
    site.daemon(&[]).await;
    site.mended().await;
}

pub async fn frozen(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    for round in 0..3 {
        let (owner, holder) = (round % 2, site.hold_sequence().await);
        site.daemons[owner].process.freeze().expect("SIGSTOP");
        drop(holder);
        // The locks live for two seconds, and the stream is taken over before.
        let frozen = Instant::now();
        while frozen.elapsed() < Duration::from_secs(4) {
            site.progress().await;
        }
        site.daemons[owner].process.thaw().expect("SIGCONT");
        site.mended().await;
    }
}

pub async fn killed_at_random(site: &mut Site) {
    // Locks that expire soon, since each kill leaves some: what a kill means for them is a case of its own.
    let short =
        [("LOCKKEEPER_LOCK_TTL_MS", "500"), ("LOCKKEEPER_FLEET_LEASE_MS", "300"), ("LOCKKEEPER_FLEET_LOOK_MS", "50")];
    site.daemon(&short).await;
    site.stock_up().await;
    site.load();
    for _ in 0..200 {
        let enough = site.receipts().await + site.random.random_range(1..60);
        eventually("some jobs are done", async || (site.receipts().await >= enough).then_some(())).await;
        site.daemons.clear();
        site.daemon(&short).await;
    }
    // A job that is pushed now waits behind all that so many starts left undone.
    site.resumed().await;
}

pub async fn drained(site: &mut Site) {
    site.under_load().await;
    for _ in 0..3 {
        let mut leaving = site.daemons.remove(0);
        assert_eq!(leaving.terminate().await, Some(0), "{}", leaving.process.last_lines());
        assert!(leaving.process.last_lines().contains("end=Drained"), "{}", leaving.process.last_lines());
        site.daemon(&[]).await;
        site.mended().await;
    }
}

pub async fn overrun(site: &mut Site) {
    site.under_load().await;
    site.daemons.clear();
    site.daemon(&[("LOCKKEEPER_DRAIN_TIMEOUT_MS", "700")]).await;
    site.progress().await;
    let holder = site.hold_sequence().await;
    site.batch_waits().await;
    let mut leaving = site.daemons.remove(0);
    assert_eq!(leaving.terminate().await, Some(75));
    assert!(leaving.process.last_lines().contains("abandoned in flight"), "I7: {}", leaving.process.last_lines());
    drop(holder);
    site.daemon(&[]).await;
    site.mended().await;
}

pub async fn second_signal(site: &mut Site) {
    site.under_load().await;
    let holder = site.hold_sequence().await;
    site.batch_waits().await;
    site.daemons[0].process.signal("TERM").expect("SIGTERM");
    site.not_ready("lifecycle").await;
    let since = Instant::now();
    assert_eq!(site.daemons[0].terminate().await, Some(143));
    assert!(since.elapsed() < Duration::from_secs(1), "it took {:?}", since.elapsed());
    site.daemons.clear();
    drop(holder);
    site.daemon(&[]).await;
    site.mended().await;
}

pub async fn drained_without_servers(site: &mut Site) {
    for is_broker in [true, false] {
        site.daemon(&[("LOCKKEEPER_DRAIN_TIMEOUT_MS", "3000")]).await;
        if is_broker {
            site.stock_up().await;
            site.load();
        }
        site.progress().await;
        if is_broker {
            site.broker.kill()
        } else {
            site.servers.database.kill()
        }
        site.not_ready(if is_broker { "broker" } else { "database" }).await;
        let since = Instant::now();
        let code = site.daemons[0].terminate().await;
        assert!(matches!(code, Some(0 | 75)), "{code:?}");
        assert!(since.elapsed() < Duration::from_secs(5), "the drain took {:?}", since.elapsed());
        site.daemons.clear();
        let restarted = if is_broker { site.broker.restart().await } else { site.servers.database.restart().await };
        restarted.expect("the server starts again");
        site.reconnect().await;
    }
    site.daemon(&[]).await;
    site.mended().await;
}

/// Connections of strangers use up what descriptors there are, while the servers' connections are cut.
pub async fn out_of_files(site: &mut Site) {
    site.under_load().await;
    let pid = site.daemons[0].process.pid().expect("it runs").to_string();
    let limit = |files: &str| {
        let status = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={files}:")]).status();
        assert!(status.expect("prlimit runs").success());
    };
    limit("64");
    let mut strangers = Vec::new();
    for _ in 0..100 {
        strangers.push(tokio::net::TcpStream::connect(&site.daemons[0].listen).await);
    }
    site.progress().await;
    drop(strangers);
    limit("1024");
    site.mended().await;
}

pub async fn poison(site: &mut Site) {
    let bomb = site.world.id("bomb");
    let abort = format!("decide:{bomb}");
    let settings = Site::settings(&[("LOCKKEEPER_TEST_ABORT", &abort), ("LOCKKEEPER_FLEET_LEASE_MS", "400")]);
    site.daemon(&settings).await;
    site.stock_up().await;
    site.load();
    site.progress().await;
    let job = Job::new("item.restock", &bomb, r#"{"quantity":1}"#);
    site.push(std::slice::from_ref(&job)).await;
    site.dead += 1;
    let id = lockkeeper::job::JobId::from_text(&job.id);
    let mut crashes = 0;
    let deadline = Instant::now() + PATIENCE;
    while site.world.store.read(&[id], &[], &[]).await.expect("a read").receipts.is_empty() {
        assert!(Instant::now() < deadline, "the poison job is not dead after {crashes} crashes");
        if site.daemons[0].process.exit_status().is_some() {
            crashes += 1;
            site.daemons[0] = site.world.start(&settings);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(crashes, 5, "one crash for each of max_deliveries");
    site.mended().await;
}
