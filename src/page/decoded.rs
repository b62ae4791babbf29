//! Events of a page as the domain knows them, and its code, which may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use chrono::{DateTime, Utc};

use super::failure::Failure;
use crate::domain::{AggregateId, Domain, upcast};
use crate::projection::Happened;
use crate::store::RecordedEvent;

/// An event of a page that concerns the projection.
pub(super) struct Decoded<'a, D: Domain> {
    pub stored: &'a RecordedEvent,
    pub recorded_at: DateTime<Utc>,
    pub aggregate: AggregateId,
    pub event: D::Event,
}

impl<D: Domain> Decoded<'_, D> {
    pub fn happened(&self) -> Happened<'_, D> {
        Happened {
            position: self.stored.position,
            event_id: self.stored.event_id,
            recorded_at: self.recorded_at,
            aggregate: &self.aggregate,
            version: self.stored.version,
            event: &self.event,
        }
    }
}

pub(super) fn decode<D: Domain>(events: &[RecordedEvent]) -> Result<Vec<Decoded<'_, D>>, Failure> {
    let each = events.iter().map(|stored| {
        let poison = |problem: String| Failure::Poison { position: stored.position, problem };
        let RecordedEvent { event_type, schema_version, payload, .. } = stored;
        if upcast::is_newer::<D>(event_type, *schema_version) {
            return Err(Failure::Newer(stored.position, event_type.clone(), *schema_version));
        }
        let event = upcast::decode::<D>(event_type, *schema_version, payload);
        let event = event.map_err(|error| poison(error.to_string()))?;
        let kind = D::AGGREGATES.iter().find(|kind| **kind == stored.aggregate_type);
        let kind = kind.ok_or_else(|| poison(format!("there is no aggregate type {}", stored.aggregate_type)))?;
        let recorded_at = stored.moment().ok_or_else(|| poison(format!("{} is no time", stored.recorded_at)))?;
        Ok(Decoded { stored, recorded_at, aggregate: AggregateId::new(kind, &*stored.aggregate_id), event })
    });
    each.collect()
}

/// Has a projection write, whose code may panic. The page begins at this position.
pub(super) fn unwinding(position: u64, write: impl FnOnce()) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(write)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        let problem = format!("the projection's code panicked: {}", text.unwrap_or("no message"));
        Failure::Poison { position, problem }
    })
}
