//! The shop as its events say it is, and the promises about its stock.
//!
//! The stock is counted here once more, with signs: the domain's own fold stops at zero, so it would hide an item that
//! was oversold.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lockkeeper::audit::{self, Line, Logged, Problems, Row};
use lockkeeper::domain::AggregateId;
use lockkeeper::projection::{Happened, Table};
use rust_decimal::Decimal;

use super::item::{self, Item};
use super::order::{self, Order, Status};
use super::read_models::{items, orders, sales};
use super::{Event, Shop, State};

/// Every count, as far as the events have been seen.
#[derive(Debug, Default)]
pub struct Promises {
    items: HashMap<Arc<str>, Count>,
    standing: HashMap<Arc<str>, Arc<[order::Line]>>,
    reservations: u64,
    oversold: Problems,
    sales: BTreeMap<String, Day>,
}

/// What was sold on a day.
#[derive(Clone, Copy, Debug, Default)]
struct Day {
    orders: u64,
    revenue: Decimal,
    cancelled: u64,
}

/// Pieces of one item.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// What is left.
    stock: i64,
    /// What was registered and restocked.
    supplied: i64,
}

impl Promises {
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
}

impl audit::Promises<Shop> for Promises {
    fn event(&mut self, aggregate: &AggregateId, event: &Event) {
        match event {
            Event::Item(event) => self.count(&aggregate.id, event),
            Event::Order(order::Event::Placed(placed)) => {
                self.standing.insert(aggregate.id.clone(), placed.lines.clone());
            }
            Event::Order(order::Event::Cancelled(_)) => {
                self.standing.remove(&aggregate.id);
            }
        }
    }

    fn tables(&self) -> &'static [Table] {
        &TABLES
    }

    fn rows(&self, aggregate: &AggregateId, version: u64, state: &State) -> Result<Vec<(usize, Row)>, String> {
        match state {
            State::Item(item) => Ok(vec![(0, item_row(&aggregate.id, version, item))]),
            State::Order(order) => {
                let lines = order_item_rows(&aggregate.id, order).map(|row| (2, row));
                Ok([(1, order_row(&aggregate.id, version, order))].into_iter().chain(lines).collect())
            }
            State::Nothing => Err(format!("{aggregate} has events but no first one")),
        }
    }

    fn logged(&self) -> &'static [Logged] {
        &LOGGED
    }

    fn happened(&mut self, _: usize, what: &Happened<'_, Shop>) {
        let Event::Order(event) = what.event else { return };
        let day = self.sales.entry(what.recorded_at.date_naive().to_string()).or_default();
        match event {
            order::Event::Placed(placed) => {
                day.orders += 1;
                day.revenue += Decimal::from(placed.total_price);
            }
            order::Event::Cancelled(_) => day.cancelled += 1,
        }
    }

    fn logged_rows(&self, _: usize) -> Vec<Row> {
        let row = |(day, Day { orders, revenue, cancelled }): (&String, &Day)| {
            vec![day.clone(), orders.to_string(), format!("{revenue:.3}"), cancelled.to_string()]
        };
        self.sales.iter().map(row).collect()
    }

    fn finish(&mut self) -> Vec<Line> {
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
        vec![
            std::mem::take(&mut self.oversold)
                .line("no item oversold", format!("{reservations} reservations of {items} items, {sold_out} sold out")),
            unbalanced.line(
                "stock + reserved = registered + restocked",
                format!("{supplied} pieces, {orders} standing orders"),
            ),
        ]
    }
}

pub(super) static LOGGED: [Logged; 1] = [Logged { subscription: "sales_per_day", table: sales::SALES }];

pub(super) static TABLES: [Table; 3] = [items::ITEMS, orders::ORDERS, orders::ORDER_ITEMS];

fn item_row(id: &str, version: u64, item: &Item) -> Row {
    vec![
        id.to_owned(),
        item.name.to_string(),
        item.supply_price.to_string(),
        item.vat.to_string(),
        item.total_price().to_string(),
        flag(item.is_tax_free),
        item.stock.to_string(),
        if item.is_on_sale { "ALLOW" } else { "DENY" }.to_owned(),
        item.member_id.to_string(),
        version.to_string(),
    ]
}

fn order_row(id: &str, version: u64, order: &Order) -> Row {
    let status = match order.status {
        Status::Placed => "PLACED",
        Status::Cancelled => "CANCELLED",
    };
    let (member_id, total_price) = (order.member_id.to_string(), order.total_price.to_string());
    vec![id.to_owned(), member_id, total_price, status.to_owned(), version.to_string()]
}

fn order_item_rows(id: &str, order: &Order) -> impl Iterator<Item = Row> {
    order.lines.iter().map(move |line| {
        let (price, quantity) = (line.price.to_string(), line.quantity.to_string());
        vec![id.to_owned(), line.item_id.to_string(), price, quantity, flag(line.is_tax_free)]
    })
}

fn flag(value: bool) -> String {
    u8::from(value).to_string()
}
