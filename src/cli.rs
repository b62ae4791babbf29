//! The command line: one arm, one call per command, and the exit codes.

mod check;
mod dead_letters;
mod enqueue;
mod load;
mod operator;
pub(crate) mod output;
mod prune;
mod scheduled;
mod show;
pub(crate) mod top;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tokio::runtime::Runtime;

use crate::app::{self, End, StartError};
use crate::config::{self, Config};
use crate::dev;
use crate::domain::shop::Shop;
use crate::lifecycle::Lifecycle;
use crate::projection;
use crate::reload;
use crate::store::{Applied, MigrateError, Sequence};
use crate::telemetry;

/// Jobs flow in on Redis streams, pass a lock per aggregate, and leave as events in MySQL: none lost, none applied twice.
///
/// First steps: `lockkeeper demo` shows it at work on throwaway servers, `lockkeeper dev` keeps such servers running, and
/// `lockkeeper check` looks at yours.
#[derive(Debug, Parser)]
#[command(name = "lockkeeper", version, propagate_version = true, max_term_width = 120)]
struct Cli {
    /// Configuration file; config/lockkeeper.toml in the source tree lists every key
    #[arg(long, global = true, value_name = "FILE", env = "LOCKKEEPER_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon until SIGTERM or SIGINT, then finish what is in flight
    Run,
    /// Apply pending migrations to the database
    Migrate(Migrate),
    /// Check the configuration and every server it names; exit 0 only when all is well
    Check(Json),
    /// Push jobs: one from arguments, or many as NDJSON on standard input
    Enqueue(enqueue::Enqueue),
    /// Show what became of a job: its receipt and its events
    Job {
        /// The job's id, as it was given to XADD
        id: String,
        #[command(flatten)]
        json: Json,
    },
    /// Show the history of an aggregate
    Events {
        /// The aggregate as TYPE/ID, such as item/pen
        #[arg(value_name = "AGGREGATE/ID")]
        aggregate: String,
        #[command(flatten)]
        json: Json,
    },
    /// List, show, requeue or drop jobs that could not be run
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
    /// List or cancel jobs that are not due yet
    #[command(subcommand)]
    Scheduled(scheduled::Scheduled),
    /// Delete old receipts, dead letters and reply streams
    Prune(prune::Prune),
    /// Watch a fleet: jobs, backlog, locks, dead letters, and what to do about what is wrong
    Top(top::Top),
    /// Sell limited stock to many buyers on throwaway servers, then audit the database and print a verdict
    Demo(dev::Demo),
    /// Keep throwaway servers and a daemon running until Ctrl-C, to try things out
    Dev(dev::Dev),
    /// Measure on throwaway servers, beside peers
    Bench(dev::Bench),
}

/// Arguments of `migrate`.
#[derive(Clone, Copy, Debug, Args)]
struct Migrate {
    /// Then make the sequence row say where the log ends, after a partial restore. No daemon may run meanwhile
    #[arg(long)]
    repair_sequence: bool,
}

/// Machine-readable output.
#[derive(Clone, Copy, Debug, Args)]
pub struct Json {
    /// Print JSON, one object per line
    #[arg(long)]
    pub json: bool,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Exit codes, after sysexits.h.
pub mod exit {
    /// All is well.
    pub const OK: u8 = 0;
    /// The command worked, and its answer is no.
    pub const NO: u8 = 1;
    /// The arguments are wrong.
    pub const USAGE: u8 = 64;
    /// A server is unavailable.
    pub const UNAVAILABLE: u8 = 69;
    /// A loop ended or panicked.
    pub const BROKEN: u8 = 70;
    /// The output could not be written.
    pub const OUTPUT: u8 = 74;
    /// The time for draining ran out.
    pub const OVERRUN: u8 = 75;
    /// A grant or a right is missing.
    pub const DENIED: u8 = 77;
    /// The configuration, the schema or the topology is wrong.
    pub const CONFIG: u8 = 78;
}

/// A command that failed: what to print, and the exit code.
#[derive(Debug)]
pub struct Failed {
    code: u8,
    text: String,
}

impl Failed {
    /// Fails with this code and text.
    pub fn new(code: u8, text: impl ToString) -> Self {
        Self { code, text: text.to_string() }
    }
}

impl From<StartError> for Failed {
    fn from(error: StartError) -> Self {
        let code = match &error {
            StartError::Unavailable(_) => exit::UNAVAILABLE,
            StartError::Denied(_) => exit::DENIED,
            StartError::Refused(_) => exit::CONFIG,
        };
        Self::new(code, error)
    }
}

/// What [`dev`] fails with: its servers, or its output.
impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<output::Unwritten>() {
            Ok(why) => why.into(),
            Err(error) => Self::new(exit::UNAVAILABLE, format!("{error:#}")),
        }
    }
}

impl From<MigrateError> for Failed {
    fn from(error: MigrateError) -> Self {
        StartError::from(error).into()
    }
}

impl From<crate::store::StoreError> for Failed {
    fn from(error: crate::store::StoreError) -> Self {
        StartError::from(error).into()
    }
}

impl From<crate::stream::BrokerError> for Failed {
    fn from(error: crate::stream::BrokerError) -> Self {
        StartError::from(error).into()
    }
}

