//! The figures for people: a table per scenario, the middle of all rounds with the ends beside it.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};

use super::Row;
use super::backlog::Scenario;
use super::calibrate::Calibration;
use super::contenders::{Tuning, Who};
use super::latency::Latency;
use super::measure::Measured;
use crate::Spread;

impl Tuning {
    /// What of it matters to this contender.
    pub fn of(self, who: Who) -> String {
        match who {
            Who::Original | Who::Rust => format!("{} at once", self.concurrency),
            Who::Limit => format!("{} x {}", self.connections, self.batch),
            _ => String::new(),
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { jobs_per_second, cpu_us, peak_rss_mib, latency, .. } = self;
        if let Some(Latency { p50_ms, p99_ms, p999_ms, unanswered, .. }) = latency {
            write!(formatter, "p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, p99.9 {p999_ms:.2} ms, ")?;
            if *unanswered > 0 {
                write!(formatter, "{unanswered} unanswered, ")?;
            }
        }
        let (worker, redis, database) = (cpu_us.worker, cpu_us.redis(), cpu_us.database);
        write!(formatter, "{jobs_per_second:.0} jobs/s, CPU per job: {worker:.1} µs, Redis {redis:.1} µs, ")?;
        write!(formatter, "database {database:.1} µs, {peak_rss_mib:.1} MiB")
    }
}

/// A table for each scenario that has rows, in their order.
pub fn tables(rows: &[Row], calibration: &Calibration) -> String {
    let mut scenarios: Vec<Scenario> = Vec::new();
    for row in rows.iter().filter(|row| !row.measured.is_empty()) {
        if !scenarios.contains(&row.case.scenario) {
            scenarios.push(row.case.scenario);
        }
    }
    let table = |scenario: &Scenario| {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.case.scenario == *scenario).collect();
        let table = if *scenario == Scenario::Latency { latencies(&rows) } else { rates(&rows) };
        format!("\n{}\n{table}", scenario.name())
    };
    let tables: Vec<String> = scenarios.iter().map(table).collect();
    let tried = if calibration.trials.is_empty() { String::new() } else { format!("\n\n{}", trials(calibration)) };
    format!("{}{tried}", tables.join("\n"))
}

fn rates(rows: &[&Row]) -> Table {
    let header =
        ["contender", "told", "jobs/s", "min – max", "its CPU/job", "broker", "lock nodes", "database", "peak RSS"];
    let mut table = table(&header);
    for row in rows {
        let Spread { median, min, max } = row.jobs_per_second;
        let micros = |figure: fn(&Measured) -> f64| format!("{:.1} µs", middle(row, figure));
        table.add_row([
            row.case.who.name().to_owned(),
            told(row),
            format!("{median:.0}"),
            format!("{min:.0} – {max:.0}"),
            micros(|measured| measured.cpu_us.worker),
            micros(|measured| measured.cpu_us.broker),
            micros(|measured| measured.cpu_us.lock_nodes),
            micros(|measured| measured.cpu_us.database),
            format!("{:.0} MiB", middle(row, |measured| measured.peak_rss_mib)),
        ]);
    }
    aligned(table, 2)
}

fn latencies(rows: &[&Row]) -> Table {
    let header =
        ["contender", "told", "due", "p50", "p99", "min – max", "p99.9", "unanswered", "its CPU/job", "peak RSS"];
    let mut table = table(&header);
    for row in rows {
        let name = row.case.who.name();
        add_latency(&mut table, row, name.to_owned(), |measured| measured.latency.as_ref());
        if row.measured.iter().any(|measured| measured.from_due.is_some()) {
            add_latency(&mut table, row, format!("{name}, from due"), |measured| measured.from_due.as_ref());
        }
    }
    aligned(table, 2)
}

fn add_latency(table: &mut Table, row: &Row, name: String, of: fn(&Measured) -> Option<&Latency>) {
    let spread = |figure: fn(&Latency) -> f64| Spread::of(row.measured.iter().filter_map(of).map(figure));
    let ms = |figure| format!("{:.2} ms", spread(figure).median);
    let p99 = spread(|latency| latency.p99_ms);
    table.add_row([
        name,
        told(row),
        row.case.rate.map(|rate| format!("{rate}/s")).unwrap_or_default(),
        ms(|latency| latency.p50_ms),
        ms(|latency| latency.p99_ms),
        format!("{:.2} – {:.2}", p99.min, p99.max),
        ms(|latency| latency.p999_ms),
        format!("{:.0} of {:.0}", spread(|l| l.unanswered as f64).median, spread(|l| l.offered as f64).median),
        format!("{:.1} µs", middle(row, |measured| measured.cpu_us.worker)),
        format!("{:.0} MiB", middle(row, |measured| measured.peak_rss_mib)),
    ]);
}

fn trials(calibration: &Calibration) -> Table {
    let mut table = table(&["calibrated on", "contender", "told", "jobs/s"]);
    for trial in &calibration.trials {
        table.add_row([
            trial.scenario.name().to_owned(),
            trial.who.name().to_owned(),
            trial.tuning.of(trial.who),
            format!("{:.0}", trial.jobs_per_second),
        ]);
    }
    aligned(table, 3)
}

fn middle(row: &Row, figure: fn(&Measured) -> f64) -> f64 {
    Spread::of(row.measured.iter().map(figure)).median
}

fn told(row: &Row) -> String {
    row.tuning.map(|tuning| tuning.of(row.case.who)).unwrap_or_default()
}

pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(header);
    table
}

/// Numbers stand at the right, from this column on.
pub fn aligned(mut table: Table, from: usize) -> Table {
    for column in table.column_iter_mut().skip(from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
