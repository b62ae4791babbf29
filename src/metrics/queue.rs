//! Where jobs wait, and how they come in.

use super::families::*;
use super::registry::{Metrics, flag};

/// Where taken-in jobs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Never delivered before.
    New,
    /// Delivered before, to another owner or in an answer that was lost.
    Claimed,
}

impl Source {
    const ALL: [Self; 2] = [Self::New, Self::Claimed];

    fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Claimed => "claimed",
        }
    }
}

/// What the sampling loop saw of one stream; `None` is what the broker does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueSample {
    /// Entries in the stream.
    pub length: Option<u64>,
    /// Entries not delivered yet.
    pub lag: Option<u64>,
    /// Entries delivered and not acknowledged.
    pub pending: Option<u64>,
    /// Entries in its dead letters.
    pub dead_letters: Option<u64>,
    /// Jobs in its schedule.
    pub scheduled: Option<u64>,
    /// Age of the oldest entry that was not delivered, by the broker's clock; 0 when there is none, `None` also when its id is no
    /// time.
    pub undelivered_age_ms: Option<u64>,
    /// Age of the oldest entry that was delivered and not acknowledged; the same.
    pub pending_age_ms: Option<u64>,
    /// How long the first job of the schedule has been due; 0 when none is.
    pub overdue_ms: Option<u64>,
}

impl QueueSample {
    /// Whether the broker told all that does not depend on what producers do.
    pub fn is_whole(&self) -> bool {
        [self.length, self.pending, self.dead_letters, self.scheduled, self.overdue_ms].iter().all(Option::is_some)
    }
}

impl Metrics {
    /// Creates the counters of one stream.
    pub(super) fn start_queue(&self, queue: &str) {
        self.start_owner(queue);
        Source::ALL.iter().for_each(|source| self.fetched(queue, *source, 0));
        for family in [
            &GROUPS_RECREATED,
            &CLAIM_DELETED,
            &ENTRIES_LOST,
            &ENTRIES_ORPHANED,
            &QUEUE_MISSED,
            &JOBS_SCHEDULED,
            &JOBS_PROMOTED,
        ] {
            self.add(family, [("queue", queue)], 0);
        }
    }

    /// Jobs were taken in.
    pub fn fetched(&self, queue: &str, source: Source, jobs: u64) {
        self.add(&JOBS_FETCHED, [("queue", queue), ("source", source.as_str())], jobs);
    }

    /// One read brought so many jobs.
    pub fn read(&self, jobs: usize) {
        self.record(&FETCH_BATCH, [], jobs as f64);
    }

    /// Another daemon reads the streams.
    pub fn stands_by(&self) {
        self.set(&QUEUE_POLL, [], UNKNOWN);
    }

    /// The streams were read.
    pub fn polled(&self, unix_seconds: f64) {
        self.set(&QUEUE_POLL, [], unix_seconds);
    }

    /// Pending entries were found deleted: lost jobs.
    pub fn claim_deleted(&self, queue: &str, entries: u64) {
        self.add(&CLAIM_DELETED, [("queue", queue)], entries);
    }

    /// Entries vanished from a stream that nobody had run: lost jobs.
    pub fn entries_lost(&self, queue: &str, entries: u64) {
        self.add(&ENTRIES_LOST, [("queue", queue)], entries);
    }

    /// Entries were found that are neither unread nor pending; they are run.
    pub fn entries_orphaned(&self, queue: &str, entries: u64) {
        self.add(&ENTRIES_ORPHANED, [("queue", queue)], entries);
    }

    /// A group was gone and has been created again.
    pub fn group_recreated(&self, queue: &str) {
        self.add(&GROUPS_RECREATED, [("queue", queue)], 1);
    }

    /// A job was not due and moved to the schedule.
    pub fn scheduled(&self, queue: &str) {
        self.add(&JOBS_SCHEDULED, [("queue", queue)], 1);
    }

    /// Jobs fell due and went back to their stream.
    pub fn promoted(&self, queue: &str, jobs: usize) {
        self.add(&JOBS_PROMOTED, [("queue", queue)], jobs as u64);
    }

    /// A job was run although younger ones had been taken in before it.
    pub fn missed(&self, queue: &str) {
        self.add(&QUEUE_MISSED, [("queue", queue)], 1);
    }

    /// So many jobs wait behind a dead letter.
    pub fn held(&self, queue: &str, jobs: usize) {
        self.set(&QUEUE_HELD, [("queue", queue)], jobs as f64);
    }

    /// What the intake does with the streams, one of `known`.
    pub fn reading(&self, known: &[&'static str], state: &str) {
        known.iter().for_each(|label| self.set(&READING, [("state", label)], flag(*label == state)));
    }

    /// What the broker says of one stream; nothing is known when it says nothing.
    pub fn queue(&self, queue: &str, group: &str, sample: Option<QueueSample>) {
        let (sample, answered) = (sample.unwrap_or_default(), sample.is_some());
        let labels = [("queue", queue), ("group", group)];
        let known = |value: Option<u64>| value.map_or(UNKNOWN, |value| value as f64);
        let age =
            |state, value| self.set(&QUEUE_OLDEST_AGE, [("queue", queue), ("state", state)], known(value) / 1000.0);
        self.set(&QUEUE_LENGTH, [("queue", queue)], known(sample.length));
        self.set(&QUEUE_PENDING, labels, known(sample.pending));
        self.set(&DEAD_LETTER_LENGTH, [("queue", queue)], known(sample.dead_letters));
        self.set(&SCHEDULE_LENGTH, [("queue", queue)], known(sample.scheduled));
        age("undelivered", sample.undelivered_age_ms);
        age("pending", sample.pending_age_ms);
        age("overdue", sample.overdue_ms);
        let ages = sample.undelivered_age_ms.and(sample.pending_age_ms).is_some();
        self.set(&QUEUE_AGE_KNOWN, [("queue", queue)], if sample.pending.is_some() { flag(ages) } else { UNKNOWN });
        self.set(&QUEUE_LAG, labels, known(sample.lag));
        self.set(&QUEUE_LAG_KNOWN, labels, flag(answered && sample.lag.is_some()));
    }
}

/// A gauge with this value is left out of what is rendered, so that nobody takes it for a 0.
pub(super) const UNKNOWN: f64 = f64::NAN;
