//! What a domain adds to an audit: its read models, and promises of its own.

use super::report::Line;
use super::table::Row;
use crate::domain::{AggregateId, Domain};
use crate::projection::{Happened, Table};

/// A read model that is read from the log.
#[derive(Debug)]
pub struct Logged {
    /// Its subscription, whose checkpoint says up to where it has been written.
    pub subscription: &'static str,
    /// Its table.
    pub table: Table,
}

/// A domain's own part of an audit. Every method has a default, for a domain that adds nothing.
pub trait Promises<D: Domain>: Send {
    /// An event of `aggregate`, in the order of the log.
    fn event(&mut self, _aggregate: &AggregateId, _event: &D::Event) {}

    /// The tables of the read models.
    fn tables(&self) -> &'static [Table] {
        &[]
    }

    /// The rows that an aggregate in this state has, each with the index of its table; the error says what is wrong with the
    /// state itself.
    fn rows(&self, _aggregate: &AggregateId, _version: u64, _state: &D::State) -> Result<Vec<(usize, Row)>, String> {
        Ok(Vec::new())
    }

    /// The read models that are read from the log.
    fn logged(&self) -> &'static [Logged] {
        &[]
    }

    /// An event, in the order of the log, that the read model with this index has to have.
    fn happened(&mut self, _logged: usize, _what: &Happened<'_, D>) {}

    /// The rows that it has to have.
    fn logged_rows(&self, _logged: usize) -> Vec<Row> {
        Vec::new()
    }

    /// The verdicts, when all events have been seen.
    fn finish(&mut self) -> Vec<Line> {
        Vec::new()
    }
}

/// Promises nothing beyond what every log does.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogOnly;

impl<D: Domain> Promises<D> for LogOnly {}
