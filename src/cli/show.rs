//! `job` and `events`: what the log says.

use serde_json::value::RawValue;

use super::failed::Failed;
use super::output::{line, lines};
use crate::config::Config;
use crate::daemon;
use crate::exit::Exit;
use crate::job::JobId;
use crate::store::{RecordedEvent, StoredReceipt};

/// Prints a job's receipt and events. Exit 1 when it has no receipt.
pub async fn job(config: &Config, id: &str, json: bool) -> Result<u8, Failed> {
    let store = daemon::store(config).await?;
    let job = JobId::from_text(id);
    let Some(receipt) = store.read(&[job], &[], &[]).await?.receipts.remove(&job) else {
        return Err(Failed::new(Exit::NO, format!("job {job} has no receipt: it has not ended, or was never pushed")));
    };
    let events = match receipt.positions {
        Some((first, last)) => store.events_between(first, last).await?,
        None => Vec::new(),
    };
    if json {
        line(json_text(&job_object(job, &receipt, &events))?)?;
    } else {
        let reason = receipt.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        line(format_args!("job {job}: {}{reason}, {} UTC", receipt.outcome, receipt.recorded_at))?;
        lines(events.iter().map(event_text))?;
    }
    Ok(Exit::OK)
}

/// Prints an aggregate's history. Exit 1 when it has none.
pub async fn events(config: &Config, aggregate: &str, json: bool) -> Result<u8, Failed> {
    let (kind, id) = aggregate.split_once('/').ok_or_else(|| {
        Failed::new(Exit::USAGE, format!("`{aggregate}` is not of the form AGGREGATE/ID, like item/pen"))
    })?;
    let events = daemon::store(config).await?.history(kind, id).await?;
    if events.is_empty() {
        return Err(Failed::new(Exit::NO, format!("{aggregate} has no events")));
    }
    if json {
        // Objects of events always have a text.
        lines(events.iter().flat_map(|event| json_text(&event_object(event))))?;
    } else {
        lines(events.iter().map(event_text))?;
    }
    Ok(Exit::OK)
}

fn event_text(event: &RecordedEvent) -> String {
    let RecordedEvent { position, aggregate_type, aggregate_id, version, event_type, recorded_at, .. } = event;
    let payload = String::from_utf8_lossy(&event.payload);
    format!("{position:>8}  {aggregate_type}/{aggregate_id} v{version}  {recorded_at}  {event_type} {payload}")
}

fn json_text(object: &impl serde::Serialize) -> Result<String, Failed> {
    serde_json::to_string(object).map_err(|error| Failed::new(Exit::BROKEN, error))
}

#[derive(serde::Serialize)]
struct EventObject<'a> {
    position: u64,
    aggregate: String,
    version: u64,
    event: &'a str,
    schema_version: u16,
    recorded_at: &'a str,
    payload: Option<&'a RawValue>,
    metadata: Option<&'a RawValue>,
}

fn event_object(event: &RecordedEvent) -> EventObject<'_> {
    EventObject {
        position: event.position,
        aggregate: format!("{}/{}", event.aggregate_type, event.aggregate_id),
        version: event.version,
        event: &event.event_type,
        schema_version: event.schema_version,
        recorded_at: &event.recorded_at,
        payload: serde_json::from_slice(&event.payload).ok(),
        metadata: serde_json::from_slice(&event.metadata).ok(),
    }
}

#[derive(serde::Serialize)]
struct JobObject<'a> {
    id: String,
    outcome: &'a str,
    reason: Option<&'a str>,
    first: Option<u64>,
    last: Option<u64>,
    recorded_at: &'a str,
    events: Vec<EventObject<'a>>,
}

fn job_object<'a>(job: JobId, receipt: &'a StoredReceipt, events: &'a [RecordedEvent]) -> JobObject<'a> {
    JobObject {
        id: job.to_string(),
        outcome: &receipt.outcome,
        reason: receipt.reason.as_deref(),
        first: receipt.positions.map(|(first, _)| first),
        last: receipt.positions.map(|(_, last)| last),
        recorded_at: &receipt.recorded_at,
        events: events.iter().map(event_object).collect(),
    }
}
