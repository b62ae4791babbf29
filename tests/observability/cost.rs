//! What metrics cost: the same jobs through the same daemon, in turn with metrics and with metrics that record nothing.
//!
//! `make metrics-cost` runs it, in a release build. The jobs wait in the stream before a round starts, so the processor time of
//! this process in a round is the daemon's alone; what it takes to start is left out. It is what a metric takes from the
//! jobs, and far steadier than jobs per second on a machine that does other things as well; both are printed. What the metrics of a batch take by themselves is
//! measured as well, in a loop, since it is steadier still.

#[allow(dead_code)]
mod load;
#[allow(dead_code)]
#[path = "../../src/bin/lockkeeper/shop/mod.rs"]
mod shop;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockkeeper::lifecycle::{Lifecycle, Phase};
use lockkeeper::metrics::Metrics;
use lockkeeper::{config, daemon, projection};
use throwaway::servers::{Options, Servers, free_port};

use crate::load::{item, job, push};
use support::world::World;

const ROUNDS: usize = 24;
const ITEMS: usize = 500;
const JOBS: usize = 20_000;

/// Jobs before the clock starts: by then the daemon is up, and has read every item once.
const WARM_UP: u64 = 3_000;

/// The most that metrics may add to a job's processor time, and so take from the jobs per second.
const LIMIT: f64 = 0.02;

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(compare());
}

/// One round: processor time per job in microseconds, jobs per second, and jobs per batch where metrics tell.
#[derive(Clone, Copy, Debug)]
struct Round {
    micros: f64,
    rate: f64,
    batch: f64,
}

/// What the metrics of one batch cost by themselves, in microseconds of this thread.
fn alone(jobs: usize) -> f64 {
    use lockkeeper::metrics::{EndedJob, Known, OutcomeLabel, Source};
    let metrics = Metrics::new().expect("metrics");
    let (queues, nodes) = (["jobs".to_owned()], ["redis1", "redis2", "redis3"].map(str::to_owned));
    metrics.start(&Known { queues: &queues, lock_nodes: &nodes, job_types: &["order.place"], ..Known::default() });
    let (short, batches) = (Duration::from_micros(1500), 5_000);
    let outcome = |number: usize| if number.is_multiple_of(4) { OutcomeLabel::Rejected } else { OutcomeLabel::Applied };
    let job = |number: usize| EndedJob {
        queue: "jobs",
        job_type: Some(if number % 4 < 2 { "order.place" } else { "item.restock" }),
        outcome: outcome(number),
        age: Duration::from_millis(20 + number as u64),
        attempts: 1,
        bytes: 200,
    };
    let ended: Vec<EndedJob<'_>> = (0..jobs).map(job).collect();
    let since = Instant::now();
    for number in 0..batches {
        metrics.fetched("jobs", Source::New, jobs as u64);
        metrics.read(jobs);
        metrics.in_hand(jobs, jobs);
        let batch = metrics.batch_started();
        metrics.batch(jobs);
        metrics.locked(short, jobs, 0, 0);
        metrics.locks_held(jobs as f64);
        for node in &nodes {
            metrics.node_request(node, "set", "ok", short);
            metrics.node_request(node, "release", "ok", short);
        }
        (0..3).for_each(|_| metrics.pool_acquired(short));
        ["items", "orders", "order_items"].iter().for_each(|name| metrics.projected(name, 5000));
        metrics.commit_margin(short);
        metrics.appended("ok", short, jobs);
        ["order.placed", "item.stock_reserved", "item.restocked"].iter().for_each(|kind| metrics.events(kind, 10));
        metrics.locks_held(-(jobs as f64));
        metrics.released(short);
        metrics.ended(&ended, batch.since.elapsed());
        if number % 100 == 0 {
            metrics.upkeep();
        }
    }
    since.elapsed().as_secs_f64() * 1e6 / f64::from(batches)
}

