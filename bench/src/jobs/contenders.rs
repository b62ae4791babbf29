//! Who is measured: a daemon of ours, and the peers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use futures_util::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::backlog::Scenario;
use super::site::{STREAM, Site};
use crate::contender::Contender;
use crate::peers::Peers;
use throwaway::Daemon;
use throwaway::servers::{DATABASE, RedisServer};

/// How long a worker may take to end what it has begun.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// The ttl of the peers' locks; the daemon's default.
const LOCK_TTL_MS: u64 = 2_000;

/// A contender of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// A daemon with three lock nodes.
    Lockkeeper,
    /// With one lock node in place of three.
    LockkeeperOneNode,
    /// Two daemons on the same stream.
    LockkeeperTwo,
    /// Four.
    LockkeeperFour,
    /// One daemon on four streams.
    LockkeeperFourStreams,
    /// One daemon on sixteen.
    LockkeeperManyStreams,
    /// Four daemons on sixteen streams, of which one owns all.
    LockkeeperTogether,
    /// Two daemons that share four streams out.
    LockkeeperSpread,
    /// One daemon, and nobody reads the log.
    LockkeeperUnread,
    /// BullMQ, node-redlock and mysql2, one transaction per job.
    Original,
    /// XREADGROUP, rslock and sqlx, one transaction per job.
    Rust,
    /// The same rows, batched by hand, without Redis and without locks.
    Limit,
    /// One lock round trip and one commit of one job's rows, by our own library.
    Floor,
}

impl Who {
    pub fn name(self) -> &'static str {
        match self {
            Self::Lockkeeper => "lockkeeper",
            Self::LockkeeperOneNode => "lockkeeper, 1 lock node",
            Self::LockkeeperTwo => "lockkeeper, 2 daemons",
            Self::LockkeeperFour => "lockkeeper, 4 daemons",
            Self::LockkeeperFourStreams => "lockkeeper, 4 streams",
            Self::LockkeeperManyStreams => "lockkeeper, 16 streams",
            Self::LockkeeperTogether => "lockkeeper, 4 daemons, 16 streams",
            Self::LockkeeperSpread => "lockkeeper, 2 daemons, 4 streams spread",
            Self::LockkeeperUnread => "lockkeeper, nobody reads the log",
            Self::Original => "original",
            Self::Rust => "rust",
            Self::Limit => "limit",
            Self::Floor => "floor",
        }
    }

    /// Whether it is a daemon of ours.
    pub fn is_ours(self) -> bool {
        self.daemons() > 0
    }

    /// How many daemons of ours it is.
    pub fn daemons(self) -> usize {
        match self {
            Self::Lockkeeper
            | Self::LockkeeperOneNode
            | Self::LockkeeperFourStreams
            | Self::LockkeeperManyStreams
            | Self::LockkeeperUnread => 1,
            Self::LockkeeperTwo | Self::LockkeeperSpread => 2,
            Self::LockkeeperFour | Self::LockkeeperTogether => 4,
            Self::Original | Self::Rust | Self::Limit | Self::Floor => 0,
        }
    }

    /// Over how many streams its jobs are.
    pub fn streams(self) -> usize {
        match self {
            Self::LockkeeperFourStreams | Self::LockkeeperSpread => 4,
            Self::LockkeeperManyStreams | Self::LockkeeperTogether => 16,
            _ => 1,
        }
    }

    /// Whether it takes its jobs from the stream, and deletes what it has done.
    pub fn reads_stream(self) -> bool {
        self.is_ours() || self == Self::Rust
    }

    /// Jobs per second before anything is known; more than most machines do.
    pub fn guess(self) -> f64 {
        match self {
            ours if ours.is_ours() && cfg!(debug_assertions) => 4_000.0,
            ours if ours.is_ours() => 20_000.0,
            Self::Limit => 60_000.0,
            _ => 2_500.0,
        }
    }
}

/// What a peer can be told, for it to be as fast as it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tuning {
    /// Jobs at the same time, of `original` and `rust`.
    pub concurrency: u32,
    /// Jobs per transaction, and connections, of `limit`.
    pub batch: u32,
    pub connections: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { concurrency: 64, batch: 512, connections: 2 }
    }
}

/// Where the jobs come from and what becomes of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Errand<'a> {
    /// A file with all jobs.
    pub jobs: Option<&'a Path>,
    /// The stream that gets the outcomes.
    pub reply: Option<&'a str>,
    /// For a producer: jobs per second, and when the first is due.
    pub rate: u32,
    pub start_unix_ms: u64,
}

#[derive(Serialize)]
struct Task<'a> {
    role: &'static str,
    contender: Who,
    scenario: Scenario,
    jobs: Option<&'a Path>,
    database: String,
    broker: String,
    stream: &'static str,
    nodes: Vec<String>,
    #[serde(flatten)]
    tuning: Tuning,
    lock_ttl_ms: u64,
    reply: Option<&'a str>,
    rate: u32,
    start_unix_ms: u64,
}

/// What a peer tells at its end; there may be more in it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Figures {
    /// How many jobs it has committed.
    pub jobs: Option<u64>,
    /// Whether there were no more jobs before it was told to stop.
    #[serde(default)]
    pub ran_out: bool,
    #[serde(flatten)]
    pub more: serde_json::Map<String, Value>,
}

