//! What goes because it is old.

use super::families::*;
use super::registry::Metrics;

impl Metrics {
    /// Creates the counters of the retention.
    pub(super) fn start_retention(&self) {
        self.add(&RETENTION_FAILURES, [], 0);
        ["receipts", "dead_letters", "reply_streams"].iter().for_each(|what| self.retention_deleted(what, 0));
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
}
