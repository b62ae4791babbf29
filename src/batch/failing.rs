//! What happens with the jobs of a batch that failed.

use std::time::Duration;

use super::Engine;
use crate::domain::Domain;
use crate::store::{Repeat, StoreError};

/// How often a batch is decided again before it goes back to the plan.
pub(super) const ATTEMPTS: u32 = 5;

/// Why jobs go back to the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// Somebody else holds a lock.
    Busy,
    /// Too few lock nodes answered.
    NoQuorum,
    /// An older job that touches the same had to go back.
    Behind,
    /// A lock that was held ran out.
    LockLost,
    /// The job touches other aggregates than was thought.
    Targets,
    /// An aggregate that the job touches has events which this program cannot read.
    Unreadable,
    /// Somebody else kept writing in between.
    Contended,
    /// The database refused the batch; smaller ones will show which job it is.
    Refused,
    /// The database cannot be used, or the broker, where the start of a claimed job is to be counted.
    Unavailable,
}

impl Back {
    /// Every reason, for metrics that start at zero.
    pub const ALL: [Self; 9] = [
        Self::Busy,
        Self::NoQuorum,
        Self::Behind,
        Self::LockLost,
        Self::Targets,
        Self::Unreadable,
        Self::Contended,
        Self::Refused,
        Self::Unavailable,
    ];

    /// The reason as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "lock_busy",
            Self::NoQuorum => "lock_no_quorum",
            Self::Behind => "behind",
            Self::LockLost => "lock_lost",
            Self::Targets => "targets",
            Self::Unreadable => "unreadable",
            Self::Contended => "contended",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Beside the reasons of [`Repeat`], for metrics: a state that was believed was not so, or a job had been run before.
pub const DECIDED_IN_VAIN: &str = "decided_in_vain";

/// What to do about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    /// Load and decide again, at once.
    DecideAgain,
    /// Part the jobs; one that stands alone is dead.
    Split,
    /// Nothing is wrong with the jobs: they wait.
    Wait,
}

pub(super) fn disposition(failure: &StoreError) -> Disposition {
    match failure {
        StoreError::Conflict(_) | StoreError::Repeat(_) => Disposition::DecideAgain,
        // Reading the receipts tells: what is there has happened, and what is not is decided again.
        StoreError::Unknown(_) => Disposition::DecideAgain,
        StoreError::Data(_) => Disposition::Split,
        StoreError::Undecodable(_) | StoreError::Unavailable(..) => Disposition::Wait,
    }
}

/// How many of its attempts a batch has spent by a failure: one that took seconds is soon a reason to part the jobs, of which
/// perhaps one alone is held up.
pub(super) fn cost(failure: &StoreError) -> u32 {
    if matches!(failure, StoreError::Repeat(Repeat::LockWait)) { ATTEMPTS.div_ceil(2) } else { 1 }
}

/// Counts a failure, and logs those that an operator has to know of.
pub(super) fn note<D: Domain>(engine: &Engine<D>, failure: &StoreError, jobs: usize) {
    match failure {
        StoreError::Conflict(kind) => engine.metrics.conflict(kind.as_str()),
        StoreError::Repeat(reason) => engine.metrics.repeated(reason.as_str()),
        StoreError::Unknown(_) => {
            engine.metrics.commit_unknown();
            tracing::warn!(batch.jobs = jobs, error = %failure, "the receipts will tell what became of a batch");
        }
        StoreError::Unavailable(class, _) => {
            engine.metrics.store_error(class.as_str());
            if engine.incidents.is_news(class.as_str()) {
                tracing::warn!(batch.jobs = jobs, error = %failure, "nothing can be committed; the jobs wait");
            }
        }
        StoreError::Data(_) => tracing::warn!(batch.jobs = jobs, error = %failure, "a batch was refused"),
        StoreError::Undecodable(_) => tracing::error!(batch.jobs = jobs, error = %failure, "a batch cannot be decided"),
    }
}

/// How long a job waits after it went back for the `tries`-th time.
pub fn pause(back: Back, tries: u32, retry_delay: Duration) -> Duration {
    match back {
        // The plan keeps it behind the older job, which is the one that waits.
        Back::Behind => Duration::ZERO,
        // The plan leaves the aggregate alone for a while, and with it whatever touches it.
        Back::Busy => Duration::ZERO,
        // Only a newer program, or a mended log, can help.
        Back::Unreadable => jittered(Duration::from_secs(1 << tries.min(4))),
        // Each of these goes on from a new state, so it is tried at once, unless it does not stop.
        Back::Targets | Back::Refused | Back::Contended if tries < 20 => Duration::ZERO,
        Back::Targets | Back::Refused | Back::Contended => jittered(Duration::from_secs(1)),
        Back::LockLost => jittered(retry_delay),
        Back::NoQuorum | Back::Unavailable => jittered(Duration::from_millis(100 << tries.min(4))),
    }
}

/// Between half and all of `delay`, so that daemons that failed together do not try again together.
pub(super) fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(rand::random_range(0.5..=1.0))
}
