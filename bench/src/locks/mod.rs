//! `bench locks`: acquire and release per second, ours beside rslock's.
//!
//! Tasks on keys of their own, so nobody ever waits for anybody: what is measured is the client and the nodes' share. The
//! frozen node is frozen when all contenders are connected and warm, and the first moments, in which nobody knows of it
//! yet, count as well.

mod contend;
mod ours;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use self::contend::{Done, Load};
pub use self::ours::contend;
use super::about::About;
use super::contender::{Contender, cpu_seconds};
use super::{Ratio, Report, Spread, peers};
use throwaway::servers::{Folder, LOCK_NODE, RedisServer};

/// With this ttl, our own time limit of a node, 5 % of it by default, is that of rslock, which cannot be told another: what
/// is measured with a frozen node is then not a matter of a shorter limit.
const TTL: Duration = Duration::from_secs(10);
const NODE_TIMEOUT: Duration = Duration::from_millis(500);

/// What a contender may take beyond the time of a round, for its last cycle.
const GRACE: Duration = Duration::from_secs(60);

/// How long a node may take to answer a command of ours; one that was frozen has some work to catch up on.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Arguments of `bench locks`.
#[derive(Debug, Args)]
pub struct Locks {
    /// How many rounds to measure; contenders take turns within each
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long one measurement takes
    #[arg(long, default_value_t = 2000, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    millis: u64,
    /// How many tasks work at the same time, each on keys of its own
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    tasks: u32,
    /// How many keys one call takes in the case of many
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    keys: u32,
    /// Where the peers' sources are
    #[arg(long, default_value = "bench/peers", value_name = "DIR")]
    peers: PathBuf,
    /// Print everything as one line of JSON
    #[arg(long)]
    pub json: bool,
}

impl Locks {
    /// As `bench all` measures them.
    pub fn beside(peers: PathBuf, quick: bool) -> Locks {
        let (rounds, millis) = if quick { (1, 500) } else { (3, 2_000) };
        Locks { rounds, millis, tasks: 64, keys: 256, peers, json: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Who {
    Ours,
    Rslock,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Who::Ours => "lockkeeper",
            Who::Rslock => "rslock",
        }
    }
}

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Case {
    who: Who,
    nodes: usize,
    /// Whether the last node is frozen.
    frozen: bool,
    keys: usize,
}

impl Case {
    fn setting(&self) -> String {
        let nodes = if self.nodes == 1 { "1 node".to_owned() } else { format!("{} nodes", self.nodes) };
        if self.frozen { format!("{nodes}, one frozen") } else { nodes }
    }
}

/// Everything that is measured in a round, in this order. Every other round begins with the other contender.
fn cases(keys: usize, round: u32) -> Vec<Case> {
    let mut cases = Vec::new();
    for (nodes, frozen) in [(1, false), (3, false), (3, true)] {
        let pair = [Who::Ours, Who::Rslock].map(|who| Case { who, nodes, frozen, keys: 1 });
        cases.extend(if round.is_multiple_of(2) { pair } else { [pair[1], pair[0]] });
        if !frozen {
            cases.push(Case { who: Who::Ours, nodes, frozen, keys });
        }
    }
    cases
}

/// A case in all rounds.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    case: Case,
    keys_per_second: Spread,
    /// One for each round.
    measured: Vec<Measured>,
}

#[derive(Clone, Debug, Serialize)]
struct Measured {
    #[serde(flatten)]
    done: Done,
    keys_per_second: f64,
    /// CPU time of the contender and of all its nodes, for one key acquired and released.
    contender_cpu_us: Option<f64>,
    nodes_cpu_us: Option<f64>,
}

