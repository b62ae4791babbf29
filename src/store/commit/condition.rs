//! What a transaction requires of the log, and is refused without.

use uuid::Uuid;

use crate::domain::AggregateId;

/// An event that is known to be in the log.
///
/// Positions follow the order of commits, and what a database loses are its last commits. So as long as the log has this
/// event, it has every event that came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Anchor {
    /// Its place in the log.
    pub position: u64,
    /// Its id, which no event of another log at this place has.
    pub event_id: Uuid,
}

/// The last event of a transaction of which it is not known yet whether it will be in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The aggregate it belongs to.
    pub aggregate: AggregateId,
    /// The version it gives to the aggregate.
    pub version: u64,
    /// Its metadata, which no other try to write this event has.
    pub metadata: String,
}

/// What decisions rest on. Nothing is committed unless the log has all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendCondition {
    /// The newest events that were known.
    pub anchors: Vec<Anchor>,
    /// The last events of the transactions before.
    pub expected: Vec<Expected>,
}

impl AppendCondition {
    /// More is rested on.
    pub fn add(&mut self, more: &AppendCondition) {
        for anchor in &more.anchors {
            if !self.anchors.contains(anchor) {
                self.anchors.push(*anchor);
            }
        }
        for expected in &more.expected {
            if !self.expected.contains(expected) {
                self.expected.push(expected.clone());
            }
        }
    }
}
