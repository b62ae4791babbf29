//! How often work on a job was started and never came to an end. The broker keeps it, so that it outlives a process which the
//! job ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Engine;
use crate::domain::Domain;
use crate::job::{EntryId, Job};
use crate::plan::Planned;
use crate::stream::{Broker, BrokerError};

/// Counts the start of those jobs that were claimed. They have their locks by then, since a job that waits for locks has not been
/// started, however often its process ends. And no state has been loaded for them, since a job that ends the process in the
/// domain's code must have been counted. False when the broker did not do it; then none of the jobs may be started.
pub(super) async fn count_starts<D: Domain>(engine: &Engine<D>, jobs: &mut [Planned<Job<D>>]) -> bool {
    let started = jobs.iter().filter(|planned| !planned.job.counted);
    let counted = set(&engine.broker, started.map(|planned| (&planned.job, 1))).await;
    match &counted {
        Ok(()) => jobs.iter_mut().for_each(|planned| planned.job.counted = true),
        Err(error) if engine.incidents.is_news("count_starts") => {
            tracing::warn!(%error, batch.jobs = jobs.len(), "the start of claimed jobs cannot be counted; they wait");
        }
        Err(_) => {}
    }
    counted.is_ok()
}

/// Takes the starts of claimed jobs back: the domain's code has done with them, and the process is still there. What follows
/// are packets whose content is settled, and to be killed while they are under way says nothing of a job. If the broker does
/// not do it, the starts stay counted, which only makes a job run alone sooner.
pub(super) async fn count_ends<D: Domain>(engine: &Engine<D>, jobs: &mut [Planned<Job<D>>]) {
    let is_claimed = |job: &Job<D>| job.deliveries.is_some() && job.counted && job.work.is_ok();
    let ended = jobs.iter().filter(|planned| is_claimed(&planned.job));
    if set(&engine.broker, ended.map(|planned| (&planned.job, 0))).await.is_ok() {
        let ended = jobs.iter_mut().filter(|planned| is_claimed(&planned.job));
        ended.for_each(|planned| planned.job.counted = false);
    }
}

/// Sets how often work on each of these jobs was started: so much more often than when it was claimed.
async fn set<'a, D: Domain + 'a>(
    broker: &Broker,
    jobs: impl Iterator<Item = (&'a Job<D>, u64)>,
) -> Result<(), BrokerError> {
    let mut streams: BTreeMap<Arc<str>, Vec<(EntryId, u64)>> = BTreeMap::new();
    for (job, more) in jobs {
        streams.entry(job.stream.clone()).or_default().push((job.entry, job.deliveries.unwrap_or(0) + more));
    }
    for (stream, entries) in streams {
        broker.set_starts(&stream, &entries).await?;
    }
    Ok(())
}
