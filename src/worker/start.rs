//! When which batch starts.

use std::time::Instant;

use super::Dispatcher;
use super::linger::{least_jobs, linger_until};
use crate::batch::{self, Prepared};
use crate::domain::Domain;
use crate::job::Job;
use crate::plan::Batch;

impl<D: Domain> Dispatcher<D> {
    /// Starts what can start, and returns when the next job becomes due. Both go by one moment: a job that becomes due
    /// between two would be in no batch and have no timer.
    pub(super) fn start_batches(&mut self, now: Instant) -> Option<Instant> {
        for fallen in self.prospects.extract_if(|_, prospect| prospect.is_aborted()) {
            self.plan.close(fallen.0);
        }
        while self.running.len() < self.settings.in_flight {
            let (under_way, waiting) = (self.running.len(), self.plan.waiting());
            let until = linger_until(under_way, waiting, self.last_begun).filter(|until| now < *until);
            if until.is_some() {
                return self.next_due(now, until);
            }
            let most = self.settings.limits.jobs;
            let least = least_jobs(under_way, most, self.last_begun).filter(|(_, until)| now < *until);
            let (least, until) = least.map_or((1, None), |(least, until)| (least, Some(until)));
            if until.is_some() && self.in_vain.is_some_and(|then| waiting < then + least) {
                return self.next_due(now, until);
            }
            let mut batch = self.plan.next_batch(now, self.settings.limits, least);
            if batch.jobs.is_empty() {
                self.in_vain = until.map(|_| waiting);
                return self.next_due(now, until);
            }
            self.hold_back(&mut batch, now);
            if !batch.jobs.is_empty() {
                self.last_begun = now;
                self.start(batch);
            }
        }
        self.plan.next_due(now)
    }

    fn start(&mut self, batch: Batch<Job<D>>) {
        self.in_flight_jobs += batch.jobs.len();
        let (engine, openings) = (self.engine.clone(), self.openings.0.clone());
        let after = batch.after.iter().filter_map(|id| self.prospects.get(id).cloned()).collect();
        let in_flight = engine.metrics.batch_started();
        self.running.spawn(async move {
            let id = batch.id;
            (id, in_flight, batch::run(&engine, batch, after, &openings).await)
        });
    }

    /// When something is to be looked at again, although nothing happens until then.
    fn next_due(&self, now: Instant, until: Option<Instant>) -> Option<Instant> {
        self.plan.next_due(now).into_iter().chain(until).min()
    }

    /// A batch may be succeeded from now on.
    pub(super) fn open(&mut self, Prepared { batch, blocked, prospect }: Prepared<D>) {
        self.in_vain = None;
        self.plan.open(batch, &blocked);
        self.prospects.insert(batch, prospect);
    }
}
