//! The smallest domain: counters that only go up, each no further than to a thousand.

use lockkeeper::domain::{
    AggregateId, Domain, EncodedEvent, Malformed, NewEvent, Rejection, States, Targets, Undecodable,
};
use lockkeeper::{events, jobs, names};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

jobs! { Job { Add(Added) = "counter.add", } }
names! { Refusal { Full = "counter_full", } }
events! { Event { Added(Added) = "counter.added", } }

/// The data of the job, and the payload of the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Added {
    pub by: u32,
}

pub struct Counter;

impl Domain for Counter {
    type Command = (AggregateId, Job);
    type Event = Event;
    type State = u32;

    const AGGREGATES: &'static [&'static str] = &["counter"];
    const JOBS: &'static [&'static str] = Job::NAMES;
    const EVENTS: &'static [&'static str] = Event::NAMES;
    const REJECTIONS: &'static [&'static str] = Refusal::NAMES;

    fn subject(job_type: &str) -> Option<&'static str> {
        Job::NAMES.contains(&job_type).then_some("counter")
    }

    fn command(job_type: &str, key: &str, _: u16, data: &str) -> Result<Self::Command, Malformed> {
        Ok((AggregateId::new("counter", key), Job::read(job_type, data)?))
    }

    fn targets((counter, _): &Self::Command) -> Targets {
        Targets::Known(vec![counter.clone()])
    }

    fn decide(
        (counter, Job::Add(added)): &Self::Command,
        states: &States<'_, u32>,
    ) -> Result<Vec<NewEvent<Event>>, Rejection> {
        match states.get(counter).checked_add(added.by) {
            Some(0..=1000) => Ok(vec![NewEvent { aggregate: counter.clone(), event: Event::Added(added.clone()) }]),
            _ => Err(Rejection(Refusal::Full.as_str())),
        }
    }

    fn evolve(state: &mut u32, Event::Added(added): &Event) {
        *state += added.by;
    }

    fn encode(event: &Event) -> EncodedEvent {
        event.encoded()
    }

    fn decode(event_type: &str, schema_version: u16, payload: &[u8]) -> Result<Event, Undecodable> {
        Event::decoded(event_type, schema_version, payload)
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper::testing::given;

    use super::*;

    #[test]
    fn a_counter_goes_up_to_a_thousand() {
        let one = r#"{"by":1}"#;
        let counter = given::<Counter>(&[("counter/visits", "counter.added", r#"{"by":999}"#)]);
        counter.when("counter.add", "visits", one).then(&[("counter/visits", "counter.added", one)]);
        counter.when("counter.add", "visits", r#"{"by":2}"#).then_no("counter_full");
    }
}
