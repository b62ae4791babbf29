//! How long a job takes from the moment in which it is due until its outcome is told, which is after the commit.
//!
//! Jobs come at their times, whether or not the earlier ones are done, and a job's time runs from when it was due and not from
//! when the producer got round to it: otherwise a contender that halts would slow its producer down, and be asked less
//! often while it is slow (coordinated omission).

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use redis::aio::MultiplexedConnection;
use redis::streams::StreamReadReply;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::backlog::{Job, Scenario};
use super::contenders::{Errand, Tuning, Who, Worker, jobs_file, produce};
use super::cpu::usage::Processes;
use super::measure::{Bench, Mark, Measured, Pace};
use super::site::STREAM;
use crate::contender::Contender;
use lockkeeper::job::JobId;

/// The stream that gets the outcomes.
const REPLY: &str = "reply:bench";

/// From the start of a producer to its first job. A peer's has to get ready meanwhile.
const LEAD: Duration = Duration::from_millis(300);
const PEER_LEAD: Duration = Duration::from_secs(4);

/// The load goes on for so long after the window, so that its last jobs are done under load as well.
const TAIL: Duration = Duration::from_millis(250);

/// After the last job, how long is waited for outcomes.
const GRACE: Duration = Duration::from_secs(3);

/// How long a read waits for outcomes.
const BLOCK_MS: usize = 50;

/// How long jobs took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Jobs that were due in the window.
    pub offered: usize,
    /// Those of them whose outcome was not told by the end. They count as if it had been told then.
    pub unanswered: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
    /// How late the producer ever was. It counts as the contender's time.
    pub late_max_ms: f64,
}

impl Latency {
    /// Of these times in milliseconds; `None` of none.
    pub fn of(mut times: Vec<f64>, unanswered: usize, late_max_ms: f64) -> Option<Latency> {
        times.sort_unstable_by(f64::total_cmp);
        let max_ms = *times.last()?;
        // The smallest time that so great a share of all does not exceed.
        let at = |share: f64| times[((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1];
        let (p50_ms, p99_ms, p999_ms) = (at(0.5), at(0.99), at(0.999));
        Some(Latency { offered: times.len(), unanswered, p50_ms, p99_ms, p999_ms, max_ms, late_max_ms })
    }
}

/// When the jobs are due.
#[derive(Clone, Copy, Debug)]
pub struct Timetable {
    start: Instant,
    start_unix_ms: u64,
    rate: u32,
    pace: Pace,
}

impl Timetable {
    /// Begins after `lead`, with a whole millisecond of the system's clock.
    pub fn new(lead: Duration, rate: u32, pace: Pace) -> anyhow::Result<Timetable> {
        let (now, clock) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH)?);
        let start_unix_ms = u64::try_from((clock + lead).as_millis())?;
        let start = now + Duration::from_millis(start_unix_ms).saturating_sub(clock);
        Ok(Timetable { start, start_unix_ms, rate, pace })
    }

    pub fn due(&self, job: usize) -> Instant {
        self.start + Duration::from_secs_f64(job as f64 / f64::from(self.rate))
    }

    fn count(&self, time: Duration) -> usize {
        (time.as_secs_f64() * f64::from(self.rate)).round() as usize
    }

    /// All jobs, and those among them that count.
    pub fn jobs(&self) -> usize {
        self.count(self.pace.warm_up + self.pace.window + TAIL)
    }

    pub fn counted(&self) -> std::ops::Range<usize> {
        self.count(self.pace.warm_up)..self.count(self.pace.warm_up + self.pace.window)
    }

    /// The two ends of the window.
    pub fn window(&self) -> [Instant; 2] {
        let begins = self.start + self.pace.warm_up;
        [begins, begins + self.pace.window]
    }
}

impl Bench {
    /// Measures how long jobs take that come at `rate` per second.
    pub async fn latency(&mut self, who: Who, tuning: Tuning, rate: u32, pace: Pace) -> anyhow::Result<Measured> {
        let run = match who {
            Who::Floor => self.floor(rate, pace).await,
            _ => self.open_loop(who, tuning, rate, pace).await,
        };
        run.with_context(|| format!("latency at {rate} jobs/s, {}", who.name()))
    }

