//! How subscriptions are read.

use std::time::Duration;

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
