//! `bench frozen`: what frozen lock nodes cost a daemon under load.
//!
//! One of three nodes, and two of five, are stopped in the midst of work; the first moments, in which nobody knows of it
//! yet, are looked at by themselves. The backlog never ends, so the daemon is as fast as it can be.

use std::time::{Duration, Instant};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::about::About;
use super::{Ratio, Report, Spread};
use lockkeeper::store::Store;
use lockkeeper::view::exposition::{Exposition, quantile};
use throwaway::Daemon;
use throwaway::servers::{DATABASE, Options, RedisServer, Servers};

/// What the producer keeps in the stream, and how many items the jobs are about.
const BACKLOG: usize = 6_000;
const ITEMS: usize = 1_000;

/// How often it is looked at how far the work has come.
const TICK: Duration = Duration::from_millis(50);

/// The width of the window in which throughput must never fall too far.
const WINDOW: Duration = Duration::from_secs(1);

/// By then the breaker is open: a second of silence is enough for it.
const KNOWN_AFTER: Duration = Duration::from_millis(1_200);

/// What a frozen node may add to the slowest hundredth of all rounds, beyond its time limit: 5 % of the ttl by default.
const NODE_TIMEOUT: Duration = Duration::from_millis(100);
const ALLOWANCE: Duration = Duration::from_millis(10);

/// How long the daemon may take to be at full speed, and the nodes to be used again.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// Arguments of `bench frozen`.
#[derive(Debug, Args)]
pub struct Frozen {
    /// How many rounds to measure
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each of the two phases of a round takes: all nodes healthy, then some frozen
    #[arg(long, default_value_t = 6, value_name = "S", value_parser = clap::value_parser!(u64).range(3..))]
    seconds: u64,
    /// Print everything as one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// One round on one set of nodes.
#[derive(Clone, Debug, Serialize)]
struct Round {
    nodes: usize,
    frozen: usize,
    /// Jobs per second.
    healthy: f64,
    /// From the opening of the breaker on.
    known: f64,
    /// In the worst second of all, the first one included.
    worst: f64,
    /// Of locking a batch while nodes were frozen.
    acquire_p99_seconds: f64,
}

/// Measures both sets of nodes and judges them by the bars.
pub async fn frozen(arguments: &Frozen) -> anyhow::Result<Report> {
    let about = About::here([]);
    let progress = ProgressBar::new(u64::from(arguments.rounds) * 2);
    let mut rounds = Vec::new();
    for (nodes, frozen) in [(3, 1), (5, 2)] {
        let mut site = Site::start(nodes).await?;
        for number in 1..=arguments.rounds {
            rounds.push(site.round(frozen, Duration::from_secs(arguments.seconds)).await?);
            progress.inc(1);
            if progress.is_hidden() {
                let of = arguments.rounds;
                lockkeeper::cli::output::notice(format_args!(
                    "round {number} of {of}: {frozen} of {nodes} nodes frozen"
                ));
            }
        }
        site.stop().await;
    }
    progress.finish_and_clear();
    let settings = json!({
        "rounds": arguments.rounds, "seconds": arguments.seconds, "items": ITEMS, "backlog": BACKLOG,
        "node_timeout_ms": NODE_TIMEOUT.as_millis(), "window_ms": WINDOW.as_millis(),
    });
    let (table, ratios) = (table(&rounds), ratios(&rounds));
    Ok(Report { scenario: "frozen", about, settings, rows: serde_json::to_value(rounds)?, ratios, table })
}

/// A daemon with endless work.
struct Site {
    servers: Servers,
    daemon: Daemon,
    store: Store,
    producer: JoinHandle<anyhow::Result<()>>,
}

impl Site {
    async fn start(nodes: usize) -> anyhow::Result<Site> {
        let servers = Servers::start(Options { lock_nodes: nodes, keep: None }).await?;
        let daemon = Daemon::of(
            &crate::daemon_program()?,
            (&servers, &servers.lock_nodes),
            "daemon",
            &[("LOCKKEEPER_LOG_LEVEL", "error")],
        )
        .await?;
        let store = Store::connect(&servers.database.url(DATABASE), 2, SETTLED_WITHIN).await?;
        let client = redis::Client::open(servers.broker.url())?;
        let producer = tokio::spawn(produce(client));
        let site = Site { servers, daemon, store, producer };
        // Items are registered first, and the caches are warm after some rounds of all of them.
        let started = Instant::now();
        while site.store.sequence().await? < 5 * ITEMS as u64 {
            anyhow::ensure!(started.elapsed() < SETTLED_WITHIN, "the daemon does not come to speed");
            anyhow::ensure!(!site.producer.is_finished(), "the producer has ended");
            sleep(TICK).await;
        }
        Ok(site)
    }

