//! `dead-letters`: what could not be run, and what is to become of it.

mod act;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::operator::{Listing, Streams, age, millis, moment, safe};
use super::output::{line, notice};
use super::{Failed, Json, exit};
use crate::app;
use crate::config::Config;
use crate::job::{EntryId, JobId};
use crate::stream::{Broker, Letter, Selection};

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// List dead letters, oldest first
    List(List),
    /// Show every field of a dead letter
    Show {
        /// The letter's id, or its job's, which may have several
        id: String,
        #[command(flatten)]
        streams: Streams,
        #[command(flatten)]
        json: Json,
    },
    /// Put jobs back into their stream, under the ids they have, to be run again
    Requeue(act::Act),
    /// Delete dead letters for good
    Drop(act::Act),
}

/// Arguments of `dead-letters list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    filters: Filters,
    /// Stop after so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    streams: Streams,
    #[command(flatten)]
    json: Json,
}

/// Which letters are meant.
#[derive(Debug, Args)]
struct Filters {
    /// Only jobs of this type
    #[arg(long = "type", value_name = "TYPE")]
    job_type: Option<String>,
    /// Only letters whose reason begins like this, such as too_large
    #[arg(long, value_name = "PREFIX")]
    reason: Option<String>,
    /// Only letters older than this, such as 90s, 15m, 12h or 30d
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Only letters younger than this
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    newer_than: Option<Duration>,
}

impl Filters {
    fn any(&self) -> bool {
        let text = self.job_type.is_some() || self.reason.is_some();
        text || self.older_than.is_some() || self.newer_than.is_some()
    }

    fn selection(&self, now_ms: u64) -> Selection {
        let ago = |duration: Duration| now_ms.saturating_sub(millis(duration));
        Selection {
            job_type: self.job_type.clone(),
            reason: self.reason.clone(),
            since_ms: self.newer_than.map(ago),
            until_ms: self.older_than.map(ago),
        }
    }
}

/// Runs one of the commands.
pub async fn run(config: &Config, command: DeadLetters) -> Result<u8, Failed> {
    match command {
        DeadLetters::List(arguments) => list(config, &arguments).await,
        DeadLetters::Show { id, streams, json } => show(config, id, &streams, json).await,
        DeadLetters::Requeue(arguments) => act::act(config, &arguments, true).await,
        DeadLetters::Drop(arguments) => act::act(config, &arguments, false).await,
    }
}

async fn list(config: &Config, arguments: &List) -> Result<u8, Failed> {
    let streams = arguments.streams.of(config)?;
    let broker = app::broker(config).await?;
    let now_ms = broker.time_ms().await?;
    let header = &["letter", "job", "type", "key", "reason", "deliveries", "age"];
    let mut listing = Listing::new(header, arguments.limit, arguments.json);
    for stream in streams {
        let mut pages = broker.letters(stream, arguments.filters.selection(now_ms)).await?;
        while let Some(page) = if listing.is_full() { None } else { pages.next().await? } {
            page.iter().try_for_each(|letter| listing.add(|| row(letter, now_ms), || summary(letter)))?;
        }
    }
    listing.print()?;
    Ok(exit::OK)
}

fn row(letter: &Letter, now_ms: u64) -> [String; 7] {
    let field = |name: &str, longest| safe(letter.field(name).unwrap_or_default(), longest);
    let (id, job) = (letter.id.to_string(), letter.job().to_string());
    let (reason, deliveries) = (field("reason", 80), field("deliveries", 20));
    [id, job, field("type", 40), field("key", 40), reason, deliveries, age(now_ms, letter.id.ms)]
}

fn summary(letter: &Letter) -> serde_json::Value {
    let text = |name: &str| letter.field(name).map(String::from_utf8_lossy);
    serde_json::json!({
        "stream": &*letter.stream, "letter": letter.id.to_string(), "job": letter.job().to_string(),
        "type": text("type"), "key": text("key"), "reason": text("reason"), "deliveries": letter.number("deliveries"),
        "time": letter.number("time"),
    })
}

