//! `projections`: builds of read models, filled, compared, shown and let go beside everybody who writes.

mod rebuild;
mod show;
mod verify;

use clap::Subcommand;
use serde_json::json;

use super::arguments::Json;
use super::failed::Failed;
use super::operator::Listing;
use super::output::told;
use crate::config::Config;
use crate::daemon::{self, ReadModels};
use crate::domain::Domain;
use crate::exit::Exit;
use crate::rebuild::{Code, Models, drop_build, label, retire};
use crate::store::{Build, BuildState, Checkpoint, Store};
use show::show;

/// What to do with read models.
#[derive(Debug, Subcommand)]
pub enum ProjectionsCommand {
    /// List the read models and their builds: which is shown, which are written, and how far one is that is filled
    List {
        #[command(flatten)]
        json: Json,
    },
    /// Show how far the builds of a read model are, and how long one that is filled will take
    Status {
        /// The read model
        name: String,
        #[command(flatten)]
        json: Json,
    },
    /// Fill a read model anew from the log, in tables of its own, and show it when it is complete. Run again it goes on
    Rebuild(rebuild::Rebuild),
    /// Show another build, which is written already: at once, and for whoever reads next
    Switch {
        /// The build: items@1
        build: String,
        #[command(flatten)]
        json: Json,
    },
    /// Write a build no more
    Retire {
        /// The build: items@1
        build: String,
        /// Also the one that is shown: the read model is given up, and needs no code from then on
        #[arg(long)]
        shown: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Drop the tables of a build that is retired
    Drop {
        /// The build: items@1
        build: String,
        /// The build once more: its rows are gone for good
        #[arg(long, value_name = "BUILD")]
        yes: String,
        #[command(flatten)]
        json: Json,
    },
    /// Compare every row with the events, beside those who write them; exit 1 when one is wrong, missing or surplus
    Verify(verify::Verify),
}

/// Runs one of the commands.
pub async fn run<D: Domain>(
    config: &Config,
    read_models: ReadModels<D>,
    command: ProjectionsCommand,
) -> Result<u8, Failed> {
    let reads = daemon::store(config).await?;
    let store = reads.clone().only_to_write();
    let models = Models { states: &read_models.projections, log: &read_models.log_projections };
    match command {
        ProjectionsCommand::List { json } => list(&reads, models, None, json).await,
        ProjectionsCommand::Status { name, json } => list(&reads, models, Some(&name), json).await,
        ProjectionsCommand::Rebuild(arguments) => rebuild::rebuild(config, &store, models, arguments).await,
        ProjectionsCommand::Switch { build, json } => {
            let (code, build) = find(&store, models, &build).await?;
            let before = show(&store, code, &build).await?;
            let before = before.map(|before| {
                format!(
                    "; {}@{before} is still written: `lockkeeper projections retire {0}@{before}`",
                    build.name,
                    before = before
                )
            });
            say(json, &build, BuildState::Shown, &format!("{} is shown{}", label(&build), before.unwrap_or_default()))
        }
        ProjectionsCommand::Retire { build, shown, json } => {
            let build = find_any(&store, &build).await?;
            retire(&store, models.of(&build), &build, shown).await?;
            say(json, &build, BuildState::Retired, &format!("{} is not written any more", label(&build)))
        }
        ProjectionsCommand::Drop { build, yes, json } => {
            let (code, build) = find(&store, models, &build).await?;
            if yes != label(&build) {
                return Err(Failed::new(
                    Exit::USAGE,
                    format!("--yes must name the build that is dropped: {}", label(&build)),
                ));
            }
            drop_build(&store, code, &build).await?;
            say(json, &build, BuildState::Dropped, &format!("the tables of {} are gone", label(&build)))
        }
        ProjectionsCommand::Verify(arguments) => {
            verify::verify(if arguments.repairs() { &store } else { &reads }, models, arguments).await
        }
    }
}

fn say(json: Json, build: &Build, state: BuildState, text: &str) -> Result<u8, Failed> {
    if json.json {
        told(
            json!({ "projection": build.name, "build": build.build, "version": build.version, "state": state.as_str() }),
        )?;
    } else {
        told(text)?;
    }
    Ok(Exit::OK)
}

/// The build of a label like `items@2`.
async fn find_any(store: &Store, text: &str) -> Result<Build, Failed> {
    let (_, builds) = store.builds().await?;
    let known: Vec<_> = builds.iter().map(label).collect();
    let found = builds.into_iter().find(|build| label(build) == text);
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    found.ok_or_else(|| Failed::new(Exit::NO, format!("there is no build {text}; there are: {known}")))
}

/// The same, with its code.
async fn find<'a, D: Domain>(store: &Store, models: Models<'a, D>, text: &str) -> Result<(Code<'a, D>, Build), Failed> {
    let build = find_any(store, text).await?;
    let unknown = || format!("{text} is of version {}, which this program does not know", build.version);
    let code = models.of(&build).ok_or_else(|| Failed::new(Exit::NO, unknown()))?;
    Ok((code, build))
}

