//! How often work on a job was started. The broker keeps it, so that it outlives a process which the job ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Engine;
use crate::domain::Domain;
use crate::job::{EntryId, Job};
use crate::plan::Planned;
use crate::stream::{Broker, BrokerError};

/// Counts the start of those jobs that were claimed, once for all their tries in this process. By then they have their locks:
/// a job that waits for them has not been started, however often its process ends. And nothing of the domain has been asked
/// yet: what ends the process there has been counted. False when the broker did not do it; then no job may be started.
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
    let mut claimed: BTreeMap<Arc<str>, Vec<EntryId>> = BTreeMap::new();
    for job in jobs.iter().map(|planned| &planned.job).filter(|job| !job.counted) {
        claimed.entry(job.stream.clone()).or_default().push(job.entry);
    }
    for (stream, ids) in claimed {
        broker.count_starts(&stream, &ids).await?;
    }
    jobs.iter_mut().for_each(|planned| planned.job.counted = true);
    Ok(())
}
