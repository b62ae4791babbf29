//! Events as they are printed: a line for people, an object for scripts, or a CloudEvent for whoever takes those.

use clap::ValueEnum;
use serde_json::value::RawValue;

use crate::cli::failed::Failed;
use crate::exit::Exit;
use crate::store::RecordedEvent;

/// How events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A line each, for people
    Text,
    /// An object each, with all that is stored
    Ndjson,
    /// A CloudEvent 1.0 each, in its JSON form
    Cloudevents,
}

impl Format {
    /// The event as one line.
    pub fn line(self, event: &RecordedEvent) -> Result<String, Failed> {
        match self {
            Self::Text => Ok(event_text(event)),
            Self::Ndjson => json_text(&event_object(event)),
            Self::Cloudevents => json_text(&cloud_event(event)),
        }
    }
}

pub(super) fn event_text(event: &RecordedEvent) -> String {
    let RecordedEvent { position, aggregate_type, aggregate_id, version, event_type, recorded_at, .. } = event;
    let payload = String::from_utf8_lossy(&event.payload);
    format!("{position:>8}  {aggregate_type}/{aggregate_id} v{version}  {recorded_at}  {event_type} {payload}")
}

pub(super) fn json_text(object: &impl serde::Serialize) -> Result<String, Failed> {
    serde_json::to_string(object).map_err(|error| Failed::new(Exit::BROKEN, error))
}

#[derive(serde::Serialize)]
pub(super) struct EventObject<'a> {
    position: u64,
    id: String,
    aggregate: String,
    version: u64,
    event: &'a str,
    schema_version: u16,
    recorded_at: &'a str,
    payload: Option<&'a RawValue>,
    metadata: Option<&'a RawValue>,
}

pub(super) fn event_object(event: &RecordedEvent) -> EventObject<'_> {
    EventObject {
        position: event.position,
        id: event.event_id.to_string(),
        aggregate: format!("{}/{}", event.aggregate_type, event.aggregate_id),
        version: event.version,
        event: &event.event_type,
        schema_version: event.schema_version,
        recorded_at: &event.recorded_at,
        payload: serde_json::from_slice(&event.payload).ok(),
        metadata: serde_json::from_slice(&event.metadata).ok(),
    }
}

/// The attributes of CloudEvents 1.0 and of its extensions `partitioning` and `sequence`; those of our own are lower-case letters and
/// digits, as it wants them.
#[derive(serde::Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: &'static str,
    #[serde(rename = "type")]
    event_type: &'a str,
    subject: String,
    time: String,
    datacontenttype: &'static str,
    partitionkey: &'a str,
    /// The position with so many digits that it sorts as text.
    sequence: String,
    aggregateversion: u64,
    schemaversion: u16,
    #[serde(flatten)]
    origin: Origin<'a>,
    data: Option<&'a RawValue>,
}

/// What metadata tell of where an event comes from.
#[derive(Default, serde::Deserialize, serde::Serialize)]
struct Origin<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    job: Option<std::borrow::Cow<'a, str>>,
    #[serde(
        borrow,
        rename(deserialize = "corr", serialize = "correlationid"),
        skip_serializing_if = "Option::is_none"
    )]
    corr: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, rename(deserialize = "cause", serialize = "causationid"), skip_serializing_if = "Option::is_none")]
    cause: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    traceparent: Option<std::borrow::Cow<'a, str>>,
}

/// Where all events come from.
const SOURCE: &str = "/lockkeeper";

fn cloud_event(event: &RecordedEvent) -> CloudEvent<'_> {
    CloudEvent {
        specversion: "1.0",
        id: event.event_id.to_string(),
        source: SOURCE,
        event_type: &event.event_type,
        subject: format!("{}/{}", event.aggregate_type, event.aggregate_id),
        time: format!("{}Z", event.recorded_at.replacen(' ', "T", 1)),
        datacontenttype: "application/json",
        partitionkey: &event.aggregate_id,
        sequence: format!("{:020}", event.position),
        aggregateversion: event.version,
        schemaversion: event.schema_version,
        origin: serde_json::from_slice(&event.metadata).unwrap_or_default(),
        data: serde_json::from_slice(&event.payload).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_printed_in_each_form() {
        let event = RecordedEvent {
            position: 42,
            event_id: uuid::Uuid::from_u128(7),
            aggregate_type: "item".to_owned(),
            aggregate_id: "pen".to_owned(),
            version: 3,
            event_type: "item.restocked".to_owned(),
            schema_version: 1,
            payload: br#"{"quantity":5}"#.to_vec(),
            metadata: br#"{"job":"j","corr":"c","src":"shop"}"#.to_vec(),
            recorded_at: "2026-01-31 12:00:00.000001".to_owned(),
        };
        let line = |format: Format| format.line(&event).expect("a line");
        assert_eq!(
            line(Format::Text),
            r#"      42  item/pen v3  2026-01-31 12:00:00.000001  item.restocked {"quantity":5}"#
        );
        let expected = r#"{"position":42,"id":"00000000-0000-0000-0000-000000000007","aggregate":"item/pen","version":3,"event":"item.restocked","schema_version":1,"recorded_at":"2026-01-31 12:00:00.000001","payload":{"quantity":5},"metadata":{"job":"j","corr":"c","src":"shop"}}"#;
        assert_eq!(line(Format::Ndjson), expected);
        let expected = r#"{"specversion":"1.0","id":"00000000-0000-0000-0000-000000000007","source":"/lockkeeper","type":"item.restocked","subject":"item/pen","time":"2026-01-31T12:00:00.000001Z","datacontenttype":"application/json","partitionkey":"pen","sequence":"00000000000000000042","aggregateversion":3,"schemaversion":1,"job":"j","correlationid":"c","data":{"quantity":5}}"#;
        assert_eq!(line(Format::Cloudevents), expected);
    }
}
