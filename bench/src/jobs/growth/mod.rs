//! `bench growth`: the jobs of `uniform` in a small shop, and with one thing at a time grown: events in the tables, daemons,
//! lock nodes, the backlog.
//!
//! Two databases on the same server are filled once, in the same way and with the same number of events per item. Before a
//! run what an earlier one has added is taken out of them again, so that every run finds the same tables. All cases are
//! measured in every round, the small one among them, and each is held against the small one of its own round.

mod case;
mod cold;
mod fill;
mod ground;
mod run;
mod sample;
mod table;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use self::case::Row;
use self::ground::Ground;
use self::run::Runs;
use super::backlog::ITEMS;
use super::cpu::pin::Cores;
use super::measure::Pace;
use super::site::Site;
use super::{progress, tell};
use crate::about::About;
use crate::{Report, Spread};

/// Events of each item in the small case.
const SMALL_HISTORY: u64 = 10;

/// The most lock nodes of any case.
const LOCK_NODES: usize = 5;

/// Arguments of `bench growth`.
#[derive(Clone, Debug, Args)]
pub struct Growth {
    /// How many rounds to measure; the cases take turns within each
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long everything is counted in one run
    #[arg(long, default_value_t = 10, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Events in the tables that have grown, at least two for each aggregate
    #[arg(long, default_value_t = 10_000_000, value_name = "N")]
    events: u64,
    /// Aggregates in the tables that have grown, more than the 1,000 of the small case
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    aggregates: u64,
    /// Entries at least in the backlog that has grown
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    backlog: usize,
    /// One round of short runs with a twentieth of the rows and entries, for a first look
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "events", "aggregates", "backlog"])]
    quick: bool,
    /// Let every process use every core; otherwise the database has one and everything else another
    #[arg(long)]
    unpinned: bool,
    /// Print everything as one line of JSON
    #[arg(long)]
    pub json: bool,
}

impl Growth {
    /// With what `--quick` stands for.
    fn settled(&self) -> Growth {
        let twentieth = |count: u64| count / 20;
        match self.quick {
            false => self.clone(),
            true => Growth {
                rounds: 1,
                seconds: 2,
                events: twentieth(self.events),
                aggregates: twentieth(self.aggregates),
                backlog: self.backlog / 20,
                ..self.clone()
            },
        }
    }

    fn pace(&self) -> Pace {
        // Pages of large tables have to be read before anything is warm.
        let warm_up = Duration::from_millis(if self.quick { 1_000 } else { 3_000 });
        Pace { warm_up, window: Duration::from_secs(self.seconds) }
    }

    fn check(&self) -> anyhow::Result<()> {
        let Growth { events, aggregates, .. } = *self;
        anyhow::ensure!(aggregates > ITEMS as u64, "--aggregates must be more than {ITEMS}");
        anyhow::ensure!(events / 2 >= aggregates, "--events must be at least twice --aggregates");
        Ok(())
    }
}

/// Measures every case and judges them by their bars.
pub async fn growth(arguments: &Growth) -> anyhow::Result<Report> {
    let arguments = arguments.settled();
    arguments.check()?;
    let mut about = About::here([]);
    let started = Instant::now();
    let cores = if arguments.unpinned { None } else { Cores::available() };
    let site = Site::bare(cores, Vec::new(), LOCK_NODES).await?;
    about.versions.extend(site.versions().await?);
    let small = Ground::new("small", ITEMS as u64 * SMALL_HISTORY, ITEMS as u64);
    let grown = Ground::new("grown", arguments.events, arguments.aggregates);
    let mut runs = Runs::new(site, small, grown, arguments.backlog).await?;
    let measured = measure(&mut runs, &arguments).await;
    let settings = match &measured {
        // The tables are filled by now, with the settings of a server that is filled; those of the runs are told.
        Ok(_) => runs.site.settings().await,
        Err(_) => Ok(Value::Null),
    };
    runs.stop().await?;
    let ((filled, rows), mut settings) = (measured?, settings?);
    let more = json!({
        "rounds": arguments.rounds, "seconds": arguments.seconds, "warm_up_ms": arguments.pace().warm_up.as_millis(),
        "items": ITEMS, "small_events": ITEMS as u64 * SMALL_HISTORY, "grown_events": arguments.events,
        "grown_aggregates": arguments.aggregates, "grown_backlog": arguments.backlog,
        "filled_in_seconds": filled.as_secs(), "took_seconds": started.elapsed().as_secs(),
        "audited_runs": rows.iter().map(|row| row.measured.len()).sum::<usize>(),
    });
    if let (Some(settings), Value::Object(more)) = (settings.as_object_mut(), more) {
        settings.extend(more);
    }
    let (ratios, table) = (case::bars(&rows), table::table(&rows));
    Ok(Report { scenario: "growth", about, settings, rows: json!({ "cases": rows }), ratios, table })
}

/// Fills the tables, then measures every case in every round. Also says how long the filling took.
async fn measure(runs: &mut Runs, arguments: &Growth) -> anyhow::Result<(Duration, Vec<Row>)> {
    let started = Instant::now();
    runs.fill().await?;
    let filled = started.elapsed();
    // The server must be as durable as ever before anything is measured.
    runs.site.settings().await?;
    let progress = progress(u64::from(arguments.rounds) * case::round(0).len() as u64);
    let row = |case| Row { case, jobs_per_second: Spread::of([]), measured: Vec::new() };
    let mut rows: Vec<Row> = case::round(0).into_iter().map(row).collect();
    for round in 0..arguments.rounds {
        for case in case::round(round) {
            progress.set_message(case.to_string());
            let measured = runs.throughput(case, arguments.pace()).await?;
            tell(&progress, &format!("round {} of {}: {case}: {measured}", round + 1, arguments.rounds));
            rows.iter_mut().filter(|row| row.case == case).for_each(|row| row.measured.push(measured.clone()));
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    for row in &mut rows {
        row.jobs_per_second = Spread::of(row.measured.iter().map(|measured| measured.jobs_per_second));
    }
    Ok((filled, rows))
}
