//! The read models, compared with the fold of the events: every table, row and column, in both directions.

use std::collections::HashMap;

use super::shop::ShopFold;
use super::{Line, Problems};
use crate::domain::item::Item;
use crate::domain::order::{Order, Status};
use crate::domain::shop::State;
use crate::store::sql::Sql;
use crate::store::{Store, StoreError, column};

/// A row as text, in the order of its table's columns.
pub(super) type Row = Vec<String>;

/// A read model's table: the first `keys` columns are its primary key, which is of bytes.
#[derive(Debug)]
pub(super) struct Table {
    pub name: &'static str,
    keys: usize,
    columns: &'static [&'static str],
}

pub(super) static TABLES: [Table; 3] = [
    Table {
        name: "items",
        keys: 1,
        columns: &[
            "item_id",
            "name",
            "supply_price",
            "vat",
            "total_price",
            "is_tax_free",
            "stock",
            "sale_status",
            "member_id",
            "version",
        ],
    },
    Table { name: "orders", keys: 1, columns: &["order_id", "member_id", "total_price", "status", "version"] },
    Table { name: "order_items", keys: 2, columns: &["order_id", "item_id", "price", "quantity", "is_tax_free"] },
];

impl Table {
    pub fn key<'r>(&self, row: &'r Row) -> &'r [String] {
        &row[..self.keys.min(row.len())]
    }

    /// Reads up to `limit` rows after the one with the key `after`, in the order of the keys.
    pub async fn read(&self, store: &Store, after: Option<&[String]>, limit: u32) -> Result<Vec<Row>, StoreError> {
        let mut sql = Sql::new();
        sql.raw("SELECT ").list(self.columns.iter().enumerate(), |sql, (index, name)| {
            if index < self.keys {
                sql.raw(name);
            } else {
                sql.raw("CAST(").raw(name).raw(" AS CHAR)");
            }
        });
        sql.raw(" FROM ").raw(self.name);
        match after {
            Some([first]) => {
                sql.raw(" WHERE ").raw(self.columns[0]).raw(" > ").bytes(first.as_bytes());
            }
            Some([first, second]) => {
                let [one, two] = [self.columns[0], self.columns[1]];
                sql.raw(" WHERE ").raw(one).raw(" > ").bytes(first.as_bytes());
                sql.raw(" OR (").raw(one).raw(" = ").bytes(first.as_bytes());
                sql.raw(" AND ").raw(two).raw(" > ").bytes(second.as_bytes()).raw(")");
            }
            Some(_) | None => {}
        }
        sql.raw(" ORDER BY ").list(&self.columns[..self.keys], |sql, name| {
            sql.raw(name);
        });
        sql.raw(" LIMIT ").number(limit);
        let rows = store.rows(sql.into_string(), false).await?;
        let text = |row, index| {
            if index < self.keys {
                return column::<Vec<u8>>(row, index).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            }
            column::<String>(row, index)
        };
        rows.iter().map(|row| (0..self.columns.len()).map(|index| text(row, index)).collect()).collect()
    }
}

/// The rows that each table should have and that have not been seen in it yet.
#[derive(Debug)]
pub(super) struct Tables {
    expected: HashMap<(&'static str, Vec<String>), Row>,
    counts: [usize; 3],
    wrong: Problems,
}

impl Tables {
    pub fn of(shop: &ShopFold) -> Self {
        let mut tables = Self { expected: HashMap::new(), counts: [0; 3], wrong: Problems::default() };
        for problem in &shop.unreadable {
            tables.wrong.add(|| problem.clone());
        }
        for (aggregate, (version, state)) in &shop.states {
            match state {
                State::Item(item) => tables.expect(0, item_row(&aggregate.id, *version, item)),
                State::Order(order) => {
                    tables.expect(1, order_row(&aggregate.id, *version, order));
                    order_item_rows(&aggregate.id, order).for_each(|row| tables.expect(2, row));
                }
                State::Nothing => tables.wrong.add(|| format!("{aggregate} has events but no first one")),
            }
        }
        tables
    }

    fn expect(&mut self, table: usize, row: Row) {
        self.counts[table] += 1;
        let table = &TABLES[table];
        self.expected.insert((table.name, table.key(&row).to_vec()), row);
    }

    /// A row that the table has.
    pub fn row(&mut self, table: &'static Table, row: Row) {
        let key = table.key(&row).to_vec();
        let place = format!("{} {}", table.name, key.join(" "));
        let Some(expected) = self.expected.remove(&(table.name, key)) else {
            self.wrong.add(|| format!("{place} should not be there"));
            return;
        };
        for ((column, is), should) in table.columns.iter().zip(&row).zip(&expected) {
            if is != should {
                self.wrong.add(|| format!("{place}: {column} is {is}, should be {should}"));
            }
        }
    }

    pub fn finish(mut self) -> Line {
        for (table, key) in self.expected.keys() {
            self.wrong.add(|| format!("{table} {} is missing", key.join(" ")));
        }
        let [items, orders, lines] = self.counts;
        self.wrong.line(
            "read models = fold of the events",
            format!("{items} items, {orders} orders, {lines} order_items, every column"),
        )
    }
}

fn item_row(id: &str, version: u64, item: &Item) -> Row {
    vec![
        id.to_owned(),
        item.name.to_string(),
        item.supply_price.to_string(),
        item.vat.to_string(),
        item.total_price().to_string(),
        flag(item.is_tax_free),
        item.stock.to_string(),
        if item.is_on_sale { "ALLOW" } else { "DENY" }.to_owned(),
        item.member_id.to_string(),
        version.to_string(),
    ]
}

fn order_row(id: &str, version: u64, order: &Order) -> Row {
    let status = match order.status {
        Status::Placed => "PLACED",
        Status::Cancelled => "CANCELLED",
    };
    let (member_id, total_price) = (order.member_id.to_string(), order.total_price.to_string());
    vec![id.to_owned(), member_id, total_price, status.to_owned(), version.to_string()]
}

fn order_item_rows(id: &str, order: &Order) -> impl Iterator<Item = Row> {
    order.lines.iter().map(move |line| {
        let (price, quantity) = (line.price.to_string(), line.quantity.to_string());
        vec![id.to_owned(), line.item_id.to_string(), price, quantity, flag(line.is_tax_free)]
    })
}

fn flag(value: bool) -> String {
    u8::from(value).to_string()
}
