//! The fault suite: each case breaks something under load, mends it, and proves the invariants.
//!
//! `LOCKKEEPER_FAULTS=all` runs every case, else a fast subset runs; `LOCKKEEPER_FAULTS_ONLY=1,5` selects by number, and
//! a word on the command line by name. `LOCKKEEPER_FAULTS_SEED` repeats an earlier run's load and choices. The table is
//! also written to `target/faults/table.txt` and `table.json`.

mod cases;
mod load;
mod order;
mod report;
mod site;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

use futures_util::FutureExt;
use throwaway::servers::{Options, Servers};

use crate::cases::{Case, Subject};
use crate::report::{Report, Row, Verdict};
use crate::site::Site;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let words: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen: Vec<Case> = cases::all().into_iter().filter(|case| is_chosen(case, &words)).collect();
    if chosen.is_empty() {
        return ExitCode::SUCCESS;
    }
    let given = std::env::var("LOCKKEEPER_FAULTS_SEED").ok();
    let seed = given.map_or_else(|| rand::random_range(0..1_000_000_000), |seed| seed.parse().expect("a whole number"));
    println!("fault suite, LOCKKEEPER_FAULTS_SEED={seed}, {} cases", chosen.len());
    // The place of a failure is enough: the way to it leads through the runtime.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let report = runtime.block_on(run_all(chosen, seed));
    println!("{report}");
    report.write(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/target/faults")));
    if report.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn is_chosen(case: &Case, words: &[&String]) -> bool {
    if !words.is_empty() {
        return words.iter().any(|word| case.name.contains(word.as_str()));
    }
    match std::env::var("LOCKKEEPER_FAULTS_ONLY") {
        Ok(numbers) => numbers.split(',').any(|number| number.trim().parse() == Ok(case.number)),
        Err(_) => case.is_fast || std::env::var("LOCKKEEPER_FAULTS").is_ok_and(|which| which == "all"),
    }
}

/// Runs the cases one after the other. They share the database server and the lock nodes, which are mended after each.
async fn run_all(cases: Vec<Case>, seed: u64) -> Report {
    let mut servers = Servers::start(Options::default()).await.expect("the throwaway servers start");
    let mut report = Report::default();
    for case in cases {
        let seed = seed.wrapping_add(u64::from(case.number));
        let run = match case.subject {
            Subject::Case(run) => run,
            Subject::Absent(why) => {
                report.add(Row::absent(case.number, case.name, why));
                continue;
            }
        };
        let since = Instant::now();
        let mut site = Site::new(servers, seed).await;
        let story = async {
            run(&mut site).await;
            if site.not_run.is_none() {
                site.verify().await;
            }
        };
        let ended = AssertUnwindSafe(story).catch_unwind().await;
        let (recovery, duplicates) = (site.recovery, site.duplicates);
        let verdict = match ended {
            Ok(()) => site.not_run.take().map_or(Verdict::Pass, Verdict::NotRun),
            Err(panic) => Verdict::Failed(format!("{}\n{}", text(panic.as_ref()), site.last_lines())),
        };
        servers = site.leave().await;
        let (number, name) = (case.number, case.name.to_owned());
        report.add(Row { number, name, seed, duration: since.elapsed(), recovery, duplicates, verdict });
    }
    servers.stop().await;
    report
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
