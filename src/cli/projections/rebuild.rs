//! `projections rebuild`: from nothing to what is shown.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::show::show;
use crate::cli::arguments::Json;
use crate::cli::failed::Failed;
use crate::cli::operator::safe;
use crate::cli::output::{notice, told};
use crate::config::Config;
use crate::daemon;
use crate::domain::Domain;
use crate::exit::Exit;
use crate::projection::next_build;
use crate::rebuild::{Code, Fill, Models, Problem, Progress, finish, label, strangers};
use crate::store::sql::Tables;
use crate::store::{Alone, Build, BuildState, Checkpoint, Store};

/// Arguments of `projections rebuild`.
#[derive(Debug, Args)]
pub struct Rebuild {
    /// The read model
    name: String,
    /// Do it; without, only tell what would be done
    #[arg(long)]
    yes: bool,
    /// Do not show it when it is complete: `projections switch` does that later
    #[arg(long)]
    no_switch: bool,
    /// Rest for as long as it works, so that those who write have more of the database
    #[arg(long)]
    gentle: bool,
    /// About how many MiB the states may take that are remembered; with fewer, more are read again, which only takes longer
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    memory: u32,
    /// No daemon runs: nobody has to say first that it can write the build
    #[arg(long)]
    unattended: bool,
    #[command(flatten)]
    json: Json,
}

/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(2);

/// For how long whoever fills a build may be silent before somebody else goes on with it.
const SILENCE: Duration = Duration::from_secs(3);

/// Fills a build and has it shown.
pub async fn rebuild<D: Domain>(
    config: &Config,
    store: &Store,
    models: Models<'_, D>,
    arguments: Rebuild,
) -> Result<u8, Failed> {
    let newest = models.newest();
    let Some(code) = newest.iter().copied().find(|code| code.name() == arguments.name) else {
        let known: Vec<_> = newest.iter().map(Code::name).collect();
        let text = format!(
            "there is no read model {} whose tables are described; there are: {}",
            arguments.name,
            known.join(", ")
        );
        return Err(Failed::new(Exit::NO, text));
    };
    if !arguments.yes {
        return plan(store, code, arguments.json).await;
    }
    if !arguments.unattended {
        all_compare(config).await?;
    }
    let build = begin(store, code).await?;
    let checkpoint = take(store, &build).await?;
    let server = store.server().await?;
    let token = checkpoint.token.unwrap_or_default();
    let place = (token, checkpoint.position);
    let memory = (arguments.memory as usize) << 20;
    let began = Instant::now();
    let fill = Fill::new((store, server.max_packet), (code, build.build), place, (memory, arguments.gentle));
    let mut progress = Told::new(&build);
    let held = finish(fill, arguments.unattended, |now| progress.tell(now))
        .await
        .map_err(|problem| stopped(&build, problem))?;
    let (seconds, events) = (began.elapsed().as_secs_f64(), progress.events(checkpoint.position));
    let (_, builds) = store.builds().await?;
    let build = builds.into_iter().find(|one| label(one) == label(&build)).unwrap_or(build);
    let before = if arguments.no_switch { None } else { show(store, code, &build).await? };
    if arguments.json.json {
        let state = if arguments.no_switch { BuildState::Ready } else { BuildState::Shown };
        told(json!({
            "projection": build.name, "build": build.build, "version": build.version, "state": state.as_str(),
            "events": events, "seconds": seconds, "held_ms": held, "kept": before,
        }))?;
        return Ok(Exit::OK);
    }
    let rate = events as f64 / seconds.max(0.001);
    told(format_args!("{} is complete: {events} events in {seconds:.1} s, {rate:.0}/s", label(&build)))?;
    if let Some(held) = held {
        told(format_args!("nobody could commit for {held:.0} ms; it is written with the events from now on"))?;
    }
    match (arguments.no_switch, before) {
        (true, _) => told(format_args!("`lockkeeper projections switch {}` shows it", label(&build)))?,
        (false, None) => told(format_args!("{} shows it", build.name))?,
        (false, Some(before)) => told(format_args!(
            "{0} shows it; {0}@{before} is still written: `lockkeeper projections switch {0}@{before}` goes back, `retire` and `drop` let it go",
            build.name
        ))?,
    }
    Ok(Exit::OK)
}

