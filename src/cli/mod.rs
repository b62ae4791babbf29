//! The command line: one arm, one call per command, and the exit codes.

mod arguments;
mod audit;
mod check;
mod dead_letters;
mod enqueue;
mod failed;
mod load;
mod log;
mod operator;
pub mod output;
mod projections;
mod prune;
mod scheduled;
mod schema;
mod streams;
mod subscriptions;
mod top;

use std::convert::Infallible;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tokio::runtime::Runtime;

use arguments::Json;
pub use failed::Failed;

pub use crate::exit::Exit;

use crate::audit::Promises;
use crate::config::{self, Config};
use crate::daemon::{self, End, ReadModels};
use crate::domain::Domain;
use crate::lifecycle::Lifecycle;
use crate::rebuild::{self, Adopted, Models};
use crate::reload;
use crate::store::{Applied, Sequence};
use crate::telemetry;

/// Jobs flow in on Redis streams, pass a lock per aggregate, and leave as events in MySQL: none lost, none applied twice.
///
/// First steps: `lockkeeper demo` shows it at work on throwaway servers, `lockkeeper dev` keeps such servers running, and
/// `lockkeeper check` looks at yours.
#[derive(Debug, Parser)]
#[command(name = "lockkeeper", version, propagate_version = true, max_term_width = 120)]
struct Cli<O: Subcommand> {
    /// Configuration file; config/lockkeeper.toml in the source tree lists every key
    #[arg(long, global = true, value_name = "FILE", env = "LOCKKEEPER_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command<O>,
}

#[derive(Debug, Subcommand)]
enum Command<O: Subcommand> {
    /// Run the daemon until SIGTERM or SIGINT, then finish what is in flight
    Run(Run),
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
    /// Show the history of an aggregate, or the log: from any moment on, and as it grows
    Events(log::events::Events),
    /// Show what an aggregate's events add up to, now or at any moment before, and what has changed since
    #[command(disable_version_flag = true)]
    State(log::state::State),
    /// List, show, requeue or drop jobs that could not be run
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
    /// List or cancel jobs that are not due yet
    #[command(subcommand)]
    Scheduled(scheduled::Scheduled),
    /// List, pause or resume streams
    #[command(subcommand)]
    Streams(streams::StreamsCommand),
    /// List, pause or resume readers of the log
    #[command(subcommand)]
    Subscriptions(subscriptions::SubscriptionsCommand),
    /// List, rebuild, compare, show or let go builds of read models
    #[command(subcommand)]
    Projections(projections::ProjectionsCommand),
    /// Delete old receipts, dead letters and reply streams
    Prune(prune::Prune),
    /// Watch a fleet: jobs, backlog, locks, dead letters, and what to do about what is wrong
    Top(top::Top),
    /// Check every promise that the database's tables can show; exit 0 when all are kept, 1 when not
    Audit(audit::Audit),
    /// Print JSON Schema of every job, event and reply
    Schema(schema::Schema),
    /// Show every event type: which versions of its schema this program reads and writes, and which the log may have
    Schemas(Json),
    #[command(flatten)]
    Own(O),
}

/// Arguments of `run`.
#[derive(Clone, Copy, Debug, Args)]
struct Run {
    /// Run although a newer program was started on this log, whose events this one may not read: their aggregates' jobs wait
    #[arg(long)]
    despite_schemas: bool,
}

/// Arguments of `migrate`.
#[derive(Clone, Copy, Debug, Args)]
struct Migrate {
    /// Then make the sequence row say where the log ends, after a partial restore. No daemon may run meanwhile
    #[arg(long)]
    repair_sequence: bool,
}

/// A program: a domain, what belongs to it, and every command of an operator.
pub struct Program<D: Domain> {
    /// Its read models and their tables.
    pub read_models: fn() -> ReadModels<D>,
    /// Its part of an audit.
    pub promises: fn() -> Box<dyn Promises<D>>,
}

/// Commands of a program of its own, beside those of every program.
pub trait Own: Subcommand + std::fmt::Debug {
    /// Runs the command and returns the exit code.
    fn run(self) -> impl Future<Output = Result<u8, Failed>>;
}

/// No command of its own.
impl Own for Infallible {
    async fn run(self) -> Result<u8, Failed> {
        match self {}
    }
}

/// Runs the command that `arguments` name and returns the exit code.
pub fn main<D: Domain, O: Own>(program: &Program<D>, arguments: impl IntoIterator<Item = OsString>) -> u8 {
    // Threads inherit what is blocked, so it comes before the first of them.
    crate::signals::unblock();
    let matches = match command::<O>().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => {
            // There is nobody left to be told when this cannot be written.
            let _ = error.print();
            return Exit::USAGE;
        }
        Err(help) => {
            return ended(help.print().map(|()| Exit::OK).map_err(|error| output::Unwritten::from(error).into()));
        }
    };
    ended(
        Cli::<O>::from_arg_matches(&matches)
            .map_err(|error| Failed::new(Exit::USAGE, error))
            .and_then(|cli| finish(|runtime| runtime.block_on(run(program, cli, &matches)))),
    )
}

/// The exit code of a command that has ended, after whatever there is to say.
pub fn ended(result: Result<u8, Failed>) -> u8 {
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
    result.unwrap_or_else(|_| Err(Failed::new(Exit::BROKEN, "this is a bug in lockkeeper: see the message above")))
}

