//! One run of a case.

use std::cell::Cell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use futures_util::future::{join_all, try_join_all};
use tokio::time::sleep;

use super::case::Case;
use super::cold::Cold;
use super::fill::count;
use super::ground::Ground;
use crate::jobs::backlog::{Backlog, Job, Scenario};
use crate::jobs::contenders::Who;
use crate::jobs::cpu::usage::Processes;
use crate::jobs::measure::{LEFT, MARGIN, MOVES_WITHIN, Mark, Measured, Pace, REPEATS, RanOut};
use crate::jobs::progress;
use crate::jobs::site::{STREAM, Site, TICK};
use lockkeeper::store::Store;
use throwaway::Daemon;

/// What a producer keeps the stream at.
const SHORT_BACKLOG: usize = 1_000;

/// How often a producer looks how many entries there are.
const LOOKS_EVERY: Duration = Duration::from_millis(4);

/// Cold items are used up, so there must not be many more in a backlog than are needed.
const COLD_SHARE: f64 = 0.4;

/// What all runs share.
#[derive(Debug)]
pub struct Runs {
    pub site: Site,
    admin: Store,
    small: Ground,
    grown: Ground,
    uniform: Backlog,
    cold: Cold,
    long_backlog: usize,
    /// The most jobs per second that a case has been seen to do.
    rates: HashMap<Case, f64>,
}

impl Runs {
    pub async fn new(site: Site, small: Ground, grown: Ground, long_backlog: usize) -> anyhow::Result<Runs> {
        let admin = Ground::admin(&site).await?;
        let (uniform, cold) = (Backlog::new(Scenario::Uniform), Cold::of(grown.aggregates));
        Ok(Runs { site, admin, small, grown, uniform, cold, long_backlog, rates: HashMap::new() })
    }

    /// Fills both databases.
    pub async fn fill(&self) -> anyhow::Result<()> {
        count(&self.admin).await?;
        let rows = |ground: &Ground| ground.events + ground.aggregates;
        let progress = progress(rows(&self.small) + rows(&self.grown));
        for ground in [&self.small, &self.grown] {
            ground.fill(&self.site, &self.admin, &progress).await?;
        }
        progress.finish_and_clear();
        Ok(())
    }

    /// Takes the servers down.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.admin.close().await;
        self.site.stop().await
    }

    /// Measures how many jobs per second a case does while there are always more.
    pub async fn throughput(&mut self, case: Case, pace: Pace) -> anyhow::Result<Measured> {
        let share = if case == Case::ColdKeys { COLD_SHARE } else { 1.0 };
        let mut rate = self.rates.get(&case).copied().unwrap_or(Who::Lockkeeper.guess() * share);
        let seconds = (pace.warm_up + pace.window + Duration::from_secs(1)).as_secs_f64();
        let mut repeats = 0;
        loop {
            let count = (rate * seconds * MARGIN) as usize + SHORT_BACKLOG;
            match self.run(case, pace, count).await {
                Err(error) if error.is::<RanOut>() && repeats < REPEATS => {
                    repeats += 1;
                    rate *= 2.0;
                }
                Err(error) => return Err(error.context(case.name())),
                Ok(measured) => {
                    let seen = self.rates.entry(case).or_default();
                    *seen = seen.max(measured.jobs_per_second);
                    return Ok(measured);
                }
            }
        }
    }

    async fn run(&mut self, case: Case, pace: Pace, count: usize) -> anyhow::Result<Measured> {
        let ground = if case.has_many_events() { &self.grown } else { &self.small };
        let cold;
        let jobs: &[Job] = match case {
            Case::ColdKeys => {
                cold = self.cold.jobs(count);
                &cold
            }
            Case::LongBacklog => self.uniform.first(count.max(self.long_backlog)),
            _ => self.uniform.first(count),
        };
        ground.undo(&self.admin).await?;
        let is_short = case == Case::ShortBacklog;
        let ahead = if is_short { SHORT_BACKLOG.min(jobs.len()) } else { jobs.len() };
        self.site.refill(&jobs[..ahead]).await?;
        let store = ground.store(&self.site).await?;
        let mut daemons = start(&self.site, ground, case).await?;
        let processes = Processes::of(&self.site.servers, daemons.iter().filter_map(Daemon::pid));
        let (pushed, is_over) = (Cell::new(ahead), Cell::new(false));
        let watch = async {
            let marks = window(&store, &processes, ground.events, pace).await;
            is_over.set(true);
            marks
        };
        let feed = async { if is_short { produce(&self.site, jobs, &pushed, &is_over).await } else { Ok(()) } };
        let (marks, fed) = tokio::join!(watch, feed);
        ensure_alive(&mut daemons)?;
        let peak_rss_mib = processes.peak_rss_mib()?;
        for drained in join_all(daemons.iter_mut().map(Daemon::drain)).await {
            drained.map_err(anyhow::Error::msg)?;
        }
        fed?;
        let [first, last] = marks?;
        let done = ground.verify(&self.site, &self.admin, &jobs[..pushed.get()]).await?;
        store.close().await;
        if last.done_since(ground.events) as f64 > jobs.len() as f64 * (1.0 - LEFT) {
            if case == Case::ColdKeys && jobs.len() < count {
                bail!("there are only {} cold items left; give more --aggregates", jobs.len());
            }
            return Err(RanOut(jobs.len()).into());
        }
        if case == Case::ColdKeys {
            self.cold.used(usize::try_from(done)?);
        }
        Ok(Measured { peak_rss_mib, ..last.since(first, Scenario::Uniform) })
    }
}