fn stopped(build: &Build, problem: Problem) -> Failed {
    let failed = Failed::from(problem);
    Failed { text: format!("{} is not complete: {}", label(build), failed.text), ..failed }
}

/// How long the broker may take to list the daemons.
const LISTED_WITHIN: Duration = Duration::from_secs(5);

/// Fails when a daemon runs that does not compare what it writes: it would leave rows out.
async fn all_compare(config: &Config) -> Result<(), Failed> {
    let broker = daemon::broker(config).await?;
    let first = config.stream.names.first().map_or("", String::as_str);
    let members = broker.lease_line(LISTED_WITHIN).await?.enlist(first, "", None).await?;
    let older: Vec<_> = members.iter().filter(|member| !member.skills.compare_generations()).collect();
    if older.is_empty() {
        return Ok(());
    }
    let hosts: Vec<_> = older.iter().map(|member| safe(member.host.as_bytes(), 60)).collect();
    let text = format!(
        "{} run{} an earlier release, which would not write the build and leave rows out: stop {} first",
        hosts.join(", "),
        if older.len() == 1 { "s" } else { "" },
        if older.len() == 1 { "it" } else { "them" }
    );
    Err(Failed::new(Exit::NO, text))
}

/// What would be done.
async fn plan<D: Domain>(store: &Store, code: Code<'_, D>, json: Json) -> Result<u8, Failed> {
    let (_, builds) = store.builds().await?;
    let begun = builds.iter().find(|one| one.name == code.name() && one.state == BuildState::Building);
    let build = begun.map_or(next_build(code.name(), &builds), |begun| begun.build);
    let tables: Vec<_> = code.tables().iter().map(|table| Tables::Build(build).name(table.name)).collect();
    let (events, bytes) = (store.sequence().await?, store.table_bytes(&shown_tables(code, &builds)).await?);
    if json.json {
        told(
            json!({ "projection": code.name(), "build": build, "version": code.version(), "tables": tables, "events": events,
            "bytes": bytes, "goes_on": begun.is_some() }),
        )?;
        return Ok(Exit::OK);
    }
    let verb = if begun.is_some() { "goes on with" } else { "fills" };
    told(format_args!(
        "{verb} {} ({}) with version {} from {events} events, about {} MiB on disk and {:.0} to {:.0} s; --yes does it",
        format_args!("{}@{build}", code.name()),
        tables.join(", "),
        code.version(),
        bytes.div_ceil(1 << 20),
        (events as f64 / FAST).ceil(),
        (events as f64 / SLOW).ceil(),
    ))?;
    Ok(Exit::OK)
}

/// Events for each second that a build takes in, at best and at worst (two cores).
const FAST: f64 = 100_000.0;
const SLOW: f64 = 20_000.0;

/// The tables of the build that is shown, which are about as large.
fn shown_tables<D: Domain>(code: Code<'_, D>, builds: &[Build]) -> Vec<String> {
    let tables =
        crate::projection::shown(code.name(), builds).map_or(Tables::Plain, |build| Tables::Build(build.build));
    code.tables().iter().map(|table| tables.name(table.name)).collect()
}

/// The build that is being filled, or a new one with empty tables.
async fn begin<D: Domain>(store: &Store, code: Code<'_, D>) -> Result<Build, Failed> {
    let alone = store.alone().await?;
    let begun = begin_alone(&alone, code).await;
    alone.close().await;
    begun
}

