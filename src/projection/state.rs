//! Read models of single aggregates, as a description: which rows a state has, and what an event changes of them. How they are
//! written, filled, compared and mended follows from it.

use rust_decimal::Decimal;
use serde::{Serialize, Serializer};

use super::table::Table;
use crate::domain::{AggregateId, Domain};
use crate::store::sql::Sql;

/// A value of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text, or an id.
    Text(&'a str),
    /// A number that is not negative.
    Number(u64),
    /// A number.
    Signed(i64),
    /// A number with digits behind its point, exactly.
    Decimal(Decimal),
    /// 1 or 0.
    Boolean(bool),
    /// None.
    Null,
}

impl Value<'_> {
    pub(super) fn literal(&self, sql: &mut Sql) {
        match self {
            Self::Text(text) => sql.text(text),
            Self::Number(number) => sql.number(*number),
            Self::Signed(number) => sql.signed(*number),
            Self::Decimal(number) => sql.decimal(*number),
            Self::Boolean(is_true) => sql.boolean(*is_true),
            Self::Null => sql.raw("NULL"),
        };
    }
}

/// As JSON, from which the server makes a value of the column's type.
impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Signed(number) => serializer.serialize_i64(*number),
            Self::Decimal(number) => serializer.collect_str(number),
            Self::Boolean(is_true) => serializer.serialize_u8((*is_true).into()),
            Self::Null => serializer.serialize_none(),
        }
    }
}

macro_rules! values {
    ($($from:ty => |$value:ident| $to:expr),* $(,)?) => {
        $(impl<'a> From<$from> for Value<'a> {
            fn from($value: $from) -> Self {
                $to
            }
        })*
    };
}

values! {
    &'a str => |value| Self::Text(value),
    &'a String => |value| Self::Text(value),
    u64 => |value| Self::Number(value),
    u32 => |value| Self::Number(value.into()),
    i64 => |value| Self::Signed(value),
    Decimal => |value| Self::Decimal(value),
    bool => |value| Self::Boolean(value),
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// What an event changes of its aggregate's rows. What need not be written costs the database nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touches {
    /// Nothing.
    Nothing,
    /// These columns, of rows that are there.
    Columns(&'static [&'static str]),
    /// Rows are added, or changed in any column.
    Rows,
    /// Rows are added, changed or gone.
    Replaced,
}

/// A read model whose rows follow from the states of single aggregates. Pure.
pub trait StateProjection<D: Domain>: Send + Sync {
    /// Its table, whose name is the read model's.
    fn table(&self) -> &'static Table;

    /// The version of this code, from 1. A new number is due whenever the same states have other rows; the old code stays listed until
    /// its rows are retired.
    fn version(&self) -> u16 {
        1
    }

    /// Whether it is written from the log, a moment later: see [`Projection::is_later`](super::Projection::is_later).
    fn is_later(&self) -> bool {
        false
    }

    /// The aggregate types that have rows here.
    fn aggregates(&self) -> &'static [&'static str];

    /// Adds the rows that `aggregate` has in this state, in the order of the table's columns. The key begins with the aggregate's id.
    fn rows(&self, aggregate: &AggregateId, version: u64, state: &D::State, rows: &mut Rows<'_>);

    /// What `event` changes of its aggregate's rows.
    fn touches(&self, _event: &D::Event) -> Touches {
        Touches::Rows
    }
}

/// Takes rows.
pub struct Rows<'a>(&'a mut dyn FnMut(&[Value<'_>]));

impl<'a> Rows<'a> {
    /// Rows go to `take`.
    pub(crate) fn to(take: &'a mut dyn FnMut(&[Value<'_>])) -> Self {
        Self(take)
    }

    /// Adds a row: a value for each column, those of the key first.
    pub fn add(&mut self, values: &[Value<'_>]) {
        (self.0)(values);
    }
}
