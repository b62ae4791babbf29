//! What a Rust user would write: a consumer group, `rslock`, and one sqlx transaction per job.
//!
//! One task reads entries, as many at a time as there are workers; each worker takes one, locks what it is about, does it in
//! a transaction of its own, releases the locks and acknowledges it.

mod transaction;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::streams::{StreamId, StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, RedisResult};
use rslock::{Lock, LockManager};
use serde_json::value::RawValue;
use sqlx::Executor as _;
use sqlx::mysql::{MySqlPool, MySqlPoolOptions};
use tokio::sync::{Mutex, mpsc};

use self::transaction::{Failure, apply};
use crate::shop::{Command, Job};
use crate::task::{Bench, Figures, Jobs};

const GROUP: &str = "workers";

/// How long one read waits for entries, and so how late a stop may be noticed.
const BLOCK_MS: usize = 100;

/// A job waits for its locks for as long as it takes.
const LOCK_RETRIES: u32 = u32::MAX;
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(100);

/// How long a transaction that met another waits before it is begun anew.
const RETRY_DELAY: Duration = Duration::from_millis(5);

/// The length that the stream of outcomes is kept to.
const REPLIES: usize = 10_000;

/// Runs as a contender.
pub async fn work() -> anyhow::Result<()> {
    let (mut bench, task): (Bench, Jobs) = Bench::task()?;
    let worker = Worker::connect(&task).await?;
    let mut reader = connection(&task.broker).await?;
    let made: RedisResult<()> = reader.xgroup_create_mkstream(&task.stream, GROUP, "0").await;
    if let Err(error) = made
        && error.code() != Some("BUSYGROUP")
    {
        return Err(error.into());
    }
    bench.ready()?;

    let started = Instant::now();
    let stopped = Arc::new(AtomicBool::new(false));
    let (entries, waiting) = mpsc::channel(task.concurrency);
    let waiting = Arc::new(Mutex::new(waiting));
    let reading = tokio::spawn(read(reader, task.clone(), entries, Arc::clone(&stopped)));
    let workers: Vec<_> = (0..task.concurrency)
        .map(|_| tokio::spawn(worker.clone().run(Arc::clone(&waiting), Arc::clone(&stopped))))
        .collect();
    let bench = tokio::task::spawn_blocking(move || bench.stop().map(|()| bench)).await??;
    stopped.store(true, Ordering::Relaxed);
    let mut figures = Figures::default();
    for worker in workers {
        let part = worker.await??;
        figures.jobs += part.jobs;
        figures.events += part.events;
        figures.retries += part.retries;
    }
    figures.seconds = started.elapsed().as_secs_f64();
    // The reader may wait for room in the channel, which nobody makes any more.
    drop(waiting);
    reading.await??;
    tokio::task::spawn_blocking(move || bench.done(&figures)).await?
}

/// A connection that waits for answers for as long as a read may block.
async fn connection(url: &str) -> anyhow::Result<ConnectionManager> {
    let config = ConnectionManagerConfig::new().set_response_timeout(Some(Duration::from_secs(10)));
    Ok(ConnectionManager::new_with_config(redis::Client::open(url)?, config).await?)
}

