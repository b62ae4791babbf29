//! Jobs out of the entries that come in, each at its place in the plan.

use std::time::Instant;

use super::Dispatcher;
use crate::domain::Domain;
use crate::fail;
use crate::job::{self, Dead, DeadCode, Entry, Job, Unknown};
use crate::plan::Queued;

impl<D: Domain> Dispatcher<D> {
    /// Takes the jobs into the plan.
    pub(super) fn accept(&mut self, read: Vec<Entry>) {
        for entry in read {
            let mut job = job::decode::<D>(&entry, self.settings.max_data_bytes);
            fail::point("accept", job.subject.as_ref().map_or("", |subject| &subject.id));
            let deliveries = entry.deliveries.unwrap_or(0);
            if deliveries >= self.settings.max_deliveries && job.work.is_ok() {
                let detail = format!("work on it was started {deliveries} times in a row and never came to an end");
                let dead = Dead::new(DeadCode::MaxDeliveries, detail);
                if self.engine.hold_after_dead { job.give_up(dead) } else { job.work = Err(dead) }
            }
            if self.engine.hold_after_dead {
                job.keep_its_place();
            }
            // A job that is dead is not started.
            job.counted |= job.work.is_err();
            // From its second redelivery on it runs alone, so that the jobs beside it are not counted down with it.
            let alone = deliveries >= 2 && job.work.is_ok();
            let (targets, not_before) = (job.targets(), self.unknown_until(&job));
            self.plan.push(Queued { alone, not_before, ..Queued::new(entry.turn(), job.id, targets, job.bytes, job) });
        }
    }

    /// Until when the job waits for a daemon that knows it. The others hear of it at once.
    fn unknown_until(&self, job: &Job<D>) -> Option<Instant> {
        let unknown = job.unknown.as_ref().filter(|_| !self.settings.unknown_wait.is_zero())?;
        let Unknown { job_type, version, .. } = unknown;
        self.engine.metrics.job_unknown(&job.stream);
        if self.engine.incidents.is_news("unknown_type") {
            let wait = self.settings.unknown_wait.as_secs_f64();
            tracing::warn!(
                queue = %job.stream, job.id = %job.id, job.version = version, job.type = job_type, wait.s = wait,
                "this program does not know the job; it waits for a daemon that does, and with it the jobs of its key"
            );
        }
        let until = Instant::now() + self.settings.unknown_wait;
        self.seats.unknown(&job.stream, job_type, *version, until);
        Some(until)
    }
}
