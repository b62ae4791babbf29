//! Read models of single aggregates, as a description: which rows a state has, and what an event changes of them. How they are
//! written, filled, compared and mended follows from it.

use rust_decimal::Decimal;
use serde::{Serialize, Serializer};

use super::inline::{Change, Projection};
use super::table::Table;
use crate::domain::{AggregateId, Domain};
use crate::store::sql::{JSON_ID, Sql};

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

/// Up to so many rows an upsert costs the server less than an update from a list, which begins with 50 to 100 us. Of 600 rows the
/// update costs it 1 to 2 us less each (MariaDB 10.11; MySQL 9.7: 3 to 5).
const FEW: usize = 32;

/// Columns of a table, as bits.
type Columns = u64;

/// What the events of a change do to the rows together.
enum Touched {
    Nothing,
    Columns(Columns),
    Rows,
    Replaced,
}

fn touched<D: Domain>(projection: &impl StateProjection<D>, table: &Table, events: &[D::Event]) -> Touched {
    let mut all = Touched::Nothing;
    for event in events {
        all = match (all, projection.touches(event)) {
            (Touched::Replaced, _) | (_, Touches::Replaced) => return Touched::Replaced,
            (all, Touches::Nothing) => all,
            (Touched::Rows, _) | (_, Touches::Rows) => Touched::Rows,
            (Touched::Nothing, Touches::Columns(names)) => Touched::Columns(bits(table, names)),
            (Touched::Columns(before), Touches::Columns(names)) => Touched::Columns(before | bits(table, names)),
        };
    }
    all
}

fn bits(table: &Table, names: &[&str]) -> Columns {
    table.all().enumerate().filter(|(_, column)| names.contains(&column.name)).fold(0, |bits, (at, _)| bits | 1 << at)
}

impl<D: Domain, P: StateProjection<D>> Projection<D> for P {
    fn name(&self) -> &'static str {
        StateProjection::table(self).name
    }

    fn version(&self) -> u16 {
        StateProjection::version(self)
    }

    fn aggregates(&self) -> &'static [&'static str] {
        StateProjection::aggregates(self)
    }

    fn tables(&self) -> &'static [Table] {
        std::slice::from_ref(StateProjection::table(self))
    }

    fn write(&self, changes: &[Change<'_, D>], sql: &mut Sql) {
        let table = StateProjection::table(self);
        let (mut some, mut all, mut replaced, mut columns) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for change in changes.iter().filter(|change| StateProjection::aggregates(self).contains(&change.aggregate.kind))
        {
            match touched(self, table, change.events) {
                Touched::Nothing => {}
                Touched::Columns(touched) => {
                    columns |= touched;
                    some.push(change);
                }
                Touched::Rows => all.push(change),
                Touched::Replaced => {
                    replaced.push(&*change.aggregate.id);
                    all.push(change);
                }
            }
        }
        if !replaced.is_empty() {
            sql.raw("DELETE FROM ").table(table.name).raw(" WHERE ").raw(table.key[0].name).raw(" IN (");
            sql.list(replaced, |sql, id| {
                sql.text(id);
            })
            .raw(");");
        }
        if some.len() > FEW {
            update(self, table, columns, &some, sql);
        } else {
            upsert(self, table, columns, &some, sql);
        }
        upsert(self, table, Columns::MAX, &all, sql);
    }
}

/// Hands over the rows that these aggregates have now.
fn each_row<D: Domain>(
    projection: &impl StateProjection<D>,
    changes: &[&Change<'_, D>],
    mut take: impl FnMut(&[Value<'_>]),
) {
    let mut rows = Rows::to(&mut take);
    for change in changes {
        projection.rows(change.aggregate, change.version, change.state, &mut rows);
    }
}

/// Adds the rows, or changes these columns of those that are there.
fn upsert<D: Domain>(
    projection: &impl StateProjection<D>,
    table: &'static Table,
    columns: Columns,
    changes: &[&Change<'_, D>],
    sql: &mut Sql,
) {
    let mut is_first = true;
    each_row(projection, changes, |row| {
        if is_first {
            sql.raw("INSERT INTO ").table(table.name).raw(" (");
            sql.list(table.all(), |sql, column| {
                sql.raw(column.name);
            })
            .raw(") VALUES ");
        }
        sql.raw(if is_first { "(" } else { ",(" });
        is_first = false;
        sql.list(row, |sql, value| value.literal(sql)).raw(")");
    });
    if is_first {
        return;
    }
    sql.raw(" ON DUPLICATE KEY UPDATE ");
    // A table may be nothing but its key, which is written as it is then.
    let changed = changed(table, columns).or_else(|| table.key.first().map(|key| vec![(0, key.name)]));
    sql.list(changed.unwrap_or_default(), |sql, (_, name)| {
        sql.raw(name).raw("=VALUES(").raw(name).raw(")");
    });
    sql.raw(";");
}

/// Those of `columns` that are not of the key, each with its place in a row.
fn changed(table: &'static Table, columns: Columns) -> Option<Vec<(usize, &'static str)>> {
    let others = table.all().enumerate().skip(table.key.len());
    let names: Vec<_> = others.filter(|(at, _)| columns >> at & 1 == 1).map(|(at, column)| (at, column.name)).collect();
    (!names.is_empty()).then_some(names)
}

/// Changes these columns of rows that are there.
fn update<D: Domain>(
    projection: &impl StateProjection<D>,
    table: &'static Table,
    columns: Columns,
    changes: &[&Change<'_, D>],
    sql: &mut Sql,
) {
    let Some(changed) = changed(table, columns) else { return };
    let mut list = String::from("[");
    each_row(projection, changes, |row| {
        let key = row.iter().take(table.key.len());
        let picked: Vec<_> = key.chain(changed.iter().filter_map(|(at, _)| row.get(*at))).collect();
        list.push_str(if list.len() > 1 { "," } else { "" });
        // Text and numbers cannot fail to be written as JSON.
        list.push_str(&serde_json::to_string(&picked).unwrap_or_default());
    });
    if list.len() == 1 {
        return;
    }
    list.push(']');
    sql.raw("UPDATE JSON_TABLE(_utf8mb4 ").text(&list).raw(", '$[*]' COLUMNS (");
    let picked = table.key.iter().chain(changed.iter().filter_map(|(at, _)| table.all().nth(*at)));
    sql.list(picked.enumerate(), |sql, (at, column)| {
        sql.raw(column.name).raw(" ").raw(if column.is_id() { JSON_ID } else { column.sql });
        sql.raw(" PATH '$[").number(at as u64).raw("]'");
    });
    sql.raw(")) j STRAIGHT_JOIN ").table(table.name).raw(" i ON ");
    for (at, column) in table.key.iter().enumerate() {
        sql.raw(if at > 0 { " AND i." } else { "i." }).raw(column.name).raw(if column.is_id() {
            " = CAST(j."
        } else {
            " = j."
        });
        sql.raw(column.name).raw(if column.is_id() { " AS BINARY)" } else { "" });
    }
    sql.raw(" SET ")
        .list(&changed, |sql, (_, name)| {
            sql.raw("i.").raw(name).raw("=j.").raw(name);
        })
        .raw(";");
}
