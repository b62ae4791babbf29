//! The shop as its events say it is, and the promises about its stock.
//!
//! The stock is counted here once more, with signs: the domain's own fold stops at zero, so it would hide an item that
//! was oversold.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Line, Problems};
use crate::domain::shop::{Event, Shop, State};
use crate::domain::{AggregateId, Domain, item, order};
use crate::store::Recorded;

/// Every aggregate and every count, as far as the events have been seen.
#[derive(Debug, Default)]
pub(super) struct ShopFold {
    pub states: HashMap<AggregateId, (u64, State)>,
    pub unreadable: Vec<String>,
    items: HashMap<Arc<str>, Count>,
    standing: HashMap<Arc<str>, Arc<[order::Line]>>,
    reservations: u64,
    oversold: Problems,
}

/// Pieces of one item.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// What is left.
    stock: i64,
    /// What was registered and restocked.
    supplied: i64,
}

impl ShopFold {
    /// The aggregate of the event, and its version and state after it.
    pub fn event(&mut self, recorded: &Recorded) -> Option<(AggregateId, u64, &State)> {
        let Recorded { position, aggregate_type, aggregate_id, version, .. } = recorded;
        let Some(kind) = Shop::AGGREGATES.iter().find(|kind| **kind == *aggregate_type) else {
            self.unreadable.push(format!("event {position}: the shop has no {aggregate_type}"));
            return None;
        };
        let event = match Shop::decode(&recorded.event_type, recorded.schema_version, &recorded.payload) {
            Ok(event) => event,
            Err(error) => {
                self.unreadable.push(format!("event {position}: {error}"));
                return None;
            }
        };
        let aggregate = AggregateId::new(kind, aggregate_id.as_str());
        match &event {
            Event::Item(event) => self.count(&aggregate.id, event),
            Event::Order(order::Event::Placed(placed)) => {
                self.standing.insert(aggregate.id.clone(), placed.lines.clone());
            }
            Event::Order(order::Event::Cancelled(_)) => {
                self.standing.remove(&aggregate.id);
            }
        }
        let (head, state) = self.states.entry(aggregate.clone()).or_default();
        *head = *version;
        Shop::evolve(state, &event);
        Some((aggregate, *version, state))
    }

    fn count(&mut self, id: &Arc<str>, event: &item::Event) {
        let count = self.items.entry(id.clone()).or_default();
        let mut supply = |pieces: u32| {
            count.stock += i64::from(pieces);
            count.supplied += i64::from(pieces);
        };
        match event {
            item::Event::Registered(registered) => supply(registered.stock),
            item::Event::Restocked(restocked) => supply(restocked.quantity),
            item::Event::StockReserved(moved) => {
                self.reservations += 1;
                let (left, quantity) = (count.stock, moved.quantity);
                count.stock -= i64::from(quantity);
                if count.stock < 0 {
                    let order = &moved.order_id;
                    self.oversold.add(|| format!("order {order} took {quantity} of {id} with {left} left"));
                }
            }
            item::Event::StockReleased(moved) => count.stock += i64::from(moved.quantity),
            item::Event::Repriced(_) | item::Event::SaleAllowed(_) | item::Event::SaleDenied(_) => {}
        }
    }

    pub fn finish(self) -> [Line; 2] {
        let mut reserved: HashMap<&str, i64> = HashMap::new();
        for line in self.standing.values().flat_map(|lines| lines.iter()) {
            *reserved.entry(&line.item_id).or_default() += i64::from(line.quantity);
        }
        let mut unbalanced = Problems::default();
        for (id, Count { stock, supplied }) in &self.items {
            let reserved = reserved.remove(&**id).unwrap_or(0);
            if stock + reserved != *supplied {
                unbalanced.add(|| format!("{id}: {stock} in stock + {reserved} reserved, but {supplied} supplied"));
            }
        }
        for (id, reserved) in reserved {
            unbalanced.add(|| format!("{id}: {reserved} reserved of an item without events"));
        }
        let (items, orders, reservations) = (self.items.len(), self.standing.len(), self.reservations);
        let sold_out = self.items.values().filter(|count| count.stock == 0).count();
        let supplied: i64 = self.items.values().map(|count| count.supplied).sum();
        [
            self.oversold
                .line("no item oversold", format!("{reservations} reservations of {items} items, {sold_out} sold out")),
            unbalanced.line(
                "stock + reserved = registered + restocked",
                format!("{supplied} pieces, {orders} standing orders"),
            ),
        ]
    }
}
