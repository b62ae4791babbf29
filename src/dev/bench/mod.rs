//! `bench`: measures on throwaway servers, beside peers that run in the same minute on the same machine.
//!
//! A scenario is a file here with a function that returns a [`Report`]. What it measures is a [contender](contender::Contender): a process
//! that gets ready, is let go, and tells what it did. Contenders of a case take turns, round by round, so that whatever
//! else the machine does meets all of them; a [`Ratio`] is made of the two figures of one round.

mod about;
mod contender;
mod frozen;
mod jobs;
mod locks;
mod numbers;
mod peers;
mod report;

use clap::{Args, Subcommand};

use self::frozen::Frozen;
use self::jobs::{Growth, Jobs, Scenario};
use self::locks::Locks;
use self::numbers::{Ratio, Spread};
use self::report::Report;
use crate::cli::{exit, output};

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Jobs per second over a thousand items, beside the original stack, a plain Rust worker and the database's own limit
    Uniform(Jobs),
    /// The same on one item
    Hot(Jobs),
    /// The same with orders of three items
    Orders(Jobs),
    /// The same with items of which few are wanted often
    Zipf(Jobs),
    /// How long a job takes, from when it is due to its outcome, at 500 and 2,000 jobs per second
    Latency(Jobs),
    /// All of these and `locks`, one after the other
    All(Jobs),
    /// Jobs per second while one thing at a time has grown: events, daemons, lock nodes, the backlog
    Growth(Growth),
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
    let of = async |name, scenarios: &[Scenario], arguments: Jobs| {
        anyhow::Ok((uninterrupted(jobs::jobs(name, scenarios, &arguments)).await?, arguments.json))
    };
    let (report, json) = match arguments.command {
        Command::Contend => return locks::contend().await.map(|()| exit::OK),
        Command::Uniform(arguments) => of("uniform", &[Scenario::Uniform], arguments).await?,
        Command::Hot(arguments) => of("hot", &[Scenario::Hot], arguments).await?,
        Command::Orders(arguments) => of("orders", &[Scenario::Orders], arguments).await?,
        Command::Zipf(arguments) => of("zipf", &[Scenario::Zipf], arguments).await?,
        Command::Latency(arguments) => of("latency", &[Scenario::Latency], arguments).await?,
        Command::All(arguments) => (uninterrupted(all(&arguments)).await?, arguments.json),
        Command::Growth(arguments) => (uninterrupted(jobs::growth(&arguments)).await?, arguments.json),
        Command::Frozen(arguments) => (uninterrupted(frozen::frozen(&arguments)).await?, arguments.json),
        Command::Locks(arguments) => (uninterrupted(locks::locks(&arguments)).await?, arguments.json),
    };
    let Some(report) = report else {
        output::notice("interrupted; the servers are gone");
        return Ok(super::INTERRUPTED);
    };
    output::told(if json { report.json() } else { report.text() })?;
    Ok(if report.passed() { exit::OK } else { exit::NO })
}

/// Every scenario with whole jobs, then the locks by themselves, which have no database to be kept apart from.
async fn all(arguments: &Jobs) -> anyhow::Result<Report> {
    let scenarios = [Scenario::Uniform, Scenario::Hot, Scenario::Orders, Scenario::Zipf, Scenario::Latency];
    let report = jobs::jobs("all", &scenarios, arguments).await?;
    let locks = locks::locks(&Locks::beside(arguments.peers.clone(), arguments.quick)).await?;
    Ok(report.and(locks))
}

/// Runs a scenario until it is done or Ctrl-C.
async fn uninterrupted(scenario: impl Future<Output = anyhow::Result<Report>>) -> anyhow::Result<Option<Report>> {
    if cfg!(debug_assertions) {
        output::notice("this is a debug build: its figures say nothing about a release (make bench)");
    }
    tokio::select! {
        report = scenario => report.map(Some),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted.map(|()| None)?),
    }
}
