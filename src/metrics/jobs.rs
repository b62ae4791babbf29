//! What becomes of jobs, and how long it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::families::*;
use super::registry::Metrics;
use super::running::InFlight;
use crate::job::DeadCode;

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
    /// Every outcome.
    pub const ALL: [Self; 5] = [Self::Applied, Self::Rejected, Self::Duplicate, Self::Expired, Self::Dead];

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

/// A job that ended, and how.
#[derive(Clone, Copy, Debug)]
pub struct EndedJob<'a> {
    /// Its stream.
    pub queue: &'a str,
    /// Its type, when it has a handler.
    pub job_type: Option<&'static str>,
    /// What it ended as.
    pub outcome: OutcomeLabel,
    /// The time from XADD until now; `None` when the entry's id is no time.
    pub age: Option<Duration>,
    /// Batches that it was in.
    pub attempts: u32,
    /// The size of its entry.
    pub bytes: usize,
}

impl Metrics {
    /// Creates the series of one stream's jobs.
    pub(super) fn start_jobs(&self, queue: &str, job_types: &[&'static str]) {
        for job_type in job_types.iter().chain(&[OTHER]) {
            for outcome in OutcomeLabel::ALL {
                let labels = [("queue", queue), ("job_type", job_type), ("outcome", outcome.as_str())];
                self.add(&JOBS_PROCESSED, labels, 0);
            }
            for family in [&JOB_QUEUE_TIME, &JOB_END_TO_END] {
                drop(self.histogram(family, [("queue", queue), ("job_type", job_type)]));
            }
        }
        for code in DeadCode::ALL {
            self.add(&JOBS_DEAD, [("queue", queue), ("reason", code.as_str())], 0);
        }
    }

    /// A batch starts; it ends when what is returned is dropped.
    pub fn batch_started(&self) -> InFlight {
        InFlight::begin(self.running.clone())
    }

    /// How many batches are in flight, and for how long the oldest has been.
    pub(super) fn show_running(&self) {
        let (count, oldest) = self.running.count_and_age();
        self.set(&BATCHES_IN_FLIGHT, [], count as f64);
        self.set(&OLDEST_RUNNING, [], oldest.as_secs_f64());
    }

    /// Jobs of one batch ended, `took` after it started. They are counted together: a job costs a few samples and no look
    /// into the registry.
    pub fn ended(&self, jobs: &[EndedJob<'_>], took: Duration) {
        if self.muted {
            return;
        }
        let mut alike: BTreeMap<(&str, &'static str, OutcomeLabel), Vec<&EndedJob<'_>>> = BTreeMap::new();
        for job in jobs {
            alike.entry((job.queue, job.job_type.unwrap_or(OTHER), job.outcome)).or_default().push(job);
        }
        for ((queue, job_type, outcome), jobs) in alike {
            let outcome = outcome.as_str();
            let of_type = [("queue", queue), ("job_type", job_type)];
            self.add(&JOBS_PROCESSED, [of_type[0], of_type[1], ("outcome", outcome)], jobs.len() as u64);
            let duration = self.histogram(&JOB_DURATION, [of_type[0], of_type[1], ("outcome", outcome)]);
            duration.record_many(took.as_secs_f64(), jobs.len());
            let (end_to_end, waited) =
                (self.histogram(&JOB_END_TO_END, of_type), self.histogram(&JOB_QUEUE_TIME, of_type));
            let (attempts, payload) =
                (self.histogram(&JOB_ATTEMPTS, [of_type[0]]), self.histogram(&JOB_PAYLOAD, [of_type[0]]));
            for job in jobs {
                if let Some(age) = job.age {
                    end_to_end.record(age.as_secs_f64());
                    waited.record(age.saturating_sub(took).as_secs_f64());
                }
                attempts.record(f64::from(job.attempts));
                payload.record(job.bytes as f64);
            }
        }
    }

    /// A job went to the dead letters.
    pub fn dead_lettered(&self, queue: &str, code: DeadCode) {
        self.add(&JOBS_DEAD, [("queue", queue), ("reason", code.as_str())], 1);
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
}

/// The type of every job that has no handler: anybody may send any type.
const OTHER: &str = "other";
