//! How subscriptions are read.

use std::time::Duration;

/// States that a reader remembers, in bytes. Others are read again.
pub(super) const FOLD: usize = 1 << 20;

/// With more events than this parked something else is wrong than an event.
pub(super) const MOST_PARKED: u64 = 10_000;

/// The events of a first page: nobody knows yet what they weigh.
pub(super) const FIRST_PAGE: u32 = 64;

/// How subscriptions are read.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long it may take until an event of another daemon is seen.
    pub poll: Duration,
    /// The shortest time between two commits of one subscription.
    pub pace: Duration,
    /// The silence after which whoever reads one is given up.
    pub lease: Duration,
    /// The most events of a page.
    pub page_events: u32,
    /// About how many bytes the payloads of a page may have.
    pub page_bytes: u32,
}
