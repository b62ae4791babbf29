//! Servers that answer, with a state in which nothing can go well: rows, lists and rights that are not what they were.

use std::time::Duration;

use crate::load::Job;
use crate::site::Site;
use support::{eventually, lockkeeper};

/// How soon work has to go on once the state is mended.
const RECOVERY: Duration = Duration::from_secs(5);

fn restock(site: &Site) -> Job {
    Job::new("item.restock", &site.world.id("item0"), r#"{"quantity":1}"#)
}

/// The row that gives positions is gone, and then behind the log, as after a partial restore. No job may die of it.
pub async fn sequence_wrong(site: &mut Site) {
    site.under_load().await;
    for fault in [
        "DELETE FROM event_sequence",
        "UPDATE event_sequence SET position = position - 10 WHERE id = 1",
        "UPDATE event_sequence SET position = 0 WHERE id = 1",
    ] {
        site.sql(fault).await;
        site.not_ready("database").await;
        let (code, output) = lockkeeper(&["check"], &site.world.environment()).await;
        assert_eq!(code, Some(78), "check sees it: {output}");
        assert!(output.contains("--repair-sequence"), "check says what mends it: {output}");
        let (code, output) = lockkeeper(&["migrate", "--repair-sequence"], &site.world.environment()).await;
        assert_eq!(code, Some(0), "{output}");
        site.mended_within(RECOVERY).await;
    }
}

/// The broker's account loses the right to one of the keys, so that nothing can be acknowledged.
pub async fn key_refused(site: &mut Site) {
    site.under_load().await;
    let stream = site.world.stream.clone();
    let names = ["", ":dead", ":scheduled", ":retention", ":lineage"].map(|suffix| format!("~{stream}{suffix}"));
    let rule: Vec<&str> =
        ["ACL", "SETUSER", "app", "resetkeys"].into_iter().chain(names.iter().map(String::as_str)).collect();
    site.world.redis_do::<()>(&rule).await;
    site.not_ready("broker").await;
    site.world.redis_do::<()>(&["ACL", "SETUSER", "app", "resetkeys", "~*"]).await;
    site.mended_within(RECOVERY).await;
}

/// Entries that are neither unread nor pending: their consumer was deleted, somebody else acknowledged them, the group was set
/// past them.
pub async fn orphaned(site: &mut Site) {
    site.under_load().await;
    let stream = site.world.stream.clone();
    let holder = site.hold_sequence().await;
    site.counted("lockkeeper_jobs_in_flight", 1.0).await;
    site.daemons.clear();
    let pending: Vec<(String, String, u64, u64)> =
        site.world.redis_do(&["XPENDING", &stream, "lockkeeper", "-", "+", "10"]).await;
    assert!(!pending.is_empty(), "entries are pending");
    for (id, ..) in pending.iter().take(5) {
        site.world.redis_do::<u64>(&["XACK", &stream, "lockkeeper", id]).await;
    }
    site.world.redis_do::<u64>(&["XGROUP", "DELCONSUMER", &stream, "lockkeeper", &pending[0].1]).await;
    site.push(&(0..100).map(|_| restock(site)).collect::<Vec<_>>()).await;
    site.world.redis_do::<()>(&["XGROUP", "SETID", &stream, "lockkeeper", "$"]).await;
    drop(holder);
    site.daemon(&[]).await;
    let (entries, _) = site.world.left().await;
    assert!(entries > 0, "entries are in no list");
    // Each of them has to run: the end of the case looks for every job's receipt.
    site.mended().await;
}

/// Reply streams that the broker's account may not write to, or that are no streams, among such that it may.
pub async fn replies_refused(site: &mut Site) {
    site.under_load().await;
    // Some of its jobs are pushed past the journal.
    site.is_unordered = true;
    let (good, forbidden, wrong) =
        (format!("reply:{}", site.world.prefix), format!("reply:x{}", site.world.prefix), site.world.id("no-stream"));
    let wrong = format!("reply:{wrong}");
    site.world.redis_do::<()>(&["SET", &wrong, "text"]).await;
    let (ours, reply) = (format!("~{}*", site.world.stream), format!("~reply:{}*", site.world.prefix));
    site.world.redis_do::<()>(&["ACL", "SETUSER", "app", "resetkeys", &ours, &reply]).await;
    let mut answered = 0;
    for round in 0..20 {
        let jobs: Vec<Job> = (0..9).map(|_| restock(site)).collect();
        site.pushed.add(&jobs);
        for (Job { id, job_type, key, data }, reply) in jobs.iter().zip([&good, &forbidden, &wrong].into_iter().cycle())
        {
            site.world.push_with(job_type, key, data, &[("id", id), ("reply", reply)]).await;
        }
        answered += 3;
        if round % 5 == 0 {
            site.done(&jobs[8]).await;
        }
    }
    eventually("every permitted reply arrives", async || {
        (site.world.entries(&good).await.len() >= answered).then_some(())
    })
    .await;
    site.counted("lockkeeper_reply_errors_total", 1.0).await;
    site.world.redis_do::<()>(&["ACL", "SETUSER", "app", "resetkeys", "~*"]).await;
    site.world.redis_do::<u64>(&["DEL", &wrong]).await;
    site.mended().await;
}
