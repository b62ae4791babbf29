//! `prune`: old receipts, dead letters and reply streams, in small steps.
//!
//! A receipt is what keeps a job from having a second effect, so one goes only when nothing can ask for it any more:
//!
//! - it is older than the operator says, which bounds for how long a producer's resend is recognised;
//! - it is older than any delivery may take, and than the schedule reaches;
//! - the broker holds no entry of its job: not in a stream, not in a schedule, not among the dead letters. No age can stand
//!   in for this, since nobody knows for how long a second copy of a job has been scheduled, or when its letter will be
//!   requeued.

use std::collections::HashSet;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;

use super::operator::{line, millis};
use super::{Failed, exit};
use crate::app;
use crate::config::Config;
use crate::job::JobId;
use crate::store::Store;
use crate::stream::{Broker, Selection};

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

/// Receipts per statement: a deletion holds its rows' locks, and replicas apply it as one.
const RECEIPTS: u32 = 1000;

/// No receipt younger than this is pruned, whatever the settings say.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Deletes what the bounds say.
pub async fn prune(config: &Config, bounds: &Prune) -> Result<u8, Failed> {
    let Prune { receipts_older_than, dead_letters_older_than, replies_older_than, .. } = bounds;
    if receipts_older_than.or(*dead_letters_older_than).or(*replies_older_than).is_none() {
        let text = "say what to prune: --receipts-older-than, --dead-letters-older-than or --replies-older-than";
        return Err(Failed::new(exit::USAGE, text));
    }
    let broker = app::broker(config).await?;
    // Letters go first, since the receipts of their jobs are kept as long as they are there.
    if let Some(age) = dead_letters_older_than {
        letters(config, &broker, bounds, *age).await?;
    }
    if let Some(age) = replies_older_than {
        replies(&broker, bounds, *age).await?;
    }
    if let Some(age) = receipts_older_than {
        let floor = floor(config, &broker).await?;
        if *age < floor.age {
            let (asked, kept) = (humantime::format_duration(*age), humantime::format_duration(floor.age));
            eprintln!(
                "lockkeeper: receipts younger than {kept} are kept, although {asked} was asked for: {}",
                floor.why
            );
        }
        let store = app::store(config).await?;
        receipts(&store, config, &broker, bounds, floor.age.max(*age)).await?;
    }
    Ok(exit::OK)
}

/// Prints what a part of the work came to.
fn told(bounds: &Prune, what: &str, deleted: u64, held: Option<u64>) -> Result<(), Failed> {
    if bounds.json {
        let dry_run = bounds.dry_run;
        return line(serde_json::json!({ "what": what, "deleted": deleted, "held": held, "dry_run": dry_run }));
    }
    let verb = if bounds.dry_run { "would be deleted" } else { "deleted" };
    let held = held.filter(|held| *held > 0);
    let held = held.map_or(String::new(), |held| format!(", {held} kept, as the broker still holds their jobs"));
    line(format_args!("{what}: {deleted} {verb}{held}"))
}

async fn letters(config: &Config, broker: &Broker, bounds: &Prune, age: Duration) -> Result<(), Failed> {
    let progress = ProgressBar::new_spinner();
    let until_ms = Some(broker.time_ms().await?.saturating_sub(millis(age)));
    let mut deleted = 0;
    for stream in &config.stream.names {
        let mut pages = broker.letters(stream, Selection { until_ms, ..Selection::default() }).await?;
        while let Some(page) = pages.next().await? {
            let ids: Vec<_> = page.iter().map(|letter| letter.id).collect();
            deleted += if bounds.dry_run {
                ids.len() as u64
            } else {
                let dropped = broker.drop_letters(stream, &ids).await?;
                dropped.into_iter().filter(|dropped| *dropped).count() as u64
            };
            progress.set_message(format!("dead letters: {deleted}"));
            progress.tick();
        }
    }
    progress.finish_and_clear();
    told(bounds, "dead letters", deleted, None)
}

