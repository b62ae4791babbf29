//! States of recently used aggregates, as many as fit into a number of bytes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::domain::{AggregateId, Domain};

/// Committed states of recently used aggregates. Whatever it says is compared with the head in the database before it is
/// used, so it saves loading and decides nothing.
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
}

impl<D: Domain> Cache<D> {
    /// An empty cache of about this many bytes.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, held: Mutex::new(Held { states: LruCache::unbounded(), bytes: 0 }) }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let mut held = self.lock();
        *held = Held { states: LruCache::unbounded(), bytes: 0 };
    }

    /// The version and state of `aggregate`, if it is here.
    pub fn get(&self, aggregate: &AggregateId) -> Option<(u64, D::State)> {
        self.lock().states.get(aggregate).cloned()
    }

    /// Remembers committed states, and forgets those that were not used for longest. One that would push out all others is not
    /// remembered.
    pub fn put(&self, states: impl IntoIterator<Item = (AggregateId, (u64, D::State))>) {
        let mut held = self.lock();
        for (aggregate, (version, state)) in states {
            let weight = weigh::<D>(&aggregate, &state);
            if weight > self.capacity {
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
    use crate::domain::shop::kit::{aggregate_id, given};
    use crate::domain::shop::{Shop, State};

    const PEN: &str =
        r#"{"name":"Pen","supply_price":"1.000","vat":"0.100","is_tax_free":false,"stock":5,"member_id":7}"#;

    /// A pen, and an order of this many lines.
    fn states(lines: usize) -> [State; 2] {
        let lines = vec![r#"{"item_id":"pen","quantity":1,"price":"1.100","is_tax_free":false}"#; lines].join(",");
        let placed = format!(r#"{{"member_id":1,"total_price":"0.000","lines":[{lines}]}}"#);
        let world = given(&[("item/pen", "item.registered", PEN), ("order/o", "order.placed", &placed)]);
        ["item/pen", "order/o"].map(|id| world.states[&aggregate_id(id)].clone())
    }

    fn kept(cache: &Cache<Shop>, count: usize) -> Vec<usize> {
        (0..count).filter(|n| cache.get(&aggregate_id(&format!("item/{n:03}"))).is_some()).collect()
    }

    #[test]
    fn as_many_are_kept_as_fit_and_those_used_last() {
        let [pen, _] = states(1);
        let one = weigh::<Shop>(&aggregate_id("item/000"), &pen);
        let cache: Cache<Shop> = Cache::new(10 * one);
        for n in 0..100 {
            cache.get(&aggregate_id("item/000"));
            cache.put([(aggregate_id(&format!("item/{n:03}")), (1, pen.clone()))]);
        }
        assert_eq!(kept(&cache, 100), [0, 91, 92, 93, 94, 95, 96, 97, 98, 99]);
        cache.put([(aggregate_id("item/000"), (7, pen.clone()))]);
        assert_eq!(kept(&cache, 100).len(), 10, "one that is put again takes no more room");
        assert_eq!(cache.get(&aggregate_id("item/000")), Some((7, pen)));
        cache.clear();
        assert_eq!((kept(&cache, 100).len(), cache.lock().bytes), (0, 0));
    }

    #[test]
    fn a_heavy_state_pushes_out_as_many_as_it_weighs_and_none_when_it_would_not_fit() {
        let ([pen, order], [_, huge]) = (states(20), states(2000));
        let one = weigh::<Shop>(&aggregate_id("item/000"), &pen);
        let cache: Cache<Shop> = Cache::new(100 * one);
        (0..100).for_each(|n| cache.put([(aggregate_id(&format!("item/{n:03}")), (1, pen.clone()))]));
        let heavy = weigh::<Shop>(&aggregate_id("order/o"), &order);
        cache.put([(aggregate_id("order/o"), (1, order))]);
        assert_eq!(kept(&cache, 100).len(), 100 - heavy.div_ceil(one));
        assert!(cache.lock().bytes <= 100 * one);
        cache.put([(aggregate_id("order/huge"), (1, huge))]);
        assert!(cache.get(&aggregate_id("order/huge")).is_none());
        assert!(cache.get(&aggregate_id("order/o")).is_some());
    }
}
