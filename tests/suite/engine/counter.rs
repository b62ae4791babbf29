//! A domain of ten lines.

use lockkeeper::domain::{
    AggregateId, Domain, EncodedEvent, Malformed, NewEvent, Rejection, States, Targets, Undecodable,
};

/// Counts up to a limit.
pub struct Counter;

impl Domain for Counter {
    type Command = (AggregateId, u64);
    type Event = u64;
    type State = u64;

    const STATE_SCHEMA: u16 = 1;
    const AGGREGATES: &'static [&'static str] = &["counter"];
    const JOBS: &'static [&'static str] = &["counter.add", "counter.panic"];
    const EVENTS: &'static [&'static str] = &["counter.added"];
    const REJECTIONS: &'static [&'static str] = &["too_much"];

    fn subject(_: &str) -> Option<&'static str> {
        Some("counter")
    }

    fn command(job_type: &str, key: &str, _: u16, data: &str) -> Result<Self::Command, Malformed> {
        let by = if job_type == "counter.panic" {
            u64::MAX
        } else {
            data.parse().map_err(|_| Malformed::new("data", "is no number"))?
        };
        Ok((AggregateId::new("counter", key), by))
    }

    fn targets(command: &Self::Command) -> Targets {
        Targets::Known(vec![command.0.clone()])
    }

    fn resolve(command: &Self::Command, _: &u64) -> Vec<AggregateId> {
        vec![command.0.clone()]
    }

    fn decide((counter, by): &Self::Command, states: &States<'_, u64>) -> Result<Vec<NewEvent<u64>>, Rejection> {
        assert!(*by != u64::MAX, "a bug in the domain");
        match states.get(counter) + by {
            11.. => Err(Rejection("too_much")),
            _ => Ok(vec![NewEvent { aggregate: counter.clone(), event: *by }]),
        }
    }

    fn evolve(state: &mut u64, event: &u64) {
        // A negative number of the second writer takes everything back.
        *state = if *event == 0 { 0 } else { *state + event };
    }

    fn weight(_: &u64) -> usize {
        0
    }

    fn encode(event: &u64) -> EncodedEvent {
        EncodedEvent { event_type: "counter.added", schema_version: 1, payload: event.to_string() }
    }

    fn decode(event_type: &str, schema_version: u16, payload: &[u8]) -> Result<u64, Undecodable> {
        std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok()).ok_or_else(|| Undecodable {
            event_type: event_type.to_owned(),
            schema_version,
            problem: "no number".to_owned(),
        })
    }
}