    async fn round(&mut self, frozen: usize, phase: Duration) -> anyhow::Result<Round> {
        let healthy = self.watch(phase).await?;
        let before = self.acquires().await?;
        for node in &self.servers.lock_nodes[..frozen] {
            node.freeze()?;
        }
        let watched = self.watch(phase).await;
        let after = self.acquires().await;
        for node in &self.servers.lock_nodes[..frozen] {
            node.thaw()?;
        }
        let (watched, after) = (watched?, after?);
        self.all_up().await?;
        let more = after.into_iter().zip(before).map(|((bound, after), (_, before))| (bound, after - before));
        Ok(Round {
            nodes: self.servers.lock_nodes.len(),
            frozen,
            healthy: rate(&healthy, Duration::ZERO),
            known: rate(&watched, KNOWN_AFTER),
            worst: worst(&watched, WINDOW),
            acquire_p99_seconds: quantile(more.collect(), 0.99).unwrap_or(f64::INFINITY),
        })
    }

    /// How far the log has come, tick by tick. A restock is one event.
    async fn watch(&self, phase: Duration) -> anyhow::Result<Vec<(Duration, u64)>> {
        let started = Instant::now();
        let mut seen = Vec::new();
        while started.elapsed() < phase {
            let position = self.store.sequence().await?;
            seen.push((started.elapsed(), position));
            sleep(TICK).await;
        }
        anyhow::ensure!(!self.producer.is_finished(), "the producer has ended");
        Ok(seen)
    }

    /// The histogram of locking so far: upper bounds and the counts up to them.
    async fn acquires(&self) -> anyhow::Result<Vec<(f64, f64)>> {
        let buckets = Exposition::parse(&self.daemon.metrics().await?)
            .by("lockkeeper_lock_acquire_duration_seconds_bucket", "le");
        let mut buckets: Vec<(f64, f64)> =
            buckets.into_iter().filter_map(|(bound, count)| Some((bound.parse().ok()?, count))).collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        Ok(buckets)
    }

    async fn all_up(&self) -> anyhow::Result<()> {
        let (started, nodes) = (Instant::now(), self.servers.lock_nodes.len() as f64);
        while Exposition::parse(&self.daemon.metrics().await?).sum("lockkeeper_lock_node_up", &[]) != Some(nodes) {
            anyhow::ensure!(started.elapsed() < SETTLED_WITHIN, "the nodes that were frozen are not used again");
            sleep(TICK).await;
        }
        Ok(())
    }