async fn replies(broker: &Broker, bounds: &Prune, age: Duration) -> Result<(), Failed> {
    let progress = ProgressBar::new_spinner();
    let (mut cursor, mut seen, mut stale) = (0, 0, 0);
    loop {
        let swept = broker.sweep_replies(cursor, age, bounds.dry_run).await?;
        seen += swept.seen;
        stale += swept.stale;
        progress.set_message(format!("reply streams: {stale} of {seen}"));
        progress.tick();
        if swept.cursor == 0 {
            break;
        }
        cursor = swept.cursor;
    }
    progress.finish_and_clear();
    told(bounds, "reply streams", stale, None)
}

/// How old a receipt must be at least.
struct Floor {
    age: Duration,
    why: String,
}

async fn floor(config: &Config, broker: &Broker) -> Result<Floor, Failed> {
    let deliveries = config.stream.claim_after.saturating_mul(config.stream.max_deliveries);
    let mut floor = Floor { age: DAY, why: "a day is the least".to_owned() };
    if deliveries > floor.age {
        let why = "a job may be delivered for so long (stream.claim_after_ms times stream.max_deliveries)";
        floor = Floor { age: deliveries, why: why.to_owned() };
    }
    let now_ms = broker.time_ms().await?;
    for stream in &config.stream.names {
        let ahead = broker.furthest_due(stream).await?.map_or(0, |due| due.saturating_sub(now_ms));
        // In whole seconds, rounded up, since it is printed.
        let ahead = Duration::from_secs(ahead.div_ceil(1000));
        if ahead > floor.age {
            floor = Floor { age: ahead, why: format!("the schedule of {stream} reaches so far") };
        }
    }
    Ok(floor)
}

async fn receipts(
    store: &Store,
    config: &Config,
    broker: &Broker,
    bounds: &Prune,
    age: Duration,
) -> Result<(), Failed> {
    let progress = ProgressBar::new_spinner();
    progress.set_message("receipts: looking at what the broker holds");
    progress.tick();
    let before = store.moment_ago(age).await?;
    let held_jobs = held(config, broker).await?;
    let (mut after, mut seen, mut deleted, mut held) = (None, 0, 0, 0);
    loop {
        let page = store.receipts_before(&before, after, RECEIPTS).await?;
        let (keep, old): (Vec<JobId>, Vec<JobId>) = page.old.into_iter().partition(|job| held_jobs.contains(job));
        held += keep.len() as u64;
        deleted += if bounds.dry_run { old.len() as u64 } else { store.forget_before(&old, &before).await? };
        seen += page.seen;
        progress.set_message(format!("receipts: {deleted} of {seen}"));
        progress.tick();
        after = page.last;
        if after.is_none() {
            break;
        }
    }
    progress.finish_and_clear();
    told(bounds, "receipts", deleted, Some(held))
}

/// The jobs that the broker holds an entry of, some tens of bytes each.
///
/// Entries move while this reads, but none can slip through. From the schedule they go to the stream, which is read after
/// it. A stream's go to the dead letters, which are read last, or to the schedule, and those have no receipt yet. An operator
/// may put dead letters back into the stream, so they are read first as well.
async fn held(config: &Config, broker: &Broker) -> Result<HashSet<JobId>, Failed> {
    let mut jobs = HashSet::new();
    for stream in &config.stream.names {
        dead(broker, stream, &mut jobs).await?;
        let mut cursor = 0;
        loop {
            let (next, page) = broker.scan_scheduled(stream, cursor).await?;
            jobs.extend(page.iter().map(|job| job.job()));
            if next == 0 {
                break;
            }
            cursor = next;
        }
        let mut last = None;
        loop {
            let page = broker.jobs_in_stream(stream, last).await?;
            jobs.extend(page.iter().map(|(_, job)| *job));
            last = page.last().map(|(entry, _)| *entry);
            if last.is_none() {
                break;
            }
        }
        dead(broker, stream, &mut jobs).await?;
    }
    Ok(jobs)
}

async fn dead(broker: &Broker, stream: &str, jobs: &mut HashSet<JobId>) -> Result<(), Failed> {
    let mut pages = broker.letters(stream, Selection::default()).await?;
    while let Some(page) = pages.next().await? {
        jobs.extend(page.iter().map(|letter| letter.job()));
    }
    Ok(())
}
