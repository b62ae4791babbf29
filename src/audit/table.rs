//! A read model's table, read row by row.

use crate::projection::{Column, Table};
use crate::store::sql::Sql;
use crate::store::{Store, StoreError, column};

/// A row as text, in the order of its table's columns; `NULL` where there is no value.
pub type Row = Vec<String>;

/// How an audit sees a table, whose primary key has one or two columns.
impl Table {
    /// The key of a row.
    pub(super) fn key_of<'r>(&self, row: &'r Row) -> &'r [String] {
        &row[..self.key.len().min(row.len())]
    }

    /// Reads up to `limit` rows after the one with the key `after`, in the order of the keys.
    pub(super) async fn read(
        &self,
        store: &Store,
        after: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        let mut sql = Sql::new();
        sql.raw("SELECT ").list(self.all(), |sql, column| {
            if column.is_id() {
                sql.raw(column.name);
            } else {
                sql.raw("CAST(").raw(column.name).raw(" AS CHAR)");
            }
        });
        sql.raw(" FROM ").raw(self.name);
        match after {
            Some([first]) => {
                sql.raw(" WHERE ").raw(self.key[0].name).raw(" > ").bytes(first.as_bytes());
            }
            Some([first, second]) => {
                let [one, two] = [self.key[0].name, self.key[1].name];
                sql.raw(" WHERE ").raw(one).raw(" > ").bytes(first.as_bytes());
                sql.raw(" OR (").raw(one).raw(" = ").bytes(first.as_bytes());
                sql.raw(" AND ").raw(two).raw(" > ").bytes(second.as_bytes()).raw(")");
            }
            Some(_) | None => {}
        }
        sql.raw(" ORDER BY ").list(self.key, |sql, column| {
            sql.raw(column.name);
        });
        sql.raw(" LIMIT ").number(limit);
        let rows = store.rows(sql.into_string(), false).await?;
        let text = |row, index| {
            if self.all().nth(index).is_some_and(Column::is_id) {
                let bytes: Option<Vec<u8>> = column(row, index)?;
                return Ok(bytes.map_or("NULL".to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned()));
            }
            Ok(column::<Option<String>>(row, index)?.unwrap_or_else(|| "NULL".to_owned()))
        };
        rows.iter().map(|row| (0..self.all().count()).map(|index| text(row, index)).collect()).collect()
    }
}
