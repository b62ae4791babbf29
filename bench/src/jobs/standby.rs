//! What a daemon costs that stands by and has nothing to do.

use std::time::Duration;

use anyhow::Context;
use tokio::time::sleep;

use super::backlog::Scenario;
use super::contenders::{Errand, Tuning, Who, Worker};
use super::cpu::usage::Processes;
use super::measure::Bench;
use super::measure::Measured;

/// How long it is watched, and left alone before.
const WATCHED: Duration = Duration::from_secs(10);
const BEFORE: Duration = Duration::from_secs(3);

impl Bench {
    /// Starts two daemons on empty streams, and watches the one that owns nothing.
    pub async fn standby(&mut self) -> anyhow::Result<Measured> {
        self.site.spread_over = 1;
        self.site.renew(&[]).await?;
        let case = (Scenario::Uniform, Who::LockkeeperTwo);
        let worker = Worker::start(&self.site, &self.peers, case, Tuning::default(), Errand::default()).await?;
        sleep(BEFORE).await;
        let standby = worker.stands_by().await?.context("no daemon stands by")?;
        let processes = Processes::of(&self.site.servers, [standby]);
        let before = processes.cpu()?;
        sleep(WATCHED).await;
        let cpu_seconds = processes.cpu()? - before;
        let peak_rss_mib = processes.peak_rss_mib()?;
        worker.stop().await?;
        Ok(Measured { cpu_seconds, peak_rss_mib, ..Measured::default() })
    }
}

/// Milliseconds of CPU time that it took in a second.
pub fn cpu_ms_per_second(measured: &Measured) -> f64 {
    measured.cpu_seconds.worker * 1e3 / WATCHED.as_secs_f64()
}
