//! The code of a read model, of whichever kind.

use std::sync::Arc;

use uuid::Uuid;

use super::inline::Projection;
use super::log::LogProjection;
use super::table::{Table, shape};
use crate::domain::{AggregateId, Domain};
use crate::store::sql::Sql;
use crate::store::{Mode, NewBuild, Only};

/// The code of one version of a read model.
pub enum Code<'a, D: Domain> {
    /// It is about aggregates.
    States(&'a dyn Projection<D>),
    /// It is about what happened when.
    Log(&'a dyn LogProjection<D>),
}

/// The same, kept.
pub enum Source<D: Domain> {
    /// It is about aggregates.
    States(Arc<dyn Projection<D>>),
    /// It is about what happened when.
    Log(Arc<dyn LogProjection<D>>),
}

impl<D: Domain> Clone for Code<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Domain> Copy for Code<'_, D> {}

impl<D: Domain> Clone for Source<D> {
    fn clone(&self) -> Self {
        match self {
            Self::States(one) => Self::States(one.clone()),
            Self::Log(one) => Self::Log(one.clone()),
        }
    }
}

impl<D: Domain> Source<D> {
    /// The code.
    pub fn code(&self) -> Code<'_, D> {
        match self {
            Self::States(one) => Code::States(&**one),
            Self::Log(one) => Code::Log(&**one),
        }
    }
}

impl<D: Domain> Code<'_, D> {
    /// The read model.
    pub fn name(&self) -> &'static str {
        match self {
            Self::States(one) => one.name(),
            Self::Log(one) => one.name(),
        }
    }

    /// The version of the code.
    pub fn version(&self) -> u16 {
        match self {
            Self::States(one) => one.version(),
            Self::Log(one) => one.version(),
        }
    }

    /// Its tables.
    pub fn tables(&self) -> &'static [Table] {
        match self {
            Self::States(one) => one.tables(),
            Self::Log(one) => one.tables(),
        }
    }

    /// How it is written.
    pub fn mode(&self) -> Mode {
        match self {
            Self::States(one) if one.is_later() => Mode::Later,
            Self::States(_) => Mode::Inline,
            Self::Log(_) => Mode::Log,
        }
    }

    /// The events that it is filled from.
    pub fn only(&self) -> Only<'static> {
        match self {
            Self::States(one) => Only::Aggregates(one.aggregates()),
            Self::Log(one) => Only::Types(one.events()),
        }
    }

    /// The digest of its tables.
    pub fn shape(&self) -> Uuid {
        shape(self.tables())
    }

    /// Appends what deletes all rows of an aggregate, whose id their keys begin with.
    pub(crate) fn clear(&self, aggregate: &AggregateId, rows: &mut Sql) {
        for table in self.tables() {
            rows.raw("DELETE FROM ").table(table.name).raw(" WHERE ").raw(table.key[0].name).raw(" = ");
            rows.text(&aggregate.id).raw("; ");
        }
    }

    /// A build by this code.
    pub fn build(&self, build: u16) -> NewBuild<'static> {
        NewBuild { name: self.name(), build, version: self.version(), mode: self.mode(), shape: self.shape() }
    }
}
