//! Faults of the broker: killed, emptied, frozen, refusing.

use std::time::{Duration, Instant};

use crate::load::Job;
use crate::site::{CANARY, Site};
use support::eventually;

const RECREATED: &str = r#"lockkeeper_queue_groups_recreated_total{queue="QUEUE"}"#;

pub async fn killed(site: &mut Site) {
    site.under_load().await;
    for _ in 0..2 {
        site.broker.kill();
        site.not_ready("broker").await;
        site.broker.restart().await.expect("the broker starts again");
        site.mended().await;
    }
}

pub async fn emptied(site: &mut Site) {
    site.under_load().await;
    let stream = site.world.stream.clone();
    for (count, words) in [&["FLUSHALL"][..], &["DEL", &stream]].into_iter().enumerate() {
        site.world.redis_do::<redis::Value>(words).await;
        site.counted(RECREATED, count as f64 + 1.0).await;
        site.mended().await;
    }
    site.resend().await;
}

pub async fn group_gone(site: &mut Site) {
    site.under_load().await;
    let stream = site.world.stream.clone();
    site.world.redis_do::<redis::Value>(&["XGROUP", "DESTROY", &stream, "lockkeeper"]).await;
    site.counted(RECREATED, 1.0).await;
    site.mended().await;
    let holder = site.hold_sequence().await;
    site.counted("lockkeeper_jobs_in_flight", 1.0).await;
    let consumers: Vec<std::collections::HashMap<String, redis::Value>> =
        site.world.redis_do(&["XINFO", "CONSUMERS", &stream, "lockkeeper"]).await;
    let name: String = redis::from_redis_value(consumers[0]["name"].clone()).expect("the consumer's name");
    site.world.redis_do::<u64>(&["XGROUP", "DELCONSUMER", &stream, "lockkeeper", &name]).await;
    drop(holder);
    site.mended().await;
    // Entries that were delivered to the deleted consumer and not in its hands are in no list any more.
    site.resend().await;
}

