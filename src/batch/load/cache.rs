//! States of recently used aggregates, as many as fit into a number of bytes, and the events that they rest on.

use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use lru::LruCache;

use crate::domain::{AggregateId, Domain};
use crate::store::Anchor;

/// Committed states of recently used aggregates.
///
/// A state is true as long as the log has the events that it rests on, which the anchors stand for, and nobody else has
/// written further ones, which the commit notices. So it saves reading and decides nothing.
///
/// It is bounded by bytes and not by number, since states differ: an order has one line or a hundred.
pub struct Cache<D: Domain> {
    capacity: usize,
    held: Mutex<Held<D>>,
}

/// States by aggregate, each with its version, and about how many bytes they take together.
struct Held<D: Domain> {
    states: LruCache<AggregateId, (u64, D::State)>,
    bytes: usize,
    /// While the log has all of these, it has every event that the states rest on. One for each batch under way, or about that.
    anchors: Vec<Anchor>,
    /// How often everything was forgotten.
    epoch: u64,
}

/// What states out of the cache rest on. Whoever commits what was decided on them has it checked that the anchors are in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheGeneration {
    /// All of these.
    pub anchors: Vec<Anchor>,
    epoch: u64,
}

impl<D: Domain> Held<D> {
    fn new(epoch: u64) -> Self {
        Self { states: LruCache::unbounded(), bytes: 0, anchors: Vec::new(), epoch }
    }
}

impl<D: Domain> Cache<D> {
    /// An empty cache of about this many bytes.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, held: Mutex::new(Held::new(0)) }
    }

    /// Forgets everything, unless that has happened since `generation` was taken; then it returns false.
    pub fn forget(&self, generation: &CacheGeneration) -> bool {
        let mut held = self.lock();
        let is_same = held.epoch == generation.epoch;
        if is_same {
            *held = Held::new(held.epoch + 1);
        }
        is_same
    }

    /// What its states rest on now.
    pub fn generation(&self) -> CacheGeneration {
        self.lock().generation()
    }

    /// The version and state of `aggregate`, if it is here.
    pub fn get(&self, aggregate: &AggregateId) -> Option<(u64, D::State)> {
        self.lock().states.get(aggregate).cloned()
    }

    /// The versions and states of those of `aggregates` that are here, and what they rest on.
    pub fn get_all(&self, aggregates: &[AggregateId]) -> (CacheGeneration, HashMap<AggregateId, (u64, D::State)>) {
        let mut held = self.lock();
        let states = aggregates.iter().filter_map(|aggregate| {
            let known = held.states.get(aggregate).cloned()?;
            Some((aggregate.clone(), known))
        });
        let states = states.collect();
        (held.generation(), states)
    }

    /// Remembers committed states, and forgets those that were not used for longest. One that would push out all others is not
    /// remembered.
    ///
    /// The states rest on `anchor`, and so does what was taken with `generation`: the caller has seen these anchors committed
    /// no later than `anchor`. States from before everything was forgotten are not remembered.
    pub fn put(
        &self,
        generation: &CacheGeneration,
        anchor: Anchor,
        states: impl IntoIterator<Item = (AggregateId, (u64, D::State))>,
    ) {
        let mut held = self.lock();
        if held.epoch != generation.epoch {
            return;
        }
        held.anchors.retain(|held| !generation.anchors.contains(held) && *held != anchor);
        held.anchors.push(anchor);
        for (aggregate, (version, state)) in states {
            // Two batches that follow each other may hear of their ends in the other order.
            if held.states.peek(&aggregate).is_some_and(|(newest, _)| *newest > version) {
                continue;
            }
            let weight = weigh::<D>(&aggregate, &state);
            if weight > self.capacity {
                held.remove(&aggregate);
                continue;
            }
            held.bytes += weight;
            if let Some((aggregate, (_, state))) = held.states.push(aggregate, (version, state)) {
                held.bytes = held.bytes.saturating_sub(weigh::<D>(&aggregate, &state));
            }
            while held.bytes > self.capacity {
                let Some((aggregate, (_, state))) = held.states.pop_lru() else { break };
                held.bytes = held.bytes.saturating_sub(weigh::<D>(&aggregate, &state));
            }
        }
    }

    /// A panic elsewhere cannot have left it half changed: the domain's code weighs a state before and after a change, not
    /// during one.
    fn lock(&self) -> MutexGuard<'_, Held<D>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Domain> Held<D> {
    fn generation(&self) -> CacheGeneration {
        CacheGeneration { anchors: self.anchors.clone(), epoch: self.epoch }
    }

    /// An older state must not outlive the newer one that has no room.
    fn remove(&mut self, aggregate: &AggregateId) {
        if let Some((_, state)) = self.states.pop(aggregate) {
            self.bytes = self.bytes.saturating_sub(weigh::<D>(aggregate, &state));
        }
    }
}

/// What an entry takes beside its state and the text of its id: the links of the list, the slot of the table, the counts of
/// the shared id, and what the allocator adds to each. With it the process grew by what the cache was told to hold, within
/// 8 %, for items and for orders of 3 and of 100 lines (glibc).
const ENTRY: usize = 104;

