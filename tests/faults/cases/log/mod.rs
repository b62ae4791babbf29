//! Faults of who reads the log: killed, frozen, robbed of the subscription; and what cannot be read. After every case the rows of
//! `sales_per_day` are compared with the log.

pub mod rebuild;

use std::time::Duration;

use rand::RngExt;
use sqlx::Executor;

use crate::site::Site;
use support::{eventually, sales};

/// Every event is a page, and who is gone is noticed soon.
const SETTINGS: [(&str, &str); 4] = [
    ("LOCKKEEPER_SUBSCRIPTIONS_LEASE_MS", "2000"),
    ("LOCKKEEPER_SUBSCRIPTIONS_POLL_MS", "20"),
    ("LOCKKEEPER_SUBSCRIPTIONS_PAGE_EVENTS", "3"),
    ("LOCKKEEPER_SUBSCRIPTIONS_PACE_MS", "0"),
];

const READS: &str = r#"lockkeeper_subscription_owned{subscription="sales_per_day"}"#;

impl Site {
    /// The number of the daemon that reads the log.
    async fn reader(&self) -> usize {
        eventually("one of the daemons reads the log", async || {
            for (number, daemon) in self.daemons.iter().enumerate() {
                if daemon.metric(READS).await == Some(1.0) {
                    return Some(number);
                }
            }
            None
        })
        .await
    }

    async fn change(&self, text: &str) {
        let name = self.world.database.rsplit('/').next().expect("a name").to_owned();
        let text = format!("USE `{name}`; {text}");
        self.root().await.execute(&*text).await.expect("the database is changed");
    }

    /// Waits until the checkpoint has moved on.
    async fn reads_on(&self) {
        let position = async || Some(self.world.store.checkpoints().await.ok()?.first()?.position);
        let before = eventually("there is a checkpoint", position).await;
        eventually("the log is read on", async || (position().await? > before).then_some(())).await;
    }

    async fn stopped(&self, why: &str) {
        eventually("the subscription is stopped", async || {
            let checkpoints = self.world.store.checkpoints().await.ok()?;
            let stopped = checkpoints.into_iter().find(|checkpoint| checkpoint.state.as_str() == "stopped")?;
            let reason = stopped.reason.unwrap_or_default();
            assert!(reason.contains(why), "{reason}");
            Some(())
        })
        .await;
    }
}

pub async fn reader_killed(site: &mut Site) {
    site.under_load_with(&SETTINGS).await;
    site.daemon(&SETTINGS).await;
    for _ in 0..40 {
        let reader = site.reader().await;
        tokio::time::sleep(Duration::from_millis(site.random.random_range(0..200))).await;
        site.daemons.remove(reader).process.kill();
        site.daemon(&SETTINGS).await;
    }
    site.reads_on().await;
}

pub async fn reader_frozen(site: &mut Site) {
    site.under_load_with(&SETTINGS).await;
    site.daemon(&SETTINGS).await;
    for _ in 0..5 {
        let frozen = site.reader().await;
        site.daemons[frozen].process.signal("STOP").expect("it is frozen");
        let other = 1 - frozen;
        eventually("the other one reads", async || {
            (site.daemons[other].metric(READS).await == Some(1.0)).then_some(())
        })
        .await;
        site.reads_on().await;
        site.daemons[frozen].process.signal("CONT").expect("it wakes");
        eventually("it has noticed", async || (site.daemons[frozen].metric(READS).await == Some(0.0)).then_some(()))
            .await;
        site.reads_on().await;
    }
}

pub async fn robbed(site: &mut Site) {
    site.under_load_with(&SETTINGS).await;
    site.daemon(&SETTINGS).await;
    for _ in 0..5 {
        site.reader().await;
        site.change("UPDATE checkpoints SET token = UNHEX(REPLACE(UUID(), '-', ''))").await;
        site.reads_on().await;
    }
    site.change("UPDATE checkpoints SET state = 'dropped'").await;
    eventually("nobody reads it", async || {
        for daemon in &site.daemons {
            (daemon.metric(READS).await == Some(0.0)).then_some(())?;
        }
        Some(())
    })
    .await;
    let shown = r#"lockkeeper_subscription_state{subscription="sales_per_day",state="dropped"}"#;
    for daemon in &site.daemons {
        eventually("it is shown as dropped", async || (daemon.metric(shown).await == Some(1.0)).then_some(())).await;
    }
    let dropped = sales::compare(&mut site.world.sql().await).await;
    site.progress().await;
    assert_eq!(sales::compare(&mut site.world.sql().await).await, dropped, "it is dropped for good");
    site.change("UPDATE checkpoints SET state = 'running'").await;
    site.reads_on().await;
}

pub async fn poison(site: &mut Site) {
    site.under_load_with(&SETTINGS).await;
    site.reads_on().await;
    // Of an order that nobody will load again, behind what has been read.
    site.change("UPDATE checkpoints SET state = 'paused'").await;
    site.progress().await;
    let placed =
        "event_type = 'order.placed' AND position > (SELECT position FROM checkpoints) ORDER BY position LIMIT 1";
    site.change(&format!("CREATE TABLE kept SELECT * FROM events WHERE {placed}")).await;
    site.change("UPDATE events SET payload = '{\"member_id\":0}' WHERE position = (SELECT position FROM kept)").await;
    site.change("UPDATE checkpoints SET state = 'running'").await;
    site.stopped("cannot be decoded").await;
    site.progress().await;
    site.change("UPDATE events e JOIN kept k USING (position) SET e.payload = k.payload").await;
    site.change("UPDATE checkpoints SET state = 'running', reason = NULL").await;
    site.reads_on().await;
}

pub async fn hole(site: &mut Site) {
    site.under_load_with(&SETTINGS).await;
    site.reads_on().await;
    site.change("UPDATE checkpoints SET state = 'paused'").await;
    site.progress().await;
    let behind = "position = (SELECT position + 3 FROM checkpoints)";
    site.change(&format!("CREATE TABLE kept SELECT * FROM events WHERE {behind}")).await;
    site.change("DELETE FROM events WHERE position = (SELECT position FROM kept)").await;
    site.change("UPDATE checkpoints SET state = 'running'").await;
    site.stopped("the log has no event at position").await;
    site.change("INSERT INTO events SELECT * FROM kept").await;
    site.change("UPDATE checkpoints SET state = 'running', reason = NULL").await;
    site.reads_on().await;
}