/// Runs the command that `arguments` name and returns the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => {
            // There is nobody left to be told when this cannot be written.
            let _ = error.print();
            return exit::USAGE;
        }
        Err(help) => {
            return ended(help.print().map(|()| exit::OK).map_err(|error| output::Unwritten::from(error).into()));
        }
    };
    ended(
        Cli::from_arg_matches(&matches)
            .map_err(|error| Failed::new(exit::USAGE, error))
            .and_then(|cli| finish(|runtime| runtime.block_on(run(cli, &matches)))),
    )
}

/// The exit code, after whatever there is to say.
fn ended(result: Result<u8, Failed>) -> u8 {
    match result {
        Ok(code) => code,
        Err(Failed { code, text }) => {
            text.lines().for_each(|line| output::notice(format_args!("lockkeeper: {line}")));
            code
        }
    }
}

/// Runs a command to its end and leaves without waiting for threads that are stuck, as with a name server that is silent. A
/// panic has told what happened, and is an end like others.
fn finish(command: impl FnOnce(&Runtime) -> Result<u8, Failed>) -> Result<u8, Failed> {
    let runtime = runtime()?;
    let result = catch_unwind(AssertUnwindSafe(|| command(&runtime)));
    runtime.shutdown_background();
    result.unwrap_or_else(|_| Err(Failed::new(exit::BROKEN, "this is a bug in lockkeeper: see the message above")))
}

/// The commands, with a flag for every key of the configuration.
fn command() -> clap::Command {
    let flags = config::KEYS.iter().map(|key| {
        Arg::new(key.path)
            .long(key.flag_name())
            .value_name("VALUE")
            .help(key.help)
            .help_heading("Configuration (flags over environment over file over defaults)")
            .global(true)
            .hide_short_help(true)
    });
    Cli::command().args(flags)
}

fn runtime() -> Result<Runtime, Failed> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::new(exit::BROKEN, format!("no runtime: {error}")))
}

async fn run(cli: Cli, matches: &ArgMatches) -> Result<u8, Failed> {
    let load = || load::config(cli.config.as_deref(), matches);
    match cli.command {
        Command::Run => daemon(&load()?, load).await,
        Command::Migrate(arguments) => migrate(&load()?, arguments).await,
        Command::Check(json) => check::check(&load()?, json.json).await,
        Command::Enqueue(jobs) => enqueue::enqueue(&load()?, jobs).await,
        Command::Job { id, json } => show::job(&load()?, &id, json.json).await,
        Command::Events { aggregate, json } => show::events(&load()?, &aggregate, json.json).await,
        Command::DeadLetters(command) => dead_letters::run(&load()?, command).await,
        Command::Scheduled(command) => scheduled::run(&load()?, command).await,
        Command::Prune(bounds) => prune::prune(&load()?, &bounds).await,
        Command::Top(top) => top::top(top, || load::listen(cli.config.as_deref(), matches)).await,
        Command::Demo(demo) => Ok(dev::demo(demo).await?),
        Command::Dev(dev) => Ok(dev::dev(dev).await?),
        Command::Bench(bench) => Ok(dev::bench(bench).await?),
    }
}

async fn daemon(config: &Config, load: impl Fn() -> Result<Config, Failed>) -> Result<u8, Failed> {
    let logs =
        telemetry::start(&config.log.level, config.log.format).map_err(|error| Failed::new(exit::CONFIG, error))?;
    let lifecycle = Lifecycle::default();
    let signals = crate::signals::listen(lifecycle.clone()).map_err(|error| Failed::new(exit::BROKEN, error))?;
    let end = tokio::select! {
        end = app::run::<Shop>(config, projection::shop(), lifecycle.clone()) => end?,
        // It never returns.
        () = reload::watch(&lifecycle, &logs, config.clone(), load) => End::Broken,
        // A signal before everything is connected has nothing to drain.
        () = lifecycle.reached(crate::lifecycle::Phase::Aborting) => End::Aborted,
    };
    Ok(match end {
        End::Drained => exit::OK,
        End::Overrun => exit::OVERRUN,
        End::Broken => exit::BROKEN,
        End::Aborted => signals.exit_code(),
    })
}

async fn migrate(config: &Config, arguments: Migrate) -> Result<u8, Failed> {
    let store = app::store(config).await?.only_to_write();
    let told = |Applied { version, name, was_begun }| {
        let end = if was_begun { "is finished, which an earlier attempt had left half done" } else { "is applied" };
        Ok::<_, Failed>(output::told(format_args!("migration {version} ({name}) {end}"))?)
    };
    store.migrate_telling(told).await?;
    output::told("the schema is current")?;
    if arguments.repair_sequence {
        let Sequence { row, log } = store.repair_sequence().await?;
        output::told(match row {
            Some(row) if row == log => format!("the sequence row was right: the log ends at {log}"),
            Some(row) => format!("the sequence row said {row}, and says {log} now, where the log ends"),
            None => format!("the sequence row was not there, and says {log} now, where the log ends"),
        })?;
    }
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_has_a_flag_for_every_key() {
        let command = command();
        command.clone().debug_assert();
        for key in config::KEYS {
            assert!(command.get_arguments().any(|flag| flag.get_long() == Some(&key.flag_name())), "{}", key.path);
        }
    }

    #[test]
    fn wrong_arguments_are_a_usage_error_and_help_is_none() {
        assert_eq!(main(["lockkeeper", "fly"].map(OsString::from)), exit::USAGE);
        assert_eq!(main(["lockkeeper", "--help"].map(OsString::from)), exit::OK);
    }
}
