//! `prune`: the sweeps of [`crate::retention`], by hand.

use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;

use super::failed::Failed;
use super::output::{self, notice};
use crate::config::Config;
use crate::daemon;
use crate::exit::Exit;
use crate::lifecycle::Lifecycle;
use crate::retention::{self, Pace, Stopped, Tally, What};

/// Arguments of `prune`.
#[derive(Debug, Args)]
#[command(after_help = "Durations are written like 30d, 12h or 15m. Name every stream that feeds the database in
stream.names, also those of other daemons: a receipt is kept while the broker holds an entry of its job.")]
pub struct Prune {
    /// Delete receipts older than this; a job that is sent again later than that runs again
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    receipts_older_than: Option<Duration>,
    /// Delete dead letters older than this
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    dead_letters_older_than: Option<Duration>,
    /// Delete reply streams whose last reply is older than this
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    replies_older_than: Option<Duration>,
    /// Count what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

impl From<Stopped> for Failed {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Broker(error) => error.into(),
            Stopped::Store(error) => error.into(),
            Stopped::Draining => Self::new(Exit::BROKEN, "stopped before its end"),
        }
    }
}

/// Deletes what the bounds say.
pub async fn prune(config: &Config, bounds: &Prune) -> Result<u8, Failed> {
    let Prune { receipts_older_than, dead_letters_older_than, replies_older_than, .. } = bounds;
    if receipts_older_than.or(*dead_letters_older_than).or(*replies_older_than).is_none() {
        let text = "say what to prune: --receipts-older-than, --dead-letters-older-than or --replies-older-than";
        return Err(Failed::new(Exit::USAGE, text));
    }
    let broker = daemon::broker(config).await?;
    let progress = ProgressBar::new_spinner();
    let shown = progress.clone();
    let pace = Pace {
        dry_run: bounds.dry_run,
        pause: Duration::ZERO,
        lifecycle: Lifecycle::default(),
        told: Box::new(move |what, step| {
            shown.inc(step.seen);
            shown.set_message(format!("{}: {} looked at", words(what), shown.position()));
        }),
    };
    // Letters go first, since the receipts of their jobs are kept as long as they are there.
    if let Some(age) = dead_letters_older_than {
        told(bounds, What::DeadLetters, retention::letters(&broker, *age, &pace).await?, &progress)?;
    }
    if let Some(age) = replies_older_than {
        told(bounds, What::ReplyStreams, retention::replies(&broker, *age, &pace).await?, &progress)?;
    }
    if let Some(age) = receipts_older_than {
        let floor = retention::floor(&broker, &config.stream).await?;
        if *age < floor.age {
            let (asked, kept) = (humantime::format_duration(*age), humantime::format_duration(floor.age));
            let why = &floor.why;
            notice(format_args!(
                "lockkeeper: receipts younger than {kept} are kept, although {asked} was asked for: {why}"
            ));
        }
        let store = daemon::store(config).await?.only_to_write();
        let deleted = retention::receipts(&store, &broker, floor.age.max(*age), &pace).await?;
        told(bounds, What::Receipts, deleted, &progress)?;
    }
    Ok(Exit::OK)
}

fn words(what: What) -> &'static str {
    match what {
        What::Receipts => "receipts",
        What::DeadLetters => "dead letters",
        What::ReplyStreams => "reply streams",
    }
}

/// Prints what a part of the work came to.
fn told(bounds: &Prune, what: What, total: Tally, progress: &ProgressBar) -> Result<(), Failed> {
    progress.finish_and_clear();
    progress.reset();
    let held = (what == What::Receipts).then_some(total.held);
    let (what, deleted) = (words(what), total.deleted);
    if bounds.json {
        let dry_run = bounds.dry_run;
        let object = serde_json::json!({ "what": what, "deleted": deleted, "held": held, "dry_run": dry_run });
        return Ok(output::told(object)?);
    }
    let verb = if bounds.dry_run { "would be deleted" } else { "deleted" };
    let held = held.filter(|held| *held > 0);
    let held = held.map_or(String::new(), |held| format!(", {held} kept, as the broker still holds their jobs"));
    Ok(output::told(format_args!("{what}: {deleted} {verb}{held}"))?)
}
