//! One sweep over everything of a kind that is old.

use std::time::Duration;

use super::held::Held;
use super::pace::{Pace, Stopped, Tally, What};
use crate::config;
use crate::job::JobId;
use crate::store::Store;
use crate::stream::{Broker, BrokerError, Selection};

/// Receipts per statement: a deletion holds its rows' locks, and replicas apply it as one.
const RECEIPTS: u32 = 1000;

/// No receipt younger than this goes, whatever the settings say.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How old a receipt must be at least, and why.
#[derive(Clone, Debug)]
pub struct Floor {
    /// Younger ones are kept.
    pub age: Duration,
    /// The reason in words.
    pub why: String,
}

/// How old a receipt must be before it may go: as old as any delivery may take, and as the schedules reach ahead.
pub async fn floor(broker: &Broker, streams: &config::Stream) -> Result<Floor, BrokerError> {
    let deliveries = streams.deliveries_take();
    let mut floor = Floor { age: DAY, why: "a day is the least".to_owned() };
    if deliveries > floor.age {
        let why = "a job may be delivered for so long (stream.claim_after_ms times stream.max_deliveries)";
        floor = Floor { age: deliveries, why: why.to_owned() };
    }
    let now_ms = broker.time_ms().await?;
    for stream in &streams.names {
        let ahead = broker.furthest_due(stream).await?.map_or(0, |due| due.saturating_sub(now_ms));
        // In whole seconds, rounded up, since it is printed.
        let ahead = Duration::from_secs(ahead.div_ceil(1000));
        if ahead > floor.age {
            floor = Floor { age: ahead, why: format!("the schedule of {stream} reaches so far") };
        }
    }
    Ok(floor)
}

/// Drops the dead letters of all streams that are older than `age`. A stream whose letters are refused stops none of the others,
/// and is the error in the end.
pub async fn letters(broker: &Broker, age: Duration, pace: &Pace) -> Result<Tally, Stopped> {
    let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    let until_ms = Some(broker.time_ms().await?.saturating_sub(age_ms));
    let (mut total, mut refused) = (Tally::default(), None);
    for stream in &broker.settings().names {
        match letters_of(broker, stream, Selection { until_ms, ..Selection::default() }, pace).await {
            Ok(tally) => total.add(tally),
            Err(Stopped::Broker(error)) if error.is_about_keys() => refused = refused.or(Some(error)),
            Err(stopped) => return Err(stopped),
        }
    }
    refused.map_or(Ok(total), |error| Err(error.into()))
}

async fn letters_of(broker: &Broker, stream: &str, old: Selection, pace: &Pace) -> Result<Tally, Stopped> {
    let mut total = Tally::default();
    let mut pages = broker.letters(stream, old).await?;
    while let Some(page) = pages.next().await? {
        // A job that is held has not run, and is not old, whatever holds it.
        let ids: Vec<_> = page.iter().filter(|letter| !letter.is_held()).map(|letter| letter.id).collect();
        let seen = ids.len() as u64;
        let deleted = if pace.dry_run {
            seen
        } else {
            let dropped = broker.drop_letters(stream, &ids).await?;
            dropped.into_iter().filter(|dropped| *dropped).count() as u64
        };
        let step = Tally { seen, deleted, held: 0 };
        total.add(step);
        pace.step(What::DeadLetters, step).await?;
    }
    Ok(total)
}

/// Deletes the reply streams whose last reply is older than `age`.
pub async fn replies(broker: &Broker, age: Duration, pace: &Pace) -> Result<Tally, Stopped> {
    let (mut cursor, mut total) = (0, Tally::default());
    loop {
        let swept = broker.sweep_replies(cursor, age, pace.dry_run).await?;
        let step = Tally { seen: swept.seen, deleted: swept.stale, held: 0 };
        total.add(step);
        pace.step(What::ReplyStreams, step).await?;
        if swept.cursor == 0 {
            return Ok(total);
        }
        cursor = swept.cursor;
    }
}

/// Forgets the receipts that are older than `age`, but for those of jobs that the broker holds. `age` is at least that of
/// [`floor`].
pub async fn receipts(store: &Store, broker: &Broker, age: Duration, pace: &Pace) -> Result<Tally, Stopped> {
    let before = store.moment_ago(age).await?;
    let held = Held::read(broker, pace).await?;
    let (mut after, mut total) = (None, Tally::default());
    loop {
        let page = store.receipts_before(&before, after, RECEIPTS).await?;
        let (keep, old): (Vec<JobId>, Vec<JobId>) = page.old.into_iter().partition(|job| held.contains(*job));
        let deleted = if pace.dry_run { old.len() as u64 } else { store.forget_before(&old, &before).await? };
        let step = Tally { seen: page.seen, deleted, held: keep.len() as u64 };
        total.add(step);
        after = page.last;
        if after.is_none() {
            return Ok(total);
        }
        pace.step(What::Receipts, step).await?;
    }
}
