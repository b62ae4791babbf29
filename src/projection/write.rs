//! How a description is written: a few statements for all rows of a batch.

use super::inline::{Change, Projection};
use super::state::{Rows, StateProjection, Touches, Value};
use super::table::{Column, Table};
use crate::domain::Domain;
use crate::store::sql::{JSON_ID, Sql};

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
    table.all().enumerate().filter(|(_, column)| names.contains(&column.name)).fold(0, |bits, (at, _)| bits | bit(at))
}

/// The bit of a column; the columns of a very wide table share the last.
fn bit(at: usize) -> Columns {
    1 << at.min(63)
}

impl<D: Domain, P: StateProjection<D>> Projection<D> for P {
    fn name(&self) -> &'static str {
        StateProjection::table(self).name
    }

    fn version(&self) -> u16 {
        StateProjection::version(self)
    }

    fn is_later(&self) -> bool {
        StateProjection::is_later(self)
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
    let names: Vec<_> =
        others.filter(|(at, _)| columns & bit(*at) != 0).map(|(at, column)| (at, column.name)).collect();
    (!names.is_empty()).then_some(names)
}

/// What a value is in JSON. The server makes whatever it has to of a value that does not fit the type it is told, and says nothing; so
/// that type always has room, and the column's own is met where a value is assigned, which is refused if it does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Signed,
}

impl Kind {
    fn of(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Text(_) | Value::Decimal(_) => Some(Self::Text),
            Value::Number(_) | Value::Boolean(_) => Some(Self::Number),
            Value::Signed(_) => Some(Self::Signed),
            Value::Null => None,
        }
    }

    /// What has room for both.
    fn or(self, other: Self) -> Self {
        if self == other { self } else { Self::Text }
    }

    fn sql(self) -> &'static str {
        match self {
            Self::Text => "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            Self::Number => "BIGINT UNSIGNED",
            Self::Signed => "BIGINT",
        }
    }
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
    let mut kinds: Vec<Option<Kind>> = vec![None; table.key.len() + changed.len()];
    each_row(projection, changes, |row| {
        let key = row.iter().take(table.key.len());
        let picked: Vec<_> = key.chain(changed.iter().filter_map(|(at, _)| row.get(*at))).collect();
        for (kind, value) in kinds.iter_mut().zip(&picked) {
            *kind = Kind::of(value).map(|own| kind.map_or(own, |known| known.or(own))).or(*kind);
        }
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
    sql.list(picked.zip(&kinds).enumerate(), |sql, (at, (column, kind))| {
        // Every aggregate's id has room in it.
        let is_id = at < table.key.len() && column.sql == Column::id("").sql;
        sql.raw(column.name).raw(" ").raw(if is_id { JSON_ID } else { kind.unwrap_or(Kind::Text).sql() });
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
