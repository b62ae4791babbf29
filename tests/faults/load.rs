//! A producer that never stops: restocks and orders, each sent again until the broker has taken it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lockkeeper::job::JobId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redis::aio::MultiplexedConnection;
use support::journal::{Fields, Journal};
use tokio::task::JoinHandle;

/// How many items are restocked and ordered.
pub const ITEMS: u32 = 5;

/// Between two rounds of the load.
const PAUSE: Duration = Duration::from_millis(20);

/// With so many entries in the stream, the load waits for some to be run.
const BACKLOG: u64 = 5000;

/// One job as it is sent, as often as it takes.
#[derive(Clone)]
pub struct Job {
    pub id: String,
    pub job_type: String,
    pub key: String,
    pub data: String,
}

impl Job {
    pub fn new(job_type: &str, key: &str, data: &str) -> Self {
        let (job_type, key, data) = (job_type.to_owned(), key.to_owned(), data.to_owned());
        Self { id: uuid::Uuid::now_v7().to_string(), job_type, key, data }
    }

    fn fields(&self) -> Fields {
        let Self { id, job_type, key, data } = self.clone();
        vec![("id", id), ("type", job_type), ("key", key), ("data", data)]
    }
}

/// All jobs that the broker has taken or may have taken.
#[derive(Clone, Default)]
pub struct Pushed(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    jobs: Vec<Job>,
    journal: Journal,
    /// How often jobs were sent without an answer: then nobody knows which entries there are.
    unanswered: u32,
}

impl Pushed {
    pub fn add(&self, jobs: &[Job]) {
        self.lock().jobs.extend_from_slice(jobs);
    }

    pub fn jobs(&self) -> Vec<Job> {
        self.lock().jobs.clone()
    }

    /// All entries, unless some are not known.
    pub fn journal(&self) -> Option<Journal> {
        let told = self.lock();
        (told.unanswered == 0).then(|| told.journal.clone())
    }

    fn answered(&self, stream: &str, entries: Option<&[String]>, jobs: &[Job]) {
        let mut told = self.lock();
        match entries {
            Some(entries) => {
                let fields = jobs.iter().map(Job::fields);
                entries.iter().zip(fields).for_each(|(entry, fields)| told.journal.note(stream, entry, &fields));
            }
            None => told.unanswered += 1,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn ids(&self) -> HashSet<JobId> {
        self.jobs().iter().map(|job| JobId::from_text(&job.id)).collect()
    }
}

/// A connection on which a large job, or a broker at its limits, may take its time.
pub async fn connect(client: &redis::Client) -> Option<MultiplexedConnection> {
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(20)));
    client.get_multiplexed_async_connection_with_config(&config).await.ok()
}

/// Sends jobs until the broker has answered. One that took them without an answer gets them twice, which is no harm.
pub async fn send(client: &redis::Client, pushed: &Pushed, stream: &str, jobs: &[Job]) {
    let mut connection = None;
    while !try_send(client, &mut connection, pushed, stream, jobs).await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn try_send(
    client: &redis::Client,
    connection: &mut Option<MultiplexedConnection>,
    pushed: &Pushed,
    stream: &str,
    jobs: &[Job],
) -> bool {
    if connection.is_none() {
        *connection = connect(client).await;
    }
    let Some(open) = connection else { return false };
    let mut pipeline = redis::pipe();
    for Job { id, job_type, key, data } in jobs {
        let command = pipeline.cmd("XADD").arg(stream).arg("*").arg("id").arg(id).arg("type").arg(job_type);
        command.arg("key").arg(key).arg("data").arg(data);
    }
    let entries: Option<Vec<String>> = pipeline.query_async(open).await.ok();
    pushed.answered(stream, entries.as_deref(), jobs);
    if entries.is_none() {
        *connection = None;
    }
    entries.is_some()
}

/// Entries in the stream; none as far as is known while the broker is away.
async fn backlog(connection: &mut Option<MultiplexedConnection>, stream: &str) -> u64 {
    let Some(open) = connection else { return 0 };
    redis::cmd("XLEN").arg(stream).query_async(open).await.unwrap_or(0)
}

/// A producer at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Load {
    pub fn start(client: redis::Client, stream: String, prefix: String, pushed: Pushed, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut round, mut connection) = (0, None);
            while !stopped.load(Ordering::Relaxed) {
                let jobs = jobs(&mut random, &prefix, round);
                pushed.add(&jobs);
                while !try_send(&client, &mut connection, &pushed, &stream, &jobs).await {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                round += 1;
                // A pace that leaves the daemon something to catch up with, and no more than it can on a slow machine.
                tokio::time::sleep(PAUSE).await;
                while !stopped.load(Ordering::Relaxed) && backlog(&mut connection, &stream).await > BACKLOG {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        Self { stop, task }
    }

    /// Stops it wherever it is: its broker is gone for good, and would never answer.
    pub fn abandon(self) {
        self.task.abort();
    }

    /// Returns when the last jobs have been sent.
    pub async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the producer ends");
    }
}

/// Two restocks, an order of two items, and now and then the cancel of an earlier one.
fn jobs(random: &mut StdRng, prefix: &str, round: u32) -> Vec<Job> {
    let item = |number: u32| format!("{prefix}-item{number}");
    let first = random.random_range(0..ITEMS);
    let second = (first + random.random_range(1..ITEMS)) % ITEMS;
    let restock = format!(r#"{{"quantity":{}}}"#, random.random_range(1..5));
    let lines = [first, second].map(|number| format!(r#"{{"item_id":"{}","quantity":1}}"#, item(number))).join(",");
    let order = format!(r#"{{"member_id":1,"lines":[{lines}]}}"#);
    let mut jobs = vec![
        Job::new("item.restock", &item(first), &restock),
        Job::new("order.place", &format!("{prefix}-order{round}"), &order),
        Job::new("item.restock", &item(second), &restock),
    ];
    if round > 10 && round.is_multiple_of(10) {
        let earlier = format!("{prefix}-order{}", round - random.random_range(1..10));
        jobs.push(Job::new("order.cancel", &earlier, r#"{"reason":"changed my mind"}"#));
    }
    jobs
}
