//! The stored states, compared with the fold of the events up to each one's version.

use std::collections::HashMap;

use super::report::{Line, Problems};
use crate::domain::{AggregateId, Domain};
use crate::store::StoredSnapshot;

/// The snapshots whose version has not been reached yet, and what was found of the others.
pub(super) struct Snapshots<D: Domain> {
    waiting: HashMap<AggregateId, (u64, D::State)>,
    equal: u64,
    of_other_schemas: u64,
    wrong: Problems,
}

impl<D: Domain> Default for Snapshots<D> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), equal: 0, of_other_schemas: 0, wrong: Problems::default() }
    }
}

impl<D: Domain> Snapshots<D> {
    /// A row of the table.
    pub fn stored(&mut self, stored: StoredSnapshot) {
        let StoredSnapshot { aggregate_type, aggregate_id, version, schema_version, state } = stored;
        let Some(kind) = D::AGGREGATES.iter().find(|kind| **kind == aggregate_type) else {
            self.wrong.add(|| format!("{aggregate_type}/{aggregate_id}: there is no aggregate type {aggregate_type}"));
            return;
        };
        if schema_version != D::STATE_SCHEMA {
            self.of_other_schemas += 1;
            return;
        }
        match serde_json::from_slice(&state) {
            Ok(state) => {
                self.waiting.insert(AggregateId::new(kind, aggregate_id), (version, state));
            }
            Err(error) => self.wrong.add(|| format!("{aggregate_type}/{aggregate_id} v{version}: {error}")),
        }
    }

    /// By its events, `aggregate` has this state at this version.
    pub fn reached(&mut self, aggregate: &AggregateId, version: u64, state: &D::State) {
        if self.waiting.get(aggregate).is_none_or(|(of, _)| *of != version) {
            return;
        }
        match self.waiting.remove(aggregate) {
            Some((_, stored)) if stored != *state => {
                self.wrong.add(|| format!("{aggregate} v{version} is not what its events add up to"));
            }
            _ => self.equal += 1,
        }
    }

    pub fn finish(mut self) -> Line {
        for (aggregate, (version, _)) in &self.waiting {
            self.wrong.add(|| format!("{aggregate} v{version} is of an event that is not there"));
        }
        let summary = match (self.equal, self.of_other_schemas) {
            (equal, 0) => format!("{equal} snapshots"),
            (equal, others) => format!("{equal} snapshots; {others} of other schema versions are of no use"),
        };
        self.wrong.line("snapshots = fold up to their version", summary)
    }
}
