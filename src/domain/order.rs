//! An order: some of each of several items for one member, placed and cancelled as a whole.
//!
//! Its decisions also bring events about on its items, all or none of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::item;
use super::shop::{self, Field, Money, Place, State, events, names, read, shared_list, shared_text};
use super::{AggregateId, Malformed, NewEvent, States, Targets};

#[cfg(test)]
mod tests;

/// The aggregate type.
pub const KIND: &str = "order";

/// The most lines an order has.
const MAX_LINES: usize = 100;

/// The longest reason of a cancellation, in characters.
const MAX_REASON_CHARS: usize = 255;

names! {
    /// A job about an order.
    Job {
        /// Takes the items out of stock.
        Place = "order.place",
        /// Gives the items back.
        Cancel = "order.cancel",
    }
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

impl From<Rejection> for super::Rejection {
    fn from(rejection: Rejection) -> Self {
        Self(rejection.as_str())
    }
}

/// A job about one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Place it.
    Place {
        /// The order.
        order: AggregateId,
        /// Who orders.
        member_id: u64,
        /// At least one, no item twice.
        lines: Vec<Wish>,
    },
    /// Cancel it.
    Cancel {
        /// The order.
        order: AggregateId,
        /// Why.
        reason: Arc<str>,
    },
}

/// One line of an order that is to be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The item.
    pub item: AggregateId,
    /// How many of it, at least 1 and as wide as a job may write it.
    pub quantity: u64,
}

events! {
    /// Something that happened to an order.
    Event {
        /// The order was placed.
        Placed(Placed) = "order.placed",
        /// The order was cancelled.
        Cancelled(Cancelled) = "order.cancelled",
    }
}

/// The payload of `order.placed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Who ordered.
    pub member_id: u64,
    /// What all lines cost together.
    pub total_price: Money,
    /// What was ordered.
    #[serde(with = "shared_list")]
    pub lines: Arc<[Line]>,
}

/// One line of a placed order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The item.
    #[serde(with = "shared_text")]
    pub item_id: Arc<str>,
    /// How many of it.
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

/// The payload of `order.cancelled`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// Why.
    #[serde(with = "shared_text")]
    pub reason: Arc<str>,
}

/// An order as its events left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Who ordered.
    pub member_id: u64,
    /// What all lines cost together.
    pub total_price: Money,
    /// Whether it stands.
    pub status: Status,
    /// What was ordered.
    #[serde(with = "shared_list")]
    pub lines: Arc<[Line]>,
}

/// Whether an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It stands.
    Placed,
    /// It was cancelled, for good.
    Cancelled,
}

/// Reads the data of a job about the order `key`.
pub fn command(job: Job, key: &str, data: &str) -> Result<Command, Malformed> {
    let order = AggregateId::new(KIND, key);
    match job {
        Job::Place => {
            let [member_id, lines] = read(data, Place::Data, ["member_id", "lines"])?;
            Ok(Command::Place { order, member_id: member_id.number()?, lines: wishes(&lines)? })
        }
        Job::Cancel => {
            let [reason] = read(data, Place::Data, ["reason"])?;
            Ok(Command::Cancel { order, reason: reason.text_up_to(MAX_REASON_CHARS)?.into() })
        }
    }
}

fn wishes(lines: &Field<'_>) -> Result<Vec<Wish>, Malformed> {
    let elements = lines.list(MAX_LINES)?;
    let mut wishes: Vec<Wish> = Vec::with_capacity(elements.len());
    for (index, element) in elements.into_iter().enumerate() {
        let [item_id, quantity] = read(element.get(), Place::Element("lines", index), ["item_id", "quantity"])?;
        let id = item_id.id()?;
        if let Some(earlier) = wishes.iter().position(|wish| *wish.item.id == *id) {
            return Err(item_id.malformed(format!("repeats the item of data.lines[{earlier}]")));
        }
        wishes.push(Wish { item: AggregateId::new(item::KIND, id), quantity: quantity.count(1)? });
    }
    Ok(wishes)
}

