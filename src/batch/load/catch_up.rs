//! Brings states up to their heads: from a snapshot where much is missing, and then event by event, a page at a time.
//!
//! Neither time nor memory grows with a history that has a snapshot. One that has none is read as a whole, once: on the way
//! snapshots of it are stored, so that whatever interrupts the reading, the next one goes on from there.

use std::ops::RangeInclusive;

use foldhash::HashMap;
use uuid::Uuid;

use super::snapshot;
use super::starts::Starts;
use crate::batch::engine::Engine;
use crate::batch::failure::Failure;
use crate::batch::incidents::Incidents;
use crate::domain::{AggregateId, Domain, Undecodable, upcast};
use crate::store::{Snapshot, StoredEvent};

/// The most events of one query. So many are read within `database.timeout_ms` even where each lies on a page of its own of a
/// slow disk.
const PAGE: u64 = 1000;

/// Events of one aggregate after which a snapshot is stored although more are to come.
const STRIDE: u64 = 64 * snapshot::EVERY;

/// An aggregate whose state is behind its head.
pub(in crate::batch) struct CatchUp<S> {
    /// The version to reach.
    head: u64,
    /// The version of the state.
    pub version: u64,
    /// What its events up to the version add up to.
    pub state: S,
    /// An event cannot be read by this program, so the version stays where it is.
    pub unreadable: bool,
    /// The event of the version, if it was read here.
    last: Option<Uuid>,
    /// The version from which the next loading would go on.
    kept: u64,
}

impl<S> CatchUp<S> {
    /// An aggregate with this head, of which an older state is known.
    pub fn new(head: u64, version: u64, state: S) -> Self {
        Self { head, version, state, unreadable: false, last: None, kept: version }
    }

    fn is_behind(&self) -> bool {
        self.version < self.head && !self.unreadable
    }

    /// True when as much was read as no loading should have to read again.
    fn is_due(&self) -> bool {
        let read = self.version - self.kept;
        read >= snapshot::EVERY && (read >= STRIDE || !self.is_behind())
    }
}

/// Brings every state up to its head, as far as its events can be read.
pub(in crate::batch) async fn replay<D: Domain>(
    engine: &Engine<D>,
    late: &mut HashMap<AggregateId, CatchUp<D::State>>,
    starts: &mut Starts<'_, D>,
) -> Result<(), Failure> {
    start_from_snapshots(engine, late, starts).await?;
    loop {
        let page = next_page(late);
        if page.is_empty() {
            return Ok(());
        }
        let take = |past: StoredEvent| {
            if let Some(late) = late.get_mut(&past.aggregate) {
                apply::<D>(late, &past, &engine.incidents);
            }
        };
        engine.store.events_of(&page, starts.count(), take).await?;
        for (aggregate, versions) in &page {
            if let Some(late) = late.get_mut(aggregate).filter(|late| late.version < *versions.end()) {
                // The head was that of commits which have since been lost.
                late.head = late.version;
            }
        }
        keep_snapshots(engine, late).await;
    }
}

/// The next events to read: [`PAGE`] at most, of one aggregate after the other.
fn next_page<S>(late: &HashMap<AggregateId, CatchUp<S>>) -> Vec<(AggregateId, RangeInclusive<u64>)> {
    let (mut page, mut room) = (Vec::new(), PAGE);
    for (aggregate, late) in late.iter().filter(|(_, late)| late.is_behind()) {
        let last = late.head.min(late.version + room);
        if last > late.version {
            page.push((aggregate.clone(), late.version + 1..=last));
            room -= last - late.version;
        }
    }
    page
}

/// Asks for the snapshots of those aggregates that would have more events to read than follow a snapshot.
async fn start_from_snapshots<D: Domain>(
    engine: &Engine<D>,
    late: &mut HashMap<AggregateId, CatchUp<D::State>>,
    starts: &mut Starts<'_, D>,
) -> Result<(), Failure> {
    let far = late.iter().filter(|(_, late)| late.head - late.version >= snapshot::EVERY);
    let far: Vec<_> = far.map(|(aggregate, _)| aggregate.clone()).collect();
    if far.is_empty() {
        return Ok(());
    }
    let take = |stored: Snapshot| {
        let Some(late) = late.get_mut(&stored.aggregate).filter(|late| late.version < stored.version) else { return };
        if let Some(state) = snapshot::state::<D>(&stored, &engine.incidents) {
            (late.version, late.kept, late.state) = (stored.version, stored.version, state);
        }
    };
    engine.store.snapshots(&far, starts.count(), take).await
}

/// Stores what was reached. That it fails is no reason to fail: the jobs need the states, not the snapshots.
async fn keep_snapshots<D: Domain>(engine: &Engine<D>, late: &mut HashMap<AggregateId, CatchUp<D::State>>) {
    for (aggregate, late) in late.iter_mut().filter(|(_, late)| late.is_due()) {
        let Some(last) = late.last else { continue };
        late.kept = late.version;
        let Some(taken) = snapshot::take::<D>(aggregate, (late.version, last), &late.state, &engine.incidents) else {
            continue;
        };
        if let Err(error) = engine.store.keep(&taken, engine.max_packet).await
            && engine.incidents.is_news("snapshot")
        {
            tracing::warn!(aggregate.id = %aggregate, %error, "a snapshot cannot be stored; a long history is read again");
        }
    }
}

/// One event more. What comes after one that cannot be read is left alone.
fn apply<D: Domain>(late: &mut CatchUp<D::State>, past: &StoredEvent, incidents: &Incidents) {
    if late.unreadable {
        return;
    }
    match upcast::decode::<D>(&past.event_type, past.schema_version, &past.payload) {
        Ok(event) => {
            D::evolve(&mut late.state, &event);
            late.version = past.version;
            late.last = Some(past.event_id);
        }
        Err(error) => {
            tell(&past.aggregate, past.version, &error, incidents);
            late.unreadable = true;
        }
    }
}

fn tell(aggregate: &AggregateId, version: u64, error: &Undecodable, incidents: &Incidents) {
    if incidents.is_news("unreadable") {
        tracing::error!(
            aggregate.id = %aggregate, event.version = version, %error,
            "an aggregate cannot be loaded; its jobs wait for a program that can"
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the histories and wherever each is cut, pages are bounded, and together they are all that is missing, once
        /// and in order.
        #[test]
        fn pages_are_bounded_and_read_every_event_once(histories in prop::collection::vec((0..5000_u64, 0..5000_u64), 0..20)) {
            let mut late: HashMap<AggregateId, CatchUp<()>> = HashMap::default();
            for (number, (version, missing)) in histories.iter().enumerate() {
                let id = AggregateId::new("counter", number.to_string());
                late.insert(id, CatchUp::new(version + missing, *version, ()));
            }
            loop {
                let page = next_page(&late);
                if page.is_empty() {
                    break;
                }
                let mut events = 0;
                for (aggregate, versions) in page {
                    let late = late.get_mut(&aggregate).unwrap();
                    prop_assert_eq!(*versions.start(), late.version + 1);
                    prop_assert!(*versions.end() >= *versions.start() && *versions.end() <= late.head);
                    events += versions.end() - versions.start() + 1;
                    late.version = *versions.end();
                }
                prop_assert!(events <= PAGE);
            }
            prop_assert!(late.values().all(|late| late.version == late.head));
        }
    }
}
