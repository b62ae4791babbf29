//! `lockkeeper-bench`: measures the `lockkeeper` beside it on throwaway servers, beside peers that run in the same minute on
//! the same machine. `lockkeeper bench` runs it.
//!
//! A scenario is a file here with a function that returns a [`Report`]. What it measures is a [contender](contender::Contender): a process
//! that gets ready, is let go, and tells what it did. Contenders of a case take turns, round by round, so that whatever
//! else the machine does meets all of them; a [`Ratio`] is made of the two figures of one round.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

mod about;
mod contender;
mod frozen;
mod jobs;
mod locks;
mod numbers;
mod peers;
mod report;
/// The floor and what fills a large database write what the shop writes. It is part of a program, which no crate can depend on.
#[allow(dead_code)]
#[path = "../../src/bin/lockkeeper/shop/mod.rs"]
mod shop;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};

use self::frozen::Frozen;
use self::jobs::{Growth, Jobs, Scenario};
use self::locks::Locks;
use self::numbers::{Ratio, Spread};
use self::report::Report;
use lockkeeper::cli::Exit;
use lockkeeper::cli::{self, output};

/// The program's own, since our locks are timed in this one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code after Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Measure on throwaway servers, beside peers.
#[derive(Debug, Parser)]
#[command(name = "lockkeeper bench", version, disable_help_subcommand = true)]
struct Bench {
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
    /// Jobs per second and latency of one daemon, and of two and four on the same stream
    Fleet(Jobs),
    /// What readers of the log cost those who write, and how fast one catches up that begins with the first event
    Log(Jobs),
    /// All but `fleet`, `log`, `growth` and `frozen`, one after the other
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

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Bench::try_parse() {
        Ok(arguments) => bench(arguments).await,
        Err(error) if error.use_stderr() => {
            // There is nobody left to be told when this cannot be written.
            let _ = error.print();
            return ExitCode::from(Exit::USAGE);
        }
        Err(help) => help.print().map(|()| Exit::OK).map_err(|error| output::Unwritten::from(error).into()),
    };
    ExitCode::from(cli::ended(done.map_err(cli::Failed::from)))
}

/// The program that is measured: the `lockkeeper` beside this one.
fn daemon_program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this program's own file cannot be found")?;
    let program = own.with_file_name("lockkeeper");
    ensure!(program.is_file(), "{} is not there: it is what is measured (cargo build --release)", program.display());
    Ok(program)
}

/// Measures a scenario; 0 when every bar is met, 1 when not, 130 after Ctrl-C.
async fn bench(arguments: Bench) -> anyhow::Result<u8> {
    let of = async |name, scenarios: &[Scenario], arguments: Jobs| {
        anyhow::Ok((uninterrupted(jobs::jobs(name, scenarios, &arguments)).await?, arguments.json))
    };
    let (report, json) = match arguments.command {
        Command::Contend => return locks::contend().await.map(|()| Exit::OK),
        Command::Uniform(arguments) => of("uniform", &[Scenario::Uniform], arguments).await?,
        Command::Hot(arguments) => of("hot", &[Scenario::Hot], arguments).await?,
        Command::Orders(arguments) => of("orders", &[Scenario::Orders], arguments).await?,
        Command::Zipf(arguments) => of("zipf", &[Scenario::Zipf], arguments).await?,
        Command::Latency(arguments) => of("latency", &[Scenario::Latency], arguments).await?,
        Command::Log(arguments) => (uninterrupted(jobs::log(&arguments)).await?, arguments.json),
        Command::Fleet(arguments) => (uninterrupted(jobs::fleet(&arguments)).await?, arguments.json),
        Command::All(arguments) => (uninterrupted(all(&arguments)).await?, arguments.json),
        Command::Growth(arguments) => (uninterrupted(jobs::growth(&arguments)).await?, arguments.json),
        Command::Frozen(arguments) => (uninterrupted(frozen::frozen(&arguments)).await?, arguments.json),
        Command::Locks(arguments) => (uninterrupted(locks::locks(&arguments)).await?, arguments.json),
    };
    let Some(report) = report else {
        output::notice("interrupted; the servers are gone");
        return Ok(INTERRUPTED);
    };
    output::told(if json { report.json() } else { report.text() })?;
    Ok(if report.passed() { Exit::OK } else { Exit::NO })
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
