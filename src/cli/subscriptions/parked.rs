//! `subscriptions parked` and `subscriptions skip`: events that a reader of the log has gone past, or is to go past.

use clap::Subcommand;
use serde_json::json;

use crate::cli::arguments::Json;
use crate::cli::failed::Failed;
use crate::cli::operator::{Listing, safe};
use crate::cli::output::told;
use crate::domain::Domain;
use crate::exit::Exit;
use crate::rebuild::{Models, Problem, retry};
use crate::store::{Build, Store, StoreError};

/// What to do with parked events.
#[derive(Debug, Subcommand)]
pub enum ParkedCommand {
    /// List the events that readers have gone past, with the reason
    List {
        /// The subscription; all when it is missing
        name: Option<String>,
        /// List at most so many
        #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        #[command(flatten)]
        json: Json,
    },
    /// Do them after all, in their order: when the code, the table or the event is mended
    Retry {
        /// The subscription
        name: String,
        /// Only those of this aggregate: item/pen
        aggregate: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// Forget them: their aggregates go on with the next event as if these had been done
    Drop {
        /// The subscription
        name: String,
        /// Only those of this aggregate: item/pen
        aggregate: Option<String>,
        /// The subscription once more: rows stay as they are, which is not what the log says
        #[arg(long, value_name = "NAME")]
        yes: String,
        #[command(flatten)]
        json: Json,
    },
}

/// Runs one of the commands.
pub async fn run<D: Domain>(store: &Store, models: Models<'_, D>, command: ParkedCommand) -> Result<u8, Failed> {
    match command {
        ParkedCommand::List { name, limit, json } => list(store, name.as_deref(), limit, json).await,
        ParkedCommand::Retry { name, aggregate, json } => {
            retry_all(store, models, &name, aggregate.as_deref().map(parse).transpose()?, json).await
        }
        ParkedCommand::Drop { name, aggregate, yes, json } => {
            if yes != name {
                return Err(Failed::new(Exit::USAGE, format!("--yes must name the subscription: {name}")));
            }
            let aggregate = aggregate.as_deref().map(parse).transpose()?;
            let count = store.forget_parked(&name, aggregate).await?;
            say(json, &name, ("dropped", count), &format!("{count} parked events of {name} are forgotten"))
        }
    }
}

fn parse(text: &str) -> Result<(&str, &str), Failed> {
    let parts = text.split_once('/').filter(|(kind, id)| !kind.is_empty() && !id.is_empty());
    parts.ok_or_else(|| Failed::new(Exit::USAGE, format!("`{text}` is not of the form TYPE/ID")))
}

fn say(json: Json, name: &str, (what, count): (&str, u64), text: &str) -> Result<u8, Failed> {
    if json.json {
        told(json!({ "subscription": name, what: count }))?;
    } else {
        told(text)?;
    }
    Ok(Exit::OK)
}

async fn list(store: &Store, name: Option<&str>, limit: u32, json: Json) -> Result<u8, Failed> {
    let mut listing = Listing::new(&["subscription", "position", "aggregate", "parked at", "why"], None, json);
    for one in store.parked(name, limit).await? {
        let aggregate = format!("{}/{}", one.aggregate_type, safe(one.aggregate_id.as_bytes(), 60));
        listing.add(
            || {
                let parked_at = one.parked_at.get(..19).unwrap_or(&one.parked_at).to_owned();
                [one.name.clone(), one.position.to_string(), aggregate, parked_at, safe(one.reason.as_bytes(), 200)]
            },
            || {
                json!({ "subscription": one.name, "position": one.position, "aggregate_type": one.aggregate_type,
                    "aggregate_id": one.aggregate_id, "parked_at": one.parked_at.replace(' ', "T") + "Z", "reason": one.reason })
            },
        )?;
    }
    listing.print()?;
    Ok(Exit::OK)
}

async fn retry_all<D: Domain>(
    store: &Store,
    models: Models<'_, D>,
    name: &str,
    only: Option<(&str, &str)>,
    json: Json,
) -> Result<u8, Failed> {
    let (_, builds) = store.builds().await?;
    let (aggregates, _) = store.parked_aggregates(name).await?;
    let is_wanted = |(kind, id): &&(String, String)| only.is_none_or(|only| only == (kind, id));
    let wanted: Vec<_> = aggregates.iter().filter(is_wanted).collect();
    let found = builds.iter().find(|build: &&Build| build.subscription() == name);
    let code = found.and_then(|build| Some((build, models.of(build)?)));
    let (build, code) = match (code, wanted.is_empty()) {
        (_, true) => return Err(Failed::new(Exit::NO, format!("{name} has no parked events that this is about"))),
        (None, false) => {
            let text = format!("this program does not know the read model of the subscription {name}");
            return Err(Failed::new(Exit::NO, text));
        }
        (Some(found), false) => found,
    };
    let max_packet = store.server().await?.max_packet;
    let (mut done, mut failed) = (0, Vec::new());
    for (kind, id) in wanted {
        match retry(store, code, build, (kind, id), max_packet).await {
            Ok(()) => done += 1,
            Err(Problem::Store(error)) if !matches!(error, StoreError::Data(_) | StoreError::Undecodable(_)) => {
                return Err(error.into());
            }
            Err(problem) => failed.push(format!("{kind}/{}: {problem}", safe(id.as_bytes(), 60))),
        }
    }
    if failed.is_empty() {
        return say(
            json,
            name,
            ("retried_aggregates", done),
            &format!("the parked events of {done} aggregates are done"),
        );
    }
    Err(Failed::new(Exit::NO, format!("{done} aggregates are done, and these are not:\n{}", failed.join("\n"))))
}

/// Has a subscription that is stopped go past one event.
pub async fn skip(store: &Store, name: &str, position: u64, reason: &str, json: Json) -> Result<u8, Failed> {
    if store.skip(name, position, &format!("skipped: {reason}")).await? {
        return say(
            json,
            name,
            ("skipped", position),
            &format!("{name} goes on behind position {position}, which is parked"),
        );
    }
    let checkpoints = store.checkpoints().await?;
    let text = match checkpoints.iter().find(|one| one.name == name) {
        None => format!("there is no subscription {name}"),
        Some(one) => format!(
            "{name} is {} at position {}: only one that is stopped or paused can go past the next, {}",
            one.state.as_str(),
            one.position,
            one.position + 1
        ),
    };
    Err(Failed::new(Exit::NO, text))
}
