//! The figures for people.

use super::case::{Row, of_small};
use crate::Spread;
use crate::jobs::measure::Measured;
use crate::jobs::table;

/// A line for each case: the middle of all rounds with the ends beside it.
pub fn table(rows: &[Row]) -> String {
    let header = ["case", "jobs/s", "min – max", "of small", "daemons' CPU/job", "Redis", "database", "peak RSS"];
    let mut table = table::table(&header);
    for row in rows {
        let Spread { median, min, max } = row.jobs_per_second;
        let middle = |figure: fn(&Measured) -> f64| Spread::of(row.measured.iter().map(figure)).median;
        let share = Spread::of(of_small(rows, row.case).map(|(grown, small)| grown / small)).median;
        table.add_row([
            row.case.name().to_owned(),
            format!("{median:.0}"),
            format!("{min:.0} – {max:.0}"),
            format!("{:.0} %", share * 100.0),
            format!("{:.1} µs", middle(|measured| measured.cpu_us.worker)),
            format!("{:.1} µs", middle(|measured| measured.cpu_us.redis())),
            format!("{:.1} µs", middle(|measured| measured.cpu_us.database)),
            format!("{:.0} MiB", middle(|measured| measured.peak_rss_mib)),
        ]);
    }
    format!("\ngrowth\n{}", table::aligned(table, 1))
}
