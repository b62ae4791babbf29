//! The only place that spells a metric: names, help and buckets in `families`, labels and a typed function for each thing
//! that happens here.
//!
//! Label values come from closed sets: configured queue names, registered job and event types, enums. An aggregate's id, a
//! job's id or the text of an error is never a label.

mod families;
mod lock;

use std::time::Duration;

use metrics::{Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::job::DeadCode;
pub use families::{FAMILIES, Family, Kind, Unit};
pub use lock::{Extension, LockLoss, NodeState};

use families::*;

/// What a job ended as, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OutcomeLabel {
    /// Events were appended, or there was nothing to append.
    Applied,
    /// A business no.
    Rejected,
    /// Its id has a receipt.
    Duplicate,
    /// It came too late.
    Expired,
    /// It can never be run.
    Dead,
}

impl OutcomeLabel {
    const ALL: [Self; 5] = [Self::Applied, Self::Rejected, Self::Duplicate, Self::Expired, Self::Dead];

    /// The outcome as it is spelled everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Rejected => "rejected",
            Self::Duplicate => "duplicate",
            Self::Expired => "expired",
            Self::Dead => "dead",
        }
    }
}

/// Where taken-in jobs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Never delivered before.
    New,
    /// Delivered to a consumer that has gone quiet.
    Claimed,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Claimed => "claimed",
        }
    }
}

/// The labels that are known at start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// Streams that are read.
    pub queues: &'a [String],
    /// Job types that have a handler.
    pub job_types: &'a [&'static str],
    /// Event types that are written.
    pub event_types: &'a [&'static str],
    /// Aliases of the lock nodes.
    pub lock_nodes: &'a [String],
    /// What a lock node is asked for.
    pub lock_ops: &'a [&'static str],
    /// What comes of it.
    pub lock_outcomes: &'a [&'static str],
}

/// What the sampling loop saw of one stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueSample {
    /// Entries in the stream.
    pub length: u64,
    /// Entries not delivered yet; `None` when the broker cannot tell.
    pub lag: Option<u64>,
    /// Entries delivered and not acknowledged.
    pub pending: u64,
    /// Entries in its dead letters.
    pub dead_letters: u64,
}

/// The metrics of one process. Nothing global: two of them in one process do not meet.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

const METADATA: Metadata<'static> = Metadata::new("lockkeeper", Level::INFO, None);

