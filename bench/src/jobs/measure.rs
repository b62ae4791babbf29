//! One run: a contender, a backlog that outlasts it, and a window in which everything is counted.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use redis::streams::StreamRangeReply;
use serde::Serialize;
use tokio::time::sleep;

use super::backlog::{Backlog, Job, Scenario};
use super::contenders::{Errand, Figures, Tuning, Who, Worker, jobs_file};
use super::cpu::usage::{Cpu, Processes};
use super::latency::Latency;
use super::site::{Site, TICK};
use crate::peers::Peers;
use crate::shop::audit;
use lockkeeper::job::JobId;
use lockkeeper::store::{Store, column};

/// How long a contender may take until its first job is committed.
pub const MOVES_WITHIN: Duration = Duration::from_secs(60);

/// How much more there is in a backlog than a contender should get through, and the share that must be left.
pub const MARGIN: f64 = 1.5;
pub const LEFT: f64 = 0.02;

/// Jobs per second that a backlog is always made for.
const LEAST_RATE: f64 = 200.0;

/// How often a run is repeated with a larger backlog, after one that has run out.
pub const REPEATS: u32 = 4;

/// Entries per command, when those left in the stream are looked at.
const PAGE: usize = 5_000;

/// How long a run takes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From the first job on, before anything is counted.
    pub warm_up: Duration,
    /// In which everything is counted.
    pub window: Duration,
}

/// What one run has shown.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Measured {
    pub jobs_per_second: f64,
    /// Microseconds of CPU time per job, which is milliseconds per 1,000 jobs.
    pub cpu_us: Cpu,
    /// The same over the window.
    pub cpu_seconds: Cpu,
    /// The most memory that the daemon or peer has held, from its start to the end of the window.
    pub peak_rss_mib: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Of the floor alone: from when each job was due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_due: Option<Latency>,
    pub figures: Figures,
}

/// What all runs share.
#[derive(Debug)]
pub struct Bench {
    pub site: Site,
    pub peers: Peers,
    backlogs: HashMap<Scenario, Backlog>,
    /// The most jobs per second that a contender has been seen to do.
    rates: HashMap<(Scenario, Who), f64>,
}

/// A moment of a run.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    at: Instant,
    position: u64,
    cpu: Cpu,
}

/// The backlog was too short.
#[derive(Debug, thiserror::Error)]
#[error("the backlog of {0} jobs has run out")]
pub struct RanOut(pub usize);

impl Bench {
    pub fn new(site: Site, peers: Peers) -> Bench {
        Bench { site, peers, backlogs: HashMap::new(), rates: HashMap::new() }
    }

    /// The jobs of a scenario.
    pub fn backlog(&mut self, scenario: Scenario) -> &mut Backlog {
        self.backlogs.entry(scenario).or_insert_with(|| Backlog::new(scenario))
    }

    /// Measures how many jobs per second a contender does while there are always more.
    pub async fn throughput(
        &mut self,
        (scenario, who): (Scenario, Who),
        tuning: Tuning,
        pace: Pace,
    ) -> anyhow::Result<Measured> {
        let guess = who.guess() / scenario.events_per_job() as f64;
        let mut rate = self.rates.get(&(scenario, who)).copied().unwrap_or(guess);
        let seconds = (pace.warm_up + pace.window + Duration::from_secs(1)).as_secs_f64();
        let mut repeats = 0;
        loop {
            let count = (rate * seconds * MARGIN) as usize + 1_000;
            let run = self.run((scenario, who), tuning, pace, count).await;
            match run {
                Err(error) if error.is::<RanOut>() && repeats < REPEATS => {
                    repeats += 1;
                    rate *= 2.0;
                }
                Err(error) => return Err(error.context(format!("{}, {}", scenario.name(), who.name()))),
                Ok(measured) => {
                    let seen = self.rates.entry((scenario, who)).or_insert(LEAST_RATE);
                    *seen = seen.max(measured.jobs_per_second);
                    return Ok(measured);
                }
            }
        }
    }

    async fn run(
        &mut self,
        case: (Scenario, Who),
        tuning: Tuning,
        pace: Pace,
        count: usize,
    ) -> anyhow::Result<Measured> {
        let (scenario, who) = case;
        let file = jobs_file(&self.site, scenario);
        let backlog = self.backlogs.entry(scenario).or_insert_with(|| Backlog::new(scenario));
        let mut errand = Errand::default();
        self.site.spread_over = who.streams();
        if who.reads_stream() {
            self.site.renew(backlog.first(count)).await?;
        } else {
            self.site.renew(&[]).await?;
            backlog.write(count, &file)?;
            errand.jobs = Some(&file);
        }
        let store = self.site.store().await?;
        let begun = store.sequence().await?;
        let mut worker = Worker::start(&self.site, &self.peers, case, tuning, errand).await?;
        worker.release().await?;
        let processes = Processes::of(&self.site.servers, worker.pids());
        let started = Instant::now();
        while store.sequence().await? == begun {
            worker.check()?;
            ensure!(started.elapsed() < MOVES_WITHIN, "no job is committed within {MOVES_WITHIN:?}");
            sleep(TICK).await;
        }
        sleep(pace.warm_up).await;
        let first = Mark::now(&store, &processes).await?;
        sleep(pace.window).await;
        let last = Mark::now(&store, &processes).await?;
        worker.check()?;
        let peak_rss_mib = processes.peak_rss_mib()?;
        let figures = worker.stop().await?;
        let backlog = self.backlogs.entry(scenario).or_insert_with(|| Backlog::new(scenario));
        self.site.verify(&store, who, backlog.first(count), &figures).await?;
        store.close().await;
        let done = (last.position - begun) / scenario.events_per_job();
        if done as f64 > count as f64 * (1.0 - LEFT) {
            return Err(RanOut(count).into());
        }
        Ok(Measured { peak_rss_mib, figures, ..last.since(first, scenario) })
    }
}