async fn begin_alone<D: Domain>(alone: &Alone, code: Code<'_, D>) -> Result<Build, Failed> {
    let store = alone.store();
    let (_, builds) = store.builds().await?;
    let begun = builds.iter().find(|build| build.name == code.name() && build.state == BuildState::Building);
    if let Some(begun) = begun {
        if (begun.version, begun.shape) == (code.version(), code.shape()) {
            return Ok(begun.clone());
        }
        let text = format!(
            "{} is being filled by version {}, and this program's is {}: `lockkeeper projections retire {0}` first",
            label(begun),
            begun.version,
            code.version()
        );
        return Err(Failed::new(Exit::NO, text));
    }
    let new = code.build(next_build(code.name(), &builds));
    strangers(store, code.tables().iter().map(|table| Tables::Build(new.build).name(table.name))).await?;
    let mut statements = Vec::new();
    for table in code.tables() {
        let name = Tables::Build(new.build).name(table.name);
        statements.push(format!("DROP TABLE IF EXISTS {name}"));
        statements.push(table.create("TABLE", &name, false));
    }
    alone.define(&statements).await?;
    store.add_build(&new).await?;
    let (_, builds) = store.builds().await?;
    let found = builds.into_iter().find(|build| build.name == new.name && build.build == new.build);
    found.ok_or_else(|| Failed::new(Exit::BROKEN, "the build is not there that was added"))
}

/// Makes the build's checkpoint ours, if nobody else is filling it.
async fn take(store: &Store, build: &Build) -> Result<Checkpoint, Failed> {
    let name = build.subscription();
    let find = async || -> Result<Checkpoint, Failed> {
        let found = store.checkpoints().await?.into_iter().find(|one| one.name == name);
        found.ok_or_else(|| Failed::new(Exit::NO, format!("{} has no checkpoint", label(build))))
    };
    let mut seen = find().await?;
    if seen.token.is_some() {
        tokio::time::sleep(SILENCE).await;
        let now = find().await?;
        if (now.beats, now.token) != (seen.beats, seen.token) {
            let text = format!("{} fills {} already, and is at position {}", now.holder, label(build), now.position);
            return Err(Failed::new(Exit::NO, text));
        }
        seen = now;
    }
    let (token, holder) = (Uuid::new_v4(), format!("{}:{}", daemon::machine(), std::process::id()));
    if !store.take_checkpoint(&seen, token, &holder).await? {
        return Err(Failed::new(Exit::NO, format!("somebody else has begun to fill {}", label(build))));
    }
    if seen.is_of_another_log() {
        let text = format!(
            "the log has another event at position {} than the one that {} was filled with: retire it and begin anew",
            seen.position,
            label(build)
        );
        return Err(Failed::new(Exit::NO, text));
    }
    Ok(Checkpoint { token: Some(token), ..seen })
}

/// Lines of progress for whoever watches.
struct Told {
    label: String,
    at: Instant,
    is_watched: bool,
    position: u64,
}

impl Told {
    fn new(build: &Build) -> Self {
        Self { label: label(build), at: Instant::now(), is_watched: std::io::stderr().is_terminal(), position: 0 }
    }

    fn tell(&mut self, now: Progress) {
        self.position = now.position;
        if !self.is_watched || self.at.elapsed() < PROGRESS {
            return;
        }
        self.at = Instant::now();
        let Progress { position, head, rate, states: (needed, loaded) } = now;
        let percent = 100.0 * position as f64 / head.max(1) as f64;
        let again = 100.0 * loaded as f64 / needed.max(1) as f64;
        let again =
            if again >= 1.0 { format!(", {again:.0} % of states read again (give --memory)") } else { String::new() };
        let left = head.saturating_sub(position) as f64 / rate.max(1.0);
        notice(format_args!("{}: {percent:.0} % of {head} events, {rate:.0}/s, {left:.0} s left{again}", self.label));
    }

    fn events(&self, from: u64) -> u64 {
        self.position.saturating_sub(from)
    }
}
