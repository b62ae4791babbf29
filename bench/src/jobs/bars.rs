//! What must hold. Each bar is held against figures of the same round.

use super::Row;
use super::backlog::Scenario::{self, Hot, Latency, Orders, Uniform};
use super::cases::SLOW;
use super::contenders::Who::{
    self, Floor, Limit, Lockkeeper, LockkeeperFour, LockkeeperFourStreams, LockkeeperManyStreams, LockkeeperOneNode,
    LockkeeperTogether, LockkeeperTwo, LockkeeperUnread, Original, Rust,
};
use super::measure::Measured;
use super::standby::cpu_ms_per_second;
use crate::Ratio;

/// CPU time that a job may cost the daemon, and all Redis servers together, in microseconds.
const CPU_US: f64 = 25.0;

/// What the daemon may hold, in MiB.
const PEAK_RSS_MIB: f64 = 64.0;

/// CPU time that a daemon may take in a second while it stands by, in milliseconds, and memory, in MiB.
const STANDBY_CPU_MS: f64 = 5.0;
const STANDBY_RSS_MIB: f64 = 24.0;

/// How much longer a job may take beside a daemon that stands by.
const LONGER: f64 = 1.1;

/// How often the floor the slowest hundredth may take.
const FLOORS: f64 = 3.0;

/// The bars for which there are figures. Unpinned, the machine is the limit and there is only one.
pub fn bars(rows: &[Row], unpinned: bool) -> Vec<Ratio> {
    let rate = |measured: &Measured| Some(measured.jobs_per_second);
    let pairs = |ours: (Scenario, Who), theirs: (Scenario, Who)| {
        let [ours, theirs] = [ours, theirs].map(|(scenario, who)| figures(rows, scenario, who, rate));
        ours.into_iter().zip(theirs).collect::<Vec<_>>()
    };
    let mut bars = Vec::new();
    let mut add = |name: &str, pairs: Vec<(f64, f64)>, bar: f64| {
        if !pairs.is_empty() {
            bars.push(Ratio::of(name, pairs, bar));
        }
    };
    let uniform = pairs((Uniform, Lockkeeper), (Uniform, Original));
    if unpinned {
        add("uniform/original,unpinned", uniform, 12.0);
        return bars;
    }
    add("uniform/limit", pairs((Uniform, Lockkeeper), (Uniform, Limit)), 0.9);
    add("uniform,3-nodes/1-node", pairs((Uniform, Lockkeeper), (Uniform, LockkeeperOneNode)), 0.95);
    for scenario in [Uniform, Hot, Orders] {
        for (who, size) in [(LockkeeperTwo, 2), (LockkeeperFour, 4)] {
            let name = format!("{},{size}-daemons/1", scenario.name());
            add(&name, pairs((scenario, who), (scenario, Lockkeeper)), 0.95);
        }
        for (who, streams) in [(LockkeeperFourStreams, 4), (LockkeeperManyStreams, 16)] {
            let name = format!("{},{streams}-streams/1", scenario.name());
            add(&name, pairs((scenario, who), (scenario, Lockkeeper)), 0.95);
        }
        let name = format!("{},16-streams,4-daemons/1", scenario.name());
        add(&name, pairs((scenario, LockkeeperTogether), (scenario, LockkeeperManyStreams)), 0.95);
    }
    for scenario in [Uniform, Orders] {
        let name = format!("{},log-read/not-read", scenario.name());
        add(&name, pairs((scenario, Lockkeeper), (scenario, LockkeeperUnread)), 0.97);
    }
    add("hot/uniform", pairs((Hot, Lockkeeper), (Uniform, Lockkeeper)), 0.9);
    add("uniform/original", uniform, 20.0);
    add("orders/original", pairs((Orders, Lockkeeper), (Orders, Original)), 15.0);
    add("hot/original", pairs((Hot, Lockkeeper), (Hot, Original)), 45.0);
    add("uniform/rust", pairs((Uniform, Lockkeeper), (Uniform, Rust)), 8.0);
    let cost = |of: fn(&Measured) -> f64| {
        let costs = figures(rows, Uniform, Lockkeeper, |measured| Some(of(measured)));
        costs.into_iter().map(|cost| (CPU_US, cost)).collect()
    };
    add("uniform,25us/daemon-cpu", cost(|measured| measured.cpu_us.worker), 1.0);
    add("uniform,25us/redis-cpu", cost(|measured| measured.cpu_us.redis()), 1.0);
    let [p50, p99]: [fn(&Measured) -> Option<f64>; 2] = [
        |measured| measured.latency.as_ref().map(|latency| latency.p50_ms),
        |measured| measured.latency.as_ref().map(|latency| latency.p99_ms),
    ];
    let against = |who, of: fn(&Measured) -> Option<f64>, factor: f64| {
        let [theirs, ours] = [who, Lockkeeper].map(|who| figures(rows, Latency, who, of));
        theirs.into_iter().zip(ours).map(|(theirs, ours)| (factor * theirs, ours)).collect()
    };
    let beside_one = |of: fn(&Measured) -> Option<f64>| {
        let [one, two] = [Lockkeeper, LockkeeperTwo].map(|who| figures(rows, Latency, who, of));
        one.into_iter().zip(two).map(|(one, two)| (LONGER * one, two)).collect()
    };
    add("latency-500,2-daemons,1.1-p50/p50", beside_one(p50), 1.0);
    add("latency-500,2-daemons,1.1-p99/p99", beside_one(p99), 1.0);
    add("latency-500,original-p50/p50", against(Original, p50, 1.0), 1.0);
    add("latency-500,original-p99/p99", against(Original, p99, 1.0), 1.0);
    add("latency-500,3-floors-p99/p99", against(Floor, p99, FLOORS), 1.0);
    add("64MiB/peak-rss", peaks(rows).into_iter().map(|peak| (PEAK_RSS_MIB, peak)).collect(), 1.0);
    bars
}

