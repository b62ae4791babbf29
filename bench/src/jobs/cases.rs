//! What is measured in a round, and in which order.

use std::fmt;

use serde::Serialize;

use super::backlog::Scenario;
use super::contenders::Who;

/// Jobs per second of `latency`: what the original stack can just do, and what it cannot.
pub const SLOW: u32 = 500;
pub const FAST: u32 = 2_000;

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Case {
    pub scenario: Scenario,
    pub who: Who,
    /// Jobs per second, where they come at a rate; otherwise there are always more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.rate.map(|rate| format!(" at {rate} jobs/s")).unwrap_or_default();
        write!(formatter, "{}{rate}, {}", self.scenario.name(), self.who.name())
    }
}

/// Everything that is measured in the round of this number, of the contenders in `only`, or of all. Within a scenario, each round begins
/// with another contender.
pub fn round(scenarios: &[Scenario], only: &[Who], quick: bool, number: u32) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for scenario in scenarios {
        let mut own = of(*scenario, quick);
        own.retain(|case| (only.is_empty() || only.contains(&case.who)) && !cases.contains(case));
        if !own.is_empty() {
            let turn = number as usize % own.len();
            own.rotate_left(turn);
        }
        cases.extend(own);
    }
    cases
}

/// The same of `fleet`: one daemon of ours beside two and four, on one stream and on many, of the contenders in `only`, or of all.
pub fn fleet(only: &[Who], number: u32) -> Vec<Case> {
    let sizes = [Who::Lockkeeper, Who::LockkeeperTwo, Who::LockkeeperFour];
    let case = |scenario, rate| move |who| Case { scenario, who, rate };
    let mut cases: Vec<Vec<Case>> = Vec::new();
    let many = [Who::LockkeeperFourStreams, Who::LockkeeperManyStreams, Who::LockkeeperTogether, Who::LockkeeperSpread];
    for scenario in [Scenario::Uniform, Scenario::Hot, Scenario::Orders] {
        cases.push(sizes.into_iter().chain(many).map(case(scenario, None)).collect());
    }
    cases.push(sizes[..2].iter().copied().map(case(Scenario::Latency, Some(SLOW))).collect());
    for own in &mut cases {
        own.retain(|case| only.is_empty() || only.contains(&case.who));
        let turn = number as usize % own.len().max(1);
        own.rotate_left(turn);
    }
    cases.concat()
}

/// The same of `log`: a daemon that reads the log beside its work, and one that does not.
pub fn log(only: &[Who], number: u32) -> Vec<Case> {
    let who = [Who::LockkeeperUnread, Who::Lockkeeper];
    let each = [Scenario::Uniform, Scenario::Orders].into_iter().flat_map(|scenario| {
        let mut own: Vec<Case> = who.into_iter().map(|who| Case { scenario, who, rate: None }).collect();
        own.retain(|case| only.is_empty() || only.contains(&case.who));
        let turn = number as usize % own.len().max(1);
        own.rotate_left(turn);
        own
    });
    each.collect()
}

fn of(scenario: Scenario, quick: bool) -> Vec<Case> {
    let case = |who| Case { scenario, who, rate: None };
    match scenario {
        Scenario::Uniform => {
            [Who::Limit, Who::Lockkeeper, Who::LockkeeperOneNode, Who::Original, Who::Rust].map(case).to_vec()
        }
        // A bar compares it with our own uniform.
        Scenario::Hot => {
            let uniform = Case { scenario: Scenario::Uniform, who: Who::Lockkeeper, rate: None };
            let own = [Who::Lockkeeper, Who::Original, Who::Rust, Who::Limit].map(case);
            [uniform].into_iter().chain(own).collect()
        }
        Scenario::Orders => [Who::Lockkeeper, Who::Original, Who::Rust, Who::Limit].map(case).to_vec(),
        Scenario::Zipf => [Who::Lockkeeper, Who::Original, Who::Limit].map(case).to_vec(),
        Scenario::Latency => {
            let at = |rate: u32| move |who| Case { scenario, who, rate: Some(rate) };
            let mut cases = [Who::Lockkeeper, Who::Floor, Who::Original].map(at(SLOW)).to_vec();
            cases.push(at(FAST)(Who::Lockkeeper));
            if !quick {
                cases.extend([at(SLOW)(Who::Rust), at(FAST)(Who::Original), at(FAST)(Who::Rust)]);
            }
            cases
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Scenario; 5] = [Scenario::Uniform, Scenario::Hot, Scenario::Orders, Scenario::Zipf, Scenario::Latency];

    #[test]
    fn every_round_measures_the_same_once_and_each_begins_with_another_contender() {
        for scenario in ALL {
            let rounds = [0, 1, 2].map(|number| round(&[scenario], &[], false, number));
            assert!(rounds[0].iter().all(|case| rounds[1].contains(case)) && rounds[0].len() == rounds[1].len());
            assert!(rounds[0][0] != rounds[1][0] && rounds[1][0] != rounds[2][0], "{scenario:?}");
        }
        let all = round(&ALL, &[], false, 3);
        for (place, case) in all.iter().enumerate() {
            assert!(!all[..place].contains(case), "{case} twice");
        }
    }

    #[test]
    fn few_contenders_are_measured_when_few_are_wanted() {
        let told = round(&[Scenario::Hot], &[Who::Lockkeeper, Who::Limit], true, 0);
        let told: Vec<String> = told.iter().map(Case::to_string).collect();
        assert_eq!(told, ["uniform, lockkeeper", "hot, lockkeeper", "hot, limit"]);
        assert!(round(&[Scenario::Latency], &[Who::Original], true, 1).len() == 1);
    }
}
