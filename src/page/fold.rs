//! The states that a projection of aggregates is filled from: what a page's events add up to, on top of those before.

use foldhash::HashMap;

use super::decoded::{Decoded, decode, unwinding};
use super::failure::Failure;
use crate::domain::{AggregateId, Domain, upcast};
use crate::projection::{Change, Projection};
use crate::store::sql::Sql;
use crate::store::{RecordedEvent, Store, StoreError, StoredEvent};

/// The states of aggregates as of a position, as many as have room. Others are read from the log again, which costs nothing but time.
#[derive(Debug)]
pub struct Fold<D: Domain> {
    /// Those that were used lately, and those that were used before: when the first have half of the room, the second go.
    recent: HashMap<AggregateId, (u64, D::State)>,
    before: HashMap<AggregateId, (u64, D::State)>,
    weight: usize,
    room: usize,
    /// How many states were needed.
    pub needed: u64,
    /// How many of them had to be read again.
    pub loaded: u64,
}

/// Aggregates after a page, with what the page did to them.
pub struct Folded<D: Domain> {
    /// Where the page's first event is.
    position: u64,
    aggregates: Vec<After<D>>,
}

/// An aggregate after a page.
struct After<D: Domain> {
    aggregate: AggregateId,
    version: u64,
    state: D::State,
    events: Vec<D::Event>,
}

/// What an entry of a map costs beside its key's text and its state.
const ENTRY: usize = 64;

/// Histories that are read at once.
const CHUNK: usize = 200;

impl<D: Domain> Fold<D> {
    /// States of about so many bytes.
    pub fn new(room: usize) -> Self {
        Self { recent: HashMap::default(), before: HashMap::default(), weight: 0, room, needed: 0, loaded: 0 }
    }

    /// What the aggregates of these events, which follow each other in the log, are after them.
    pub async fn page(&mut self, store: &Store, events: &[RecordedEvent]) -> Result<Folded<D>, Failure> {
        let mut order: Vec<AggregateId> = Vec::new();
        let mut changed: HashMap<AggregateId, (u64, Vec<D::Event>)> = HashMap::default();
        let mut begins: HashMap<AggregateId, u64> = HashMap::default();
        for Decoded { stored, aggregate, event, .. } in decode::<D>(events)? {
            begins.entry(aggregate.clone()).or_insert(stored.position);
            let (_, events) = changed.entry(aggregate.clone()).or_insert_with(|| {
                order.push(aggregate);
                (stored.version - 1, Vec::new())
            });
            events.push(event);
        }
        self.needed += order.len() as u64;
        let mut states: HashMap<AggregateId, D::State> = HashMap::default();
        let mut missing = Vec::new();
        for aggregate in &order {
            let version = changed.get(aggregate).map_or(0, |(version, _)| *version);
            match self.take(aggregate) {
                _ if version == 0 => drop(states.insert(aggregate.clone(), D::State::default())),
                Some((known, state)) if known == version => drop(states.insert(aggregate.clone(), state)),
                _ => missing.push((aggregate.clone(), 1..=version)),
            }
        }
        self.loaded += missing.len() as u64;
        for chunk in missing.chunks(CHUNK) {
            load::<D>(store, chunk, &begins, &mut states).await?;
        }
        order.sort();
        let position = events.first().map_or(0, |event| event.position);
        let mut folded = Vec::with_capacity(order.len());
        for aggregate in order {
            let (version, events) = changed.remove(&aggregate).unwrap_or_default();
            let mut state = states.remove(&aggregate).unwrap_or_default();
            unwinding(position, || events.iter().for_each(|event| D::evolve(&mut state, event)))?;
            folded.push(After { aggregate, version: version + events.len() as u64, state, events });
        }
        Ok(Folded { position, aggregates: folded })
    }

    fn take(&mut self, aggregate: &AggregateId) -> Option<(u64, D::State)> {
        let found = self.recent.remove(aggregate);
        if let Some((_, state)) = &found {
            self.weight -= weight::<D>(aggregate, state);
        }
        found.or_else(|| self.before.remove(aggregate))
    }

    /// Remembers the states, now that the page is done.
    pub fn keep(&mut self, folded: Folded<D>) {
        for After { aggregate, version, state, .. } in folded.aggregates {
            self.weight += weight::<D>(&aggregate, &state);
            self.recent.insert(aggregate, (version, state));
        }
        if self.weight > self.room / 2 {
            self.before = std::mem::take(&mut self.recent);
            self.weight = 0;
        }
    }
}

fn weight<D: Domain>(aggregate: &AggregateId, state: &D::State) -> usize {
    aggregate.id.len() + size_of::<D::State>() + D::weight(state) + ENTRY
}

/// Adds up whole histories, up to the versions that are named. What goes wrong with one is told at the position where its aggregate
/// `begins` in the page.
async fn load<D: Domain>(
    store: &Store,
    wanted: &[(AggregateId, std::ops::RangeInclusive<u64>)],
    begins: &HashMap<AggregateId, u64>,
    states: &mut HashMap<AggregateId, D::State>,
) -> Result<(), Failure> {
    let mut failure = None;
    let take = |past: StoredEvent| {
        let position = begins.get(&past.aggregate).copied().unwrap_or_default();
        let StoredEvent { event_type, schema_version, payload, .. } = &past;
        let evolved = if upcast::is_newer::<D>(event_type, *schema_version) {
            Err(Failure::Newer(position, event_type.clone(), *schema_version))
        } else {
            let decoded = upcast::decode::<D>(event_type, *schema_version, payload);
            let decoded = decoded.map_err(|error| Failure::Poison { position, problem: error.to_string() });
            let state = states.entry(past.aggregate).or_default();
            decoded.and_then(|event| unwinding(position, || D::evolve(state, &event)))
        };
        if let Err(error) = evolved {
            failure.get_or_insert(error);
        }
    };
    store.events_of(wanted, std::future::ready(Ok::<_, StoreError>(())), take).await?;
    failure.map_or(Ok(()), Err)
}

impl<D: Domain> Folded<D> {
    /// Has the projection write these aggregates.
    pub fn write(&self, projection: &dyn Projection<D>, rows: &mut Sql) -> Result<(), Failure> {
        if self.aggregates.is_empty() {
            return Ok(());
        }
        let changes: Vec<Change<'_, D>> = self
            .aggregates
            .iter()
            .map(|After { aggregate, version, state, events }| Change { aggregate, version: *version, state, events })
            .collect();
        unwinding(self.position, || projection.write(&changes, rows))
    }
}
