//! What a peer is best told: how many jobs at the same time, how many to a transaction, over how many connections.
//!
//! Each is tried once, in short runs on the servers of the bench, and what was fastest is kept for all rounds. The hot item is
//! a case of its own, since there others may win.

use std::collections::BTreeSet;
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;

use super::backlog::Scenario;
use super::cases::Case;
use super::contenders::{Tuning, Who};
use super::measure::{Bench, Pace};
use super::tell;

const CONCURRENCIES: [u32; 3] = [16, 64, 128];
const CONNECTIONS: [u32; 3] = [1, 2, 4];
const BATCHES: [u32; 3] = [512, 256, 1024];

/// One try.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Trial {
    /// `uniform`, which stands for all, or `hot`.
    pub scenario: Scenario,
    pub who: Who,
    pub tuning: Tuning,
    pub jobs_per_second: f64,
}

/// All tries.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Calibration {
    pub trials: Vec<Trial>,
}

impl Calibration {
    /// Tries what these cases need to know.
    pub async fn run(
        bench: &mut Bench,
        cases: &[Case],
        quick: bool,
        progress: &ProgressBar,
    ) -> anyhow::Result<Calibration> {
        let window = Duration::from_millis(if quick { 800 } else { 2_000 });
        let pace = Pace { warm_up: window / 2, window };
        let mut calibration = Calibration::default();
        let peers = [Who::Original, Who::Rust, Who::Limit];
        let needed = |case: &Case| Some((ground(case.scenario), peers.iter().position(|who| *who == case.who)?));
        for (is_hot, place) in cases.iter().filter_map(needed).collect::<BTreeSet<_>>() {
            let (scenario, who) = (if is_hot { Scenario::Hot } else { Scenario::Uniform }, peers[place]);
            let base = Tuning::default();
            let tries: Vec<Tuning> = match who {
                Who::Limit => CONNECTIONS.map(|connections| Tuning { connections, ..base }).to_vec(),
                _ => CONCURRENCIES.map(|concurrency| Tuning { concurrency, ..base }).to_vec(),
            };
            calibration.attempt(bench, (scenario, who), &tries, pace, progress).await?;
            if who == Who::Limit {
                let best = calibration.tuning(scenario, who).unwrap_or_default();
                // The first is what the connections were tried with.
                let tries: Vec<Tuning> = BATCHES[1..].iter().map(|&batch| Tuning { batch, ..best }).collect();
                calibration.attempt(bench, (scenario, who), &tries, pace, progress).await?;
            }
        }
        Ok(calibration)
    }

    async fn attempt(
        &mut self,
        bench: &mut Bench,
        (scenario, who): (Scenario, Who),
        tries: &[Tuning],
        pace: Pace,
        progress: &ProgressBar,
    ) -> anyhow::Result<()> {
        for &tuning in tries {
            let told = format!("calibrating {}, {}, {}", scenario.name(), who.name(), tuning.of(who));
            progress.set_message(told.clone());
            let jobs_per_second = bench.throughput((scenario, who), tuning, pace).await?.jobs_per_second;
            tell(progress, &format!("{told}: {jobs_per_second:.0} jobs/s"));
            self.trials.push(Trial { scenario, who, tuning, jobs_per_second });
        }
        Ok(())
    }

    /// What has been fastest for this contender; `None` for one that cannot be told anything.
    pub fn tuning(&self, scenario: Scenario, who: Who) -> Option<Tuning> {
        let of = |trial: &&Trial| trial.who == who && ground(trial.scenario) == ground(scenario);
        let fastest = self.trials.iter().filter(of).max_by(|a, b| a.jobs_per_second.total_cmp(&b.jobs_per_second));
        fastest.map(|trial| trial.tuning)
    }
}

/// Whether it is a case of its own.
fn ground(scenario: Scenario) -> bool {
    scenario == Scenario::Hot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_is_kept_and_the_hot_item_is_a_case_of_its_own() {
        let trial = |scenario, concurrency, jobs_per_second| {
            let tuning = Tuning { concurrency, ..Tuning::default() };
            Trial { scenario, who: Who::Original, tuning, jobs_per_second }
        };
        let trials = [(16, 500.0, 300.0), (64, 900.0, 200.0), (128, 800.0, 100.0)].into_iter().flat_map(
            |(concurrency, uniform, hot)| {
                [trial(Scenario::Uniform, concurrency, uniform), trial(Scenario::Hot, concurrency, hot)]
            },
        );
        let calibration = Calibration { trials: trials.collect() };
        let best = |scenario, who| calibration.tuning(scenario, who).map(|tuning| tuning.concurrency);
        assert_eq!(best(Scenario::Zipf, Who::Original), Some(64));
        assert_eq!(best(Scenario::Hot, Who::Original), Some(16));
        assert_eq!(best(Scenario::Hot, Who::Lockkeeper), None);
    }
}
