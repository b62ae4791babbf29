//! Which jobs go behind a dead one. Pure.
//!
//! A dead job's aggregates may be touched by no later job of its stream, until an operator has said what becomes of it; nor may those
//! of a job that was held for that reason, or it would be overtaken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foldhash::HashMap;

use crate::domain::AggregateId;
use crate::job::EntryId;

/// The dead and the held jobs of all streams.
#[derive(Debug, Default)]
pub struct Holds {
    streams: HashMap<Arc<str>, OfStream>,
}

#[derive(Debug, Default)]
struct OfStream {
    jobs: BTreeMap<EntryId, Holding>,
    by_aggregate: HashMap<String, BTreeSet<EntryId>>,
}

/// A job that holds others.
#[derive(Debug)]
struct Holding {
    aggregates: Vec<String>,
    is_dead: bool,
    /// Whether the broker knows of it.
    is_written: bool,
}

impl OfStream {
    fn is_behind(&self, entry: EntryId, aggregates: &[String]) -> bool {
        let first = |aggregate| self.by_aggregate.get(aggregate).and_then(BTreeSet::first);
        aggregates.iter().filter_map(first).any(|oldest| *oldest < entry)
    }

    fn is_free(&self, entry: EntryId) -> bool {
        let held = self.jobs.get(&entry).filter(|job| !job.is_dead && job.is_written);
        held.is_some_and(|job| !self.is_behind(entry, &job.aggregates))
    }
}

/// The aggregates as the broker keeps them.
pub fn as_text(aggregates: &[AggregateId]) -> Vec<String> {
    aggregates.iter().map(AggregateId::to_string).collect()
}

impl Holds {
    /// Whether no job of `stream` holds another.
    pub fn are_none(&self, stream: &str) -> bool {
        !self.streams.contains_key(stream)
    }

    /// Whether the job of `stream` with this entry has to go behind another.
    pub fn hold(&self, stream: &str, entry: EntryId, aggregates: &[AggregateId]) -> bool {
        self.streams.get(stream).is_some_and(|held| held.is_behind(entry, &as_text(aggregates)))
    }

    /// The job holds later ones: it is dead, or is held itself. Whether the broker knows of it is told later.
    pub fn add(&mut self, stream: &Arc<str>, entry: EntryId, aggregates: Vec<String>, is_dead: bool) {
        if aggregates.is_empty() {
            return;
        }
        let held = self.streams.entry(stream.clone()).or_default();
        for aggregate in &aggregates {
            held.by_aggregate.entry(aggregate.clone()).or_default().insert(entry);
        }
        held.jobs.insert(entry, Holding { aggregates, is_dead, is_written: false });
    }

    /// The broker knows of these. Whether one of them could go on at once, since what held it has gone meanwhile.
    pub fn are_written(&mut self, stream: &str, entries: impl IntoIterator<Item = EntryId>) -> bool {
        let Some(held) = self.streams.get_mut(stream) else { return false };
        let mut is_any_free = false;
        for entry in entries {
            if let Some(job) = held.jobs.get_mut(&entry) {
                job.is_written = true;
                is_any_free |= held.is_free(entry);
            }
        }
        is_any_free
    }

    /// These hold nobody any more: they are in hand, or dropped. Whether another one could go on now.
    pub fn let_go(&mut self, stream: &str, entries: &[EntryId]) -> bool {
        let Some(held) = self.streams.get_mut(stream) else { return false };
        for entry in entries {
            let Some(job) = held.jobs.remove(entry) else { continue };
            for aggregate in &job.aggregates {
                if let Some(of_it) = held.by_aggregate.get_mut(aggregate) {
                    of_it.remove(entry);
                    if of_it.is_empty() {
                        held.by_aggregate.remove(aggregate);
                    }
                }
            }
        }
        let is_any_free = held.jobs.keys().any(|entry| held.is_free(*entry));
        if held.jobs.is_empty() {
            self.streams.remove(stream);
        }
        is_any_free
    }

    /// Nothing is known of this stream any more.
    pub fn forget(&mut self, stream: &str) {
        self.streams.remove(stream);
    }

    /// How many jobs of this stream wait behind a dead one.
    pub fn held(&self, stream: &str) -> usize {
        self.streams.get(stream).map_or(0, |held| held.jobs.values().filter(|job| !job.is_dead).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    fn items(names: &[&str]) -> Vec<AggregateId> {
        names.iter().map(|name| AggregateId::new("item", *name)).collect()
    }

    #[test]
    fn only_later_jobs_of_the_same_stream_and_aggregate_are_held() {
        let (mut holds, jobs) = (Holds::default(), Arc::from("jobs"));
        holds.add(&jobs, entry(5), as_text(&items(&["pen"])), true);
        assert!(holds.hold("jobs", entry(6), &items(&["ink", "pen"])));
        assert!(!holds.hold("jobs", entry(4), &items(&["pen"])), "it is older");
        assert!(!holds.hold("jobs", entry(5), &items(&["pen"])), "it is the dead one itself");
        assert!(!holds.hold("jobs", entry(6), &items(&["ink"])) && !holds.hold("more", entry(6), &items(&["pen"])));
        holds.add(&jobs, entry(6), as_text(&items(&["ink", "pen"])), false);
        assert!(holds.hold("jobs", entry(7), &items(&["ink"])), "it is behind one that is held");
        assert_eq!(holds.held("jobs"), 1);
        holds.add(&jobs, entry(9), Vec::new(), true);
        assert!(!holds.let_go("jobs", &[entry(6), entry(9)]) && !holds.are_none("jobs"));
        assert!(!holds.let_go("jobs", &[entry(5)]) && holds.are_none("jobs"));
    }

    #[test]
    fn whoever_is_held_by_nobody_any_more_is_free_once_the_broker_knows_of_it() {
        let (mut holds, jobs) = (Holds::default(), Arc::from("jobs"));
        holds.add(&jobs, entry(1), as_text(&items(&["pen"])), true);
        holds.add(&jobs, entry(2), as_text(&items(&["pen"])), false);
        assert!(!holds.are_written("jobs", [entry(2)]), "the dead one is there");
        holds.add(&jobs, entry(3), as_text(&items(&["pen"])), false);
        assert!(holds.let_go("jobs", &[entry(1)]), "the second is free");
        assert!(!holds.let_go("jobs", &[entry(2)]), "the broker does not know of the third yet");
        assert!(holds.are_written("jobs", [entry(3)]));
    }
}
