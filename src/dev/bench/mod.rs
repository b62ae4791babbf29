//! `bench`: measures on throwaway servers, beside peers that run in the same minute on the same machine.
//!
//! A scenario is a file here with a function that returns a [`Report`]. What it measures is a [contender](contender::Contender): a process
//! that gets ready, is let go, and tells what it did. Contenders of a case take turns, round by round, so that whatever
//! else the machine does meets all of them; a [`Ratio`] is made of the two figures of one round.

mod about;
mod contender;
mod frozen;
mod locks;
mod numbers;
mod peers;
mod report;

use clap::{Args, Subcommand};

use self::frozen::Frozen;
use self::locks::Locks;
use self::numbers::{Ratio, Spread};
use self::report::Report;
use crate::cli::exit;

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Acquire and release per second of our locks and of rslock's, on healthy nodes and with one of three frozen
    Locks(Locks),
    /// Jobs per second of a daemon while one of three lock nodes, or two of five, are frozen
    Frozen(Frozen),
    /// Run as one contender of a scenario, told on standard input what to do
    #[command(hide = true)]
    Contend,
}

/// Measures a scenario; 0 when every bar is met, 1 when not, 130 after Ctrl-C.
pub async fn bench(arguments: Bench) -> anyhow::Result<u8> {
    let (report, json) = match arguments.scenario {
        Scenario::Contend => return locks::contend().await.map(|()| exit::OK),
        Scenario::Frozen(arguments) => (uninterrupted(frozen::frozen(&arguments)).await?, arguments.json),
        Scenario::Locks(arguments) => (uninterrupted(locks::locks(&arguments)).await?, arguments.json),
    };
    let Some(report) = report else {
        eprintln!("interrupted; the servers are gone");
        return Ok(super::INTERRUPTED);
    };
    println!("{}", if json { report.json() } else { report.text() });
    Ok(if report.passed() { exit::OK } else { exit::NO })
}

/// Runs a scenario until it is done or Ctrl-C.
async fn uninterrupted(scenario: impl Future<Output = anyhow::Result<Report>>) -> anyhow::Result<Option<Report>> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures say nothing about a release (make bench)");
    }
    tokio::select! {
        report = scenario => report.map(Some),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted.map(|()| None)?),
    }
}
