//! When work last came to something, and what it failed for since.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something was committed.
    Commit,
    /// Jobs were committed, or found to have been.
    Settle,
    /// The broker was told of a job's end.
    Acknowledge,
}

/// When each step last succeeded, and the last failure after that.
#[derive(Debug)]
pub struct Progress([Mutex<Made>; 3]);

#[derive(Debug)]
struct Made {
    at: Instant,
    failure: Option<(Instant, String)>,
}

impl Default for Progress {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(Made { at: Instant::now(), failure: None })))
    }
}

impl Progress {
    /// The step has succeeded now.
    pub fn made(&self, step: Step) {
        self.with(step, |made| *made = Made { at: Instant::now(), failure: None });
    }

    /// The step has failed now.
    pub fn failed(&self, step: Step, why: String) {
        self.with(step, |made| made.failure = Some((Instant::now(), why)));
    }

    /// How long ago the step last succeeded; since the beginning when it has not yet.
    pub fn age(&self, step: Step) -> Duration {
        self.with(step, |made| made.at.elapsed())
    }

    /// How long ago the step last failed, and for what, unless it has succeeded since.
    pub fn failure(&self, step: Step) -> Option<(Duration, String)> {
        self.with(step, |made| made.failure.as_ref().map(|(at, why)| (at.elapsed(), why.clone())))
    }

    fn with<T>(&self, step: Step, look: impl FnOnce(&mut Made) -> T) -> T {
        look(&mut self.0[step as usize].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_known_until_the_same_step_succeeds() {
        let progress = Progress::default();
        progress.failed(Step::Acknowledge, "no right".to_owned());
        progress.made(Step::Commit);
        assert_eq!(progress.failure(Step::Acknowledge).map(|(_, why)| why).as_deref(), Some("no right"));
        assert_eq!(progress.failure(Step::Commit), None);
        progress.made(Step::Acknowledge);
        assert_eq!(progress.failure(Step::Acknowledge), None);
    }
}
