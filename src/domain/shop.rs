//! The shop: items sold out of a limited stock, and the orders that take from it.
//!
//! This file only lists what the aggregates define and passes calls on to them; the rules are in [`item`] and
//! [`order`]. A new aggregate is a file beside those and a line in each list here: the matches are exhaustive, so the
//! compiler names what is still missing, and the tests compare what is looked up by name with the lists.

mod fields;
#[cfg(test)]
pub(crate) mod kit;
mod money;
mod names;
#[cfg(test)]
mod tests;

pub use money::Money;
pub use names::Empty;

pub(super) use fields::{Field, Place, read, shared_list, shared_text};
pub(super) use names::{events, names};

use serde::{Deserialize, Serialize};

use super::item::{self, Item};
use super::order::{self, Order};
use super::{AggregateId, Domain, EncodedEvent, Malformed, NewEvent, Rejection, States, Targets, Undecodable};
use names::{count, joined};

/// The schema version of every job's data and of every event's payload so far.
const SCHEMA_VERSION: u16 = 1;

/// What a shared text or list takes beside its bytes: two counts, and what the allocator adds.
const SHARED: usize = 32;

/// The longest explanation of an event that cannot be decoded, which may quote the event.
const MAX_PROBLEM_CHARS: usize = 200;

const JOBS: &[&[&str]] = &[item::Job::NAMES, order::Job::NAMES];
const EVENTS: &[&[&str]] = &[item::Event::NAMES, order::Event::NAMES];
const REJECTIONS: &[&[&str]] = &[item::Rejection::NAMES, order::Rejection::NAMES];

/// The shop as a [`Domain`].
#[derive(Clone, Copy, Debug)]
pub struct Shop;

/// A job's data, parsed and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// About an item.
    Item(item::Command),
    /// About an order and its items.
    Order(order::Command),
}

/// Something that happened in the shop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// To an item.
    Item(item::Event),
    /// To an order.
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

enum Job {
    Item(item::Job),
    Order(order::Job),
}

impl Job {
    fn parse(job_type: &str) -> Option<Self> {
        let item = || item::Job::parse(job_type).map(Self::Item);
        let order = || order::Job::parse(job_type).map(Self::Order);
        item().or_else(order)
    }
}

impl Domain for Shop {
    type Command = Command;
    type Event = Event;
    type State = State;

    const STATE_SCHEMA: u16 = 1;
    const AGGREGATES: &'static [&'static str] = &[item::KIND, order::KIND];
    const JOBS: &'static [&'static str] = &joined::<{ count(JOBS) }>(JOBS);
    const EVENTS: &'static [&'static str] = &joined::<{ count(EVENTS) }>(EVENTS);
    const REJECTIONS: &'static [&'static str] = &joined::<{ count(REJECTIONS) }>(REJECTIONS);

    fn subject(job_type: &str) -> Option<&'static str> {
        Job::parse(job_type).map(|job| match job {
            Job::Item(_) => item::KIND,
            Job::Order(_) => order::KIND,
        })
    }

    fn command(job_type: &str, key: &str, schema_version: u16, data: &str) -> Result<Command, Malformed> {
        let job = Job::parse(job_type).ok_or_else(|| Malformed::new("type", "is unknown"))?;
        if schema_version != SCHEMA_VERSION {
            return Err(Malformed::new("v", format!("must be {SCHEMA_VERSION}")));
        }
        match job {
            Job::Item(job) => item::command(job, key, data).map(Command::Item),
            Job::Order(job) => order::command(job, key, data).map(Command::Order),
        }
    }

    fn targets(command: &Command) -> Targets {
        match command {
            Command::Item(command) => Targets::Known(vec![command.item.clone()]),
            Command::Order(command) => order::targets(command),
        }
    }

    fn resolve(command: &Command, state: &State) -> Vec<AggregateId> {
        match command {
            Command::Item(command) => vec![command.item.clone()],
            Command::Order(command) => order::resolve(command, state.order()),
        }
    }

    fn decide(command: &Command, states: &States<'_, State>) -> Result<Vec<NewEvent<Event>>, Rejection> {
        match command {
            Command::Item(command) => {
                let event = item::decide(&command.action, states.get(&command.item).item())?;
                Ok(vec![NewEvent { aggregate: command.item.clone(), event: Event::Item(event) }])
            }
            Command::Order(command) => order::decide(command, states),
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
        let (event_type, payload) = match event {
            Event::Item(event) => (event.name(), event.payload()),
            Event::Order(event) => (event.name(), event.payload()),
        };
        EncodedEvent { event_type, schema_version: SCHEMA_VERSION, payload }
    }

    fn decode(event_type: &str, schema_version: u16, payload: &[u8]) -> Result<Event, Undecodable> {
        let undecodable = |problem: String| Undecodable { event_type: event_type.to_owned(), schema_version, problem };
        if schema_version != SCHEMA_VERSION {
            return Err(undecodable("the schema version is unknown".to_owned()));
        }
        let of_item = || item::Event::decode(event_type, payload).map(|event| event.map(Event::Item));
        let of_order = || order::Event::decode(event_type, payload).map(|event| event.map(Event::Order));
        let event = of_item().or_else(of_order).ok_or_else(|| undecodable("the type is unknown".to_owned()))?;
        event.map_err(|error| undecodable(error.to_string().chars().take(MAX_PROBLEM_CHARS).collect()))
    }
}