/// Reads new entries until it is to stop.
async fn read(
    mut reader: ConnectionManager,
    task: Jobs,
    entries: mpsc::Sender<StreamId>,
    stopped: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let options = StreamReadOptions::default().group(GROUP, "bench").count(task.concurrency).block(BLOCK_MS);
    while !stopped.load(Ordering::Relaxed) {
        let reply: Option<StreamReadReply> = reader.xread_options(&[&task.stream], &[">"], &options).await?;
        for entry in reply.into_iter().flat_map(|reply| reply.keys).flat_map(|stream| stream.ids) {
            if entries.send(entry).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What all workers share.
#[derive(Clone)]
struct Worker {
    pool: MySqlPool,
    locks: LockManager,
    ttl: Duration,
    broker: ConnectionManager,
    stream: String,
    reply: Option<String>,
}

impl Worker {
    async fn connect(task: &Jobs) -> anyhow::Result<Worker> {
        let size = u32::try_from(task.concurrency)?;
        let pool = MySqlPoolOptions::new()
            .max_connections(size)
            .min_connections(size)
            .test_before_acquire(false)
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute(transaction::SESSION).await.map(drop) })
            })
            .connect(&task.database)
            .await?;
        let mut locks = LockManager::new(task.nodes.clone());
        locks.set_retry(LOCK_RETRIES, LOCK_RETRY_DELAY);
        Ok(Worker {
            pool,
            locks,
            ttl: Duration::from_millis(task.lock_ttl_ms),
            broker: connection(&task.broker).await?,
            stream: task.stream.clone(),
            reply: task.reply.clone(),
        })
    }

    /// Does entries one by one until it is to stop.
    async fn run(
        self,
        waiting: Arc<Mutex<mpsc::Receiver<StreamId>>>,
        stopped: Arc<AtomicBool>,
    ) -> anyhow::Result<Figures> {
        let mut figures = Figures::default();
        loop {
            let entry = waiting.lock().await.recv().await;
            match entry {
                Some(entry) if !stopped.load(Ordering::Relaxed) => self.work(&entry, &mut figures).await?,
                Some(_) | None => return Ok(figures),
            }
        }
    }

    async fn work(&self, entry: &StreamId, figures: &mut Figures) -> anyhow::Result<()> {
        let field = |name| entry.get::<String>(name).with_context(|| format!("entry {} has no {name}", entry.id));
        let (id, job_type, key, data) = (field("id")?, field("type")?, field("key")?, field("data")?);
        let data: &RawValue = serde_json::from_str(&data)?;
        let job = Job { id: id.parse()?, job_type: &job_type, key: &key, data };
        let command = job.command()?;
        let keys = keys(&command);
        loop {
            let locks = self.lock(&keys).await?;
            let applied = apply(&self.pool, &job, &command).await;
            match applied {
                Ok(events) => {
                    // Neither needs the other: the outcome is durable.
                    let (released, acknowledged) =
                        tokio::join!(release(&self.locks, &locks), self.acknowledge(&entry.id, &id));
                    let () = released;
                    acknowledged?;
                    figures.jobs += 1;
                    figures.events += events;
                    return Ok(());
                }
                Err(Failure::Again) => {
                    release(&self.locks, &locks).await;
                    figures.retries += 1;
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                Err(Failure::Other(error)) => return Err(error),
            }
        }
    }

    /// Takes the locks one by one; they are sorted, so no two jobs wait for each other.
    async fn lock(&self, keys: &[String]) -> anyhow::Result<Vec<Lock>> {
        let mut locks = Vec::with_capacity(keys.len());
        for key in keys {
            locks.push(self.locks.lock(key.as_str(), self.ttl).await?);
        }
        Ok(locks)
    }
}

impl Worker {
    /// Tells the outcome, if it is wanted, and takes the entry out of the stream.
    async fn acknowledge(&self, entry: &str, job: &str) -> anyhow::Result<()> {
        let mut commands = redis::pipe();
        if let Some(reply) = &self.reply {
            let fields = [("id", job), ("outcome", "applied")];
            commands.cmd("XADD").arg(reply).arg("MAXLEN").arg("~").arg(REPLIES).arg("*").arg(&fields).ignore();
        }
        commands.xack(&self.stream, GROUP, &[entry]).ignore().xdel(&self.stream, &[entry]).ignore();
        Ok(commands.query_async(&mut self.broker.clone()).await?)
    }
}

async fn release(manager: &LockManager, locks: &[Lock]) {
    futures_util::future::join_all(locks.iter().map(|lock| manager.unlock(lock))).await;
}

/// What a job is about, spelled as lockkeeper spells it.
fn keys(command: &Command) -> Vec<String> {
    let mut keys = match command {
        Command::Restock { item, .. } => vec![format!("lock:item:{item}")],
        Command::Place { order, lines, .. } => {
            let items = lines.iter().map(|line| format!("lock:item:{}", line.item_id));
            items.chain([format!("lock:order:{order}")]).collect()
        }
    };
    keys.sort();
    keys
}