/// Starts the daemons of a case and waits until they are ready.
async fn start(site: &Site, ground: &Ground, case: Case) -> anyhow::Result<Vec<Daemon>> {
    let url = ground.url(site);
    let settings = [("LOCKKEEPER_LOG_LEVEL", "warn"), ("DATABASE_URL", url.as_str())];
    let nodes = &site.servers.lock_nodes[..case.lock_nodes()];
    let names: Vec<String> = (1..=case.daemons()).map(|number| format!("daemon-{number}")).collect();
    let program = crate::daemon_program()?;
    try_join_all(names.iter().map(|name| Daemon::of(&program, (&site.servers, nodes), name, &settings))).await
}

fn ensure_alive(daemons: &mut [Daemon]) -> anyhow::Result<()> {
    daemons.iter_mut().find_map(Daemon::exit_report).map_or(Ok(()), |text| Err(anyhow::Error::msg(text)))
}

/// The beginning and the end of the time in which everything is counted. It begins when the first job is done and the
/// daemons have warmed up.
async fn window(store: &Store, processes: &Processes, begun: u64, pace: Pace) -> anyhow::Result<[Mark; 2]> {
    let started = Instant::now();
    while store.sequence().await? == begun {
        ensure!(started.elapsed() < MOVES_WITHIN, "no job is committed within {MOVES_WITHIN:?}");
        sleep(TICK).await;
    }
    sleep(pace.warm_up).await;
    let first = Mark::now(store, processes).await?;
    sleep(pace.window).await;
    Ok([first, Mark::now(store, processes).await?])
}

/// Keeps the stream at a short backlog until the run is over or there are no more jobs; `pushed` says how many it has had.
async fn produce(site: &Site, jobs: &[Job], pushed: &Cell<usize>, is_over: &Cell<bool>) -> anyhow::Result<()> {
    let mut broker = site.broker().await?;
    while !is_over.get() && pushed.get() < jobs.len() {
        let length: usize = redis::cmd("XLEN").arg(STREAM).query_async(&mut broker).await?;
        let from = pushed.get();
        let to = jobs.len().min(from + SHORT_BACKLOG.saturating_sub(length));
        if from < to {
            let mut pipeline = redis::pipe();
            jobs[from..to].iter().for_each(|job| job.push(&mut pipeline, STREAM, None));
            pipeline.exec_async(&mut broker).await?;
            pushed.set(to);
        }
        sleep(LOOKS_EVERY).await;
    }
    Ok(())
}
