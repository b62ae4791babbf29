//! The demo's producers, and the reader of the replies to all of them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use redis::aio::MultiplexedConnection;
use tokio::sync::Semaphore;

use super::jobs::{Job, Shopper};
use super::tally::{End, Tally};
use lockkeeper::audit::JobId;
use redis::streams::{StreamId, StreamReadReply};

/// The stream that the daemons read.
pub const STREAM: &str = "jobs";

/// The daemons' consumer group, by default.
pub const GROUP: &str = "lockkeeper";

/// Unanswered jobs per producer. With more of them, latency would be the time spent in the queue.
pub const WINDOW: usize = 64;

/// Jobs per round trip.
const PIPELINE: usize = 50;

/// How long a read of the reply stream blocks, and the most replies that it brings.
const BLOCK_MS: u64 = 500;
const READ_COUNT: usize = 1000;

/// Where jobs go and their replies come from. Clones share all of it.
#[derive(Clone, Debug)]
pub struct Counter {
    /// The broker's address.
    pub url: String,
    /// The stream of the replies.
    pub reply: Arc<str>,
    /// What was pushed and answered.
    pub tally: Arc<Tally>,
}

impl Counter {
    async fn connect(&self) -> anyhow::Result<MultiplexedConnection> {
        let client = redis::Client::open(self.url.as_str())?;
        // The library's own limit on answers is shorter than a blocked read may take.
        let config = redis::AsyncConnectionConfig::new()
            .set_response_timeout(Some(Duration::from_secs(30)))
            .set_connection_timeout(Some(Duration::from_secs(5)));
        client.get_multiplexed_async_connection_with_config(&config).await.context("the broker cannot be reached")
    }

    /// Pushes jobs that no producer pushes, all at once.
    pub async fn prepare(&self, jobs: &[Job]) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        self.tally.push(jobs, &Arc::new(Semaphore::new(0)));
        self.send(&mut connection, jobs.iter()).await
    }

    /// Pushes all jobs of `shopper`, as fast as its window lets it.
    pub async fn buy(self, mut shopper: Shopper) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let window = Arc::new(Semaphore::new(WINDOW));
        let mut again: Vec<Job> = Vec::new();
        while shopper.remaining() > 0 || !again.is_empty() {
            let room = take_room(&window, shopper.remaining().min(PIPELINE)).await?;
            let next = || shopper.next(|rng| self.tally.take_standing(rng));
            let jobs: Vec<Job> = std::iter::from_fn(next).take(room).collect();
            self.tally.push(&jobs, &window);
            self.send(&mut connection, again.iter().chain(&jobs)).await?;
            again = jobs.into_iter().filter(|_| shopper.sends_twice()).collect();
            again.iter().for_each(|_| self.tally.resend());
        }
        Ok(())
    }

    async fn send<'j>(
        &self,
        connection: &mut MultiplexedConnection,
        jobs: impl Iterator<Item = &'j Job>,
    ) -> anyhow::Result<()> {
        let mut pipeline = redis::pipe();
        jobs.for_each(|job| job.push(&mut pipeline, STREAM, &self.reply));
        pipeline.query_async::<()>(connection).await.context("jobs cannot be pushed")
    }

    /// Reads replies for ever.
    pub async fn read_replies(self) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let mut last = "0-0".to_owned();
        loop {
            let mut command = redis::cmd("XREAD");
            command.arg("COUNT").arg(READ_COUNT).arg("BLOCK").arg(BLOCK_MS).arg("STREAMS").arg(&*self.reply).arg(&last);
            let read: Option<StreamReadReply> =
                command.query_async(&mut connection).await.context("replies cannot be read")?;
            for entry in read.into_iter().flat_map(|read| read.keys).flat_map(|stream| stream.ids) {
                let (job, end) = reply(&entry);
                last = entry.id;
                self.tally.answer(job, end);
            }
        }
    }
}

/// Takes room for one job at least and for `most` jobs at most; none when no job is left.
async fn take_room(window: &Semaphore, most: usize) -> anyhow::Result<usize> {
    if most == 0 {
        return Ok(0);
    }
    window.acquire().await?.forget();
    let more = u32::try_from(window.available_permits().min(most - 1)).unwrap_or(0);
    // Nobody else takes from this window, so what was available still is.
    window.acquire_many(more).await?.forget();
    Ok(1 + more as usize)
}

fn reply(entry: &StreamId) -> (JobId, End) {
    let field = |name: &str| entry.get::<String>(name).unwrap_or_default();
    (JobId::from_text(&field("id")), End { outcome: field("outcome"), reason: field("reason") })
}
