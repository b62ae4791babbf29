//! The shop: items sold out of a limited stock, and the orders that take from it.
//!
//! This file only lists what the aggregates define and passes calls on to them; the rules are in [`item`] and
//! [`order`]. A new aggregate is a file beside those and a line in each list here: the matches are exhaustive, so the
//! compiler names what is still missing, and the tests compare what is looked up by name with the lists.

#[cfg(test)]
mod audit_tests;
#[cfg(test)]
mod decide_tests;
pub mod item;
#[cfg(test)]
mod kit;
mod money;
pub mod order;
mod promises;
pub mod read_models;
#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use lockkeeper::audit::{self, Audit, JobId, Store, StoreError};
use lockkeeper::daemon::ReadModels;
use lockkeeper::domain::declare::{count, joined};
use lockkeeper::domain::{
    AggregateId, Domain, EncodedEvent, Malformed, NewEvent, Rejection, States, Targets, Undecodable,
};
use lockkeeper::projection::Migration;
use schemars::Schema;
use serde::{Deserialize, Serialize};

pub use promises::Promises;

use item::Item;
use order::Order;

/// The schema version of every job's data so far.
const SCHEMA_VERSION: u16 = 1;

/// What a shared text or list takes beside its bytes: two counts, and what the allocator adds.
const SHARED: usize = 32;

const JOBS: &[&[&str]] = &[item::Job::NAMES, order::Job::NAMES];
const EVENTS: &[&[&str]] = &[item::Event::NAMES, order::Event::NAMES];
const REJECTIONS: &[&[&str]] = &[item::Rejection::NAMES, order::Rejection::NAMES];

/// Every event as it was first written.
#[cfg(test)]
const GOLDEN: &str = include_str!("golden.events");

/// The shop as a [`Domain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shop;

/// What the shop brings besides its rules.
pub fn read_models() -> ReadModels<Shop> {
    ReadModels { projections: read_models::all(), log_projections: read_models::of_log(), migrations: &MIGRATIONS }
}

/// The history of the shop's tables. It goes on from the time when it was one with the engine's.
pub const MIGRATIONS: [Migration; 2] = [
    Migration { version: 2, name: "shop", text: include_str!("../../../../migrations/shop/0002_shop.sql") },
    Migration { version: 3, name: "sales", text: include_str!("../../../../migrations/shop/0003_sales.sql") },
];

/// Audits the shop's database. `pushed` are the ids of all jobs that were ever pushed, when they are known.
pub async fn audit(store: &Store, pushed: Option<&HashSet<JobId>>) -> Result<Audit, StoreError> {
    audit::audit(store, Box::new(Promises::default()), pushed, None, |_, _| {}).await
}

/// What a job asks for, about which aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Item(AggregateId, item::Job),
    Order(AggregateId, order::Job),
}

/// Something that happened in the shop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Item(item::Event),
    Order(order::Event),
}

/// What the events of one aggregate add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// There are no events yet.
    #[default]
    Nothing,
    /// The aggregate is this item.
    Item(Item),
    /// The aggregate is this order.
    Order(Order),
}

impl State {
    /// The item, if it is one.
    pub fn item(&self) -> Option<&Item> {
        match self {
            Self::Item(item) => Some(item),
            Self::Nothing | Self::Order(_) => None,
        }
    }

    /// The order, if it is one.
    pub fn order(&self) -> Option<&Order> {
        match self {
            Self::Order(order) => Some(order),
            Self::Nothing | Self::Item(_) => None,
        }
    }

    fn into_item(self) -> Option<Item> {
        match self {
            Self::Item(item) => Some(item),
            Self::Nothing | Self::Order(_) => None,
        }
    }

    fn into_order(self) -> Option<Order> {
        match self {
            Self::Order(order) => Some(order),
            Self::Nothing | Self::Item(_) => None,
        }
    }
}

impl Domain for Shop {
    type Command = Command;
    type Event = Event;
    type State = State;

