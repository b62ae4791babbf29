//! How often work on a job was started. The broker keeps it, so that it outlives a process which the job ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Engine;
use crate::domain::Domain;
use crate::job::{EntryId, Job};
use crate::plan::Planned;
use crate::stream::{Broker, BrokerError};

/// Counts the start of those jobs that were claimed, once for all their tries in this process. They have their locks by then,
/// since a job that waits for locks has not been started, however often its process ends. And no state has been loaded for
/// them, since a job that ends the process in the domain's code must have been counted. False when the broker did not do it;
/// then none of the jobs may be started.
pub(super) async fn count_starts<D: Domain>(engine: &Engine<D>, jobs: &mut [Planned<Job<D>>]) -> bool {
    let counted = count(&engine.broker, jobs).await;
    if let Err(error) = &counted
        && engine.incidents.is_news("count_starts")
    {
        tracing::warn!(%error, batch.jobs = jobs.len(), "the start of claimed jobs cannot be counted; they wait");
    }
    counted.is_ok()
}

async fn count<D: Domain>(broker: &Broker, jobs: &mut [Planned<Job<D>>]) -> Result<(), BrokerError> {
    let mut claimed: BTreeMap<Arc<str>, Vec<(EntryId, u64)>> = BTreeMap::new();
    for job in jobs.iter().map(|planned| &planned.job).filter(|job| !job.counted) {
        let start = job.deliveries.unwrap_or(0) + 1;
        claimed.entry(job.stream.clone()).or_default().push((job.entry, start));
    }
    for (stream, entries) in claimed {
        broker.count_starts(&stream, &entries).await?;
    }
    jobs.iter_mut().for_each(|planned| planned.job.counted = true);
    Ok(())
}