/// A contender that runs.
#[derive(Debug)]
pub enum Worker {
    /// They work as soon as they are ready.
    Daemons(Vec<Daemon>),
    /// It works when it is let go.
    Peer(Box<Contender>),
}

impl Worker {
    /// Starts a contender and waits until it is ready.
    pub async fn start(
        site: &Site,
        peers: &Peers,
        (scenario, who): (Scenario, Who),
        tuning: Tuning,
        errand: Errand<'_>,
    ) -> anyhow::Result<Worker> {
        if who.is_ours() {
            let nodes = if who == Who::LockkeeperOneNode { 1 } else { site.servers.lock_nodes.len() };
            let nodes = &site.servers.lock_nodes[..nodes];
            let streams = site.streams().join(",");
            let spread = (who == Who::LockkeeperSpread).to_string();
            let reads_log = (who != Who::LockkeeperUnread).to_string();
            let settings = [
                ("LOCKKEEPER_LOG_LEVEL", "warn"),
                ("LOCKKEEPER_STREAM_NAMES", &streams),
                ("LOCKKEEPER_STREAM_SPREAD", &spread),
                ("LOCKKEEPER_SUBSCRIPTIONS_RUN", &reads_log),
            ];
            let program = crate::daemon_program()?;
            let names: Vec<String> = (1..=who.daemons()).map(|number| format!("daemon-{number}")).collect();
            let start = |name| Daemon::of(&program, (&site.servers, nodes), name, &settings);
            return Ok(Worker::Daemons(try_join_all(names.iter().map(|name| start(name))).await?));
        }
        let task = task(site, "work", (scenario, who), tuning, errand);
        start(peers, &task).await.map(|peer| Worker::Peer(Box::new(peer)))
    }

    pub fn pids(&self) -> Vec<u32> {
        match self {
            Self::Daemons(daemons) => daemons.iter().filter_map(Daemon::pid).collect(),
            Self::Peer(peer) => peer.pid().into_iter().collect(),
        }
    }

    /// The daemon that owns no stream.
    pub async fn stands_by(&self) -> anyhow::Result<Option<u32>> {
        let Self::Daemons(daemons) = self else { return Ok(None) };
        for daemon in daemons {
            if daemon.metrics().await?.contains("lockkeeper_stream_owned{queue=\"jobs\"} 0") {
                return Ok(daemon.pid());
            }
        }
        Ok(None)
    }

    pub async fn release(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Daemons(_) => Ok(()),
            Self::Peer(peer) => peer.release().await,
        }
    }

    /// Says how it ended, when it has.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Daemons(daemons) => {
                daemons.iter_mut().find_map(Daemon::exit_report).map_or(Ok(()), |text| Err(anyhow::Error::msg(text)))
            }
            Self::Peer(peer) => peer.check(),
        }
    }

    /// Waits until it has ended what it had begun, and is gone.
    pub async fn stop(self) -> anyhow::Result<Figures> {
        match self {
            Self::Daemons(mut daemons) => {
                for drained in join_all(daemons.iter_mut().map(Daemon::drain)).await {
                    drained.map_err(anyhow::Error::msg)?;
                }
                Ok(Figures::default())
            }
            Self::Peer(peer) => peer.stop(STOPPED_WITHIN).await,
        }
    }
}

/// Starts the process that adds the original's jobs to its queue.
pub async fn produce(site: &Site, peers: &Peers, scenario: Scenario, errand: Errand<'_>) -> anyhow::Result<Contender> {
    start(peers, &task(site, "produce", (scenario, Who::Original), Tuning::default(), errand)).await
}

async fn start(peers: &Peers, task: &Task<'_>) -> anyhow::Result<Contender> {
    let contender = match task.contender {
        Who::Original => {
            let main = peers.node.as_ref().context("the peer in Node is not there")?.join("main.js");
            Contender::start(Path::new("node"), &[&main.display().to_string()], task).await
        }
        Who::Rust | Who::Limit => {
            let program = &peers.rust.as_ref().context("the peers in Rust are not there")?.program;
            let mode = if task.contender == Who::Limit { "limit" } else { "jobs" };
            Contender::start(program, &[mode], task).await
        }
        _ => bail!("{} is no peer", task.contender.name()),
    };
    contender.with_context(|| format!("the peer {}", task.contender.name()))
}

fn task<'a>(
    site: &Site,
    role: &'static str,
    (scenario, contender): (Scenario, Who),
    tuning: Tuning,
    errand: Errand<'a>,
) -> Task<'a> {
    let Errand { jobs, reply, rate, start_unix_ms } = errand;
    Task {
        role,
        contender,
        scenario,
        jobs,
        database: site.servers.database.url(DATABASE),
        broker: site.servers.broker.url(),
        stream: STREAM,
        nodes: site.servers.lock_nodes.iter().map(RedisServer::url).collect(),
        tuning,
        lock_ttl_ms: LOCK_TTL_MS,
        reply,
        rate,
        start_unix_ms,
    }
}

/// Where a peer finds all jobs.
pub fn jobs_file(site: &Site, scenario: Scenario) -> PathBuf {
    site.servers.path().join(format!("{}.jsonl", scenario.name()))
}