/// The commands, with a flag for every key of the configuration.
fn command<O: Subcommand>() -> clap::Command {
    let flags = config::KEYS.iter().map(|key| {
        Arg::new(key.path)
            .long(key.flag_name())
            .value_name("VALUE")
            .help(key.help)
            .help_heading("Configuration (flags over environment over file over defaults)")
            .global(true)
            .hide_short_help(true)
    });
    Cli::<O>::command().args(flags)
}

fn runtime() -> Result<Runtime, Failed> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::new(Exit::BROKEN, format!("no runtime: {error}")))
}

async fn run<D: Domain, O: Own>(program: &Program<D>, cli: Cli<O>, matches: &ArgMatches) -> Result<u8, Failed> {
    let load = || load::config(cli.config.as_deref(), matches);
    match cli.command {
        Command::Run(Run { despite_schemas }) => {
            let load = || Ok(Config { despite_schemas, ..load()? });
            daemon(program, &load()?, load).await
        }
        Command::Migrate(arguments) => migrate(program, &load()?, arguments).await,
        Command::Check(json) => check::check::<D>(&load()?, &(program.read_models)(), json.json).await,
        Command::Enqueue(jobs) => enqueue::enqueue::<D>(&load()?, jobs).await,
        Command::Job { id, json } => log::job::job(&load()?, &id, json.json).await,
        Command::Events(arguments) => log::events::events(&load()?, arguments).await,
        Command::State(arguments) => log::state::state::<D>(&load()?, arguments).await,
        Command::DeadLetters(command) => dead_letters::run(&load()?, command).await,
        Command::Scheduled(command) => scheduled::run(&load()?, command).await,
        Command::Streams(command) => streams::run(&load()?, command).await,
        Command::Subscriptions(command) => subscriptions::run(&load()?, (program.read_models)(), command).await,
        Command::Projections(command) => projections::run(&load()?, (program.read_models)(), command).await,
        Command::Prune(bounds) => prune::prune(&load()?, &bounds).await,
        Command::Top(top) => top::top(top, || load::listen(cli.config.as_deref(), matches)).await,
        Command::Audit(arguments) => audit::audit(&load()?, (program.promises)(), arguments).await,
        Command::Schema(arguments) => schema::schema::<D>(&arguments),
        Command::Schemas(json) => log::schemas::schemas::<D>(&load()?, json.json).await,
        Command::Own(own) => own.run().await,
    }
}

async fn daemon<D: Domain>(
    program: &Program<D>,
    config: &Config,
    load: impl Fn() -> Result<Config, Failed>,
) -> Result<u8, Failed> {
    let logs =
        telemetry::start(&config.log.level, config.log.format).map_err(|error| Failed::new(Exit::CONFIG, error))?;
    let lifecycle = Lifecycle::default();
    let signals = crate::signals::listen(lifecycle.clone()).map_err(|error| Failed::new(Exit::BROKEN, error))?;
    let end = tokio::select! {
        end = daemon::run(config, (program.read_models)(), lifecycle.clone()) => end?,
        // It never returns.
        () = reload::watch(&lifecycle, &logs, config.clone(), load) => End::Broken,
        // A signal before everything is connected has nothing to drain.
        () = lifecycle.reached(crate::lifecycle::Phase::Aborting) => End::Aborted,
    };
    Ok(match end {
        End::Drained => Exit::OK,
        End::Overrun => Exit::OVERRUN,
        End::Broken => Exit::BROKEN,
        End::Aborted => signals.exit_code(),
    })
}

async fn migrate<D: Domain>(program: &Program<D>, config: &Config, arguments: Migrate) -> Result<u8, Failed> {
    let ReadModels { projections, log_projections, migrations } = (program.read_models)();
    let store = daemon::store(config).await?.with_migrations(migrations).only_to_write();
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
    for adopted in rebuild::adopt(&store, Models { states: &projections, log: &log_projections }).await? {
        output::told(match adopted {
            Adopted::Table(name) => format!("{name}: its table is its first build, and the name a view that shows it"),
            Adopted::New(name) => format!("{name}: it has an empty table"),
            Adopted::Missing(name) => {
                format!(
                    "{name}: the log has events, and no rows of them: `lockkeeper projections rebuild {name}` fills it"
                )
            }
        })?;
    }
    Ok(Exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::LogOnly;
    use crate::testing::account::Accounts;

    fn run_it(arguments: [&str; 2]) -> u8 {
        let program = Program::<Accounts> { read_models: ReadModels::default, promises: || Box::new(LogOnly) };
        main::<_, Infallible>(&program, arguments.map(OsString::from))
    }

    #[test]
    fn the_command_line_is_sound_and_has_a_flag_for_every_key() {
        let command = command::<Infallible>();
        command.clone().debug_assert();
        for key in config::KEYS {
            assert!(command.get_arguments().any(|flag| flag.get_long() == Some(&key.flag_name())), "{}", key.path);
        }
    }

    #[test]
    fn wrong_arguments_are_a_usage_error_and_help_is_none() {
        assert_eq!(run_it(["lockkeeper", "fly"]), Exit::USAGE);
        assert_eq!(run_it(["lockkeeper", "--help"]), Exit::OK);
    }
}
