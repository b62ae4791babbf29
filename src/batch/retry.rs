//! What happens with the jobs of a batch that failed.

use std::time::Duration;

use super::engine::Engine;
use super::failure::PutBackReason;
use crate::domain::Domain;
use crate::store::{Repeat, StoreError};

/// How often a batch is decided again before it goes back to the plan.
pub(in crate::batch) const ATTEMPTS: u32 = 5;

/// Beside the reasons of [`Repeat`], for metrics: a state that was believed was not so, or a job had been run before.
pub const DECIDED_IN_VAIN: &str = "decided_in_vain";

/// What to do about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::batch) enum Disposition {
    /// Load and decide again, at once.
    DecideAgain,
    /// Part the jobs; one that stands alone is dead.
    Split,
    /// Nothing is wrong with the jobs: they wait.
    Wait,
}

pub(in crate::batch) fn disposition(failure: &StoreError) -> Disposition {
    match failure {
        StoreError::Conflict(_) | StoreError::Repeat(_) => Disposition::DecideAgain,
        // Reading the receipts tells: what is there has happened, and what is not is decided again.
        StoreError::Unknown(_) => Disposition::DecideAgain,
        StoreError::Data(_) => Disposition::Split,
        // No batch has a subscription.
        StoreError::Undecodable(_) | StoreError::Fenced(_) | StoreError::Unavailable(..) => Disposition::Wait,
    }
}

/// How many of its attempts a batch has spent by a failure: one that took seconds is soon a reason to part the jobs, of which
/// perhaps one alone is held up.
pub(in crate::batch) fn cost(failure: &StoreError) -> u32 {
    if matches!(failure, StoreError::Repeat(Repeat::LockWait)) { ATTEMPTS.div_ceil(2) } else { 1 }
}

/// Counts a failure, and logs those that an operator has to know of.
pub(in crate::batch) fn note<D: Domain>(engine: &Engine<D>, failure: &StoreError, jobs: usize) {
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
        StoreError::Undecodable(_) | StoreError::Fenced(_) => {
            tracing::error!(batch.jobs = jobs, error = %failure, "a batch cannot be decided");
        }
    }
}

/// The back-off after the `tries`-th put-back.
pub fn pause(back: PutBackReason, tries: u32, retry_delay: Duration) -> Duration {
    match back {
        // The plan keeps it behind the older job, which is the one that waits.
        PutBackReason::Behind => Duration::ZERO,
        // The plan leaves the aggregate alone for a while, and with it whatever touches it.
        PutBackReason::Busy => Duration::ZERO,
        // Only a newer program, or a mended log, can help.
        PutBackReason::Unreadable => jittered(Duration::from_secs(1 << tries.min(4))),
        // Each of these goes on from a new state, so it is tried at once, unless it does not stop.
        PutBackReason::Targets | PutBackReason::Refused | PutBackReason::Contended if tries < 20 => Duration::ZERO,
        PutBackReason::Targets | PutBackReason::Refused | PutBackReason::Contended => jittered(Duration::from_secs(1)),
        PutBackReason::LockLost => jittered(retry_delay),
        PutBackReason::NoQuorum | PutBackReason::Unavailable => jittered(Duration::from_millis(100 << tries.min(4))),
    }
}

/// Between half and all of `delay`, so that daemons that failed together do not try again together.
pub(in crate::batch) fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(rand::random_range(0.5..=1.0))
}