impl Mark {
    pub async fn now(store: &Store, processes: &Processes) -> anyhow::Result<Mark> {
        let asked = Instant::now();
        let position = store.sequence().await?;
        // Somewhere in between the database has looked.
        let at = asked + asked.elapsed() / 2;
        Ok(Mark { at, position, cpu: processes.cpu()? })
    }

    /// How many events there were beyond this position.
    pub fn done_since(self, position: u64) -> u64 {
        self.position - position
    }

    /// What was done since `first`, and what it cost.
    pub fn since(self, first: Mark, scenario: Scenario) -> Measured {
        let jobs = (self.position - first.position) as f64 / scenario.events_per_job() as f64;
        let (cpu_seconds, jobs_per_second) = (self.cpu - first.cpu, jobs / (self.at - first.at).as_secs_f64());
        Measured { jobs_per_second, cpu_us: cpu_seconds.micros_per(jobs), cpu_seconds, ..Measured::default() }
    }
}

impl Site {
    /// Audits what a contender has left: every promise that the tables can show, and that each of `jobs`, which are all
    /// that there were, is either in the stream or has its receipt.
    pub async fn verify(&self, store: &Store, who: Who, jobs: &[Job], figures: &Figures) -> anyhow::Result<()> {
        let pushed = if who.reads_stream() {
            let left = self.left().await?;
            let all = jobs.iter().chain(&self.set_up).map(|job| job.id);
            Some(all.filter(|id| !left.contains(id)).collect::<HashSet<JobId>>())
        } else {
            None
        };
        let audit = audit(store, pushed.as_ref()).await?;
        ensure!(audit.passed(), "{} does not pass the audit:\n{audit}", who.name());
        if let Some(done) = figures.jobs {
            let rows = store.rows("SELECT COUNT(*) FROM receipts", false).await?;
            let receipts: i64 = column(rows.first().context("no count")?, 0)?;
            let expected = done + self.set_up.len() as u64;
            ensure!(receipts.cast_unsigned() == expected, "{} says {done} jobs; {receipts} receipts", who.name());
        }
        Ok(())
    }

    /// The jobs that are left in the stream.
    pub async fn left(&self) -> anyhow::Result<HashSet<JobId>> {
        let (mut broker, mut left) = (self.broker().await?, HashSet::new());
        for stream in self.streams() {
            let mut from = "-".to_owned();
            loop {
                let mut range = redis::cmd("XRANGE");
                range.arg(&stream).arg(&from).arg("+").arg("COUNT").arg(PAGE);
                let page: StreamRangeReply = range.query_async(&mut broker).await?;
                let Some(last) = page.ids.last() else { break };
                from = format!("({}", last.id);
                for entry in &page.ids {
                    let Some(id) = entry.get::<String>("id") else { bail!("an entry without an id") };
                    left.insert(JobId::from_text(&id));
                }
            }
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a run leaves is told to be right when it is, and wrong when a single entry is missing.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_job_that_is_neither_done_nor_left_is_noticed() {
        let site = Site::bare(None, Vec::new(), 3).await.unwrap();
        site.store().await.unwrap().migrate().await.unwrap();
        site.keep().await.unwrap();
        let mut backlog = Backlog::new(Scenario::Orders);
        let mut none = Figures::default();
        for _ in 0..2 {
            site.renew(backlog.first(10)).await.unwrap();
            let store = site.store().await.unwrap();
            assert_eq!(store.sequence().await.unwrap(), 0);
            site.verify(&store, Who::Lockkeeper, backlog.first(10), &none).await.unwrap();
            store.rows("UPDATE event_sequence SET position = 7", false).await.unwrap();
            store.close().await;
        }
        site.renew(backlog.first(10)).await.unwrap();
        let store = site.store().await.unwrap();
        let missing = site.verify(&store, Who::Lockkeeper, backlog.first(11), &none).await.unwrap_err().to_string();
        assert!(missing.contains("has no receipt") && missing.contains("lockkeeper"), "{missing}");
        // Peers with no stream tell how many they have done.
        site.verify(&store, Who::Limit, &[], &none).await.unwrap();
        none.jobs = Some(1);
        let missing = site.verify(&store, Who::Limit, &[], &none).await.unwrap_err().to_string();
        assert!(missing.contains("limit says 1 jobs; 0 receipts"), "{missing}");
        assert_eq!(site.settings().await.unwrap()["innodb_flush_log_at_trx_commit"], "1");
        store.rows("UPDATE event_sequence SET position = 7", false).await.unwrap();
        let wrong = site.verify(&store, Who::Floor, &[], &Figures::default()).await.unwrap_err().to_string();
        assert!(wrong.contains("the sequence row says 7"), "{wrong}");
        store.rows("SET GLOBAL innodb_flush_log_at_trx_commit = 2", false).await.unwrap();
        assert!(site.settings().await.unwrap_err().to_string().contains("not durable"));
        store.close().await;
        site.stop().await.unwrap();
    }
}
