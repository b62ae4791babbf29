//! A read model's table, read row by row.

use crate::store::sql::Sql;
use crate::store::{Store, StoreError, column};

/// A row as text, in the order of its table's columns.
pub type Row = Vec<String>;

/// A read model's table: the first `keys` columns are its primary key, which is of bytes.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// How many columns its primary key has: one or two.
    pub keys: usize,
    /// All of its columns.
    pub columns: &'static [&'static str],
}

impl Table {
    /// The key of a row.
    pub fn key<'r>(&self, row: &'r Row) -> &'r [String] {
        &row[..self.keys.min(row.len())]
    }

    /// Reads up to `limit` rows after the one with the key `after`, in the order of the keys.
    pub(super) async fn read(
        &self,
        store: &Store,
        after: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
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
