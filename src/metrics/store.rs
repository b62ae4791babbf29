//! What the database is asked for, and what it answers.

use std::time::Duration;

use super::families::*;
use super::registry::Metrics;

impl Metrics {
    /// Creates the series of the store, with all that may go wrong.
    pub(super) fn start_store(&self, conflicts: &[&'static str], repeats: &[&'static str], outages: &[&'static str]) {
        conflicts.iter().for_each(|kind| self.add(&CONFLICTS, [("kind", *kind)], 0));
        repeats.iter().for_each(|reason| self.add(&RETRIES, [("reason", *reason)], 0));
        outages.iter().for_each(|class| self.add(&STORE_ERRORS, [("class", *class)], 0));
        for outcome in ["ok", "conflict", "error"] {
            drop(self.histogram(&APPEND_DURATION, [("outcome", outcome)]));
        }
        [&COMMIT_UNKNOWN, &POOL_TIMEOUTS, &WENT_BACK].iter().for_each(|family| self.add(family, [], 0));
    }

    /// A transaction was sent and ended as `outcome`.
    pub fn appended(&self, outcome: &'static str, elapsed: Duration, events: u64) {
        self.record(&APPEND_DURATION, [("outcome", outcome)], elapsed.as_secs_f64());
        self.record(&APPEND_EVENTS, [], events as f64);
    }

    /// Events of one type were committed.
    pub fn events(&self, event_type: &'static str, count: u64) {
        self.add(&EVENTS_APPENDED, [("event_type", event_type)], count);
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

    /// The newest committed position; `None` when the database does not tell.
    pub fn head(&self, position: Option<u64>) {
        self.set(&HEAD_POSITION, [], position.map_or(f64::NAN, |position| position as f64));
    }

    /// The database has lost commits that it had confirmed.
    pub fn went_back(&self) {
        self.add(&WENT_BACK, [], 1);
    }

    /// Somebody waited for a connection.
    pub fn pool_acquired(&self, waited: Duration) {
        self.record(&POOL_ACQUIRE, [], waited.as_secs_f64());
    }

    /// No connection became free in time.
    pub fn pool_timed_out(&self) {
        self.add(&POOL_TIMEOUTS, [], 1);
    }

    /// A batch has statements for a read model.
    pub fn projected(&self, projection: &'static str, bytes: usize) {
        self.record(&PROJECTION_BYTES, [("projection", projection)], bytes as f64);
    }
}