    async fn open_loop(&mut self, who: Who, tuning: Tuning, rate: u32, pace: Pace) -> anyhow::Result<Measured> {
        let scenario = Scenario::Latency;
        self.site.spread_over = who.streams();
        self.site.renew(&[]).await?;
        let store = self.site.store().await?;
        let errand = Errand { reply: Some(REPLY), ..Errand::default() };
        let mut worker = Worker::start(&self.site, &self.peers, (scenario, who), tuning, errand).await?;
        worker.release().await?;
        let lead = if who == Who::Original { PEER_LEAD } else { LEAD };
        let table = Timetable::new(lead, rate, pace)?;
        let jobs = self.backlog(scenario).first(table.jobs()).to_vec();
        let outcomes = tokio::spawn(outcomes(self.site.broker().await?, jobs.clone(), table));
        let producer = self.producer(who, jobs.clone(), table).await?;
        let processes = Processes::of(&self.site.servers, worker.pids());
        let [begins, ends] = table.window();
        sleep_until(begins.into()).await;
        let first = Mark::now(&store, &processes).await?;
        sleep_until(ends.into()).await;
        let last = Mark::now(&store, &processes).await?;
        let peak_rss_mib = processes.peak_rss_mib()?;
        let outcomes = outcomes.await??;
        let end = Instant::now();
        let late_max_ms = producer.stop().await?;
        worker.check()?;
        let figures = worker.stop().await?;
        self.site.verify(&store, who, &jobs, &figures).await?;
        store.close().await;
        let (times, unanswered) = times(&outcomes, table, end);
        let latency = Latency::of(times, unanswered, late_max_ms);
        Ok(Measured { peak_rss_mib, latency, figures, ..last.since(first, scenario) })
    }

    async fn producer(&mut self, who: Who, jobs: Vec<Job>, table: Timetable) -> anyhow::Result<Producer> {
        if who != Who::Original {
            return Ok(Producer::Own(tokio::spawn(push(self.site.broker().await?, jobs, table))));
        }
        let file = jobs_file(&self.site, Scenario::Latency);
        self.backlog(Scenario::Latency).write(jobs.len(), &file)?;
        let (rate, start_unix_ms) = (table.rate, table.start_unix_ms);
        let errand = Errand { jobs: Some(&file), rate, start_unix_ms, ..Errand::default() };
        let mut peer = produce(&self.site, &self.peers, Scenario::Latency, errand).await?;
        ensure!(Instant::now() < table.start, "the producer was not ready within {PEER_LEAD:?}");
        peer.release().await?;
        Ok(Producer::Peer(Box::new(peer)))
    }
}

/// Who sees to it that jobs come at their times.
#[derive(Debug)]
enum Producer {
    Own(tokio::task::JoinHandle<anyhow::Result<f64>>),
    Peer(Box<Contender>),
}

impl Producer {
    /// Waits for its end and tells how late it ever was, in milliseconds.
    async fn stop(self) -> anyhow::Result<f64> {
        #[derive(Deserialize)]
        struct Sent {
            late_max_ms: f64,
        }
        match self {
            Self::Own(task) => task.await?,
            Self::Peer(peer) => Ok(peer.stop::<Sent>(PEER_LEAD * 20).await?.late_max_ms),
        }
    }
}

/// Adds each job to the stream when it is due, and waits for no answer before the next. A thread keeps the time: the
/// runtime's own clock goes by the millisecond.
async fn push(broker: MultiplexedConnection, jobs: Vec<Job>, table: Timetable) -> anyhow::Result<f64> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let count = jobs.len();
    let clock = std::thread::spawn(move || {
        for job in 0..count {
            std::thread::sleep(table.due(job).saturating_duration_since(Instant::now()));
            if sender.send(job).is_err() {
                return;
            }
        }
    });
    let (mut due, mut late, mut sent) = (Vec::new(), Duration::ZERO, JoinSet::new());
    while receiver.recv_many(&mut due, count.max(1)).await > 0 {
        let mut pipeline = redis::pipe();
        for job in due.drain(..) {
            late = late.max(table.due(job).elapsed());
            jobs[job].push(&mut pipeline, STREAM, Some(REPLY));
        }
        let mut broker = broker.clone();
        sent.spawn(async move { pipeline.exec_async(&mut broker).await });
    }
    while let Some(answer) = sent.join_next().await {
        answer??;
    }
    ensure!(clock.join().is_ok(), "the producer's clock has stopped");
    Ok(late.as_secs_f64() * 1e3)
}

