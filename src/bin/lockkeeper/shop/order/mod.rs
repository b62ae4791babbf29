//! An order: some of each of several items for one member, placed and cancelled as a whole.
//!
//! Its decisions also bring events about on its items, all or none of them.

use std::sync::Arc;

use lockkeeper::domain::fields::{Count, Id, List, Number, Text};
use lockkeeper::domain::{self, AggregateId, Malformed, NewEvent, States, Targets};
use lockkeeper::{events, jobs, names};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::money::Money;
use super::{State, item};

#[cfg(test)]
mod tests;

/// The aggregate type.
pub const KIND: &str = "order";

jobs! {
    /// A job about an order.
    Job {
        /// Takes the items out of stock.
        Place(Placing) = "order.place",
        /// Gives the items back.
        Cancel(Cancelling) = "order.cancel",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Placing {
    /// Who orders.
    member_id: Number,
    /// What is ordered, no item twice.
    lines: List<Wish, 100>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Wish {
    item_id: Id,
    quantity: Count<1>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Cancelling {
    reason: Text<255>,
}

names! {
    /// Why a job is refused on account of the order; its items have reasons of their own.
    Rejection {
        /// An order of this id was placed before, be it cancelled or not.
        OrderExists = "order_exists",
        /// No order of this id was placed.
        OrderNotFound = "order_not_found",
        /// The order was cancelled before.
        OrderAlreadyCancelled = "order_already_cancelled",
    }
}

impl From<Rejection> for domain::Rejection {
    fn from(rejection: Rejection) -> Self {
        Self(rejection.as_str())
    }
}

events! {
    /// Something that happened to an order.
    Event {
        Placed(Placed) = "order.placed",
        Cancelled(Cancelled) = "order.cancelled",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Placed {
    pub member_id: u64,
    /// What all lines cost together.
    pub total_price: Money,
    pub lines: Arc<[Line]>,
}

/// One line of a placed order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    pub item_id: Arc<str>,
    pub quantity: u32,
    /// What one piece cost when the order was placed.
    pub price: Money,
    /// Whether the item was free of tax then.
    pub is_tax_free: bool,
}

impl Line {
    /// The item that the line took from.
    pub fn item(&self) -> AggregateId {
        AggregateId::new(item::KIND, self.item_id.clone())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cancelled {
    pub reason: Arc<str>,
}

/// An order as its events left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub member_id: u64,
    pub total_price: Money,
    pub status: Status,
    pub lines: Arc<[Line]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Placed,
    /// For good.
    Cancelled,
}

/// What no single field shows: an order names no item twice.
pub fn check(job: &Job) -> Result<(), Malformed> {
    let Job::Place(placing) = job else { return Ok(()) };
    let ids: Vec<&Id> = placing.lines.0.iter().map(|wish| &wish.0.item_id).collect();
    for (index, id) in ids.iter().enumerate() {
        if let Some(earlier) = ids[..index].iter().position(|other| other == id) {
            let problem = format!("repeats the item of data.lines[{earlier}]");
            return Err(Malformed::new(format!("data.lines[{index}].item_id"), problem));
        }
    }
    Ok(())
}

/// The aggregates that the job touches, as far as it names them.
pub fn targets(order: &AggregateId, job: &Job) -> Targets {
    match job {
        Job::Place(placing) => {
            let items = placing.lines.0.iter().map(|wish| item(&wish.0));
            Targets::Known(std::iter::once(order.clone()).chain(items).collect())
        }
        Job::Cancel(_) => Targets::FromStateOf(order.clone()),
    }
}

/// The aggregates that a cancellation touches, given its order.
pub fn with_items(order: &AggregateId, state: Option<&Order>) -> Vec<AggregateId> {
    let lines = state.into_iter().flat_map(|order| order.lines.iter());
    std::iter::once(order.clone()).chain(lines.map(Line::item)).collect()
}

fn item(wish: &Wish) -> AggregateId {
    AggregateId::new(item::KIND, wish.item_id.0.clone())
}

type Decision = Result<Vec<NewEvent<super::Event>>, domain::Rejection>;

/// What the job brings about on its order and on the items of it.
pub fn decide(order: &AggregateId, job: &Job, states: &States<'_, State>) -> Decision {
    match job {
        Job::Place(placing) => place(order, placing, states),
        Job::Cancel(cancelling) => cancel(order, &cancelling.reason.0, states),
    }
}

/// The items are looked at in the order of the lines, and the total once it is known.
fn place(order: &AggregateId, placing: &Placing, states: &States<'_, State>) -> Decision {
    if states.get(order).order().is_some() {
        return Err(Rejection::OrderExists.into());
    }
    let mut lines = Vec::with_capacity(placing.lines.0.len());
    let mut reserved = Vec::with_capacity(lines.capacity());
    for wish in placing.lines.0.iter().map(|wish| &wish.0) {
        let aggregate = item(wish);
        let item = states.get(&aggregate).item().ok_or(item::Rejection::ItemNotFound)?;
        let moved = item.reserve(&order.id, wish.quantity.0)?;
        let (price, is_tax_free) = (item.total_price(), item.is_tax_free);
        lines.push(Line { item_id: wish.item_id.0.clone(), quantity: moved.quantity, price, is_tax_free });
        reserved.push((aggregate, item::Event::StockReserved(moved)));
    }
    let total_price = lines.iter().fold(Money::default(), |sum, line| sum.plus(line.price.times(line.quantity)));
    if !total_price.fits() {
        return Err(item::Rejection::OutOfRange.into());
    }
    let placed = Placed { member_id: placing.member_id.0, total_price, lines: lines.into() };
    Ok(all(order, Event::Placed(placed), reserved))
}

fn cancel(order: &AggregateId, reason: &Arc<str>, states: &States<'_, State>) -> Decision {
    let placed = states.get(order).order().ok_or(Rejection::OrderNotFound)?;
    if placed.status == Status::Cancelled {
        return Err(Rejection::OrderAlreadyCancelled.into());
    }
    let mut released = Vec::with_capacity(placed.lines.len());
    for line in placed.lines.iter() {
        let aggregate = line.item();
        let item = states.get(&aggregate).item().ok_or(item::Rejection::ItemNotFound)?;
        let moved = item.release(&order.id, line.quantity)?;
        released.push((aggregate, item::Event::StockReleased(moved)));
    }
    Ok(all(order, Event::Cancelled(Cancelled { reason: reason.clone() }), released))
}

fn all(order: &AggregateId, event: Event, of_items: Vec<(AggregateId, item::Event)>) -> Vec<NewEvent<super::Event>> {
    let of_order = NewEvent { aggregate: order.clone(), event: super::Event::Order(event) };
    let of_items =
        of_items.into_iter().map(|(aggregate, event)| NewEvent { aggregate, event: super::Event::Item(event) });
    std::iter::once(of_order).chain(of_items).collect()
}

/// The order after `event`. A cancellation of an unknown order has no effect; no decision leads there.
pub fn evolve(order: Option<Order>, event: &Event) -> Option<Order> {
    match event {
        Event::Placed(placed) => {
            let Placed { member_id, total_price, lines } = placed.clone();
            Some(Order { member_id, total_price, status: Status::Placed, lines })
        }
        Event::Cancelled(_) => order.map(|order| Order { status: Status::Cancelled, ..order }),
    }
}
