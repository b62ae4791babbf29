//! Faults on the way to the servers: nobody is down, and replies are late, lost or cut.

use std::time::Duration;

use sqlx::Row;
use throwaway::proxy::Fault;

use crate::load::Job;
use crate::site::Site;
use support::eventually;

/// Replies are lost while jobs are acknowledged and while dead letters are written.
pub async fn broker_replies_lost(site: &mut Site) {
    site.under_load().await;
    for _ in 0..3 {
        let poison = Job::new("item.restock", &site.world.id("item0"), r#"{"quantity":0}"#);
        site.push(&[poison]).await;
        site.dead += 1;
        site.to_broker.set(Fault::DropReplies);
        site.not_ready("broker").await;
        site.to_broker.set(Fault::None);
        site.mended().await;
    }
}

pub async fn bad_lines(site: &mut Site) {
    site.under_load().await;
    let faults = [
        Fault::Latency(Duration::from_millis(200)),
        Fault::Slice(1),
        Fault::Throttle(20_000),
        Fault::CutAfter(700),
        Fault::CutAfter(3),
        Fault::Reset,
    ];
    for fault in faults {
        for is_broker in [true, false] {
            let proxy = if is_broker { &site.to_broker } else { &site.to_database };
            proxy.set(fault);
            match fault {
                // Slower, and still at work.
                Fault::Latency(_) | Fault::Slice(_) => site.progress().await,
                Fault::Reset => site.not_ready(if is_broker { "broker" } else { "database" }).await,
                _ => tokio::time::sleep(Duration::from_millis(1500)).await,
            }
            let proxy = if is_broker { &site.to_broker } else { &site.to_database };
            proxy.set(Fault::None);
            site.mended().await;
        }
    }
}

/// Connections die while their commit runs, and then replies of commits that happened are lost.
pub async fn commit_replies_lost(site: &mut Site) {
    site.under_load().await;
    let name = site.world.database.rsplit('/').next().unwrap_or_default().to_owned();
    let mut root = site.root().await;
    let list = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = '{name}' AND COMMAND = 'Query'");
    let mut killed = 0;
    eventually("connections are killed at work", async || {
        let rows = sqlx::raw_sql(&list).fetch_all(&mut root).await.ok()?;
        for row in rows {
            let id: u64 = row.try_get::<i64, _>(0).map(|id| id as u64).or_else(|_| row.try_get(0)).ok()?;
            let kill = &format!("KILL {id}");
            killed += usize::from(sqlx::raw_sql(kill).execute(&mut root).await.is_ok());
        }
        (killed >= 20).then_some(())
    })
    .await;
    site.mended().await;
    for unknown in 1..=3 {
        site.progress().await;
        site.to_database.set(Fault::DropReplies);
        eventually("a commit's reply is lost", async || {
            let (status, _) = site.daemons[0].get("/readyz").await?;
            (status == 503).then_some(())
        })
        .await;
        site.to_database.set(Fault::None);
        site.counted("lockkeeper_store_commit_unknown_total", f64::from(unknown.min(1))).await;
        site.mended().await;
    }
}
