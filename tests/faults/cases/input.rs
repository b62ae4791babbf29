//! Jobs that nobody should send: each is dead-lettered with a reason, and delays nobody.

use crate::load::Job;
use crate::site::Site;

/// Pushes jobs that can never be run among those that can.
async fn push_dead(site: &mut Site, jobs: &[Job]) {
    site.dead += jobs.len();
    site.push(jobs).await;
    for job in jobs {
        site.done(job).await;
    }
    site.mended().await;
}

pub async fn malformed(site: &mut Site) {
    site.under_load().await;
    let key = site.world.id("item0");
    let jobs = [
        Job::new("item.restock", &key, r#"{"quantity":"#),
        Job::new("item.restock", &key, "{}"),
        Job::new("item.restock", &key, r#"{"quantity":0}"#),
        Job::new("item.paint", &key, "{}"),
        Job::new("", &key, "{}"),
        Job::new("item.restock", "", r#"{"quantity":1}"#),
        Job::new("item.restock", &key, ""),
    ];
    push_dead(site, &jobs).await;
    site.counted(r#"lockkeeper_jobs_dead_lettered_total{queue="QUEUE",reason="malformed"}"#, 5.0).await;
    site.counted(r#"lockkeeper_jobs_dead_lettered_total{queue="QUEUE",reason="unknown_type"}"#, 2.0).await;
}

pub async fn hostile(site: &mut Site) {
    site.under_load().await;
    let key = site.world.id("item0");
    // A count that no stock can hold is a business no, not a malformed job.
    site.push(&[Job::new("item.restock", &key, r#"{"quantity":99999999999999999999999999}"#)]).await;
    let deep = format!(r#"{{"quantity":1,"x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    let data = [deep.as_str(), r#"{"quantity":NaN}"#, r#"{"quantity":1e999}"#, r#"{"quantity":-1}"#, "\0", "[]"];
    let jobs = data.map(|data| Job::new("item.restock", &key, data));
    push_dead(site, &jobs).await;
}

/// Payloads far over the limit, and a backlog that fills the daemon's hands many times.
pub async fn large(site: &mut Site) {
    site.under_load().await;
    let key = site.world.id("item0");
    let pad = format!(r#"{{"quantity":1,"pad":"{}"}}"#, "x".repeat(64 << 20));
    for _ in 0..3 {
        push_dead(site, &[Job::new("item.restock", &key, &pad)]).await;
    }
    site.counted(r#"lockkeeper_jobs_dead_lettered_total{queue="QUEUE",reason="too_large"}"#, 3.0).await;
    for _ in 0..20 {
        let jobs: Vec<Job> = (0..500).map(|_| Job::new("item.restock", &key, r#"{"quantity":1}"#)).collect();
        site.push(&jobs).await;
    }
}

pub async fn keys(site: &mut Site) {
    site.under_load().await;
    let sane = ["a:b/c|d", "*?[x]", "ключ-鍵-🔑", "../..", "'; DROP TABLE events; --", "%s{}\\"];
    let register = r#"{"name":"n","supply_price":"1","vat":"0","is_tax_free":true,"stock":0,"member_id":1}"#;
    let jobs = sane.map(|key| Job::new("item.register", key, register));
    site.push(&jobs).await;
    for key in sane {
        let ends = async || (site.world.history("item", key).await.len() == 1).then_some(());
        support::eventually("the item is registered", ends).await;
    }
    let (long, control) = ("k".repeat(10_000), "a\u{7}b");
    let jobs = [long.as_str(), control].map(|key| Job::new("item.restock", key, r#"{"quantity":1}"#));
    push_dead(site, &jobs).await;
}

pub async fn injection(site: &mut Site) {
    site.under_load().await;
    let key = site.world.id("item0");
    let forged = "\u{1b}[31mred\n2026-01-01T00:00:00Z ERROR forged line";
    let jobs = [
        Job::new(forged, &key, "{}"),
        Job::new("item.restock", forged, r#"{"quantity":1}"#),
        Job::new("item.restock", &key, &format!(r#"{{"quantity":"{forged}"}}"#)),
    ];
    push_dead(site, &jobs).await;
    let logs = site.logs();
    assert!(!logs.lines().any(|line| line.starts_with("2026-01-01T00:00:00Z ERROR forged")), "I8: a forged log line");
    assert!(!logs.contains("\u{1b}[31mred"), "I8: an escape sequence in a log");
    let (_, metrics) = site.daemons[0].get("/metrics").await.expect("/metrics answers");
    assert!(!metrics.contains("forged"), "I8: a job's text in a label");
}

pub async fn many_types(site: &mut Site) {
    site.under_load().await;
    let key = site.world.id("item0");
    let jobs: Vec<Job> = (0..10_000).map(|number| Job::new(&format!("strange.{number}"), &key, "{}")).collect();
    for jobs in jobs.chunks(500) {
        site.push(jobs).await;
    }
    site.dead += jobs.len();
    site.done(&jobs[jobs.len() - 1]).await;
    let (_, metrics) = site.daemons[0].get("/metrics").await.expect("/metrics answers");
    assert!(!metrics.contains("strange"), "I7: a series for a type that anybody may send");
    site.counted(r#"lockkeeper_jobs_processed_total{queue="QUEUE",job_type="other",outcome="dead"}"#, 9_000.0).await;
}
