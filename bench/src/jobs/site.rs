//! The servers of a bench, and how each run finds them: empty, but for a shop whose items are known and on sale.
//!
//! The shop is set up once, by a daemon of ours; before a run the database is made anew from a copy of its rows.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::backlog::{Job, set_up};
use super::cpu::pin::Cores;
use crate::contender::cpu_seconds;
use lockkeeper::connect::node_name;
use lockkeeper::lock::NodeAddress;
use lockkeeper::store::{Store, column};
use throwaway::Daemon;
use throwaway::servers::{BROKER, DATABASE, LOCK_NODE, Options, RedisServer, Servers};

/// The stream that carries the jobs; the daemon's default.
pub const STREAM: &str = "jobs";

/// The database with the shop as every run finds it.
const SET_UP: &str = "lockkeeper_set_up";

/// How long a server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// How long the shop may take to be set up.
const SET_UP_WITHIN: Duration = Duration::from_secs(120);

/// The database is calm when it has taken no more than this share of a core for so long. It is not waited for longer than that:
/// what it still does then it would do beside any run.
const CALM_FOR: Duration = Duration::from_millis(200);
const CALM_SHARE: f64 = 0.06;
const CALM_WITHIN: Duration = Duration::from_secs(5);

/// How often something is looked at that nobody announces.
pub const TICK: Duration = Duration::from_millis(10);

/// Jobs in one pipeline to the broker.
const CHUNK: usize = 1_000;

/// Throwaway servers.
#[derive(Debug)]
pub struct Site {
    pub servers: Servers,
    /// The jobs that set the shop up; each has one event.
    pub set_up: Vec<Job>,
    /// Over how many streams jobs are put.
    pub spread_over: usize,
    admin: Store,
    cores: Option<Cores>,
}

impl Site {
    /// Starts the servers, on cores of their own when there are `cores`, and sets the shop up.
    pub async fn start(cores: Option<Cores>) -> anyhow::Result<Site> {
        let site = Self::bare(cores, set_up(), Options::default().lock_nodes).await?;
        site.open_shop().await?;
        Ok(site)
    }

    /// The servers alone, with so many lock nodes.
    pub(super) async fn bare(cores: Option<Cores>, set_up: Vec<Job>, lock_nodes: usize) -> anyhow::Result<Site> {
        if let Some(cores) = &cores {
            cores.keep_own()?;
        }
        let servers = Servers::start(Options { lock_nodes, ..Options::default() }).await?;
        if let Some(cores) = &cores {
            cores.keep_database(servers.database.pid().context("the database is gone")?)?;
        }
        let admin = Store::connect(&servers.database.url("mysql"), 1, ANSWER_WITHIN).await?;
        Ok(Site { servers, set_up, spread_over: 1, admin, cores })
    }

    /// Runs the jobs that set the shop up.
    async fn open_shop(&self) -> anyhow::Result<()> {
        let mut daemon = Daemon::of(
            &crate::daemon_program()?,
            (&self.servers, &self.servers.lock_nodes),
            "set-up",
            &[("LOCKKEEPER_LOG_LEVEL", "warn")],
        )
        .await?;
        self.push(&self.set_up).await?;
        let store = self.store().await?;
        let started = Instant::now();
        while store.sequence().await? < self.set_up.len() as u64 {
            ensure!(started.elapsed() < SET_UP_WITHIN, "the shop is not set up; {}", daemon.last_lines());
            sleep(TICK).await;
        }
        store.close().await;
        daemon.drain().await.map_err(anyhow::Error::msg)?;
        self.keep().await
    }

    /// Keeps a copy of all rows, with which every run begins.
    pub(super) async fn keep(&self) -> anyhow::Result<()> {
        self.copy(DATABASE, SET_UP).await
    }

    /// The state in which every run begins: the shop, these jobs in the stream, and nothing else in any Redis server.
    pub async fn renew(&self, jobs: &[Job]) -> anyhow::Result<()> {
        self.copy(SET_UP, DATABASE).await?;
        self.refill(jobs).await
    }

