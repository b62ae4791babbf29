//! All checks together.

use std::collections::HashSet;

use super::fold::Fold;
use super::log::Log;
use super::promises::Promises;
use super::read_models::ReadModels;
use super::report::Audit;
use super::serial::Serial;
use super::snapshots::Snapshots;
use super::table::{Row, Table};
use crate::domain::Domain;
use crate::job::JobId;
use crate::store::{RecordedEvent, StoredReceipt, StoredSnapshot};

/// All checks, as far as the data has been seen. Receipts and snapshots come first, then events in the order of their
/// positions, then the rows of the read models.
pub struct Checks<D: Domain> {
    log: Log,
    fold: Fold<D>,
    snapshots: Snapshots<D>,
    promises: Box<dyn Promises<D>>,
    read_models: Option<ReadModels>,
    serial: Option<Serial<D>>,
}

impl<D: Domain> Checks<D> {
    /// Nothing has been seen yet.
    pub fn new(promises: Box<dyn Promises<D>>) -> Self {
        let (log, fold, snapshots) = (Log::default(), Fold::default(), Snapshots::default());
        Self { log, fold, snapshots, promises, read_models: None, serial: None }
    }

    /// The same, held to a serial run as well.
    pub fn with_serial(self, serial: Option<Serial<D>>) -> Self {
        Self { serial, ..self }
    }

    /// A receipt.
    pub fn receipt(&mut self, job: JobId, receipt: StoredReceipt) {
        if let Some(serial) = &mut self.serial {
            serial.receipt(job, &receipt);
        }
        self.log.receipt(job, receipt);
    }

    /// A stored state.
    pub fn snapshot(&mut self, snapshot: StoredSnapshot) {
        self.snapshots.stored(snapshot);
    }

    /// The next event of the log.
    pub fn event(&mut self, recorded: &RecordedEvent) {
        self.log.event(recorded);
        if let Some(serial) = &mut self.serial {
            serial.event(recorded);
        }
        if let Some((aggregate, event, version, state)) = self.fold.event(recorded) {
            self.promises.event(&aggregate, &event);
            self.snapshots.reached(&aggregate, version, state);
        }
    }

    /// A row of a read model, after all events.
    pub fn row(&mut self, table: &'static Table, row: Row) {
        let (fold, promises) = (&self.fold, &*self.promises);
        self.read_models.get_or_insert_with(|| ReadModels::of(fold, promises)).row(table, row);
    }

    /// The verdicts. `sequence` is what the sequence row says, `pushed` are the jobs that must have a receipt.
    pub fn finish(mut self, sequence: u64, pushed: Option<&HashSet<JobId>>) -> Audit {
        let tables = self.read_models.unwrap_or_else(|| ReadModels::of(&self.fold, &*self.promises));
        let mut lines = self.log.finish(sequence, pushed);
        lines.extend(self.promises.finish());
        lines.push(tables.finish());
        lines.push(self.snapshots.finish());
        lines.extend(self.serial.map(Serial::finish));
        Audit { lines }
    }
}
