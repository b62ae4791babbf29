//! `job`: a receipt and its events.

use super::format::{EventObject, event_object, event_text, json_text};
use crate::cli::failed::Failed;
use crate::cli::output::{line, lines};
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