/// About how many bytes an entry takes.
fn weigh<D: Domain>(aggregate: &AggregateId, state: &D::State) -> usize {
    ENTRY + size_of::<(AggregateId, (u64, D::State))>() + aggregate.id.len() + D::weight(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::account::{Account, Accounts};

    fn aggregate_id(name: &str) -> AggregateId {
        AggregateId::new("account", name)
    }

    /// A light account, and one with as much text beside it as so many lines have.
    fn states(lines: usize) -> [Account; 2] {
        let notes = "a line of thirty-two bytes of it".repeat(lines);
        [Account { balance: 5, notes: String::new() }, Account { balance: 5, notes }]
    }

    fn anchor(position: u64) -> Anchor {
        Anchor { position, event_id: uuid::Uuid::from_u128(position.into()) }
    }

    fn put(cache: &Cache<Accounts>, states: impl IntoIterator<Item = (AggregateId, (u64, Account))>) {
        cache.put(&cache.generation(), anchor(1), states);
    }

    fn kept(cache: &Cache<Accounts>, count: usize) -> Vec<usize> {
        (0..count).filter(|n| cache.get(&aggregate_id(&format!("{n:03}"))).is_some()).collect()
    }

    #[test]
    fn as_many_are_kept_as_fit_and_those_used_last() {
        let [light, _] = states(1);
        let one = weigh::<Accounts>(&aggregate_id("000"), &light);
        let cache: Cache<Accounts> = Cache::new(10 * one);
        for n in 0..100 {
            cache.get(&aggregate_id("000"));
            put(&cache, [(aggregate_id(&format!("{n:03}")), (1, light.clone()))]);
        }
        assert_eq!(kept(&cache, 100), [0, 91, 92, 93, 94, 95, 96, 97, 98, 99]);
        put(&cache, [(aggregate_id("000"), (7, light.clone()))]);
        assert_eq!(kept(&cache, 100).len(), 10, "one that is put again takes no more room");
        assert_eq!(cache.get(&aggregate_id("000")), Some((7, light)));
        assert!(cache.forget(&cache.generation()));
        assert_eq!((kept(&cache, 100).len(), cache.lock().bytes), (0, 0));
    }

    #[test]
    fn a_heavy_state_pushes_out_as_many_as_it_weighs_and_none_when_it_would_not_fit() {
        let ([light, heavy_one], [_, huge]) = (states(20), states(2000));
        let one = weigh::<Accounts>(&aggregate_id("000"), &light);
        let cache: Cache<Accounts> = Cache::new(100 * one);
        (0..100).for_each(|n| put(&cache, [(aggregate_id(&format!("{n:03}")), (1, light.clone()))]));
        let heavy = weigh::<Accounts>(&aggregate_id("o"), &heavy_one);
        put(&cache, [(aggregate_id("o"), (1, heavy_one))]);
        assert_eq!(kept(&cache, 100).len(), 100 - heavy.div_ceil(one));
        assert!(cache.lock().bytes <= 100 * one);
        put(&cache, [(aggregate_id("huge"), (1, huge))]);
        assert!(cache.get(&aggregate_id("huge")).is_none());
        assert!(cache.get(&aggregate_id("o")).is_some());
    }

    #[test]
    fn states_rest_on_every_anchor_that_no_later_batch_has_seen() {
        let cache: Cache<Accounts> = Cache::new(1 << 20);
        let first = cache.generation();
        assert_eq!(first.anchors, []);
        cache.put(&first, anchor(10), []);
        let [a, b] = [cache.generation(), cache.generation()];
        cache.put(&a, anchor(20), []);
        assert_eq!(cache.generation().anchors, [anchor(20)], "it was committed by one that saw 10");
        cache.put(&b, anchor(15), []);
        assert_eq!(cache.generation().anchors, [anchor(20), anchor(15)], "it has seen 10 and not 20");
        let both = cache.generation();
        cache.put(&both, anchor(20), []);
        assert_eq!(cache.generation().anchors, [anchor(20)], "it wrote nothing, and has seen both");
    }

    #[test]
    fn what_was_taken_before_everything_was_forgotten_is_not_remembered() {
        let ([light, _], cache) = (states(1), Cache::<Accounts>::new(1 << 20));
        let before = cache.generation();
        assert!(cache.forget(&before));
        assert!(!cache.forget(&before), "the second one to notice");
        cache.put(&before, anchor(1), [(aggregate_id("000"), (1, light))]);
        assert_eq!((kept(&cache, 1), cache.generation().anchors), (vec![], vec![]));
    }

    #[test]
    fn an_older_state_does_not_outlive_a_newer_one_that_has_no_room() {
        let ([light, _], [_, huge]) = (states(1), states(2000));
        let cache: Cache<Accounts> = Cache::new(10 * weigh::<Accounts>(&aggregate_id("000"), &light));
        put(&cache, [(aggregate_id("000"), (1, light))]);
        put(&cache, [(aggregate_id("000"), (2, huge))]);
        assert_eq!((kept(&cache, 1), cache.lock().bytes), (vec![], 0));
    }
}