async fn compare() {
    let servers = Servers::start(Options::default()).await.expect("the throwaway servers start");
    round(&servers, Metrics::new()).await;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    println!("{JOBS} jobs a round, with metrics            without");
    for number in 1..=ROUNDS {
        // Which one goes first changes, so that what grows from round to round hurts both.
        for is_muted in [number % 2 == 0, number % 2 == 1] {
            if is_muted {
                without.push(round(&servers, Metrics::muted()).await);
            } else {
                with.push(round(&servers, Metrics::new()).await);
            }
        }
        let told = |round: &Round| format!("{:6.2} µs/job {:7.0} jobs/s", round.micros, round.rate);
        println!(
            "round {number:2}                         {}   {}",
            told(&with[number - 1]),
            told(&without[number - 1])
        );
    }
    let of = |rounds: &[Round], value: fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    let (micros, bare) = (of(&with, |round| round.micros), of(&without, |round| round.micros));
    let (rate, bare_rate) = (of(&with, |round| round.rate), of(&without, |round| round.rate));
    let mut pairs: Vec<f64> =
        with.iter().zip(&without).map(|(with, without)| with.micros / without.micros - 1.0).collect();
    pairs.sort_by(f64::total_cmp);
    // The standard error of a median, by way of the quartiles, which do not mind the rounds that were disturbed.
    let spread = pairs[ROUNDS * 3 / 4] - pairs[ROUNDS / 4];
    let (cost, error) = (median(pairs), 0.93 * spread / (ROUNDS as f64).sqrt());
    println!("median        {micros:6.2} µs/job {rate:7.0} jobs/s   {bare:6.2} µs/job {bare_rate:7.0} jobs/s");
    let batch = of(&with, |round| round.batch);
    let own = alone(batch as usize) / batch;
    println!(
        "metrics by themselves, for batches of {batch:.0} jobs: {own:.2} µs a job, {:.2} % of it",
        own / bare * 100.0
    );
    println!(
        "metrics cost {:.2} % ± {:.2} % of a job's processor time; at most {:.0} %",
        cost * 100.0,
        error * 100.0,
        LIMIT * 100.0
    );
    servers.stop().await;
    assert!(cost < LIMIT && own / bare < LIMIT, "metrics cost too much");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

async fn round(servers: &Servers, metrics: Result<Metrics, impl std::fmt::Debug>) -> Round {
    let mysql = servers.database.url("").trim_end_matches('/').to_owned();
    let nodes = servers.lock_nodes.iter().map(|node| node.url()).collect();
    let world = World::on(&mysql, &servers.broker.url(), nodes, servers.folder().clone()).await;
    let mut redis = world.redis.clone();
    let mut jobs: Vec<_> = (0..ITEMS)
        .flat_map(|number| {
            let key = world.id(number);
            [item(key.clone()), job("item.allow_sale", key, "{}")]
        })
        .collect();
    jobs.extend((0..JOBS).map(|number| {
        let item = world.id(number % ITEMS);
        let data = format!(r#"{{"member_id":1,"lines":[{{"item_id":"{item}","quantity":1}}]}}"#);
        match number % 4 {
            0 => job("item.restock", item, r#"{"quantity":3}"#),
            _ => job("order.place", world.id(format!("order{number}")), &data),
        }
    }));
    for some in jobs.chunks(1000) {
        push(&mut redis, &world.stream, some).await.expect("XADD");
    }
    let mut environment = world.environment();
    environment.insert("LOCKKEEPER_HTTP_LISTEN".into(), format!("127.0.0.1:{}", free_port().expect("a port")));
    let flags = std::iter::empty::<(&str, String)>();
    let config =
        config::load(None, environment.into_iter(), flags, |path| std::fs::read_to_string(path)).expect("it is right");
    let lifecycle = Lifecycle::default();
    let metrics = Arc::new(metrics.expect("metrics"));
    let (daemon_lifecycle, daemon_metrics) = (lifecycle.clone(), metrics.clone());
    let daemon = tokio::spawn(async move {
        daemon::run_with(&config, shop::read_models(), daemon_lifecycle, daemon_metrics)
            .await
            .map_err(|error| error.to_string())
    });
    let left = async || {
        let left: u64 = world.redis_do(&["XLEN", &world.stream]).await;
        left
    };
    let reached = async |most: u64| {
        loop {
            match left().await {
                left if left <= most => return left,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let measured = reached(jobs.len() as u64 - WARM_UP).await;
    let (since, processor) = (Instant::now(), processor_time());
    reached(0).await;
    let (took, used) = (since.elapsed(), processor_time() - processor);
    lifecycle.advance(Phase::Draining);
    daemon.await.expect("the daemon's task").expect("it ran");
    let text = metrics.render();
    let value = |series: &str| -> Option<f64> { text.lines().find_map(|line| line.strip_prefix(series))?.parse().ok() };
    let batches = value("lockkeeper_batch_jobs_sum ").zip(value("lockkeeper_batch_jobs_count "));
    let batch = batches.map_or(f64::NAN, |(jobs, batches)| jobs / batches);
    let measured = measured as f64;
    Round { batch, micros: used.as_secs_f64() * 1e6 / measured, rate: measured / took.as_secs_f64() }
}

/// Processor time of this process so far, of all its threads.
fn processor_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc");
    let nanos = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}
