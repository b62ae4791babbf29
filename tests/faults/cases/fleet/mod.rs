//! Faults of a fleet: its owner is killed, frozen, cut off, restarted, or one of several that believe to own the stream.

pub mod cut_off;
pub mod servers;
pub mod spread;
pub mod upgrade;

use std::time::{Duration, Instant};

use sqlx::Row;

use super::locks::fake_time;
use crate::load::Job;
use crate::site::Site;
use support::eventually;

/// How long nothing may be committed after the death of an owner.
const SILENCE: Duration = Duration::from_secs(2);

/// The same after an owner that drains.
const HANDED_OVER: Duration = Duration::from_millis(200);

/// The database's clock, in microseconds.
async fn now(site: &Site) -> i64 {
    let text = "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)";
    sqlx::raw_sql(text).fetch_one(&mut site.root().await).await.expect("the time").get(0)
}

/// The longest time without a commit since then, by the database's clock.
async fn longest_pause(site: &Site, since: i64) -> Duration {
    let text = format!(
        "SET time_zone = '+00:00'; SELECT CAST(UNIX_TIMESTAMP(recorded_at) * 1000000 AS SIGNED) FROM receipts \
         WHERE recorded_at >= FROM_UNIXTIME({since} / 1000000.0) ORDER BY recorded_at"
    );
    let rows = sqlx::raw_sql(&text).fetch_all(&mut site.root().await).await.expect("the receipts");
    let mut before = since;
    let gaps = rows.iter().map(|row| row.get::<i64, _>(0)).map(|at| at - std::mem::replace(&mut before, at));
    Duration::from_micros(gaps.max().and_then(|gap| u64::try_from(gap).ok()).unwrap_or(0))
}

impl Site {
    /// How often the stream was taken.
    async fn epoch(&self) -> u64 {
        let owner = format!("{}:owner", self.world.stream);
        self.world.redis_do::<Option<u64>>(&["HGET", &owner, "epoch"]).await.unwrap_or(0)
    }

    /// The number of the daemon that owns the stream.
    async fn owner(&self) -> usize {
        eventually("one of the daemons owns the stream", async || {
            for (number, daemon) in self.daemons.iter().enumerate() {
                let (_, text) = daemon.get("/readyz").await?;
                if text.contains("fleet: owns") {
                    return Some(number);
                }
            }
            None
        })
        .await
    }

    /// Keeps the longest pause, and holds it to `limit`.
    fn paused(&mut self, pause: Duration, limit: Duration, what: &str) {
        self.recovery = self.recovery.max(Some(pause));
        assert!(pause <= limit, "{what}: nothing was committed for {pause:?}");
    }
}

pub async fn owner_killed(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    for kill in 0..20 {
        let since = now(site).await;
        let owner = site.owner().await;
        site.daemons.remove(owner).process.kill();
        site.daemon(&[]).await;
        tokio::time::sleep(SILENCE).await;
        site.progress().await;
        let pause = longest_pause(site, since).await;
        site.paused(pause, SILENCE, &format!("kill {kill}"));
    }
    site.mended().await;
}

pub async fn owner_frozen(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    for round in 0..4 {
        let since = now(site).await;
        let owner = site.owner().await;
        site.daemons[owner].process.freeze().expect("SIGSTOP");
        let frozen = Instant::now();
        while frozen.elapsed() < Duration::from_secs(5) {
            site.progress().await;
        }
        site.daemons[owner].process.thaw().expect("SIGCONT");
        site.progress().await;
        let pause = longest_pause(site, since).await;
        site.paused(pause, Duration::from_secs(4), &format!("freeze {round}"));
        let standing_by = &site.daemons[owner];
        eventually("the one that was frozen stands by", async || {
            standing_by.get("/readyz").await?.1.contains("fleet: stands by").then_some(())
        })
        .await;
    }
    site.mended().await;
}

