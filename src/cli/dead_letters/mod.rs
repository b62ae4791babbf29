//! `dead-letters`: what could not be run, and what is to become of it.

mod act;
mod select;

use clap::{Args, Subcommand};

use select::{Filters, complain, find, summary};

use crate::cli::arguments::Json;
use crate::cli::failed::Failed;
use crate::cli::operator::{Listing, Streams, age, moment, safe};
use crate::cli::output::line;
use crate::config::Config;
use crate::daemon;
use crate::exit::Exit;
use crate::stream::Letter;

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
    let broker = daemon::broker(config).await?;
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
    Ok(Exit::OK)
}

fn row(letter: &Letter, now_ms: u64) -> [String; 7] {
    let field = |name: &str, longest| safe(letter.field(name).unwrap_or_default(), longest);
    let (id, job) = (letter.id.to_string(), letter.job().to_string());
    let (reason, deliveries) = (field("reason", 80), field("deliveries", 20));
    [id, job, field("type", 40), field("key", 40), reason, deliveries, age(now_ms, letter.id.ms)]
}

async fn show(config: &Config, id: String, streams: &Streams, json: Json) -> Result<u8, Failed> {
    let broker = daemon::broker(config).await?;
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
