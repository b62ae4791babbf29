//! Jobs that one program of a fleet knows and another does not, as in a rolling upgrade.

use std::sync::Arc;

use lockkeeper::config::{self, Config};
use lockkeeper::daemon::{self, ReadModels};
use lockkeeper::job::JobId;
use lockkeeper::lifecycle::{Lifecycle, Phase};
use lockkeeper::metrics::Metrics;

use crate::engine::counter::Counter;
use support::{
    eventually,
    world::{Daemon, SHOP, World, told},
};

const RESTOCK: &str = r#"{"quantity":1}"#;

async fn is_done(world: &World, job: JobId) -> bool {
    !world.store.read(&[job], &[], &[]).await.expect("a read").receipts.is_empty()
}

async fn waits(daemon: &Daemon, world: &World, waits: bool) {
    let series = format!(r#"lockkeeper_stream_unknown_types{{queue="{}"}}"#, world.stream);
    eventually("the daemon says whether jobs wait for somebody who knows them", async || {
        (daemon.metric(&series).await? == f64::from(u8::from(waits))).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_another_program_knows_is_left_to_it_and_bars_only_its_key_meanwhile() {
    let world = World::new().await;
    let (pen, ink) = (world.id("pen"), world.id("ink"));
    let wait = ("LOCKKEEPER_STREAM_UNKNOWN_TYPES_WAIT_MS", "60000");
    // Neither reads the other's events, as no two versions of one program would.
    let mut shop = world.start_with(&["--despite-schemas"], &[wait]);
    shop.await_ready().await;
    // A program that does not know a read model which is written commits nothing, so none is.
    let none = "UPDATE projections SET state = 'retired'; UPDATE event_sequence SET generation = generation + 1";
    sqlx::raw_sql(none).execute(&mut world.sql().await).await.expect("no read model is written");
    world.item_on_sale(&pen, 1).await;
    world.item_on_sale(&ink, 1).await;
    let unknown = world.push("counter.add", &pen, "7").await;
    let behind = world.push("item.restock", &pen, RESTOCK).await;
    let beside = world.push("item.restock", &ink, RESTOCK).await;
    assert_eq!(told(&world.receipt(beside).await), "applied");
    waits(&shop, &world, true).await;
    assert!(!is_done(&world, unknown).await && !is_done(&world, behind).await, "they wait for somebody who knows them");

    let mut environment = world.environment();
    environment.insert(wait.0.into(), wait.1.into());
    let flags = std::iter::empty::<(&str, String)>();
    let config = config::load(None, environment.into_iter(), flags, |path| std::fs::read_to_string(path));
    let config = Config { despite_schemas: true, ..config.expect("it is right") };
    let lifecycle = Lifecycle::default();
    let (metrics, ends) = (Arc::new(Metrics::new().expect("metrics")), lifecycle.clone());
    let counter = tokio::spawn(async move {
        // The read models' tables are those of the fleet, whoever keeps them.
        let read_models = ReadModels::<Counter> { migrations: &SHOP, ..ReadModels::default() };
        daemon::run_with(&config, read_models, ends, metrics).await.map_err(|error| error.to_string())
    });
    assert_eq!(told(&world.receipt(unknown).await), "applied");
    assert_eq!(told(&world.receipt(behind).await), "applied", "which the other one does not know");
    waits(&shop, &world, false).await;
    let left = format!(r#"lockkeeper_fleet_releases_total{{queue="{}",reason="unknown_type"}}"#, world.stream);
    assert_eq!(shop.metric(&left).await, Some(1.0));
    lifecycle.advance(Phase::Draining);
    counter.await.expect("the daemon's task").expect("it ran");
}

#[tokio::test]
async fn a_job_that_nobody_knows_is_dead_after_a_while_and_those_behind_it_go_on() {
    let world = World::new().await;
    let pen = world.id("pen");
    let daemon = world.daemon(&[("LOCKKEEPER_STREAM_UNKNOWN_TYPES_WAIT_MS", "1500")]).await;
    world.item_on_sale(&pen, 1).await;
    let paint = world.push("item.paint", &pen, "{}").await;
    let newer = world.push_with("item.restock", &pen, RESTOCK, &[("v", "2")]).await;
    let behind = world.push("item.restock", &pen, RESTOCK).await;
    waits(&daemon, &world, true).await;
    assert_eq!(told(&world.receipt(behind).await), "applied");
    for (job, why) in
        [(paint, "type `item.paint` is not"), (newer, "v is 2, and this daemon reads `item.restock` up to 1")]
    {
        let receipt = told(&world.receipt(job).await);
        assert!(receipt.starts_with(&format!("dead: unknown_type: {why}")), "{receipt}");
    }
    waits(&daemon, &world, false).await;
    let counted = format!(r#"lockkeeper_jobs_unknown_total{{queue="{}"}}"#, world.stream);
    assert_eq!(daemon.metric(&counted).await, Some(2.0));
}
