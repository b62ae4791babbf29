//! What is measured, and what must hold.

use std::fmt;

use serde::Serialize;

use crate::jobs::measure::Measured;
use crate::{Ratio, Spread};

/// What a case that has grown must reach of the small one.
const OF_SMALL: f64 = 0.9;

/// What a daemon may hold, in MiB.
const PEAK_RSS_MIB: f64 = 64.0;

/// The small case, or what of it has grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// One daemon, three lock nodes, few events, a backlog that just outlasts the run.
    Small,
    /// Many events; the jobs are about the same items as in the small case.
    WarmKeys,
    /// Many events; each job is about an item that no job has been about.
    ColdKeys,
    TwoDaemons,
    FourDaemons,
    OneLockNode,
    FiveLockNodes,
    /// A producer keeps the stream at so few entries as a batch or two.
    ShortBacklog,
    LongBacklog,
}

impl Case {
    const ALL: [Case; 9] = [
        Case::Small,
        Case::WarmKeys,
        Case::ColdKeys,
        Case::LongBacklog,
        Case::ShortBacklog,
        Case::TwoDaemons,
        Case::FourDaemons,
        Case::OneLockNode,
        Case::FiveLockNodes,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::WarmKeys => "many events, warm keys",
            Self::ColdKeys => "many events, cold keys",
            Self::TwoDaemons => "2 daemons",
            Self::FourDaemons => "4 daemons",
            Self::OneLockNode => "1 lock node",
            Self::FiveLockNodes => "5 lock nodes",
            Self::ShortBacklog => "backlog of 1,000",
            Self::LongBacklog => "long backlog",
        }
    }

    pub fn daemons(self) -> usize {
        match self {
            Self::TwoDaemons => 2,
            Self::FourDaemons => 4,
            _ => 1,
        }
    }

    pub fn lock_nodes(self) -> usize {
        match self {
            Self::OneLockNode => 1,
            Self::FiveLockNodes => 5,
            _ => 3,
        }
    }

    /// Whether the tables hold many events.
    pub fn has_many_events(self) -> bool {
        matches!(self, Self::WarmKeys | Self::ColdKeys)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A case in all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub case: Case,
    pub jobs_per_second: Spread,
    /// One for each round.
    pub measured: Vec<Measured>,
}

/// Every case once. Each round begins with another one.
pub fn round(number: u32) -> Vec<Case> {
    let mut cases = Case::ALL.to_vec();
    let turn = number as usize % cases.len();
    cases.rotate_left(turn);
    cases
}

/// A case against the small one, round by round.
pub fn of_small(rows: &[Row], case: Case) -> impl Iterator<Item = (f64, f64)> + '_ {
    let rates = |case| {
        let row = rows.iter().find(move |row| row.case == case);
        row.into_iter().flat_map(|row| row.measured.iter().map(|measured| measured.jobs_per_second))
    };
    rates(case).zip(rates(Case::Small))
}

/// Everything that is promised of growth.
pub fn bars(rows: &[Row]) -> Vec<Ratio> {
    let rounds = rows.iter().map(|row| row.measured.len()).min().unwrap_or_default();
    let peak = |round: usize| rows.iter().map(|row| row.measured[round].peak_rss_mib).fold(0.0, f64::max);
    vec![
        Ratio::of("many-events,warm/small", of_small(rows, Case::WarmKeys), OF_SMALL),
        Ratio::of("long-backlog/small", of_small(rows, Case::LongBacklog), OF_SMALL),
        Ratio::of("growth,64MiB/peak-rss", (0..rounds).map(|round| (PEAK_RSS_MIB, peak(round))), 1.0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_measures_every_case_once_and_begins_with_another() {
        let rounds = [0, 1, 9].map(round);
        assert_eq!(rounds[0], Case::ALL);
        assert_eq!(rounds[0], rounds[2]);
        assert_eq!(rounds[1][0], rounds[0][1]);
        let names: std::collections::HashSet<&str> = rounds[1].iter().map(|case| case.name()).collect();
        assert_eq!(names.len(), Case::ALL.len());
    }

    #[test]
    fn what_has_grown_is_held_against_the_small_case_of_its_round_and_memory_in_every_case() {
        let row = |(place, case): (usize, &Case)| {
            let measured = |factor: f64| Measured {
                jobs_per_second: (100 + place) as f64 * factor,
                peak_rss_mib: if *case == Case::FourDaemons { 128.0 } else { 10.0 },
                ..Measured::default()
            };
            // Each round is of another speed, which must not matter.
            Row { case: *case, jobs_per_second: Spread::of([]), measured: [1.0, 5.0].map(measured).to_vec() }
        };
        let rows: Vec<Row> = Case::ALL.iter().enumerate().map(row).collect();
        let told: Vec<_> = bars(&rows).into_iter().map(|bar| (bar.name, bar.value, bar.bar, bar.passed)).collect();
        let always = |value| Spread::of([value]);
        let expected = [
            ("many-events,warm/small", always(1.01), 0.9, true),
            ("long-backlog/small", always(1.03), 0.9, true),
            ("growth,64MiB/peak-rss", always(0.5), 1.0, false),
        ];
        assert_eq!(told, expected.map(|(name, value, bar, passed)| (name.to_owned(), value, bar, passed)));
        let text = crate::jobs::growth::table::table(&rows);
        assert!(Case::ALL.iter().all(|case| text.contains(case.name())) && text.contains("101 %"), "{text}");
    }
}
