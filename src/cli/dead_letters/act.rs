//! `dead-letters requeue` and `drop`.
//!
//! # The order of a requeue
//!
//! Two servers cannot change in one step, so the order counts: **first** the job's `dead` receipt goes, **then** one script
//! moves the letter back into the stream, if the letter is still there.
//!
//! - Killed in between: the letter stays and the receipt is gone. Requeueing again finishes it.
//! - The other way round, a daemon could read the entry before the receipt is gone, take it for a repetition, and dead-letter it
//!   again: the operator would have changed nothing.
//! - Only a receipt that says `dead` is removed. A dead job has no events, so all that a removal at a bad moment can bring
//!   about is that the job is decided once more. A receipt that says anything else stays, and the daemon answers the entry as
//!   a duplicate.
//! - Two operators at once: both may remove the receipt, one moves the letter, the other finds it gone. If the job has died
//!   again in between, its new receipt may go with the second removal; its new letter stays, and that is what counts.
//! - The same job sent twice can have two letters, or an entry on its way into the dead letters while the first one is
//!   requeued. Whichever entry is decided first has the effect; the others meet its receipt.

use clap::Args;

use super::select::{Filters, complain, find, summary};
use crate::cli::arguments::Json;
use crate::cli::failed::Failed;
use crate::cli::operator::{Streams, safe};
use crate::cli::output;
use crate::config::Config;
use crate::daemon;
use crate::exit::Exit;
use crate::job::{EntryId, JobId};
use crate::store::Store;
use crate::stream::{Broker, Letter, Requeued};

/// Arguments of `dead-letters requeue` and `drop`.
#[derive(Debug, Args)]
pub struct Act {
    /// Ids of letters, or of jobs: then every letter of the job
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// Every letter that the filters let through
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filters: Filters,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    streams: Streams,
    #[command(flatten)]
    json: Json,
}

/// Requeues or drops.
pub async fn act(config: &Config, arguments: &Act, requeue: bool) -> Result<u8, Failed> {
    if !arguments.all && arguments.filters.any() {
        let text = "filters go with --all, not with ids: either name the letters or describe them";
        return Err(Failed::new(Exit::USAGE, text));
    }
    let streams = arguments.streams.of(config)?;
    let broker = daemon::broker(config).await?;
    let receipts =
        if requeue && !arguments.dry_run { Some(daemon::store(config).await?.only_to_write()) } else { None };
    let (dry_run, json) = (arguments.dry_run, arguments.json.json);
    let mut work = Work { broker, receipts, requeue, dry_run, json, done: 0, gone: 0 };
    let mut missing = Vec::new();
    if arguments.all {
        let selection = arguments.filters.selection(work.broker.time_ms().await?);
        for stream in streams {
            let mut pages = work.broker.letters(stream, selection.clone()).await?;
            while let Some(page) = pages.next().await? {
                work.apply(stream, &page).await?;
            }
        }
    } else {
        let (found, none) = find(&work.broker, streams, &arguments.ids).await?;
        missing = none;
        for (stream, letters) in &found {
            work.apply(stream, letters).await?;
        }
    }
    if !json {
        output::told(format_args!("{} {}", work.done, work.verb()))?;
    }
    let complaint = complain(&missing);
    // Somebody else having dealt with a letter that was named is an answer of no; with --all it is just as well.
    Ok(if work.gone > 0 && !arguments.all { Exit::NO } else { complaint })
}

/// A requeue or a drop under way.
struct Work {
    broker: Broker,
    /// Where receipts are, when any are to be removed.
    receipts: Option<Store>,
    requeue: bool,
    dry_run: bool,
    json: bool,
    done: u64,
    gone: u64,
}

impl Work {
    fn verb(&self) -> &'static str {
        match (self.dry_run, self.requeue) {
            (false, true) => "requeued",
            (false, false) => "dropped",
            (true, true) => "would be requeued",
            (true, false) => "would be dropped",
        }
    }

    /// Deals with letters of one stream, and prints what became of each.
    async fn apply(&mut self, stream: &str, letters: &[Letter]) -> Result<(), Failed> {
        let ids: Vec<EntryId> = letters.iter().map(|letter| letter.id).collect();
        if !self.dry_run && !self.requeue {
            let dropped = self.broker.drop_letters(stream, &ids).await?;
            return letters.iter().zip(dropped).try_for_each(|(letter, dropped)| self.told(letter, dropped));
        }
        if let Some(store) = &self.receipts {
            let jobs: Vec<JobId> = letters.iter().map(Letter::job).collect();
            store.forget_dead(&jobs).await?;
        }
        for letter in letters {
            let done = if self.dry_run { Requeued::Done } else { self.broker.requeue(stream, letter.id).await? };
            match done {
                Requeued::WaitsOn => self.say(letter, "waits on behind an older one")?,
                done => self.told(letter, done == Requeued::Done)?,
            }
        }
        Ok(())
    }

    fn told(&mut self, letter: &Letter, done: bool) -> Result<(), Failed> {
        *(if done { &mut self.done } else { &mut self.gone }) += 1;
        self.say(letter, if done { self.verb() } else { "was gone already" })
    }

    fn say(&self, letter: &Letter, verb: &str) -> Result<(), Failed> {
        if self.json {
            let mut object = summary(letter);
            object["result"] = verb.into();
            return Ok(output::told(object)?);
        }
        let field = |name: &str| safe(letter.field(name).unwrap_or_default(), 60);
        let [job_type, key, reason] = ["type", "key", "reason"].map(field);
        Ok(output::told(format_args!("{} {verb}: job {} {job_type} {key} ({reason})", letter.id, letter.job()))?)
    }
}