/// Reads outcomes until those of all jobs that count are there, or it is too late: when each was read.
async fn outcomes(
    mut broker: MultiplexedConnection,
    jobs: Vec<Job>,
    table: Timetable,
) -> anyhow::Result<Vec<Option<Instant>>> {
    let places: HashMap<JobId, usize> = jobs.iter().enumerate().map(|(place, job)| (job.id, place)).collect();
    let mut outcomes = vec![None; jobs.len()];
    let (counted, deadline) = (table.counted(), table.due(jobs.len()) + GRACE);
    let (mut missing, mut from) = (counted.len(), "0".to_owned());
    while missing > 0 && Instant::now() < deadline {
        let mut read = redis::cmd("XREAD");
        read.arg("BLOCK").arg(BLOCK_MS).arg("STREAMS").arg(REPLY).arg(&from);
        let answer: Option<StreamReadReply> = read.query_async(&mut broker).await?;
        let now = Instant::now();
        for entry in answer.into_iter().flat_map(|answer| answer.keys).flat_map(|stream| stream.ids) {
            let text = entry.get::<String>("id").context("an outcome without an id")?;
            let outcome = entry.get::<String>("outcome");
            // A reply may come twice; the first one counts.
            if let Some(&place) = places.get(&JobId::from_text(&text))
                && outcomes[place].is_none()
            {
                ensure!(outcome.as_deref() == Some("applied"), "job {text} is {outcome:?}");
                outcomes[place] = Some(now);
                missing -= usize::from(counted.contains(&place));
            }
            from = entry.id;
        }
    }
    Ok(outcomes)
}

/// How long each job that counts has taken, in milliseconds, and how many have no outcome by `end`.
fn times(outcomes: &[Option<Instant>], table: Timetable, end: Instant) -> (Vec<f64>, usize) {
    let counted = table.counted();
    let unanswered = outcomes[counted.clone()].iter().filter(|outcome| outcome.is_none()).count();
    let time = |job: usize| outcomes[job].unwrap_or(end).saturating_duration_since(table.due(job));
    (counted.map(|job| time(job).as_secs_f64() * 1e3).collect(), unanswered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_times_is_not_above_its_percentile() {
        let times = (1..=1000).rev().map(f64::from).collect();
        let latency = Latency::of(times, 3, 0.5).unwrap();
        assert_eq!((latency.p50_ms, latency.p99_ms, latency.p999_ms, latency.max_ms), (500.0, 990.0, 999.0, 1000.0));
        assert_eq!((latency.offered, latency.unanswered), (1000, 3));
        assert_eq!(Latency::of(vec![7.0], 0, 0.0).unwrap().p999_ms, 7.0);
        assert_eq!(Latency::of(Vec::new(), 0, 0.0), None);
    }

    #[test]
    fn a_jobs_time_runs_from_when_it_was_due_and_goes_on_when_nothing_is_heard() {
        let pace = Pace { warm_up: Duration::from_millis(10), window: Duration::from_millis(30) };
        let table = Timetable::new(Duration::ZERO, 100, pace).unwrap();
        assert_eq!((table.counted(), table.jobs()), (1..4, 29));
        let ms = Duration::from_millis;
        let mut outcomes = vec![None; table.jobs()];
        // A halt of 25 ms: each of the jobs due meanwhile has waited for what was left of it, however late it was sent.
        outcomes[1] = Some(table.due(1) + ms(25));
        outcomes[2] = Some(table.due(1) + ms(25));
        let (times, unanswered) = times(&outcomes, table, table.due(3) + ms(400));
        assert_eq!(times.iter().map(|time| time.round()).collect::<Vec<_>>(), [25.0, 15.0, 400.0]);
        assert_eq!(unanswered, 1);
    }

    #[test]
    fn a_timetable_begins_with_a_whole_millisecond_of_the_clock() {
        let pace = Pace { warm_up: Duration::ZERO, window: Duration::from_secs(1) };
        let table = Timetable::new(Duration::from_millis(500), 500, pace).unwrap();
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let ahead = Duration::from_millis(table.start_unix_ms).saturating_sub(clock).as_secs_f64();
        let left = table.due(0).saturating_duration_since(Instant::now()).as_secs_f64();
        assert!((ahead - left).abs() < 0.005, "{ahead} {left}");
        assert_eq!(table.due(250) - table.due(0), Duration::from_millis(500));
    }
}