/// What a daemon may cost that stands by and has nothing to do.
pub fn standby(watched: &[Measured]) -> [Ratio; 2] {
    let against =
        |bar: f64, of: fn(&Measured) -> f64| watched.iter().map(move |one| (bar, of(one))).collect::<Vec<_>>();
    [
        Ratio::of("standby,5ms-per-s/cpu", against(STANDBY_CPU_MS, cpu_ms_per_second), 1.0),
        Ratio::of("standby,24MiB/peak-rss", against(STANDBY_RSS_MIB, |one| one.peak_rss_mib), 1.0),
    ]
}

/// One figure of each round; of `latency`, at the lower rate.
fn figures(rows: &[Row], scenario: Scenario, who: Who, figure: impl Fn(&Measured) -> Option<f64>) -> Vec<f64> {
    let rate = (scenario == Latency).then_some(SLOW);
    let row = rows.iter().find(|row| (row.case.scenario, row.case.who, row.case.rate) == (scenario, who, rate));
    row.map(|row| row.measured.iter().filter_map(figure).collect()).unwrap_or_default()
}

/// The most memory that a daemon of ours has held in each round, whatever the scenario.
fn peaks(rows: &[Row]) -> Vec<f64> {
    let ours: Vec<&Row> = rows.iter().filter(|row| row.case.who.is_ours()).collect();
    let rounds = ours.iter().map(|row| row.measured.len()).min().unwrap_or_default();
    let peak = |round: usize| ours.iter().map(|row| row.measured[round].peak_rss_mib).fold(0.0, f64::max);
    (0..rounds).map(peak).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Spread;
    use crate::jobs::cases::{Case, round};
    use crate::jobs::cpu::usage::Cpu;
    use crate::jobs::latency;

    /// All cases, each with a figure of its own in every round.
    fn rows() -> Vec<Row> {
        let scenarios = [Uniform, Hot, Orders, Scenario::Zipf, Latency];
        let row = |(place, case): (usize, Case)| {
            let figure = (place + 1) as f64;
            let cpu_us = Cpu { worker: figure, broker: 2.0, lock_nodes: 3.0, database: 4.0 };
            let latency = latency::Latency::of(vec![figure; 10], 0, 0.0);
            let measured = |factor: f64| Measured {
                jobs_per_second: figure * factor,
                cpu_us,
                peak_rss_mib: figure * factor,
                latency: latency.clone(),
                from_due: latency.clone().filter(|_| case.who == Floor),
                ..Measured::default()
            };
            Row {
                case,
                tuning: None,
                jobs_per_second: Spread::of([]),
                measured: [1.0, 2.0, 3.0].map(measured).to_vec(),
            }
        };
        round(&scenarios, &[], false, 0).into_iter().enumerate().map(row).collect()
    }

    #[test]
    fn every_promise_is_held_against_figures_of_its_own_rows() {
        let rows = rows();
        let of = |scenario, who| {
            let rate = (scenario == Latency).then_some(SLOW);
            let row = |row: &Row| (row.case.scenario, row.case.who, row.case.rate) == (scenario, who, rate);
            (rows.iter().position(row).unwrap() + 1) as f64
        };
        let last_ours = rows.iter().rposition(|row| row.case.who.is_ours()).unwrap() + 1;
        let expected = [
            ("uniform/limit", of(Uniform, Lockkeeper) / of(Uniform, Limit), 0.9),
            ("uniform,3-nodes/1-node", of(Uniform, Lockkeeper) / of(Uniform, LockkeeperOneNode), 0.95),
            ("hot/uniform", of(Hot, Lockkeeper) / of(Uniform, Lockkeeper), 0.9),
            ("uniform/original", of(Uniform, Lockkeeper) / of(Uniform, Original), 20.0),
            ("orders/original", of(Orders, Lockkeeper) / of(Orders, Original), 15.0),
            ("hot/original", of(Hot, Lockkeeper) / of(Hot, Original), 45.0),
            ("uniform/rust", of(Uniform, Lockkeeper) / of(Uniform, Rust), 8.0),
            ("uniform,25us/daemon-cpu", 25.0 / of(Uniform, Lockkeeper), 1.0),
            ("uniform,25us/redis-cpu", 25.0 / 5.0, 1.0),
            ("latency-500,original-p50/p50", of(Latency, Original) / of(Latency, Lockkeeper), 1.0),
            ("latency-500,original-p99/p99", of(Latency, Original) / of(Latency, Lockkeeper), 1.0),
            ("latency-500,3-floors-p99/p99", 3.0 * of(Latency, Floor) / of(Latency, Lockkeeper), 1.0),
            ("64MiB/peak-rss", 64.0 / (2.0 * last_ours as f64), 1.0),
        ];
        let told: Vec<_> = bars(&rows, false).into_iter().map(|bar| (bar.name, bar.value.median, bar.bar)).collect();
        assert_eq!(told.len(), expected.len());
        for ((name, value, bar), expected) in told.iter().zip(expected) {
            assert_eq!((name.as_str(), *bar), (expected.0, expected.2));
            assert!((value - expected.1).abs() < 1e-9, "{name}: {value} instead of {}", expected.1);
        }
    }

    #[test]
    fn unpinned_there_is_one_bar_and_what_was_not_measured_has_none() {
        let names = |bars: Vec<Ratio>| bars.into_iter().map(|bar| (bar.name, bar.bar)).collect::<Vec<_>>();
        assert_eq!(names(bars(&rows(), true)), [("uniform/original,unpinned".to_owned(), 12.0)]);
        let mut few = rows();
        few.retain(|row| [Lockkeeper, Limit].contains(&row.case.who) && row.case.scenario == Uniform);
        let few: Vec<String> = names(bars(&few, false)).into_iter().map(|(name, _)| name).collect();
        assert_eq!(few, ["uniform/limit", "uniform,25us/daemon-cpu", "uniform,25us/redis-cpu", "64MiB/peak-rss"]);
    }

    #[test]
    fn every_case_has_its_line_in_the_table_of_its_scenario() {
        let text = crate::jobs::table::tables(&rows(), &Default::default());
        for name in
            ["\nuniform\n", "\nhot\n", "\norders\n", "\nzipf\n", "\nlatency\n", "500/s", "2000/s", "1 lock node"]
        {
            assert!(text.contains(name), "{name} is not in:\n{text}");
        }
        assert_eq!(text.matches("original").count(), 6);
        assert_eq!((text.matches("floor").count(), text.matches("floor, from due").count()), (2, 1));
    }
}