/// Two daemons that never doubt that the stream is theirs.
pub async fn both_believe(site: &mut Site) {
    let believes = [("LOCKKEEPER_TEST_OWNS", "all")];
    site.under_load_with(&believes).await;
    site.daemon(&believes).await;
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(60) {
        site.progress().await;
    }
    for daemon in &site.daemons {
        let taken = format!(r#"lockkeeper_jobs_fetched_total{{queue="{}",source="claimed"}}"#, site.world.stream);
        assert!(daemon.metric(&taken).await > Some(0.0), "they have not read beside each other");
    }
}

pub async fn lease_overwritten(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    let key = format!("{}:owner", site.world.stream);
    for round in 0..6 {
        let before = site.epoch().await;
        if round % 2 == 0 {
            site.world.redis_do::<()>(&["DEL", &key]).await;
            site.progress().await;
        } else {
            site.world.redis_do::<()>(&["HSET", &key, "id", "somebody", "state", "owning", "beats", "1"]).await;
            eventually("somebody takes it again", async || (site.epoch().await > before).then_some(())).await;
        }
        site.mended().await;
    }
}

/// Clocks that are wrong by an hour are nobody's business: nobody compares them.
pub async fn wrong_clocks(site: &mut Site) {
    let library = fake_time().expect("libfaketime is installed: see `make faults`");
    site.under_load().await;
    let shifted = [("LD_PRELOAD", library), ("FAKETIME", "+1h"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    site.daemon(&shifted).await;
    let before = site.epoch().await;
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(8) {
        site.progress().await;
    }
    assert_eq!(site.epoch().await, before, "the stream was taken from a live owner");
    site.daemons.remove(0).process.kill();
    site.mended().await;
    assert_eq!(site.epoch().await, before + 1);
}

pub async fn rolling_restarts(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    site.daemon(&[]).await;
    for restart in 0..100 {
        let since = now(site).await;
        // The youngest last, so that the stream is handed over as often as can be.
        let mut leaving = site.daemons.remove(0);
        assert_eq!(leaving.terminate().await, Some(0), "restart {restart}: {}", leaving.process.last_lines());
        site.progress().await;
        let pause = longest_pause(site, since).await;
        site.paused(pause, HANDED_OVER, &format!("restart {restart}"));
        site.daemon(&[]).await;
    }
    site.settle().await;
    for daemon in &site.daemons {
        let (_, metrics) = daemon.get("/metrics").await.expect("the daemon answers");
        let in_vain = metrics.lines().filter(|line| {
            let counts =
                line.contains(r#"outcome="duplicate""#) || line.starts_with("lockkeeper_store_conflicts_total");
            counts && !line.ends_with(" 0")
        });
        assert_eq!(in_vain.collect::<Vec<_>>(), Vec::<&str>::new(), "work was done in vain");
    }
}

pub async fn more_and_fewer(site: &mut Site) {
    site.under_load().await;
    for wanted in [4, 2, 1, 3, 1] {
        while site.daemons.len() < wanted {
            site.daemon(&[]).await;
            site.progress().await;
        }
        while site.daemons.len() > wanted {
            let mut leaving = site.daemons.remove(0);
            assert_eq!(leaving.terminate().await, Some(0), "{}", leaving.process.last_lines());
            site.progress().await;
        }
    }
    site.mended().await;
}

pub async fn all_killed(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    site.daemon(&[]).await;
    for _ in 0..3 {
        site.daemons.clear();
        site.daemon(&[]).await;
        site.mended().await;
        site.daemon(&[]).await;
    }
}

/// Servers that are away for all take nothing from the owner.
pub async fn servers_restarted(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    let before = site.epoch().await;
    site.servers.database.kill();
    tokio::time::sleep(Duration::from_secs(5)).await;
    site.servers.database.restart().await.expect("the database starts again");
    site.mended().await;
    assert_eq!(site.epoch().await, before, "the stream was taken while the database was away");
    site.servers.database.freeze().expect("SIGSTOP");
    tokio::time::sleep(Duration::from_secs(3)).await;
    site.servers.database.thaw().expect("SIGCONT");
    site.mended().await;
    assert_eq!(site.epoch().await, before, "the stream was taken while the database stood still");
    site.broker.kill();
    tokio::time::sleep(Duration::from_secs(5)).await;
    site.broker.restart().await.expect("the broker starts again");
    site.mended().await;
    assert_eq!(site.epoch().await, before, "the stream was taken while the broker was away");
}

pub async fn poison_in_a_fleet(site: &mut Site) {
    let bomb = site.world.id("bomb");
    let abort = format!("decide:{bomb}");
    let settings = [("LOCKKEEPER_TEST_ABORT", abort.as_str())];
    site.under_load_with(&settings).await;
    site.daemon(&settings).await;
    site.daemon(&settings).await;
    let job = Job::new("item.restock", &bomb, r#"{"quantity":1}"#);
    site.push(std::slice::from_ref(&job)).await;
    site.dead += 1;
    let id = lockkeeper::job::JobId::from_text(&job.id);
    let mut crashes = 0;
    let settings = Site::settings(&settings);
    while site.world.store.read(&[id], &[], &[]).await.expect("a read").receipts.is_empty() {
        for number in 0..site.daemons.len() {
            if site.daemons[number].process.exit_status().is_some() {
                crashes += 1;
                site.daemons[number] = site.world.start(&settings);
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(crashes <= 5, "the poison job is not dead after {crashes} crashes");
    }
    assert_eq!(crashes, 5, "one crash for each of max_deliveries");
    site.mended().await;
}
