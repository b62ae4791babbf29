//! Who owns the streams.

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

impl Metrics {
    /// Creates the series of one stream.
    pub(super) fn start_owner(&self, queue: &str) {
        TakenFrom::ALL.iter().for_each(|from| self.add(&FLEET_TAKES, [("queue", queue), ("from", from.as_str())], 0));
        [&FLEET_RELEASES, &FLEET_LOST].iter().for_each(|family| self.add(family, [("queue", queue)], 0));
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
    pub fn left_to_others(&self, queue: &str) {
        self.add(&FLEET_RELEASES, [("queue", queue)], 1);
    }

    /// Another process has taken the stream from this one.
    pub fn lost_to_another(&self, queue: &str) {
        self.add(&FLEET_LOST, [("queue", queue)], 1);
    }
}