/// The aggregates that `command` touches, as far as it names them.
pub fn targets(command: &Command) -> Targets {
    match command {
        Command::Place { order, lines, .. } => Targets::Known(with_items(order, lines)),
        Command::Cancel { order, .. } => Targets::FromStateOf(order.clone()),
    }
}

/// The aggregates that `command` touches, given its order.
pub fn resolve(command: &Command, state: Option<&Order>) -> Vec<AggregateId> {
    match command {
        Command::Place { order, lines, .. } => with_items(order, lines),
        Command::Cancel { order, .. } => {
            let lines = state.into_iter().flat_map(|order| order.lines.iter());
            std::iter::once(order.clone()).chain(lines.map(Line::item)).collect()
        }
    }
}

fn with_items(order: &AggregateId, lines: &[Wish]) -> Vec<AggregateId> {
    std::iter::once(order).chain(lines.iter().map(|wish| &wish.item)).cloned().collect()
}

/// What `command` brings about on its order and on the items of it.
pub fn decide(command: &Command, states: &States<'_, State>) -> Result<Vec<NewEvent<shop::Event>>, super::Rejection> {
    match command {
        Command::Place { order, member_id, lines } => place(order, *member_id, lines, states),
        Command::Cancel { order, reason } => cancel(order, reason, states),
    }
}

/// The items are looked at in the order of the lines, and the total once it is known.
fn place(
    order: &AggregateId,
    member_id: u64,
    wishes: &[Wish],
    states: &States<'_, State>,
) -> Result<Vec<NewEvent<shop::Event>>, super::Rejection> {
    if states.get(order).order().is_some() {
        return Err(Rejection::OrderExists.into());
    }
    let mut lines = Vec::with_capacity(wishes.len());
    let mut reserved = Vec::with_capacity(wishes.len());
    for wish in wishes {
        let item = states.get(&wish.item).item().ok_or(item::Rejection::ItemNotFound)?;
        let moved = item.reserve(&order.id, wish.quantity)?;
        lines.push(Line {
            item_id: wish.item.id.clone(),
            quantity: moved.quantity,
            price: item.total_price(),
            is_tax_free: item.is_tax_free,
        });
        reserved.push((wish.item.clone(), item::Event::StockReserved(moved)));
    }
    let total_price = lines.iter().fold(Money::default(), |sum, line| sum.plus(line.price.times(line.quantity)));
    if !total_price.fits() {
        return Err(item::Rejection::OutOfRange.into());
    }
    Ok(all(order, Event::Placed(Placed { member_id, total_price, lines: lines.into() }), reserved))
}

fn cancel(
    order: &AggregateId,
    reason: &Arc<str>,
    states: &States<'_, State>,
) -> Result<Vec<NewEvent<shop::Event>>, super::Rejection> {
    let placed = states.get(order).order().ok_or(Rejection::OrderNotFound)?;
    match placed.status {
        Status::Cancelled => return Err(Rejection::OrderAlreadyCancelled.into()),
        Status::Placed => {}
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

fn all(order: &AggregateId, event: Event, of_items: Vec<(AggregateId, item::Event)>) -> Vec<NewEvent<shop::Event>> {
    let of_order = NewEvent { aggregate: order.clone(), event: shop::Event::Order(event) };
    let of_items =
        of_items.into_iter().map(|(aggregate, event)| NewEvent { aggregate, event: shop::Event::Item(event) });
    std::iter::once(of_order).chain(of_items).collect()
}

/// The order after `event`. A cancellation of an unknown order has no effect; no decision leads there.
pub fn evolve(order: Option<Order>, event: &Event) -> Option<Order> {
    match event {
        Event::Placed(placed) => Some(Order {
            member_id: placed.member_id,
            total_price: placed.total_price,
            status: Status::Placed,
            lines: placed.lines.clone(),
        }),
        Event::Cancelled(_) => order.map(|order| Order { status: Status::Cancelled, ..order }),
    }
}