pub async fn pending_deleted(site: &mut Site) {
    site.under_load().await;
    let holder = site.hold_sequence().await;
    site.counted("lockkeeper_jobs_in_flight", 1.0).await;
    site.daemons.clear();
    let stream = site.world.stream.clone();
    let pending: Vec<(String, String, u64, u64)> =
        site.world.redis_do(&["XPENDING", &stream, "lockkeeper", "-", "+", "3"]).await;
    assert!(!pending.is_empty(), "entries are pending");
    for (id, ..) in &pending {
        site.world.redis_do::<u64>(&["XDEL", &stream, id]).await;
    }
    drop(holder);
    site.daemon(&[]).await;
    site.counted(r#"lockkeeper_claim_deleted_total{queue="QUEUE"}"#, pending.len() as f64).await;
    site.mended().await;
    site.resend().await;
}

/// A producer that passes MAXLEN, while the daemon is behind.
pub async fn trimmed(site: &mut Site) {
    site.under_load().await;
    site.daemons[0].process.signal("TSTP").expect("SIGTSTP");
    eventually("entries wait, and none is in hand", async || {
        let (entries, _) = site.world.left().await;
        let (_, ready) = site.daemons[0].get("/readyz").await?;
        (entries >= 200 && ready.contains("fleet: stands by")).then_some(())
    })
    .await;
    let add = "local before = redis.call('XLEN', KEYS[1]) \
               redis.call('XADD', KEYS[1], 'MAXLEN', 50, '*', 'id', ARGV[1], 'type', ARGV[2], 'key', ARGV[3], 'data', ARGV[4]) \
               return before + 1 - redis.call('XLEN', KEYS[1])";
    let job = Job::new("item.restock", &site.world.id("item0"), r#"{"quantity":1}"#);
    site.pushed.add(std::slice::from_ref(&job));
    let Job { id, job_type, key, data } = &job;
    let lost: u64 = site.world.redis_do(&["EVAL", add, "1", &site.world.stream, id, job_type, key, data]).await;
    assert!(lost >= 100, "{lost} entries are trimmed");
    site.daemons[0].process.signal("CONT").expect("SIGCONT");
    let series = r#"lockkeeper_queue_entries_lost_total{queue="QUEUE"}"#;
    site.counted(series, lost as f64).await;
    site.logged("trimmed or deleted before they were run").await;
    site.mended().await;
    let counted = site.daemons[0].metric(&series.replace("QUEUE", &site.world.stream)).await;
    assert_eq!(counted, Some(lost as f64), "I7: every lost entry is counted, and once");
    site.resend().await;
}

pub async fn frozen(site: &mut Site) {
    site.under_load().await;
    for seconds in [5, 60] {
        let since = Instant::now();
        site.broker.freeze().expect("SIGSTOP");
        site.not_ready("broker").await;
        while since.elapsed() < Duration::from_secs(seconds) {
            site.not_ready("broker").await;
        }
        site.broker.thaw().expect("SIGCONT");
        site.mended().await;
    }
}

/// The broker's memory is full while a dead letter is to be written; then it lacks the replicas that it must have.
pub async fn writes_refused(site: &mut Site) {
    site.under_load().await;
    let holder = site.hold_sequence().await;
    let malformed = Job::new("item.restock", &site.world.id("item0"), r#"{"quantity":0}"#);
    site.push(&[malformed]).await;
    site.dead += 1;
    site.world.redis_do::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    drop(holder);
    site.logged("OOM").await;
    assert!(site.world.entries(&format!("{}:dead", site.world.stream)).await.is_empty());
    site.world.redis_do::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    site.mended().await;
    site.world.redis_do::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    site.not_ready("broker").await;
    site.logged("NOREPLICAS").await;
    site.world.redis_do::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    site.mended().await;
}

pub async fn replica_for_a_while(site: &mut Site) {
    site.under_load().await;
    let nobody = throwaway::servers::free_port().expect("a free port").to_string();
    site.world.redis_do::<()>(&["REPLICAOF", "127.0.0.1", &nobody]).await;
    site.not_ready("broker").await;
    site.logged("READONLY").await;
    site.world.redis_do::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    site.mended().await;
}

pub async fn access_refused(site: &mut Site) {
    site.under_load().await;
    site.world.redis_do::<()>(&["ACL", "SETUSER", "app", "-xreadgroup"]).await;
    // The other connection may still do all that it is asked for.
    site.not_ready("reading").await;
    site.counted(r#"lockkeeper_reading_state{state="refused"}"#, 1.0).await;
    site.logged("NOPERM").await;
    site.world.redis_do::<()>(&["ACL", "SETUSER", "app", "+xreadgroup"]).await;
    site.mended().await;
    site.world.redis_do::<()>(&["ACL", "SETUSER", "app", "resetpass", ">another"]).await;
    site.world.redis_do::<u64>(&["CLIENT", "KILL", "USER", "app"]).await;
    site.not_ready("broker").await;
    site.world.redis_do::<()>(&["ACL", "SETUSER", "app", "resetpass", &format!(">{CANARY}")]).await;
    ready_again(site).await;
    site.mended().await;
    // Nobody new gets in, and the daemon's own connections are gone.
    site.world.redis_do::<()>(&["CONFIG", "SET", "maxclients", "1"]).await;
    site.world.redis_do::<u64>(&["CLIENT", "KILL", "USER", "app"]).await;
    site.not_ready("broker").await;
    site.world.redis_do::<()>(&["CONFIG", "SET", "maxclients", "10000"]).await;
    ready_again(site).await;
    site.mended().await;
}

/// Reading and acknowledging have connections of their own; readiness asks on the one that acknowledges.
async fn ready_again(site: &Site) {
    eventually("the broker is ready again", async || (site.daemons[0].get("/readyz").await?.0 == 200).then_some(()))
        .await;
}
