//! `subscriptions`: who reads the log, how far each is, and whether it goes on.

mod parked;

use clap::Subcommand;

use super::arguments::Json;
use super::failed::Failed;
use super::operator::{Listing, safe};
use super::output::told;
use crate::config::Config;
use crate::daemon::{self, ReadModels};
use crate::domain::Domain;
use crate::exit::Exit;
use crate::rebuild::Models;
use crate::store::{Checkpoint, CheckpointState, Store};

/// What to do with subscriptions.
#[derive(Debug, Subcommand)]
pub enum SubscriptionsCommand {
    /// List the readers of the log: how far each is, how far behind, who reads it, and why one does not go on
    List {
        #[command(flatten)]
        json: Json,
    },
    /// Read a subscription's events no further, for the whole fleet and over restarts
    Pause {
        /// The subscription
        name: String,
        /// Why; everybody is told
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        json: Json,
    },
    /// Have a subscription that is stopped or paused go past the next event, which is parked
    Skip {
        /// The subscription
        name: String,
        /// Where the event is: the next after the subscription's position
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        position: u64,
        /// Why; everybody is told
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        json: Json,
    },
    /// List, retry or drop events that readers have gone past
    #[command(subcommand)]
    Parked(parked::ParkedCommand),
    /// Go on with a subscription that is paused, or stopped by an event that it could not get past
    Resume {
        /// The subscription
        name: String,
        #[command(flatten)]
        json: Json,
    },
}

/// The longest reason, in bytes, with room for a word before it.
const LONGEST: usize = 480;

/// Runs one of the commands.
pub async fn run<D: Domain>(
    config: &Config,
    read_models: ReadModels<D>,
    command: SubscriptionsCommand,
) -> Result<u8, Failed> {
    let store = daemon::store(config).await?;
    match command {
        SubscriptionsCommand::List { json } => list(&store, json).await,
        SubscriptionsCommand::Pause { name, reason, json } => {
            check(&reason)?;
            set(&store, &name, (CheckpointState::Paused, Some(&reason)), json).await
        }
        SubscriptionsCommand::Skip { name, position, reason, json } => {
            check(&reason)?;
            parked::skip(&store, &name, position, &reason, json).await
        }
        SubscriptionsCommand::Parked(command) => {
            let models = Models { states: &read_models.projections, log: &read_models.log_projections };
            parked::run(&store, models, command).await
        }
        SubscriptionsCommand::Resume { name, json } => set(&store, &name, (CheckpointState::Running, None), json).await,
    }
}

fn check(reason: &str) -> Result<(), Failed> {
    if reason.trim().is_empty() || reason.len() > LONGEST || reason.chars().any(char::is_control) {
        let text = format!("--reason must have 1 to {LONGEST} bytes of text without control characters");
        return Err(Failed::new(Exit::USAGE, text));
    }
    Ok(())
}

async fn list(store: &Store, json: Json) -> Result<u8, Failed> {
    let header = &["subscription", "state", "position", "behind", "for", "read by", "why"];
    let mut listing = Listing::new(header, None, json);
    for checkpoint in store.checkpoints().await? {
        listing.add(|| row(&checkpoint), || object(&checkpoint))?;
    }
    listing.print()?;
    Ok(Exit::OK)
}

fn row(checkpoint: &Checkpoint) -> [String; 7] {
    let reader = if checkpoint.token.is_some() { safe(checkpoint.holder.as_bytes(), 60) } else { "nobody".to_owned() };
    [
        checkpoint.name.clone(),
        checkpoint.state.as_str().to_owned(),
        checkpoint.position.to_string(),
        checkpoint.lag().to_string(),
        checkpoint.age_seconds.map_or("–".to_owned(), |seconds| format!("{seconds:.1} s")),
        reader,
        safe(checkpoint.reason.as_deref().unwrap_or_default().as_bytes(), 200),
    ]
}

fn object(checkpoint: &Checkpoint) -> serde_json::Value {
    serde_json::json!({
        "subscription": checkpoint.name, "state": checkpoint.state.as_str(), "position": checkpoint.position,
        "lag_events": checkpoint.lag(), "lag_seconds": checkpoint.age_seconds.unwrap_or(0.0),
        "reader": checkpoint.token.is_some().then_some(&checkpoint.holder), "reason": checkpoint.reason,
        "moved_at": checkpoint.moved_at.replace(' ', "T") + "Z",
    })
}

async fn set(
    store: &Store,
    name: &str,
    (state, reason): (CheckpointState, Option<&str>),
    json: Json,
) -> Result<u8, Failed> {
    let is_there = store.set_checkpoint(name, state, reason).await?;
    // What is told is what the daemons will read.
    let checkpoints = store.checkpoints().await?;
    let Some(now) = checkpoints.iter().find(|checkpoint| checkpoint.name == name).filter(|_| is_there) else {
        let known: Vec<&str> = checkpoints.iter().map(|checkpoint| &*checkpoint.name).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Failed::new(Exit::NO, format!("there is no subscription {name}; there are: {known}")));
    };
    if json.json {
        told(object(now))?;
    } else {
        told(format_args!("{name} is {} at position {}", now.state.as_str(), now.position))?;
    }
    Ok(Exit::OK)
}
