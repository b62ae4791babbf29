//! How often in a row work on a job was started and did not come to an end. The broker keeps it, so that it outlives a process
//! which the job ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::batch::engine::Engine;
use crate::batch::failure::Failure;
use crate::domain::Domain;
use crate::job::{EntryId, Job};
use crate::plan::Planned;
use crate::stream::{Broker, BrokerError};

/// The jobs of a batch, to be counted as started before the domain's code is run for them.
///
/// Whatever ends the process between [`Starts::count`] and [`Starts::end`] speaks against the job, so there is as little
/// between them as can be: events that have come are folded, jobs are decided, the packet is written. Jobs wait for locks, for
/// the batches before theirs and for the database without being counted, however often their process ends meanwhile.
pub(in crate::batch) struct Starts<'a, D: Domain> {
    engine: &'a Engine<D>,
    jobs: &'a mut [Planned<Job<D>>],
}

impl<'a, D: Domain> Starts<'a, D> {
    pub fn new(engine: &'a Engine<D>, jobs: &'a mut [Planned<Job<D>>]) -> Self {
        Self { engine, jobs }
    }

    /// Counts the start of those jobs that were taken over and have not been counted. If the broker does not do it, none of the
    /// jobs may be started.
    pub async fn count(&mut self) -> Result<(), Failure> {
        let started = self.jobs.iter().filter(|planned| !planned.queued.job.counted);
        let more = |planned: &'_ Planned<Job<D>>| planned.queued.job.deliveries.unwrap_or(0) + 1;
        match set(&self.engine.broker, started.map(|planned| (&planned.queued.job, more(planned)))).await {
            Ok(()) => {
                self.jobs.iter_mut().for_each(|planned| planned.queued.job.counted = true);
                Ok(())
            }
            Err(error) => {
                if self.engine.incidents.is_news("count_starts") {
                    let jobs = self.jobs.len();
                    tracing::warn!(%error, batch.jobs = jobs, "the start of jobs that were taken over cannot be counted; they wait");
                }
                Err(Failure::Uncounted)
            }
        }
    }

    /// Takes the starts of such jobs back: the process is still there. When the domain's code has done with the jobs, earlier
    /// starts do not count against them either. What follows then are packets whose content is settled, and to be killed while
    /// they are under way says nothing of a job. If the broker does not do it, the starts stay counted, which only makes a job
    /// run alone sooner.
    pub async fn end(self, is_prepared: bool) {
        let left = |job: &Job<D>| if is_prepared { 0 } else { job.deliveries.unwrap_or(0) };
        let was_begun = |job: &Job<D>| job.deliveries.is_some() && job.counted && job.work.is_ok();
        let ended = self.jobs.iter().filter(|planned| was_begun(&planned.queued.job));
        if set(&self.engine.broker, ended.map(|planned| (&planned.queued.job, left(&planned.queued.job)))).await.is_ok()
        {
            let ended = self.jobs.iter_mut().filter(|planned| was_begun(&planned.queued.job));
            ended.for_each(|planned| {
                planned.queued.job.deliveries = Some(left(&planned.queued.job));
                planned.queued.job.counted = false;
            });
        }
    }
}

/// How often work on the jobs of entries, or of letters, was started.
type Counts = Vec<(EntryId, u64)>;

/// Sets how often in a row work on each of these jobs was started.
async fn set<'a, D: Domain + 'a>(
    broker: &Broker,
    jobs: impl Iterator<Item = (&'a Job<D>, u64)>,
) -> Result<(), BrokerError> {
    let mut streams: BTreeMap<Arc<str>, [Counts; 2]> = BTreeMap::new();
    for (job, starts) in jobs {
        let [entries, letters] = streams.entry(job.stream.clone()).or_default();
        match job.letter {
            Some(letter) => letters.push((letter, starts)),
            None => entries.push((job.entry, starts)),
        }
    }
    for (stream, [entries, letters]) in streams {
        broker.set_starts(&stream, &entries).await?;
        broker.set_letter_starts(&stream, &letters).await?;
    }
    Ok(())
}