impl Metrics {
    /// Registers every family. Fails only when the buckets in this file are wrong.
    pub fn new() -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for family in FAMILIES {
            if let Kind::Histogram(buckets) = family.kind {
                builder = builder.set_buckets_for_metric(Matcher::Full(family.name.to_owned()), buckets)?;
            }
        }
        let recorder = builder.build_recorder();
        for family in FAMILIES {
            let (name, help) = (KeyName::from_const_str(family.name), family.help.into());
            match family.kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram(_) => recorder.describe_histogram(name, None, help),
            }
        }
        let handle = recorder.handle();
        Ok(Self { recorder, handle })
    }

    /// Creates the series whose labels are known at start, so that the first event shows as an increase.
    pub fn start(&self, known: &Known<'_>) {
        let Known { queues, job_types, event_types, lock_nodes, lock_ops, lock_outcomes } = *known;
        self.start_locks(lock_nodes, lock_ops, lock_outcomes);
        self.set(&BUILD_INFO, [("version", env!("CARGO_PKG_VERSION"))], 1.0);
        for queue in queues {
            for job_type in job_types.iter().chain(&["other"]) {
                for outcome in OutcomeLabel::ALL {
                    let labels = [("queue", queue.as_str()), ("job_type", job_type), ("outcome", outcome.as_str())];
                    self.add(&JOBS_PROCESSED, labels, 0);
                }
            }
            for code in DeadCode::ALL {
                self.add(&JOBS_DEAD, [("queue", queue.as_str()), ("reason", code.as_str())], 0);
            }
            for source in [Source::New, Source::Claimed] {
                self.fetched(queue, source, 0);
            }
            self.add(&GROUPS_RECREATED, [("queue", queue.as_str())], 0);
            self.claim_deleted(queue, 0);
            self.entries_lost(queue, 0);
            self.add(&JOBS_SCHEDULED, [("queue", queue.as_str())], 0);
        }
        event_types.iter().for_each(|event_type| self.add(&EVENTS_APPENDED, [("event_type", *event_type)], 0));
        for family in [&REPLY_ERRORS, &IDS_REUSED, &COMMIT_UNKNOWN, &RETENTION_FAILURES, &WENT_BACK] {
            self.add(family, [], 0);
        }
        for what in ["receipts", "dead_letters", "reply_streams"] {
            self.retention_deleted(what, 0);
        }
        for kind in ["version", "head", "receipt"] {
            self.add(&CONFLICTS, [("kind", kind)], 0);
        }
        for reason in ["deadlock", "lock_wait", "snapshot"] {
            self.add(&RETRIES, [("reason", reason)], 0);
        }
    }

    /// The text of `/metrics`.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Moves recorded samples into their buckets; to be called every few seconds, so that they do not pile up unscraped.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Jobs were taken in.
    pub fn fetched(&self, queue: &str, source: Source, jobs: u64) {
        self.add(&JOBS_FETCHED, [("queue", queue), ("source", source.as_str())], jobs);
    }

    /// The streams were read.
    pub fn polled(&self, unix_seconds: f64) {
        self.set(&QUEUE_POLL, [], unix_seconds);
    }

    /// What the intake does with the streams, one of `known`.
    pub fn reading(&self, known: &[&'static str], state: &str) {
        for label in known {
            self.set(&READING, [("state", label)], f64::from(u8::from(*label == state)));
        }
    }

    /// Pending entries were found deleted: lost jobs.
    pub fn claim_deleted(&self, queue: &str, entries: u64) {
        self.add(&CLAIM_DELETED, [("queue", queue)], entries);
    }

    /// Entries vanished from a stream that nobody had run: lost jobs.
    pub fn entries_lost(&self, queue: &str, entries: u64) {
        self.add(&ENTRIES_LOST, [("queue", queue)], entries);
    }

    /// A group was gone and has been created again.
    pub fn group_recreated(&self, queue: &str) {
        self.add(&GROUPS_RECREATED, [("queue", queue)], 1);
    }

    /// A job ended.
    pub fn processed(&self, queue: &str, job_type: Option<&'static str>, outcome: OutcomeLabel, age: Duration) {
        let job_type = job_type.unwrap_or("other");
        self.add(&JOBS_PROCESSED, [("queue", queue), ("job_type", job_type), ("outcome", outcome.as_str())], 1);
        self.record(&JOB_END_TO_END, [("queue", queue), ("job_type", job_type)], age.as_secs_f64());
    }

    /// A job went to the dead letters.
    pub fn dead_lettered(&self, queue: &str, code: DeadCode) {
        self.add(&JOBS_DEAD, [("queue", queue), ("reason", code.as_str())], 1);
    }

    /// A job was not due and moved to the schedule.
    pub fn scheduled(&self, queue: &str) {
        self.add(&JOBS_SCHEDULED, [("queue", queue)], 1);
    }

    /// A job's id has been used for another job.
    pub fn id_reused(&self) {
        self.add(&IDS_REUSED, [], 1);
    }

    /// An outcome could not be written to a reply stream.
    pub fn reply_failed(&self) {
        self.add(&REPLY_ERRORS, [], 1);
    }

    /// A batch starts.
    pub fn batch(&self, jobs: usize) {
        self.record(&BATCH_JOBS, [], jobs as f64);
    }

    /// Jobs left their batch unfinished.
    pub fn put_back(&self, reason: &'static str, jobs: usize) {
        self.add(&JOBS_PUT_BACK, [("reason", reason)], jobs as u64);
    }

    /// How many jobs are in hand.
    pub fn in_hand(&self, waiting: usize, in_flight: usize) {
        self.set(&JOBS_WAITING, [], waiting as f64);
        self.set(&JOBS_IN_FLIGHT, [], in_flight as f64);
    }

    /// A transaction was sent and ended as `outcome`.
    pub fn appended(&self, outcome: &'static str, elapsed: Duration, events: usize) {
        self.record(&APPEND_DURATION, [("outcome", outcome)], elapsed.as_secs_f64());
        self.record(&APPEND_EVENTS, [], events as f64);
    }

    /// Events of one type were committed.
    pub fn events(&self, event_type: &'static str, count: u64) {
        self.add(&EVENTS_APPENDED, [("event_type", event_type)], count);
    }

    /// The newest committed position.
    pub fn head(&self, position: u64) {
        self.set(&HEAD_POSITION, [], position as f64);
    }

    /// The database has lost commits that it had confirmed.
    pub fn went_back(&self) {
        self.add(&WENT_BACK, [], 1);
    }

    /// A guard refused a transaction.
    pub fn conflict(&self, kind: &'static str) {
        self.add(&CONFLICTS, [("kind", kind)], 1);
    }

    /// The server made us repeat a transaction.
    pub fn repeated(&self, reason: &'static str) {
        self.add(&RETRIES, [("reason", reason)], 1);
    }

    /// The answer to a commit was lost.
    pub fn commit_unknown(&self) {
        self.add(&COMMIT_UNKNOWN, [], 1);
    }

    /// The database could not be used.
    pub fn store_error(&self, class: &'static str) {
        self.add(&STORE_ERRORS, [("class", class)], 1);
    }

    /// Database connections in use and idle.
    pub fn pool(&self, used: u32, idle: u32, max: u32) {
        self.set(&POOL, [("state", "used")], f64::from(used));
        self.set(&POOL, [("state", "idle")], f64::from(idle));
        self.set(&POOL_MAX, [], f64::from(max));
    }

    /// What the broker says of one stream. A lag that it cannot tell is NaN, never 0.
    pub fn queue(&self, queue: &str, group: &str, sample: QueueSample) {
        let labels = [("queue", queue), ("group", group)];
        self.set(&QUEUE_LENGTH, [("queue", queue)], sample.length as f64);
        self.set(&QUEUE_LAG, labels, sample.lag.map_or(f64::NAN, |lag| lag as f64));
        self.set(&QUEUE_LAG_KNOWN, labels, f64::from(u8::from(sample.lag.is_some())));
        self.set(&QUEUE_PENDING, labels, sample.pending as f64);
        self.set(&DEAD_LETTER_LENGTH, [("queue", queue)], sample.dead_letters as f64);
    }

    /// Old things went.
    pub fn retention_deleted(&self, what: &'static str, count: u64) {
        self.add(&RETENTION_DELETED, [("what", what)], count);
    }

    /// A look for what is old stopped before its end.
    pub fn retention_failed(&self) {
        self.add(&RETENTION_FAILURES, [], 1);
    }

    /// A look for what is old came to its end.
    pub fn retention_done(&self, unix_seconds: f64) {
        self.set(&RETENTION_DONE, [], unix_seconds);
    }

    /// The state that the process is in.
    pub fn state(&self, state: &str) {
        for known in ["starting", "running", "draining"] {
            self.set(&STATE, [("state", known)], f64::from(u8::from(known == state)));
        }
    }

    /// The configuration was read, at start or again.
    pub fn configured(&self, succeeded: bool, unix_seconds: f64) {
        self.set(&RELOAD_OK, [], f64::from(u8::from(succeeded)));
        self.set(&RELOAD_TIME, [], unix_seconds);
    }

    fn add<const N: usize>(&self, family: &Family, labels: [(&'static str, &str); N], by: u64) {
        self.recorder.register_counter(&key(family, labels), &METADATA).increment(by);
    }

    fn set<const N: usize>(&self, family: &Family, labels: [(&'static str, &str); N], value: f64) {
        self.recorder.register_gauge(&key(family, labels), &METADATA).set(value);
    }

    fn change<const N: usize>(&self, family: &Family, labels: [(&'static str, &str); N], by: f64) {
        self.recorder.register_gauge(&key(family, labels), &METADATA).increment(by);
    }

    fn record<const N: usize>(&self, family: &Family, labels: [(&'static str, &str); N], value: f64) {
        self.recorder.register_histogram(&key(family, labels), &METADATA).record(value);
    }
}

fn key<const N: usize>(family: &Family, labels: [(&'static str, &str); N]) -> Key {
    debug_assert!(labels.iter().map(|(name, _)| name).eq(family.labels), "{} has other labels", family.name);
    let labels = labels.map(|(name, value)| Label::new(name, value.to_owned()));
    Key::from_parts(KeyName::from_const_str(family.name), labels.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_a_name_of_its_own_and_help() {
        let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len());
        for family in FAMILIES {
            assert!(family.name.starts_with("lockkeeper_"), "{}", family.name);
            assert!(family.help.ends_with('.'), "{}: {}", family.name, family.help);
            assert_eq!(matches!(family.kind, Kind::Counter), family.name.ends_with("_total"), "{}", family.name);
        }
    }

    #[test]
    fn known_series_start_at_zero_and_durations_are_histograms() {
        let metrics = Metrics::new().expect("the buckets are right");
        let queues = ["jobs".to_owned()];
        metrics.start(&Known { queues: &queues, job_types: &["item.restock"], ..Known::default() });
        metrics.processed("jobs", None, OutcomeLabel::Dead, Duration::from_millis(3));
        let text = metrics.render();
        let zero = r#"lockkeeper_jobs_processed_total{queue="jobs",job_type="item.restock",outcome="applied"} 0"#;
        assert!(text.contains(zero), "{text}");
        assert!(
            text.contains(r#"lockkeeper_job_end_to_end_seconds_bucket{queue="jobs",job_type="other",le="0.005"} 1"#)
        );
    }
}
