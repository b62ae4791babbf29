//! Read models filled anew under load: whoever fills is killed and frozen, what is shown changes under its readers, and programs are mixed.
//! What is written is compared with the events all the while.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;
use sqlx::{Executor, Row};
use tokio::task::JoinHandle;

use crate::site::Site;
use support::{eventually, lockkeeper, program};
use throwaway::servers::Process;

/// What knows a second version of `items`.
const TWO_VERSIONS: (&str, &str) = ("LOCKKEEPER_TEST_ITEMS", "2");

/// Whoever compares all the while, until it is told to end.
struct Comparing {
    ends: Arc<AtomicBool>,
    times: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Comparing {
    /// With `lockkeeper projections verify`, of all builds that are written.
    fn builds(environment: HashMap<String, String>) -> Self {
        let (ends, times) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, counted) = (ends.clone(), times.clone());
        let task = tokio::spawn(async move {
            while !until.load(Ordering::Relaxed) {
                let (code, said) = lockkeeper(&["projections", "verify", "items", "--json"], &environment).await;
                assert_eq!(code, Some(0), "a row is wrong, or it cannot be compared: {said}");
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { ends, times, task }
    }

    /// With a query whose parts are of one moment: the versions of all items are as many as their events.
    async fn the_view(site: &Site) -> Self {
        let (ends, times) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, counted, mut sql) = (ends.clone(), times.clone(), site.world.sql().await);
        let task = tokio::spawn(async move {
            let query = "SELECT (SELECT CAST(COALESCE(SUM(version), 0) AS SIGNED) FROM items), \
                         (SELECT COUNT(*) FROM events WHERE aggregate_type = 'item')";
            sql.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await.expect("it is set");
            while !until.load(Ordering::Relaxed) {
                let row = sql.fetch_one(query).await.expect("the view is there");
                let (shown, happened): (i64, i64) =
                    (row.try_get_unchecked(0).expect("a number"), row.try_get_unchecked(1).expect("a number"));
                assert_eq!(shown, happened, "what is shown is not what happened");
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { ends, times, task }
    }

    async fn end(self, least: u64) {
        self.ends.store(true, Ordering::Relaxed);
        self.task.await.expect("nothing was ever wrong");
        let times = self.times.load(Ordering::Relaxed);
        assert!(times >= least, "it was compared {times} times");
    }
}

impl Site {
    /// Runs a command about read models, which succeeds.
    async fn projections(&self, words: &str, more: &[(&str, &str)]) -> String {
        let (code, said) = self.try_projections(words, more).await;
        assert_eq!(code, Some(0), "{words}: {said}");
        said
    }

    async fn try_projections(&self, words: &str, more: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut environment = self.world.environment();
        environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let words: Vec<&str> = ["projections"].into_iter().chain(words.split(' ')).collect();
        lockkeeper(&words, &environment).await
    }

    /// The newest build of `items`, and its state.
    async fn newest(&self) -> (u16, &'static str) {
        let builds = self.world.store.builds().await.expect("the builds").1;
        let newest = builds.iter().filter(|build| build.name == "items").max_by_key(|build| build.build);
        newest.map_or((0, "none"), |build| (build.build, build.state.as_str()))
    }

    async fn shown(&self) -> u16 {
        let builds = self.world.store.builds().await.expect("the builds").1;
        let is_it = |build: &&lockkeeper::store::Build| build.name == "items" && build.state.as_str() == "shown";
        builds.iter().find(is_it).expect("one is shown").build
    }
}

/// Killed at any moment, in the take-over too, and frozen in it until the server has ended its session.
pub async fn filler_killed(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    let comparing = Comparing::builds(site.world.environment());
    for round in 0..20 {
        let mut environment = site.world.environment();
        let place = ["", "", "LOCKKEEPER_TEST_ABORT", "LOCKKEEPER_TEST_HANG"][round % 4];
        if !place.is_empty() {
            environment.insert(place.to_owned(), "take_over:items".to_owned());
        }
        let words = ["projections", "rebuild", "items", "--yes", "--no-switch"];
        let pairs: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        let filling = Process::start(site.folder(), &format!("filling{round}"), &program(), words, &pairs);
        let mut filling = filling.expect("it starts");
        let patience = if place.is_empty() { site.random.random_range(50..400) } else { 6000 };
        tokio::time::sleep(Duration::from_millis(patience)).await;
        filling.kill();
        site.progress().await;
        // What was complete before it was killed is let go, so that there is something to fill.
        let (build, state) = site.newest().await;
        if state == "ready" {
            site.projections(&format!("retire items@{build}"), &[]).await;
        }
    }
    site.projections("rebuild items --yes", &[]).await;
    assert_ne!(site.shown().await, 1, "another build is shown");
    site.progress().await;
    comparing.end(3).await;
    site.projections("verify", &[]).await;
}

pub async fn switched_to_and_fro(site: &mut Site) {
    site.under_load().await;
    site.projections("rebuild items --yes --no-switch", &[]).await;
    let readers = [Comparing::the_view(site).await, Comparing::the_view(site).await];
    for round in 0..100 {
        site.projections(&format!("switch items@{}", 2 - round % 2), &[]).await;
    }
    for reader in readers {
        reader.end(100).await;
    }
    site.projections("verify items", &[]).await;
}

/// A newer program has everybody write what older ones do not know, and lets it go again.
pub async fn programs_mixed(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    for _ in 0..3 {
        let comparing = Comparing::the_view(site).await;
        site.daemon(&[TWO_VERSIONS]).await;
        site.projections("rebuild items --yes", &[TWO_VERSIONS]).await;
        let (build, _) = site.newest().await;
        site.progress().await;
        let unfit = format!("has a build {build} of version 2");
        for older in &site.daemons[..2] {
            eventually("an older program says what it does not know", async || {
                let (code, text) = older.get("/readyz").await?;
                (code == 503 && text.contains(&unfit)).then_some(())
            })
            .await;
        }
        site.progress().await;
        site.projections("verify items", &[TWO_VERSIONS]).await;
        // Back again, with the newer one gone.
        let before = site.world.store.builds().await.expect("the builds").1;
        let kept = before.iter().find(|one| one.name == "items" && one.state.as_str() == "kept").expect("one is kept");
        site.projections(&format!("switch items@{}", kept.build), &[TWO_VERSIONS]).await;
        site.projections(&format!("retire items@{build}"), &[TWO_VERSIONS]).await;
        site.daemons.pop().expect("the newer one").process.kill();
        site.progress().await;
        site.projections("verify items", &[]).await;
        comparing.end(10).await;
    }
}

/// A statement that reads for long is in the way of who changes what is shown, and of nobody else.
pub async fn read_for_long(site: &mut Site) {
    site.under_load().await;
    site.projections("rebuild items --yes --no-switch", &[]).await;
    for words in ["switch items@2", "retire items@1", "drop items@1 --yes items@1"] {
        let mut reader = site.world.sql().await;
        let table = if words.starts_with("drop") { "items_1" } else { "items" };
        let query = format!("SELECT stock, SLEEP(5) FROM {table} LIMIT 1");
        let reading = tokio::spawn(async move { reader.fetch_all(query.as_str()).await.expect("it reads").len() });
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (said, ()) = tokio::join!(site.projections(words, &[]), async {
            for _ in 0..5 {
                let before = tokio::time::Instant::now();
                site.progress().await;
                assert!(before.elapsed() < Duration::from_secs(4), "commits go on beside it");
            }
        });
        assert!(!said.is_empty());
        reading.await.expect("the reader ends");
    }
    site.projections("verify items", &[]).await;
}
