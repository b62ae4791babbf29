//! The process: what state it is in, whether it is ready, how its drain goes.

use std::time::Duration;

use super::families::*;
use super::registry::{Metrics, flag};

/// The state that a process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It connects.
    Starting,
    /// It reads and runs jobs.
    Running,
    /// It was told to read nothing for a while.
    Paused,
    /// It finishes what is in flight.
    Draining,
}

impl State {
    const ALL: [Self; 4] = [Self::Starting, Self::Running, Self::Paused, Self::Draining];

    fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }
}

/// What becomes of a job that was in hand when the drain began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainOutcome {
    /// It came to its end.
    Finished,
    /// It was left in its stream.
    Released,
    /// The time for draining was over.
    Abandoned,
}

impl DrainOutcome {
    const ALL: [Self; 3] = [Self::Finished, Self::Released, Self::Abandoned];

    fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Released => "released",
            Self::Abandoned => "abandoned",
        }
    }
}

/// What the sampling loop asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The broker's clock.
    Clock,
    /// A stream's lengths and ages.
    Queue,
    /// Whether entries were lost.
    Lost,
    /// The database.
    Database,
}

impl Asked {
    const ALL: [Self; 4] = [Self::Clock, Self::Queue, Self::Lost, Self::Database];

    fn as_str(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Queue => "queue",
            Self::Lost => "lost",
            Self::Database => "database",
        }
    }
}

/// What jobs in hand wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stalled {
    /// That one of them is committed.
    Commit,
    /// That the broker is told of one.
    Acknowledge,
}

impl Stalled {
    fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Acknowledge => "acknowledge",
        }
    }
}

impl Metrics {
    /// Creates the series of the process.
    pub(super) fn start_process(&self) {
        self.set(&BUILD_INFO, [("version", env!("CARGO_PKG_VERSION"))], 1.0);
        DrainOutcome::ALL.iter().for_each(|outcome| self.drained(*outcome, 0));
        Asked::ALL.iter().for_each(|source| self.add(&COLLECT_ERRORS, [("source", source.as_str())], 0));
        self.state(State::Starting);
    }

    /// The state that the process is in.
    pub fn state(&self, state: State) {
        State::ALL.iter().for_each(|known| self.set(&STATE, [("state", known.as_str())], flag(*known == state)));
    }

    /// Whether one check of `/readyz` passes.
    pub fn ready(&self, check: &'static str, passes: bool) {
        self.set(&READY, [("check", check)], flag(passes));
    }

    /// How long jobs have been in hand without any of them getting so far.
    pub fn stalled(&self, step: Stalled, time: Duration) {
        self.set(&STALLED, [("step", step.as_str())], time.as_secs_f64());
    }

    /// The configuration was read, at start or again.
    pub fn configured(&self, succeeded: bool, unix_seconds: f64) {
        self.set(&RELOAD_OK, [], flag(succeeded));
        self.set(&RELOAD_TIME, [], unix_seconds);
    }

    /// A drain began, and has to end by `deadline`; both Unix time.
    pub fn draining(&self, started: f64, deadline: f64) {
        self.state(State::Draining);
        self.set(&DRAIN_STARTED, [], started);
        self.set(&DRAIN_DEADLINE, [], deadline);
    }

    /// How many jobs a drain still waits for.
    pub fn drain_waits_for(&self, jobs: usize) {
        self.set(&DRAIN_IN_FLIGHT, [], jobs as f64);
    }

    /// What became of jobs that were in hand when the drain began.
    pub fn drained(&self, outcome: DrainOutcome, jobs: usize) {
        self.add(&DRAIN_JOBS, [("outcome", outcome.as_str())], jobs as u64);
    }

    /// A sample could not be taken.
    pub fn collect_failed(&self, source: Asked) {
        self.add(&COLLECT_ERRORS, [("source", source.as_str())], 1);
    }
}