async fn list<D: Domain>(store: &Store, models: Models<'_, D>, name: Option<&str>, json: Json) -> Result<u8, Failed> {
    let (_, builds) = store.builds().await?;
    let before = store.checkpoints().await?;
    let is_wanted = |known: &str| name.is_none_or(|name| name == known);
    let codes: Vec<_> = models.newest().into_iter().filter(|code| is_wanted(code.name())).collect();
    let builds: Vec<_> = builds.into_iter().filter(|build| is_wanted(&build.name)).collect();
    if let (Some(name), true, true) = (name, codes.is_empty(), builds.is_empty()) {
        let known: Vec<_> = models.newest().iter().map(Code::name).collect();
        let text = format!("there is no read model {name}; there are: {}", known.join(", "));
        return Err(Failed::new(Exit::NO, text));
    }
    let is_filled = builds.iter().any(|build| build.state == BuildState::Building);
    let after = if name.is_some() && is_filled {
        // Two looks tell how fast it is.
        tokio::time::sleep(SAMPLE).await;
        Some(store.checkpoints().await?)
    } else {
        None
    };
    let mut listing = Listing::new(&["projection", "version", "written", "state", "since", "progress"], None, json);
    for code in codes.iter().filter(|code| !builds.iter().any(|build| build.name == code.name())) {
        let (name, version) = (code.name(), code.version());
        let text = format!("`lockkeeper projections rebuild {name}` fills it");
        listing.add(
            || [name.to_owned(), version.to_string(), "–".to_owned(), "missing".to_owned(), "–".to_owned(), text],
            || json!({ "projection": name, "build": null, "version": version, "state": "missing" }),
        )?;
    }
    for build in &builds {
        let progress = Filled::of(build, &before, after.as_deref());
        listing.add(|| row(build, progress.as_ref()), || object(build, progress.as_ref()))?;
    }
    listing.print()?;
    Ok(Exit::OK)
}

/// Time between the two looks of `status`.
const SAMPLE: std::time::Duration = std::time::Duration::from_secs(1);

/// How far a build is that is filled.
struct Filled {
    position: u64,
    head: u64,
    /// Of two looks.
    rate: Option<f64>,
    is_alive: bool,
}

impl Filled {
    fn of(build: &Build, before: &[Checkpoint], after: Option<&[Checkpoint]>) -> Option<Self> {
        let name = build.subscription();
        let find = |all: &[Checkpoint]| all.iter().find(|one| one.name == name).cloned();
        let before = find(before)?;
        let later = after.and_then(find);
        let rate =
            later.as_ref().map(|later| later.position.saturating_sub(before.position) as f64 / SAMPLE.as_secs_f64());
        let now = later.unwrap_or(before);
        Some(Self { position: now.position, head: now.head, rate, is_alive: now.token.is_some() })
    }

    fn text(&self) -> String {
        let percent = if self.head == 0 { 100.0 } else { 100.0 * self.position as f64 / self.head as f64 };
        let left = self.head.saturating_sub(self.position) as f64;
        let pace = match self.rate {
            Some(rate) if rate > 0.0 => format!(", {rate:.0}/s, {:.0} s left", left / rate),
            _ if !self.is_alive => ", nobody fills it".to_owned(),
            _ => String::new(),
        };
        format!("{percent:.0} % of {} events{pace}", self.head)
    }
}

fn row(build: &Build, filled: Option<&Filled>) -> [String; 6] {
    let progress = match (build.state, filled) {
        (BuildState::Building, Some(filled)) => filled.text(),
        (state, Some(filled)) if state.is_written() => {
            format!("{} events behind", filled.head.saturating_sub(filled.position))
        }
        _ => String::new(),
    };
    let since = build.since.get(..19).unwrap_or(&build.since).to_owned();
    [
        label(build),
        build.version.to_string(),
        build.mode.as_str().to_owned(),
        build.state.as_str().to_owned(),
        since,
        progress,
    ]
}

fn object(build: &Build, filled: Option<&Filled>) -> serde_json::Value {
    json!({
        "projection": build.name, "build": build.build, "version": build.version, "written": build.mode.as_str(),
        "state": build.state.as_str(), "since": build.since.replace(' ', "T") + "Z", "taken_over": build.taken_over,
        "position": filled.map(|filled| filled.position), "head": filled.map(|filled| filled.head),
        "events_per_second": filled.and_then(|filled| filled.rate),
    })
}
