//! The read models, compared with the fold of the events: every table, row and column, in both directions.

use std::collections::HashMap;

use super::fold::Fold;
use super::promises::Promises;
use super::report::{Line, Problems};
use super::table::Row;
use crate::domain::Domain;
use crate::projection::Table;

/// The rows that each table should have and that have not been seen in it yet.
#[derive(Debug)]
pub(super) struct ReadModels {
    tables: Vec<&'static Table>,
    expected: HashMap<(&'static str, Vec<String>), Row>,
    counts: Vec<usize>,
    wrong: Problems,
}

impl ReadModels {
    pub fn of<D: Domain>(fold: &Fold<D>, promises: &dyn Promises<D>) -> Self {
        let mut all = Self::new(promises.tables().iter().collect());
        for problem in &fold.unreadable {
            all.wrong.add(|| problem.clone());
        }
        for (aggregate, (version, state)) in &fold.states {
            match promises.rows(aggregate, *version, state) {
                Ok(rows) => rows.into_iter().for_each(|(table, row)| all.expect(table, row)),
                Err(problem) => all.wrong.add(|| problem),
            }
        }
        all
    }

    /// Tables that should have no row yet.
    pub fn new(tables: Vec<&'static Table>) -> Self {
        let counts = vec![0; tables.len()];
        Self { tables, expected: HashMap::new(), counts, wrong: Problems::default() }
    }

    /// The table with this index should have this row.
    pub fn expect(&mut self, table: usize, row: Row) {
        self.counts[table] += 1;
        let table = self.tables[table];
        self.expected.insert((table.name, table.key_of(&row).to_vec()), row);
    }

    /// A row that the table has.
    pub fn row(&mut self, table: &'static Table, row: Row) {
        let key = table.key_of(&row).to_vec();
        let place = format!("{} {}", table.name, key.join(" "));
        let Some(expected) = self.expected.remove(&(table.name, key)) else {
            self.wrong.add(|| format!("{place} should not be there"));
            return;
        };
        for ((column, is), should) in table.all().zip(&row).zip(&expected) {
            if is != should {
                self.wrong.add(|| format!("{place}: {0} is {is}, should be {should}", column.name));
            }
        }
    }

    pub fn finish(mut self, promise: &'static str) -> Line {
        for (table, key) in self.expected.keys() {
            self.wrong.add(|| format!("{table} {} is missing", key.join(" ")));
        }
        let rows = self.tables.iter().zip(&self.counts).map(|(table, count)| format!("{count} {}", table.name));
        let rows: Vec<String> = rows.collect();
        let summary = if rows.is_empty() { "none to compare".to_owned() } else { rows.join(", ") + ", every column" };
        self.wrong.line(promise, summary)
    }
}
