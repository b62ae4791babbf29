//! What readers of the log cost those who write, and how fast one reads that begins with the first event.

pub mod rebuild;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::time::sleep;

use super::backlog::Scenario;
use super::contenders::{Errand, Tuning, Who, Worker};
use super::measure::Bench;
use super::site::TICK;
use crate::Ratio;
use lockkeeper::store::{Checkpoint, Store};

/// Orders whose events are read.
const ORDERS: usize = 60_000;
const FEW_ORDERS: usize = 4_000;

/// How long writing them, and reading them, may take.
const WITHIN: Duration = Duration::from_secs(600);

/// Events that a reader of a backlog must do in a second.
const EVENTS_PER_SECOND: f64 = 40_000.0;

impl Bench {
    /// Has orders placed that nobody reads of, then has them read: events per second, from the first page on.
    pub async fn catch_up(&mut self, is_quick: bool) -> anyhow::Result<f64> {
        let orders = if is_quick { FEW_ORDERS } else { ORDERS };
        self.site.spread_over = 1;
        let jobs = self.backlog(Scenario::Orders).first(orders).to_vec();
        self.site.renew(&jobs).await?;
        let store = self.site.store().await?;
        let case = |who| (Scenario::Orders, who);
        let mut writer =
            Worker::start(&self.site, &self.peers, case(Who::LockkeeperUnread), Tuning::default(), Errand::default())
                .await?;
        let started = Instant::now();
        while !self.site.left().await?.is_empty() {
            writer.check()?;
            ensure!(started.elapsed() < WITHIN, "the orders are not placed within {WITHIN:?}");
            sleep(TICK * 20).await;
        }
        writer.stop().await?;
        let mut reader =
            Worker::start(&self.site, &self.peers, case(Who::Lockkeeper), Tuning::default(), Errand::default()).await?;
        let started = Instant::now();
        let (mut first, mut last) = (None, None);
        while last.is_none() {
            reader.check()?;
            ensure!(started.elapsed() < WITHIN, "the log is not read within {WITHIN:?}");
            let now = checkpoint(&store).await?;
            let mark = now.as_ref().map(|checkpoint| (Instant::now(), checkpoint.position));
            first = first.or(mark.filter(|(_, position)| *position > 0));
            last = mark.filter(|_| now.is_some_and(|checkpoint| checkpoint.lag() == 0));
            sleep(TICK).await;
        }
        reader.stop().await?;
        store.close().await;
        let ((from, before), (to, after)) = first.zip(last).context("nothing was read")?;
        Ok((after - before) as f64 / (to - from).as_secs_f64())
    }
}

async fn checkpoint(store: &Store) -> anyhow::Result<Option<Checkpoint>> {
    Ok(store.checkpoints().await?.into_iter().next())
}

/// What a reader of a backlog must reach.
pub fn bar(rates: &[f64]) -> Ratio {
    Ratio::of("log,backlog/40,000-events-per-s", rates.iter().map(|rate| (*rate, EVENTS_PER_SECOND)), 1.0)
}