    /// These jobs in the stream and nothing else in any Redis server, and a database that has ended what it had to do.
    pub async fn refill(&self, jobs: &[Job]) -> anyhow::Result<()> {
        for server in self.servers.lock_nodes.iter().chain([&self.servers.broker]) {
            let mut connection = connect(server).await?;
            redis::cmd("FLUSHALL").exec_async(&mut connection).await?;
        }
        self.push(jobs).await?;
        self.compact().await?;
        self.calm().await
    }

    /// Waits until the database has ended what an earlier run has left to it: pages to be written, rows to be purged.
    async fn calm(&self) -> anyhow::Result<()> {
        let seconds = || self.servers.database.pid().and_then(cpu_seconds).context("the database is gone");
        let (started, mut before) = (Instant::now(), seconds()?);
        while started.elapsed() < CALM_WITHIN {
            sleep(CALM_FOR).await;
            let after = seconds()?;
            if after - before <= CALM_FOR.as_secs_f64() * CALM_SHARE {
                break;
            }
            before = after;
        }
        Ok(())
    }

    /// Writes the broker's file anew. Filled by an earlier run and by the jobs of this one, it would be so in the midst of it.
    async fn compact(&self) -> anyhow::Result<()> {
        let mut broker = self.broker().await?;
        // The server may just be doing it by itself, and refuses to begin again until it is done.
        rewritten(&mut broker).await?;
        redis::cmd("BGREWRITEAOF").exec_async(&mut broker).await?;
        rewritten(&mut broker).await
    }

    /// Makes the database `to` anew, with all tables and rows of `from`.
    async fn copy(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let tables = format!(
            "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = '{from}' \
             AND table_type = 'BASE TABLE' ORDER BY 1"
        );
        let tables = self.admin.rows(tables, false).await?;
        let tables = tables.iter().map(|row| column::<String>(row, 0)).collect::<Result<Vec<_>, _>>()?;
        ensure!(!tables.is_empty(), "the database {from} has no tables");
        let mut statements = format!("DROP DATABASE IF EXISTS {to}; CREATE DATABASE {to}");
        for table in tables {
            let (from, to) = (format!("{from}.{table}"), format!("{to}.{table}"));
            statements += &format!("; CREATE TABLE {to} LIKE {from}; INSERT INTO {to} SELECT * FROM {from}");
        }
        let views = format!(
            "SELECT CAST(table_name AS CHAR), CAST(view_definition AS CHAR) FROM information_schema.views \
             WHERE table_schema = '{from}' ORDER BY 1"
        );
        for row in &self.admin.rows(views, false).await? {
            let (name, shows): (String, String) = (column(row, 0)?, column(row, 1)?);
            let shows = shows.replace(&format!("`{from}`."), &format!("`{to}`."));
            statements += &format!("; CREATE SQL SECURITY INVOKER VIEW {to}.{name} AS {shows}");
        }
        self.admin.rows(statements, false).await?;
        Ok(())
    }

    /// The shop's database.
    pub async fn store(&self) -> anyhow::Result<Store> {
        let store = Store::connect(&self.servers.database.url(DATABASE), 2, ANSWER_WITHIN).await?;
        Ok(store.with_migrations(&crate::shop::MIGRATIONS))
    }

    pub async fn broker(&self) -> anyhow::Result<MultiplexedConnection> {
        connect(&self.servers.broker).await
    }

    /// The streams that carry the jobs.
    pub fn streams(&self) -> Vec<String> {
        match self.spread_over {
            1 => vec![STREAM.to_owned()],
            several => (0..several).map(|number| format!("{STREAM}:{number}")).collect(),
        }
    }

    /// Adds jobs to the streams, each to that of its key.
    async fn push(&self, jobs: &[Job]) -> anyhow::Result<()> {
        let (mut broker, streams) = (self.broker().await?, self.streams());
        let stream = |job: &Job| {
            let mut hasher = DefaultHasher::new();
            job.key.hash(&mut hasher);
            &streams[(hasher.finish() % streams.len() as u64) as usize]
        };
        for chunk in jobs.chunks(CHUNK) {
            let mut pipeline = redis::pipe();
            chunk.iter().for_each(|job| job.push(&mut pipeline, stream(job), None));
            pipeline.exec_async(&mut broker).await?;
        }
        Ok(())
    }

