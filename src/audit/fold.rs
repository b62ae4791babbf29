//! Every aggregate as its events say it is.

use std::collections::HashMap;

use crate::domain::{AggregateId, Domain, upcast};
use crate::store::RecordedEvent;

/// States by aggregate, each with its version, as far as the events have been seen.
pub(super) struct Fold<D: Domain> {
    pub states: HashMap<AggregateId, (u64, D::State)>,
    pub unreadable: Vec<String>,
}

impl<D: Domain> Default for Fold<D> {
    fn default() -> Self {
        Self { states: HashMap::new(), unreadable: Vec::new() }
    }
}

impl<D: Domain> Fold<D> {
    /// The aggregate of the event, the event, and the aggregate's version and state after it.
    pub fn event(&mut self, recorded: &RecordedEvent) -> Option<(AggregateId, D::Event, u64, &D::State)> {
        let RecordedEvent { position, aggregate_type, aggregate_id, version, .. } = recorded;
        let Some(kind) = D::AGGREGATES.iter().find(|kind| **kind == *aggregate_type) else {
            self.unreadable.push(format!("event {position}: there is no aggregate type {aggregate_type}"));
            return None;
        };
        let event = match upcast::decode::<D>(&recorded.event_type, recorded.schema_version, &recorded.payload) {
            Ok(event) => event,
            Err(error) => {
                self.unreadable.push(format!("event {position}: {error}"));
                return None;
            }
        };
        let aggregate = AggregateId::new(kind, aggregate_id.as_str());
        let (head, state) = self.states.entry(aggregate.clone()).or_default();
        *head = *version;
        D::evolve(state, &event);
        Some((aggregate, event, *version, state))
    }
}