/// Measures all cases and judges them by the bars.
pub async fn locks(arguments: &Locks) -> anyhow::Result<Report> {
    let peers = peers::rust(&arguments.peers).await?;
    let site = Site::start(arguments, peers.program).await?;
    let mut versions: Vec<_> = ["redis", "rslock", "tokio"]
        .iter()
        .filter_map(|&name| Some((format!("crate {name}"), peers.versions.get(name)?.clone())))
        .collect();
    versions.push(("redis-server".into(), site.version().await?));
    let about = About::here(versions);

    let keys = arguments.keys as usize;
    let mut rows: Vec<Row> = Vec::new();
    let progress = progress(arguments.rounds, cases(keys, 0).len());
    for round in 0..arguments.rounds {
        for case in cases(keys, round) {
            progress.set_message(format!("{}, {}", case.who.name(), case.setting()));
            let measured = site.measure(case).await?;
            let place = rows.iter().position(|row| row.case == case).unwrap_or_else(|| {
                rows.push(Row { case, keys_per_second: Spread::of([]), measured: Vec::new() });
                rows.len() - 1
            });
            rows[place].measured.push(measured);
            progress.inc(1);
            if progress.is_hidden() {
                let (number, of, setting) = (round + 1, arguments.rounds, case.setting());
                let who = case.who.name();
                lockkeeper::cli::output::notice(format_args!("round {number} of {of}: {who}, {setting}"));
            }
        }
    }
    progress.finish_and_clear();
    for row in &mut rows {
        row.keys_per_second = Spread::of(row.measured.iter().map(|measured| measured.keys_per_second));
    }
    let settings = json!({
        "rounds": arguments.rounds, "millis": arguments.millis, "tasks": arguments.tasks, "ttl_ms": TTL.as_millis(),
        "node_timeout_ms": NODE_TIMEOUT.as_millis(), "node_arguments": LOCK_NODE.join(" "),
    });
    let (table, ratios) = (table(&rows), ratios(&rows, keys));
    Ok(Report { scenario: "locks", about, settings, rows: serde_json::to_value(rows)?, ratios, table })
}

/// A bar on a terminal; hidden elsewhere.
fn progress(rounds: u32, cases: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::from(rounds) * cases as u64);
    match ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The lock nodes, and what is measured on them.
struct Site<'a> {
    arguments: &'a Locks,
    nodes: Vec<RedisServer>,
    peer: PathBuf,
    _folder: std::sync::Arc<Folder>,
}

impl Site<'_> {
    async fn start(arguments: &Locks, peer: PathBuf) -> anyhow::Result<Site<'_>> {
        let folder = Folder::temporary()?;
        let mut nodes = Vec::new();
        for name in ["lock-1", "lock-2", "lock-3"] {
            nodes.push(RedisServer::start(&folder, name, LOCK_NODE).await?);
        }
        Ok(Site { arguments, nodes, peer, _folder: folder })
    }

    async fn measure(&self, case: Case) -> anyhow::Result<Measured> {
        let nodes = &self.nodes[..case.nodes];
        for node in nodes {
            ask::<()>(node, "FLUSHALL").await?;
        }
        let load = Load {
            nodes: nodes.iter().map(RedisServer::url).collect(),
            tasks: self.arguments.tasks as usize,
            keys: case.keys,
            ttl_ms: u64::try_from(TTL.as_millis())?,
            node_timeout_ms: u64::try_from(NODE_TIMEOUT.as_millis())?,
            millis: self.arguments.millis,
        };
        let contender = match case.who {
            Who::Ours => Contender::start(&std::env::current_exe()?, &["contend"], &load).await?,
            Who::Rslock => Contender::start(&self.peer, &[], &load).await?,
        };
        let frozen = if case.frozen { nodes.last() } else { None };
        let before = nodes_cpu(nodes);
        frozen.map(RedisServer::freeze).transpose()?;
        let result = contender.go::<Done>(Duration::from_millis(load.millis) + GRACE).await;
        frozen.map(RedisServer::thaw).transpose()?;
        let (done, contender_cpu) = result?;
        let nodes_cpu = before.zip(nodes_cpu(nodes)).map(|(before, after)| after - before);
        let keys = (done.cycles * case.keys as u64) as f64;
        let per_key = |seconds: f64| Some(seconds * 1e6 / keys).filter(|cost| cost.is_finite());
        Ok(Measured {
            keys_per_second: keys / done.seconds,
            contender_cpu_us: contender_cpu.and_then(per_key),
            nodes_cpu_us: nodes_cpu.and_then(per_key),
            done,
        })
    }

    async fn version(&self) -> anyhow::Result<String> {
        let info: redis::InfoDict = ask(&self.nodes[0], "INFO").await?;
        Ok(info.get("redis_version").unwrap_or_default())
    }
}

