//! Who owns the streams.

use std::time::Duration;

use super::families::*;
use super::queue::UNKNOWN;
use super::registry::{Metrics, flag};

/// Whom a stream was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenFrom {
    /// Nobody: it was free.
    Free,
    /// An owner that gave no sign of life.
    Silent,
}

impl TakenFrom {
    const ALL: [Self; 2] = [Self::Free, Self::Silent];

    fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Silent => "silent",
        }
    }
}

/// Up to what a take is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// The broker has said that the stream is ours.
    Take,
    /// The first commit afterwards.
    FirstCommit,
}

impl Taking {
    fn as_str(self) -> &'static str {
        match self {
            Self::Take => "take",
            Self::FirstCommit => "first_commit",
        }
    }
}

/// Why a stream was left to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// The process ends.
    Drain,
    /// It was told to be quiet.
    Quiet,
    /// It reaches less than a peer.
    Unfit,
    /// A peer knows a job that it does not.
    Unknown,
    /// A peer owns fewer.
    Balance,
}

impl Released {
    const ALL: [Self; 5] = [Self::Drain, Self::Quiet, Self::Unfit, Self::Unknown, Self::Balance];

    /// Its label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Quiet => "quiet",
            Self::Unfit => "unfit",
            Self::Unknown => "unknown_type",
            Self::Balance => "balance",
        }
    }
}

impl Metrics {
    /// Creates the series of one stream.
    pub(super) fn start_owner(&self, queue: &str) {
        TakenFrom::ALL.iter().for_each(|from| self.add(&FLEET_TAKES, [("queue", queue), ("from", from.as_str())], 0));
        Released::ALL.iter().for_each(|why| self.add(&FLEET_RELEASES, [("queue", queue), ("reason", why.as_str())], 0));
        [&FLEET_LOST, &JOBS_UNKNOWN].iter().for_each(|family| self.add(family, [("queue", queue)], 0));
    }

    /// Whether this process owns the stream, how often it was taken, and for how long its owner has given no sign of life.
    pub fn owner(&self, queue: &str, is_owned: bool, epoch: u64, silent_seconds: Option<f64>) {
        self.set(&STREAM_OWNED, [("queue", queue)], flag(is_owned));
        self.set(&STREAM_EPOCH, [("queue", queue)], epoch as f64);
        self.set(&STREAM_SILENT, [("queue", queue)], silent_seconds.unwrap_or(UNKNOWN));
    }

    /// This process has taken the stream.
    pub fn taken(&self, queue: &str, from: TakenFrom) {
        self.add(&FLEET_TAKES, [("queue", queue), ("from", from.as_str())], 1);
    }

    /// This process has left the stream to others.
    pub fn left_to_others(&self, queue: &str, why: Released) {
        self.add(&FLEET_RELEASES, [("queue", queue), ("reason", why.as_str())], 1);
    }

    /// What this process is to its streams: `role`, of all that it may be.
    pub fn role(&self, roles: &[&'static str], role: &str) {
        roles.iter().for_each(|name| self.set(&FLEET_STATE, [("state", name)], flag(*name == role)));
    }

    /// A take has come so far.
    pub fn took(&self, phase: Taking, time: Duration) {
        self.record(&TAKE_DURATION, [("phase", phase.as_str())], time.as_secs_f64());
    }

    /// A beat was answered so long before jobs could not have been begun any more.
    pub fn beaten_before(&self, margin: Duration) {
        self.record(&BEAT_MARGIN, [], margin.as_secs_f64());
    }

    /// How many entries in hand another owner may have begun.
    pub fn suspects(&self, queue: &str, entries: usize) {
        self.set(&QUEUE_SUSPECTS, [("queue", queue)], entries as f64);
    }

    /// How many daemons of the fleet could do the work.
    pub fn members(&self, count: usize) {
        self.set(&FLEET_MEMBERS, [], count as f64);
    }

    /// Whether jobs of the stream wait for a daemon that knows them.
    pub fn unknown_types(&self, queue: &str, is_so: bool) {
        self.set(&UNKNOWN_TYPES, [("queue", queue)], flag(is_so));
    }

    /// A job waits for a daemon that knows it.
    pub fn job_unknown(&self, queue: &str) {
        self.add(&JOBS_UNKNOWN, [("queue", queue)], 1);
    }

    /// Whether the stream is paused.
    pub fn paused(&self, queue: &str, is_paused: bool) {
        self.set(&STREAM_PAUSED, [("queue", queue)], flag(is_paused));
    }

    /// Another process has taken the stream from this one.
    pub fn lost_to_another(&self, queue: &str) {
        self.add(&FLEET_LOST, [("queue", queue)], 1);
    }
}
