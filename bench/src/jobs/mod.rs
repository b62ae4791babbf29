//! `bench uniform`, `hot`, `orders`, `zipf`, `latency` and `all`: whole jobs, from the stream to the commit, beside peers
//! that write the same rows.
//!
//! One set of servers serves all contenders, one after the other, each from the same state on. A backlog that outlasts the
//! run is there before a contender begins, so what is measured is what it can do; `latency` asks instead how long a job
//! takes at a rate that a contender can keep. What every run leaves is audited.

mod backlog;
mod bars;
mod calibrate;
mod cases;
mod contenders;
mod cpu;
mod floor;
mod growth;
mod latency;
mod log;
mod measure;
mod site;
mod standby;
mod table;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};

use self::backlog::ITEMS;
pub use self::backlog::Scenario;
use self::calibrate::Calibration;
use self::cases::Case;
use self::contenders::{Tuning, Who};
use self::cpu::pin::Cores;
pub use self::growth::{Growth, growth};
use self::measure::{Bench, Measured, Pace};
use self::site::Site;
use super::about::About;
use super::peers::Peers;
use super::{Report, Spread};

/// Arguments of the scenarios with whole jobs.
#[derive(Clone, Debug, Args)]
pub struct Jobs {
    /// How many rounds to measure; contenders take turns within each
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long everything is counted in one run
    #[arg(long, default_value_t = 5, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// One round of short runs, for a first look
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    pub quick: bool,
    /// Let every process use every core; otherwise the database has one and everything else another
    #[arg(long)]
    unpinned: bool,
    /// Measure these contenders only
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<Who>,
    /// Where the peers' sources are
    #[arg(long, default_value = "bench/peers", value_name = "DIR")]
    pub peers: PathBuf,
    /// Print everything as one line of JSON
    #[arg(long)]
    pub json: bool,
}

impl Jobs {
    fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }

    fn pace(&self) -> Pace {
        match self.quick {
            true => Pace { warm_up: Duration::from_secs(1), window: Duration::from_secs(2) },
            false => Pace { warm_up: Duration::from_millis(1_500), window: Duration::from_secs(self.seconds) },
        }
    }
}

/// A case in all rounds.
#[derive(Clone, Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    case: Case,
    tuning: Option<Tuning>,
    jobs_per_second: Spread,
    /// One for each round.
    measured: Vec<Measured>,
}

/// Measures these scenarios and judges them by their bars.
pub async fn jobs(name: &'static str, scenarios: &[Scenario], arguments: &Jobs) -> anyhow::Result<Report> {
    let round = |number| cases::round(scenarios, &arguments.only, arguments.quick, number);
    report(name, &round, arguments).await
}

/// Measures fleets of one, two and four daemons on one stream.
pub async fn fleet(arguments: &Jobs) -> anyhow::Result<Report> {
    let mut fleet = report("fleet", &|number| cases::fleet(&arguments.only, number), arguments).await?;
    let site = Site::start(None).await?;
    let mut bench = Bench::new(site, Peers::find(&arguments.peers, false, false).await?);
    let mut watched = Vec::new();
    for _ in 0..arguments.rounds() {
        watched.push(bench.standby().await?);
    }
    bench.site.stop().await?;
    fleet.ratios.extend(bars::standby(&watched));
    fleet.rows["standby"] = json!(watched);
    Ok(fleet)
}

/// Measures what readers of the log cost those who write, and how fast one catches up.
pub async fn log(arguments: &Jobs) -> anyhow::Result<Report> {
    let mut report = report("log", &|number| cases::log(&arguments.only, number), arguments).await?;
    let site = Site::start(Cores::available()).await?;
    let mut bench = Bench::new(site, Peers::find(&arguments.peers, false, false).await?);
    let (mut rates, mut filled) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds() {
        rates.push(bench.catch_up(arguments.quick).await?);
        filled.push(bench.fill().await?);
    }
    bench.site.stop().await?;
    report.ratios.push(log::bar(&rates));
    report.ratios.push(log::rebuild::bar(&filled));
    report.rows["rebuild"] = json!(filled);
    report.rows["catch_up_events_per_second"] = json!(rates);
    Ok(report)
}

/// The cases of the round of this number.
type Round<'a> = &'a dyn Fn(u32) -> Vec<Case>;

async fn report(name: &'static str, round: Round<'_>, arguments: &Jobs) -> anyhow::Result<Report> {
    let cores = if arguments.unpinned { None } else { Cores::available() };
    let wanted = round(0);
    let has = |some: &[Who]| wanted.iter().any(|case| some.contains(&case.who));
    let peers = Peers::find(&arguments.peers, has(&[Who::Rust, Who::Limit]), has(&[Who::Original])).await?;
    let mut about = About::here(peers.versions.clone());
    let started = Instant::now();
    let site = Site::start(cores).await?;
    about.versions.extend(site.versions().await?);
    let mut settings = site.settings().await?;
    let mut bench = Bench::new(site, peers);
    let result = measure(&mut bench, round, arguments).await;
    bench.site.stop().await?;
    let (calibration, rows) = result?;
    let more = json!({
        "rounds": arguments.rounds(), "seconds": arguments.pace().window.as_secs(),
        "warm_up_ms": arguments.pace().warm_up.as_millis(), "items": ITEMS,
        "took_seconds": started.elapsed().as_secs(), "audited_runs": rows.iter().map(|row| row.measured.len()).sum::<usize>(),
    });
    if let (Some(settings), Value::Object(more)) = (settings.as_object_mut(), more) {
        settings.extend(more);
    }
    let table = table::tables(&rows, &calibration);
    let ratios = bars::bars(&rows, arguments.unpinned);
    let rows = json!({ "cases": rows, "calibration": calibration });
    Ok(Report { scenario: name, about, settings, rows, ratios, table })
}

async fn measure(bench: &mut Bench, cases: Round<'_>, arguments: &Jobs) -> anyhow::Result<(Calibration, Vec<Row>)> {
    let first = cases(0);
    let progress = progress(u64::from(arguments.rounds()) * first.len() as u64);
    let calibration = Calibration::run(bench, &first, arguments.quick, &progress).await?;
    let mut rows: Vec<Row> = Vec::new();
    for case in &first {
        let tuning = calibration.tuning(case.scenario, case.who);
        rows.push(Row { case: *case, tuning, jobs_per_second: Spread::of([]), measured: Vec::new() });
    }
    for round in 0..arguments.rounds() {
        for case in cases(round) {
            progress.set_message(case.to_string());
            let tuning = calibration.tuning(case.scenario, case.who).unwrap_or_default();
            let measured = match case.rate {
                None => bench.throughput((case.scenario, case.who), tuning, arguments.pace()).await?,
                Some(rate) => bench.latency(case.who, tuning, rate, arguments.pace()).await?,
            };
            tell(&progress, &format!("round {} of {}: {case}: {measured}", round + 1, arguments.rounds()));
            rows.iter_mut().filter(|row| row.case == case).for_each(|row| row.measured.push(measured.clone()));
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    for row in &mut rows {
        row.jobs_per_second = Spread::of(row.measured.iter().map(|measured| measured.jobs_per_second));
    }
    Ok((calibration, rows))
}

/// A bar on a terminal; hidden elsewhere.
fn progress(runs: u64) -> ProgressBar {
    let bar = ProgressBar::new(runs);
    match ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Tells of a run where there is no bar.
fn tell(progress: &ProgressBar, text: &str) {
    if progress.is_hidden() {
        lockkeeper::cli::output::notice(text);
    }
}
