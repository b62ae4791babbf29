//! Jobs that go behind a dead one, instead of into a batch.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::{Dispatcher, settle};
use crate::batch::{End, EntryAction, Settled};
use crate::domain::Domain;
use crate::job::{EntryId, HeldLetter, HeldState, Job};
use crate::plan::{Batch, as_text};

impl<D: Domain> Dispatcher<D> {
    /// The broker has these letters that hold later jobs; with `anew`, and no others.
    pub(super) fn are_held(&mut self, stream: &Arc<str>, anew: bool, letters: Vec<HeldLetter>) {
        if anew {
            self.holds.forget(stream);
        }
        let written: Vec<EntryId> = letters.iter().map(|held| held.source).collect();
        for HeldLetter { source, state, aggregates, .. } in letters {
            self.holds.add(stream, source, aggregates, state == HeldState::Dead);
        }
        self.holds.are_written(stream, written);
        self.tell_held(stream);
    }

    /// These letters hold nobody any more.
    pub(super) fn let_go(&mut self, stream: &str, entries: &[EntryId]) {
        if self.holds.let_go(stream, entries) {
            self.reading.held_may_go_on();
        }
        self.tell_held(stream);
    }

    /// The broker has letters of these now.
    pub(super) fn held_are_written(&mut self, written: settle::Written) {
        for (stream, entry) in written {
            if self.holds.are_written(&stream, [entry]) {
                self.reading.held_may_go_on();
            }
        }
    }

    /// No later job is to overtake those that are dead.
    pub(super) fn hold_behind(&mut self, settled: &[Settled<D>]) {
        if !self.engine.hold_after_dead {
            return;
        }
        for Settled { planned, end } in settled {
            let job = &planned.queued.job;
            let is_ours = !job.spell.is_over() && !job.spell.is_gone();
            if is_ours && matches!(end.action, EntryAction::DeadLetter { .. }) {
                self.holds.add(&job.stream, job.entry, as_text(planned.aggregates()), true);
                self.tell_held(&job.stream);
            }
        }
    }

    /// Takes those jobs out of a batch that go behind a dead one, or behind one that does.
    pub(super) fn hold_back(&mut self, batch: &mut Batch<Job<D>>, now: Instant) {
        if batch.jobs.iter().all(|planned| self.holds.are_none(&planned.queued.job.stream)) {
            return;
        }
        let mut held = Vec::new();
        for planned in std::mem::take(&mut batch.jobs) {
            let job = &planned.queued.job;
            if self.holds.hold(&job.stream, job.entry, planned.aggregates()) {
                self.holds.add(&job.stream, job.entry, as_text(planned.aggregates()), false);
                self.plan.finish(&planned, now);
                held.push(Settled { planned, end: End::held() });
            } else {
                batch.jobs.push(planned);
            }
        }
        if let Some(Settled { planned, .. }) = held.first() {
            self.tell_held(&planned.queued.job.stream);
            let at = SystemTime::now();
            self.settle(settle::Batch { jobs: held.len(), since: now, began: at, ended: at }, held);
        }
    }

    fn tell_held(&self, stream: &str) {
        self.engine.metrics.held(stream, self.holds.held(stream));
    }
}
