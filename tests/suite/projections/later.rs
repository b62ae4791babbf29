//! A read model of aggregates that is written from the log: an event that it cannot take is parked with what follows it, and nothing else
//! waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockkeeper::config;
use lockkeeper::daemon::{self, ReadModels};
use lockkeeper::domain::AggregateId;
use lockkeeper::lifecycle::{Lifecycle, Phase};
use lockkeeper::metrics::Metrics;
use lockkeeper::projection::{Code, Column, Projection, Rows, StateProjection, Table};
use lockkeeper::rebuild::{Verify, retry};
use lockkeeper::store::Build;
use sqlx::{Executor, Row};

use crate::engine::counter::Counter;
use support::world::{SHOP, World};
use support::{eventually, lockkeeper};

/// What each counter stands at. While it is broken it panics where one stands at 9 or more.
struct Levels(Arc<AtomicBool>);

const LEVELS: Table = Table {
    name: "levels",
    key: &[Column::id("counter_id")],
    columns: &[Column::new("level", "INT UNSIGNED"), Column::new("version", "BIGINT UNSIGNED")],
    indexes: &["KEY ix_levels (level)"],
};

impl StateProjection<Counter> for Levels {
    fn table(&self) -> &'static Table {
        const { &LEVELS }
    }

    fn is_later(&self) -> bool {
        true
    }

    fn aggregates(&self) -> &'static [&'static str] {
        &["counter"]
    }

    fn rows(&self, aggregate: &AggregateId, version: u64, state: &u64, rows: &mut Rows<'_>) {
        assert!(*state < 9 || !self.0.load(Ordering::Relaxed), "a bug in the projection");
        rows.add(&[(&*aggregate.id).into(), (*state).into(), version.into()]);
    }
}

async fn add(world: &World, counter: &str, by: u64) {
    world.push("counter.add", &world.id(counter), &by.to_string()).await;
}

/// `a 4 v2`, by the counter's name.
async fn rows(world: &World) -> Vec<String> {
    let rows = world.sql().await.fetch_all("SELECT counter_id, level, version FROM levels ORDER BY 1").await;
    let text = |row: &sqlx::mysql::MySqlRow| {
        let id = String::from_utf8(row.get_unchecked::<Vec<u8>, _>(0)).expect("text");
        let (level, version): (u32, u64) = (row.get_unchecked(1), row.get_unchecked(2));
        format!("{} {level} v{version}", id.trim_start_matches(&world.prefix).trim_start_matches('-'))
    };
    // Until the daemon has made it.
    rows.unwrap_or_default().iter().map(text).collect()
}

async fn are(world: &World, expected: &[&str]) {
    eventually(&format!("the rows are {expected:?}"), async || (rows(world).await == expected).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_it_cannot_take_is_parked_with_what_follows_and_done_in_order_when_it_is_mended() {
    let world = World::new().await;
    let is_broken = Arc::new(AtomicBool::new(true));
    let mut environment = world.environment();
    environment.insert("LOCKKEEPER_SUBSCRIPTIONS_POLL_MS".into(), "50".into());
    let flags = std::iter::empty::<(&str, String)>();
    let config = config::load(None, environment.into_iter(), flags, |path| std::fs::read_to_string(path));
    let (config, lifecycle) = (config.expect("it is right"), Lifecycle::default());
    let (metrics, ends, broken) = (Arc::new(Metrics::new().expect("metrics")), lifecycle.clone(), is_broken.clone());
    let running = tokio::spawn(async move {
        let projections: Vec<Box<dyn Projection<Counter>>> = vec![Box::new(Levels(broken))];
        let read_models = ReadModels { projections, migrations: &SHOP, ..ReadModels::<Counter>::default() };
        daemon::run_with(&config, read_models, ends, metrics).await.map_err(|error| error.to_string())
    });
    for (counter, by) in [("a", 3), ("b", 9), ("c", 2), ("a", 1), ("b", 1), ("c", 2)] {
        add(&world, counter, by).await;
    }
    are(&world, &["a 4 v2", "c 4 v2"]).await;
    let (_, builds) = world.store.builds().await.expect("the builds");
    let build: &Build = builds.first().expect("one");
    assert_eq!((build.name.as_str(), build.mode.as_str()), ("levels", "later"));
    let parked = eventually("both events of b are parked", async || {
        let parked = world.store.parked(Some("levels"), 10).await.expect("the list");
        (parked.len() == 2).then_some(parked)
    })
    .await;
    assert!(parked.iter().all(|one| one.aggregate_id == world.id("b")), "{parked:?}");
    assert!(parked[0].reason.contains("a bug in the projection"), "{parked:?}");
    assert!(parked[1].reason.contains("an earlier event of its aggregate is parked"), "{parked:?}");
    let (code, listed) = lockkeeper(&["subscriptions", "parked", "list", "levels"], &world.environment()).await;
    assert!(code == Some(0) && listed.contains("a bug in the projection"), "{listed}");

    let levels = Levels(is_broken.clone());
    let again = async || retry(&world.store, Code::States(&levels), build, ("counter", &world.id("b")), 1 << 24).await;
    let refused = again().await.expect_err("an operator who has mended nothing is told so");
    assert!(refused.to_string().contains("the projection's code panics"), "{refused}");
    is_broken.store(false, Ordering::Relaxed);
    again().await.expect("it is mended");
    are(&world, &["a 4 v2", "b 10 v2", "c 4 v2"]).await;
    add(&world, "b", 0).await;
    are(&world, &["a 4 v2", "b 0 v3", "c 4 v2"]).await;
    assert!(world.store.parked(None, 10).await.expect("the list").is_empty());
    let verify =
        Verify { store: &world.store, code: Code::States(&levels), build, max_packet: 1 << 24, repairs: false };
    let checked = verify.run(|_| {}).await.expect("it is compared");
    assert_eq!((checked.compared, checked.differences), (3, vec![]));
    lifecycle.advance(Phase::Draining);
    running.await.expect("the daemon's task").expect("it ran");
}
