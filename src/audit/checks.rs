//! All checks together.

use std::collections::HashSet;

use super::fold::Fold;
use super::log::Log;
use super::promises::Promises;
use super::read_models::ReadModels;
use super::report::Audit;
use super::serial::Serial;
use super::snapshots::Snapshots;
use super::table::Row;
use crate::domain::Domain;
use crate::job::JobId;
use crate::projection::Happened;
use crate::projection::Table;
use crate::store::{RecordedEvent, StoredReceipt, StoredSnapshot};

/// All checks, as far as the data has been seen. Receipts and snapshots come first, then events in the order of their
/// positions, then the rows of the read models.
pub struct Checks<D: Domain> {
    log: Log,
    fold: Fold<D>,
    snapshots: Snapshots<D>,
    promises: Box<dyn Promises<D>>,
    read_models: Option<ReadModels>,
    /// Up to which position each read model of the log has been written, and its rows.
    upto: Vec<u64>,
    logged: Option<ReadModels>,
    serial: Option<Serial<D>>,
}

impl<D: Domain> Checks<D> {
    /// Nothing has been seen yet.
    pub fn new(promises: Box<dyn Promises<D>>) -> Self {
        let (log, fold, snapshots) = (Log::default(), Fold::default(), Snapshots::default());
        let upto = vec![0; promises.logged().len()];
        Self { log, fold, snapshots, promises, read_models: None, upto, logged: None, serial: None }
    }

    /// The same, with read models of the log up to these positions, by subscription.
    pub fn up_to(mut self, positions: &[(&str, u64)]) -> Self {
        for (upto, logged) in self.upto.iter_mut().zip(self.promises.logged()) {
            let found = positions.iter().find(|(subscription, _)| *subscription == logged.subscription);
            *upto = found.map_or(0, |(_, position)| *position);
        }
        self
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
            if self.upto.is_empty() {
                return;
            }
            let Some(recorded_at) = recorded.moment() else {
                let problem = format!("event {}: {} is no time", recorded.position, recorded.recorded_at);
                return self.fold.unreadable.push(problem);
            };
            let (position, event_id) = (recorded.position, recorded.event_id);
            let (aggregate, event) = (&aggregate, &event);
            for (number, _) in self.upto.iter().enumerate().filter(|(_, upto)| position <= **upto) {
                self.promises
                    .happened(number, &Happened { position, event_id, recorded_at, aggregate, version, event });
            }
        }
    }

    /// A row of a read model of the log, after all events.
    pub fn logged_row(&mut self, table: &'static Table, row: Row) {
        let promises = &*self.promises;
        self.logged.get_or_insert_with(|| of_log(promises)).row(table, row);
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
        lines.push(tables.finish("read models = fold of the events"));
        if !self.upto.is_empty() {
            let logged = self.logged.unwrap_or_else(|| of_log(&*self.promises));
            lines.push(logged.finish("read models of the log = its events"));
        }
        lines.push(self.snapshots.finish());
        lines.extend(self.serial.map(Serial::finish));
        Audit { lines }
    }
}

/// The rows that the read models of the log should have, up to their checkpoints.
fn of_log<D: Domain>(promises: &dyn Promises<D>) -> ReadModels {
    let logged = promises.logged();
    let mut tables = ReadModels::new(logged.iter().map(|logged| &logged.table).collect());
    for number in 0..logged.len() {
        promises.logged_rows(number).into_iter().for_each(|row| tables.expect(number, row));
    }
    tables
}
