//! A domain of ten lines.

use lockkeeper::domain::{
    AggregateId, Domain, EncodedEvent, Malformed, NewEvent, Rejection, States, Targets, Undecodable, Upcast,
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

    /// The event was a bare number once, as other writers in these tests write it still.
    const UPCASTS: &'static [Upcast] =
        &[Upcast { event_type: "counter.added", from: 1, apply: |number| Ok(serde_json::json!({ "by": number })) }];

    fn event_version(_: &str) -> u16 {
        2
    }

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
        EncodedEvent { event_type: "counter.added", schema_version: 2, payload: format!(r#"{{"by":{event}}}"#) }
    }

    fn decode(event_type: &str, schema_version: u16, payload: &[u8]) -> Result<u64, Undecodable> {
        let undecodable = |problem: String| Undecodable { event_type: event_type.to_owned(), schema_version, problem };
        if schema_version != 2 {
            return Err(undecodable("it is read in version 2 alone".to_owned()));
        }
        let payload: serde_json::Value =
            serde_json::from_slice(payload).map_err(|error| undecodable(error.to_string()))?;
        payload["by"].as_u64().ok_or_else(|| undecodable("no number".to_owned()))
    }
}