    async fn stop(mut self) {
        self.producer.abort();
        self.daemon.kill();
        self.servers.lock_nodes.iter().map(RedisServer::thaw).for_each(drop);
        self.servers.stop().await;
    }
}

/// Registers the items, then restocks them in turn, for ever.
async fn produce(client: redis::Client) -> anyhow::Result<()> {
    let mut broker = client.get_multiplexed_async_connection().await?;
    let item = r#"{"name":"item","supply_price":"1","vat":"0","is_tax_free":false,"stock":1,"member_id":1}"#;
    let mut register = redis::pipe();
    for number in 0..ITEMS {
        add(&mut register, "item.register", number, item);
    }
    register.query_async::<()>(&mut broker).await?;
    for turn in 0.. {
        let waiting: usize = redis::cmd("XLEN").arg("jobs").query_async(&mut broker).await?;
        if waiting > BACKLOG {
            sleep(Duration::from_millis(2)).await;
            continue;
        }
        let mut restock = redis::pipe();
        (0..500).for_each(|n| add(&mut restock, "item.restock", (turn * 500 + n) % ITEMS, r#"{"quantity":1}"#));
        restock.query_async::<()>(&mut broker).await?;
    }
    Ok(())
}

fn add(pipeline: &mut redis::Pipeline, job_type: &str, item: usize, data: &str) {
    let command = pipeline.cmd("XADD").arg("jobs").arg("*").arg("id").arg(uuid::Uuid::now_v7().to_string());
    command.arg("type").arg(job_type).arg("key").arg(format!("item-{item}")).arg("data").arg(data).ignore();
}

/// Events per second from `from` to the end.
fn rate(seen: &[(Duration, u64)], from: Duration) -> f64 {
    let first = seen.iter().find(|(at, _)| *at >= from);
    match (first, seen.last()) {
        (Some((began, low)), Some((ended, high))) if ended > began => {
            (high - low) as f64 / (*ended - *began).as_secs_f64()
        }
        _ => 0.0,
    }
}

/// The lowest rate in any stretch that is as long as the window.
fn worst(seen: &[(Duration, u64)], window: Duration) -> f64 {
    let rates = seen.iter().enumerate().filter_map(|(index, (began, low))| {
        let (ended, high) = seen[index..].iter().find(|(at, _)| *at >= *began + window)?;
        Some((high - low) as f64 / (*ended - *began).as_secs_f64())
    });
    rates.min_by(f64::total_cmp).unwrap_or_default()
}

/// The bars of the lock's promise.
fn ratios(rounds: &[Round]) -> Vec<Ratio> {
    let limit = (NODE_TIMEOUT + ALLOWANCE).as_secs_f64();
    let mut ratios = Vec::new();
    for (nodes, frozen) in [(3, 1), (5, 2)] {
        let of = |value: fn(&Round) -> (f64, f64)| {
            rounds.iter().filter(move |round| round.nodes == nodes).map(value).collect::<Vec<_>>()
        };
        let name = |what: &str| format!("{what},{frozen}-of-{nodes}-frozen");
        ratios.push(Ratio::of(name("known/healthy"), of(|round| (round.known, round.healthy)), 0.8));
        ratios.push(Ratio::of(name("worst-second/healthy"), of(|round| (round.worst, round.healthy)), 0.5));
        let times = of(|round| (1.0, round.acquire_p99_seconds)).into_iter().map(|(_, p99)| (limit, p99));
        ratios.push(Ratio::of(name("limit/acquire-p99"), times, 1.0));
    }
    ratios
}

fn table(rounds: &[Round]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["frozen", "healthy", "breaker open", "worst second", "acquire p99"]);
    for (nodes, frozen) in [(3, 1), (5, 2)] {
        let middle =
            |value: fn(&Round) -> f64| Spread::of(rounds.iter().filter(|round| round.nodes == nodes).map(value)).median;
        table.add_row([
            format!("{frozen} of {nodes}"),
            format!("{:.0} jobs/s", middle(|round| round.healthy)),
            format!("{:.0} jobs/s", middle(|round| round.known)),
            format!("{:.0} jobs/s", middle(|round| round.worst)),
            format!("{:.1} ms", middle(|round| round.acquire_p99_seconds) * 1e3),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred a second, with a second of nothing in the midst.
    fn seen() -> Vec<(Duration, u64)> {
        let at = |tenth: u64| if tenth <= 20 { tenth * 10 } else { 200 + tenth.saturating_sub(30) * 10 };
        (0..=60).map(|tenth| (Duration::from_millis(tenth * 100), at(tenth))).collect()
    }

    #[test]
    fn a_rate_is_that_of_its_stretch_and_the_worst_second_is_found() {
        assert_eq!(rate(&seen(), Duration::from_secs(3)), 100.0);
        assert!((rate(&seen(), Duration::ZERO) - 500.0 / 6.0).abs() < 1e-9);
        assert_eq!(worst(&seen(), WINDOW), 0.0);
        assert_eq!(worst(&seen(), Duration::from_secs(2)), 50.0);
        assert_eq!(rate(&[], Duration::ZERO), 0.0);
    }

    #[test]
    fn each_set_of_nodes_has_its_three_bars() {
        let round = |nodes, frozen| Round {
            nodes,
            frozen,
            healthy: 100.0,
            known: 90.0,
            worst: 40.0,
            acquire_p99_seconds: 0.22,
        };
        let told = ratios(&[round(3, 1), round(5, 2)]);
        let told: Vec<_> = told.iter().map(|ratio| (ratio.value.median, ratio.passed)).collect();
        let expected = [(0.9, true), (0.4, false), (0.5, false)];
        assert_eq!(told, [expected, expected].concat());
    }
}