    /// The lock nodes, as the lock library takes them.
    pub fn lock_nodes(&self) -> anyhow::Result<Vec<NodeAddress>> {
        let address = |(node, number): (&RedisServer, usize)| {
            Ok(NodeAddress { name: node_name(number), client: redis::Client::open(node.url())? })
        };
        self.servers.lock_nodes.iter().zip(1..).map(address).collect()
    }

    /// What the servers say of how safely they keep what they have said yes to. Fails when that is less than is promised.
    pub async fn settings(&self) -> anyhow::Result<Value> {
        let row = "SELECT CAST(@@global.innodb_flush_log_at_trx_commit AS CHAR), \
                   CAST(@@global.innodb_buffer_pool_size AS CHAR), CAST(@@global.innodb_doublewrite AS CHAR), \
                   CAST(@@global.log_bin AS CHAR)";
        let rows = self.admin.rows(row, false).await?;
        let row = rows.first().context("the database tells no settings")?;
        let [flush, pool, doublewrite, log_bin] = [0, 1, 2, 3].map(|place| column::<String>(row, place));
        let (flush, pool) = (flush?, pool?);
        let mut broker = self.broker().await?;
        let mut get = async |name: &str| -> anyhow::Result<String> {
            let (_, value): (String, String) =
                redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut broker).await?;
            Ok(value)
        };
        let (appendonly, appendfsync) = (get("appendonly").await?, get("appendfsync").await?);
        if (flush.as_str(), appendonly.as_str(), appendfsync.as_str()) != ("1", "yes", "everysec") {
            bail!(
                "the servers are not durable: innodb_flush_log_at_trx_commit {flush}, appendonly {appendonly}, \
                 appendfsync {appendfsync}"
            );
        }
        Ok(json!({
            "innodb_flush_log_at_trx_commit": flush, "innodb_buffer_pool_size": pool,
            "innodb_doublewrite": doublewrite?, "log_bin": log_bin?,
            "broker_appendonly": appendonly, "broker_appendfsync": appendfsync,
            "broker_arguments": BROKER.join(" "), "lock_node_arguments": LOCK_NODE.join(" "),
            "lock_nodes": self.servers.lock_nodes.len(),
            "pinned": self.cores.as_ref().map_or("no".to_owned(), Cores::to_string),
        }))
    }

    /// Of the servers.
    pub async fn versions(&self) -> anyhow::Result<[(String, String); 2]> {
        let mut broker = self.broker().await?;
        let info: redis::InfoDict = redis::cmd("INFO").arg("server").query_async(&mut broker).await?;
        let redis = info.get("redis_version").unwrap_or_default();
        Ok([("redis-server".to_owned(), redis), ("database".to_owned(), self.admin.server().await?.version)])
    }

    /// Takes the servers down, and lets this process use every core again.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.admin.close().await;
        self.servers.stop().await;
        self.cores.map_or(Ok(()), |cores| cores.free_own())
    }
}

/// A connection on which an answer may take its time.
pub async fn connect(server: &RedisServer) -> anyhow::Result<MultiplexedConnection> {
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_WITHIN))
        .set_response_timeout(Some(ANSWER_WITHIN));
    let client = redis::Client::open(server.url())?;
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

/// Waits until the server does not rewrite its file.
async fn rewritten(server: &mut MultiplexedConnection) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let info: redis::InfoDict = redis::cmd("INFO").arg("persistence").query_async(server).await?;
        let is = |name| info.get::<u8>(name).unwrap_or_default() != 0;
        if !is("aof_rewrite_in_progress") && !is("aof_rewrite_scheduled") {
            return Ok(());
        }
        ensure!(started.elapsed() < ANSWER_WITHIN, "the broker does not rewrite its file");
        sleep(TICK).await;
    }
}
