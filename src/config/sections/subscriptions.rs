//! Who reads the log, and how.

use std::time::Duration;

use crate::config::layers::Layers;

/// `[subscriptions]`: who reads the log, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriptions {
    /// Whether this daemon may read any.
    pub run: bool,
    /// How long it may take until an event that another daemon wrote is seen.
    pub poll: Duration,
    /// The shortest time between two commits of one subscription.
    pub pace: Duration,
    /// The silence after which another daemon reads it.
    pub lease: Duration,
    /// Most events of a page.
    pub page_events: u32,
    /// About how many bytes the payloads of a page may have.
    pub page_bytes: u32,
}

impl Subscriptions {
    pub(in crate::config) fn read(layers: &mut Layers) -> Self {
        Self {
            run: layers.flag("subscriptions.run"),
            poll: layers.millis("subscriptions.poll_ms", 10..=60_000),
            pace: layers.millis("subscriptions.pace_ms", 0..=10_000),
            lease: layers.millis("subscriptions.lease_ms", 2_000..=600_000),
            page_events: layers.count("subscriptions.page_events", 1..=10_000),
            page_bytes: layers.bytes("subscriptions.page_bytes", 1_024..=16 << 20),
        }
    }
}