async fn show(config: &Config, id: String, streams: &Streams, json: Json) -> Result<u8, Failed> {
    let broker = app::broker(config).await?;
    let wanted = [id];
    let (found, missing) = find(&broker, streams.of(config)?, &wanted).await?;
    for (stream, letters) in &found {
        for letter in letters {
            // It may have gone since it was found.
            let Some(letter) = broker.letter(stream, letter.id).await? else { continue };
            if json.json { line(whole(&letter))? } else { print(&letter)? }
        }
    }
    Ok(complain(&missing))
}

fn print(letter: &Letter) -> Result<(), Failed> {
    let field = |name: &str| safe(letter.field(name).unwrap_or_default(), usize::MAX);
    line(format_args!("letter {} of stream {}, job {}", letter.id, letter.stream, letter.job()))?;
    line(format_args!("  since       {}", moment(letter.id.ms)))?;
    for name in ["reason", "error", "deliveries", "source"] {
        line(format_args!("  {name:<11} {}", field(name)))?;
    }
    line("the job:")?;
    for (name, value) in letter.of_the_job() {
        line(format_args!("  {:<11} {}", safe(name, usize::MAX), safe(value, usize::MAX)))?;
    }
    Ok(())
}

/// The job's fields as pairs, since a malformed job may have a field twice.
fn whole(letter: &Letter) -> serde_json::Value {
    let mut object = summary(letter);
    let text = |name: &str| letter.field(name).map(String::from_utf8_lossy).into();
    object["error"] = text("error");
    object["source"] = text("source");
    let pairs = letter.of_the_job();
    object["fields"] = pairs.map(|(name, value)| [name, value].map(|bytes| String::from_utf8_lossy(bytes))).collect();
    object
}

/// Letters by stream.
type Found = BTreeMap<String, Vec<Letter>>;

/// The letters that `wanted` names by their own id or by their job's, and what names none.
async fn find(broker: &Broker, streams: &[String], wanted: &[String]) -> Result<(Found, Vec<String>), Failed> {
    // A letter's id says where it is. Still, a job may have an id of that form.
    let ids: Option<Vec<EntryId>> = wanted.iter().map(|name| name.parse().ok()).collect();
    if let Some(times) = ids.map(|ids| ids.into_iter().map(|id| id.ms)) {
        let (since_ms, until_ms) = (times.clone().min(), times.max());
        let there = search(broker, streams, wanted, Selection { since_ms, until_ms, ..Selection::default() }).await?;
        if there.1.is_empty() {
            return Ok(there);
        }
    }
    search(broker, streams, wanted, Selection::default()).await
}

async fn search(
    broker: &Broker,
    streams: &[String],
    wanted: &[String],
    among: Selection,
) -> Result<(Found, Vec<String>), Failed> {
    let mut found = Found::new();
    let mut missing: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
    let letters: BTreeMap<&str, &str> = wanted.iter().map(|name| (name.as_str(), name.as_str())).collect();
    let jobs: BTreeMap<JobId, &str> = wanted.iter().map(|name| (JobId::from_text(name), name.as_str())).collect();
    for stream in streams {
        let mut pages = broker.letters(stream, among.clone()).await?;
        while let Some(page) = pages.next().await? {
            for letter in page {
                let name = letters.get(letter.id.to_string().as_str()).or_else(|| jobs.get(&letter.job()));
                if let Some(name) = name {
                    missing.remove(name);
                    found.entry(stream.clone()).or_default().push(letter);
                }
            }
        }
    }
    Ok((found, missing.into_iter().map(str::to_owned).collect()))
}

fn complain(missing: &[String]) -> u8 {
    for name in missing {
        let name = safe(name.as_bytes(), 200);
        notice(format_args!("lockkeeper: {name}: no dead letter has this id, nor is it of a job with it"));
    }
    if missing.is_empty() { exit::OK } else { exit::NO }
}