/// The CPU seconds that all of these nodes have taken so far.
fn nodes_cpu(nodes: &[RedisServer]) -> Option<f64> {
    nodes.iter().map(|node| cpu_seconds(node.pid()?)).sum()
}

async fn ask<T: redis::FromRedisValue>(node: &RedisServer, command: &str) -> anyhow::Result<T> {
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_WITHIN))
        .set_response_timeout(Some(ANSWER_WITHIN));
    let client = redis::Client::open(node.url())?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    Ok(redis::cmd(command).query_async(&mut connection).await?)
}

/// The bars of the lock's promise.
fn ratios(rows: &[Row], keys: usize) -> Vec<Ratio> {
    let rates = |who, nodes, frozen, keys| -> Vec<f64> {
        let case = Case { who, nodes, frozen, keys };
        let row = rows.iter().find(|row| row.case == case);
        row.map(|row| row.measured.iter().map(|measured| measured.keys_per_second).collect()).unwrap_or_default()
    };
    let against_rslock = |name: &str, nodes, frozen, bar| {
        Ratio::of(name, rates(Who::Ours, nodes, frozen, 1).into_iter().zip(rates(Who::Rslock, nodes, frozen, 1)), bar)
    };
    let many = |nodes, bar| {
        let pairs = rates(Who::Ours, nodes, false, keys).into_iter().zip(rates(Who::Ours, nodes, false, 1));
        Ratio::of(format!("{keys}-keys/one-key,{nodes}-nodes"), pairs, bar)
    };
    vec![
        against_rslock("lockkeeper/rslock,1-node", 1, false, 1.0),
        against_rslock("lockkeeper/rslock,3-nodes", 3, false, 1.0),
        against_rslock("lockkeeper/rslock,3-nodes-one-frozen", 3, true, 100.0),
        many(1, 4.0),
        many(3, 4.0),
    ]
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header([
        "nodes",
        "keys per call",
        "contender",
        "keys/s",
        "min – max",
        "acquire p50",
        "p99",
        "refused",
        "CPU/key",
        "nodes' CPU/key",
    ]);
    for row in rows {
        let Spread { median, min, max } = row.keys_per_second;
        let middle = |figure: fn(&Measured) -> f64| Spread::of(row.measured.iter().map(figure)).median;
        let micros = |figure: fn(&Measured) -> Option<f64>| {
            let all: Option<Vec<f64>> = row.measured.iter().map(figure).collect();
            all.map_or("–".to_owned(), |all| format!("{:.1} µs", Spread::of(all).median))
        };
        let refused: u64 = row.measured.iter().map(|measured| measured.done.refused).sum();
        table.add_row([
            row.case.setting(),
            row.case.keys.to_string(),
            row.case.who.name().to_owned(),
            format!("{median:.0}"),
            format!("{min:.0} – {max:.0}"),
            format!("{:.1} ms", middle(|measured| measured.done.acquire_p50_us as f64) / 1e3),
            format!("{:.1} ms", middle(|measured| measured.done.acquire_p99_us as f64) / 1e3),
            refused.to_string(),
            micros(|measured| measured.contender_cpu_us),
            micros(|measured| measured.nodes_cpu_us),
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

#[cfg(test)]
mod tests;