    const STATE_SCHEMA: u16 = 1;
    const JOB_VERSION: u16 = SCHEMA_VERSION;
    const AGGREGATES: &'static [&'static str] = &[item::KIND, order::KIND];
    const JOBS: &'static [&'static str] = &joined::<{ count(JOBS) }>(JOBS);
    const EVENTS: &'static [&'static str] = &joined::<{ count(EVENTS) }>(EVENTS);
    const REJECTIONS: &'static [&'static str] = &joined::<{ count(REJECTIONS) }>(REJECTIONS);

    fn subject(job_type: &str) -> Option<&'static str> {
        let named = |names: &[&str], kind| names.contains(&job_type).then_some(kind);
        named(item::Job::NAMES, item::KIND).or_else(|| named(order::Job::NAMES, order::KIND))
    }

    fn command(job_type: &str, key: &str, schema_version: u16, data: &str) -> Result<Command, Malformed> {
        let subject = Self::subject(job_type).ok_or_else(|| Malformed::new("type", "is unknown"))?;
        if schema_version != SCHEMA_VERSION {
            return Err(Malformed::new("v", format!("must be {SCHEMA_VERSION}")));
        }
        let aggregate = AggregateId::new(subject, key);
        if subject == item::KIND {
            return Ok(Command::Item(aggregate, item::Job::read(job_type, data)?));
        }
        let job = order::Job::read(job_type, data)?;
        order::check(&job)?;
        Ok(Command::Order(aggregate, job))
    }

    fn targets(command: &Command) -> Targets {
        match command {
            Command::Item(item, _) => Targets::Known(vec![item.clone()]),
            Command::Order(order, job) => order::targets(order, job),
        }
    }

    fn resolve(command: &Command, state: &State) -> Vec<AggregateId> {
        match Self::targets(command) {
            Targets::Known(targets) => targets,
            Targets::FromStateOf(order) => order::with_items(&order, state.order()),
        }
    }

    fn decide(command: &Command, states: &States<'_, State>) -> Result<Vec<NewEvent<Event>>, Rejection> {
        match command {
            Command::Item(item, job) => {
                let event = item::decide(job, states.get(item).item())?;
                Ok(vec![NewEvent { aggregate: item.clone(), event: Event::Item(event) }])
            }
            Command::Order(order, job) => order::decide(order, job, states),
        }
    }

    fn evolve(state: &mut State, event: &Event) {
        let before = std::mem::take(state);
        *state = match event {
            Event::Item(event) => item::evolve(before.into_item(), event).map_or(State::Nothing, State::Item),
            Event::Order(event) => order::evolve(before.into_order(), event).map_or(State::Nothing, State::Order),
        };
    }

    fn weight(state: &State) -> usize {
        match state {
            State::Nothing => 0,
            State::Item(item) => SHARED + item.name.len(),
            State::Order(order) => {
                let line = |line: &order::Line| size_of::<order::Line>() + SHARED + line.item_id.len();
                SHARED + order.lines.iter().map(line).sum::<usize>()
            }
        }
    }

    fn encode(event: &Event) -> EncodedEvent {
        match event {
            Event::Item(event) => event.encoded(),
            Event::Order(event) => event.encoded(),
        }
    }

    fn job_schema(job_type: &str) -> Option<Schema> {
        item::Job::schema(job_type).or_else(|| order::Job::schema(job_type))
    }

    fn event_schema(event_type: &str) -> Option<Schema> {
        item::Event::schema(event_type).or_else(|| order::Event::schema(event_type))
    }

    fn event_version(event_type: &str) -> u16 {
        item::Event::version(event_type).or_else(|| order::Event::version(event_type)).unwrap_or(1)
    }

    fn decode(event_type: &str, schema_version: u16, payload: &[u8]) -> Result<Event, Undecodable> {
        if item::Event::NAMES.contains(&event_type) {
            return item::Event::decoded(event_type, schema_version, payload).map(Event::Item);
        }
        order::Event::decoded(event_type, schema_version, payload).map(Event::Order)
    }
}
