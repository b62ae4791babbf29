//! Readers of the log.

use std::time::Duration;

use super::families::*;
use super::registry::{Metrics, flag};

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOutcome {
    /// It is committed.
    Ok,
    /// Somebody else has the subscription.
    Fenced,
    /// The server wants it repeated.
    Repeat,
    /// An event cannot be read, or its rows are refused.
    Refused,
    /// The database cannot be used.
    Error,
}

impl PageOutcome {
    const ALL: [Self; 5] = [Self::Ok, Self::Fenced, Self::Repeat, Self::Refused, Self::Error];

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fenced => "fenced",
            Self::Repeat => "repeat",
            Self::Refused => "refused",
            Self::Error => "error",
        }
    }
}

impl Metrics {
    /// Creates the series of a subscription, which may be in one of `states`.
    pub fn start_subscription(&self, name: &str, states: &[&'static str]) {
        let labels = [("subscription", name)];
        self.add(&SUBSCRIPTION_EVENTS, labels, 0);
        self.add(&SUBSCRIPTION_TAKES, labels, 0);
        for outcome in PageOutcome::ALL {
            self.add(&SUBSCRIPTION_PAGES, [("subscription", name), ("outcome", outcome.as_str())], 0);
        }
        states.iter().for_each(|state| self.set(&SUBSCRIPTION_STATE, [("subscription", name), ("state", state)], 0.0));
        self.subscription_owned(name, false);
        self.add(&LOG_GAPS, [], 0);
    }

    /// The number of what every transaction writes.
    pub fn generation(&self, generation: u32) {
        self.set(&PROJECTION_GENERATION, [], f64::from(generation));
    }

    /// Whether a read model's build is written.
    pub fn projection_written(&self, build: &str, is_written: bool) {
        self.set(&PROJECTION_WRITTEN, [("projection", build)], flag(is_written));
    }

    /// Whether a read model that this program has is without any build.
    pub fn projection_missing(&self, name: &str, is_missing: bool) {
        self.set(&PROJECTION_MISSING, [("projection", name)], flag(is_missing));
    }

    /// How far a subscription is, and how many events and seconds it is behind.
    pub fn subscription(&self, name: &str, position: u64, (events, seconds): (u64, f64)) {
        let labels = [("subscription", name)];
        self.set(&SUBSCRIPTION_POSITION, labels, position as f64);
        self.set(&SUBSCRIPTION_LAG_EVENTS, labels, events as f64);
        self.set(&SUBSCRIPTION_LAG, labels, seconds);
    }

    /// Which of all `states` it is in.
    pub fn subscription_state(&self, name: &str, states: &[&str], state: &str) {
        for one in states {
            self.set(&SUBSCRIPTION_STATE, [("subscription", name), ("state", one)], flag(*one == state));
        }
    }

    /// Whether this process reads it.
    pub fn subscription_owned(&self, name: &str, is_owned: bool) {
        self.set(&SUBSCRIPTION_OWNED, [("subscription", name)], flag(is_owned));
    }

    /// This process reads it from now on.
    pub fn subscription_taken(&self, name: &str) {
        self.add(&SUBSCRIPTION_TAKES, [("subscription", name)], 1);
    }

    /// What became of a page; of one that is committed, its events and how long it took.
    pub fn page(&self, name: &str, outcome: PageOutcome, done: Option<(usize, Duration)>) {
        self.add(&SUBSCRIPTION_PAGES, [("subscription", name), ("outcome", outcome.as_str())], 1);
        if let Some((events, time)) = done {
            self.add(&SUBSCRIPTION_EVENTS, [("subscription", name)], events as u64);
            self.record(&SUBSCRIPTION_PAGE_DURATION, [("subscription", name)], time.as_secs_f64());
        }
    }

    /// How many events it has gone past without doing them.
    pub fn parked(&self, name: &str, events: u64) {
        self.set(&SUBSCRIPTION_PARKED, [("subscription", name)], events as f64);
    }

    /// The log has a hole.
    pub fn log_gap(&self) {
        self.add(&LOG_GAPS, [], 1);
    }
}
