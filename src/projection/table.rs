//! A read model's table, described once: how it is created, shown, written and compared follows from this.

use std::fmt::Write;

use uuid::Uuid;

/// A column: its name, and its type as the server has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type, with a character set where it is text: `INT UNSIGNED`.
    pub sql: &'static str,
    /// Whether it may be NULL.
    pub is_nullable: bool,
}

impl Column {
    /// A column that is never NULL.
    pub const fn new(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql, is_nullable: false }
    }

    /// A column for the id of an aggregate: bytes, since a collation that ignores case or trailing spaces would merge ids.
    pub const fn id(name: &'static str) -> Self {
        Self::new(name, "VARBINARY(128)")
    }

    /// A column that may be NULL.
    pub const fn nullable(name: &'static str, sql: &'static str) -> Self {
        Self { is_nullable: true, ..Self::new(name, sql) }
    }

    /// Whether it is of bytes.
    pub fn is_id(&self) -> bool {
        self.sql.starts_with("VARBINARY") || self.sql.starts_with("BINARY")
    }
}

/// A table of a read model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// The name under which it is read.
    pub name: &'static str,
    /// The columns of its primary key. Of a model of aggregates the first is the aggregate's id.
    pub key: &'static [Column],
    /// Its other columns.
    pub columns: &'static [Column],
    /// Its other keys, each as in CREATE TABLE: `KEY ix_orders_member (member_id)`. They are made when it is filled.
    pub indexes: &'static [&'static str],
}

impl Table {
    /// All columns, those of the key first.
    pub fn all(&self) -> impl Iterator<Item = &'static Column> {
        self.key.iter().chain(self.columns)
    }

    /// The names of all columns, with commas between them.
    pub fn names(&self) -> String {
        self.all().map(|column| column.name).collect::<Vec<_>>().join(",")
    }

    /// The statement that creates it under the name `as_name`, with its other keys or without.
    pub(crate) fn create(&self, what: &str, as_name: &str, with_indexes: bool) -> String {
        let mut text = format!("CREATE {what} {as_name} (");
        for Column { name, sql, is_nullable } in self.all() {
            // Writing to a string does not fail.
            let _ = write!(text, "{name} {sql}{}, ", if *is_nullable { " NULL" } else { " NOT NULL" });
        }
        let key: Vec<_> = self.key.iter().map(|column| column.name).collect();
        let _ = write!(text, "PRIMARY KEY ({})", key.join(","));
        for index in self.indexes.iter().filter(|_| with_indexes) {
            let _ = write!(text, ", {index}");
        }
        text + ") ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    }

    /// The statement that adds its other keys, if it has any.
    pub(crate) fn add_indexes(&self, name: &str) -> Option<String> {
        let added: Vec<_> = self.indexes.iter().map(|index| format!("ADD {index}")).collect();
        (!added.is_empty()).then(|| format!("ALTER TABLE {name} {}", added.join(", ")))
    }

    /// The statement that has its name show the table `of`.
    pub(crate) fn show(&self, what: &str, view: &str, of: &str) -> String {
        format!("{what} SQL SECURITY INVOKER VIEW {view} AS SELECT {} FROM {of}", self.names())
    }
}

/// The digest of how tables are described. It says nothing of the code that fills them.
pub fn shape(tables: &[Table]) -> Uuid {
    let text: Vec<_> = tables.iter().map(|table| table.create("TABLE", table.name, true)).collect();
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.join(";").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_created_indexed_and_shown_as_it_is_described() {
        const TABLE: Table = Table {
            name: "stock",
            key: &[Column::id("item_id")],
            columns: &[Column::new("pieces", "INT UNSIGNED"), Column::nullable("note", "VARCHAR(9)")],
            indexes: &["KEY ix_pieces (pieces)"],
        };
        let table = TABLE;
        let begins = "CREATE TABLE stock_2 (item_id VARBINARY(128) NOT NULL, pieces INT UNSIGNED NOT NULL, \
                      note VARCHAR(9) NULL, PRIMARY KEY (item_id)";
        assert!(table.create("TABLE", "stock_2", false).starts_with(&format!("{begins}) ENGINE")));
        assert!(
            table.create("TABLE", "stock_2", true).starts_with(&format!("{begins}, KEY ix_pieces (pieces)) ENGINE"))
        );
        assert_eq!(table.add_indexes("stock_2").as_deref(), Some("ALTER TABLE stock_2 ADD KEY ix_pieces (pieces)"));
        assert_eq!(Table { indexes: &[], ..table }.add_indexes("stock_2"), None);
        let view = "CREATE OR REPLACE SQL SECURITY INVOKER VIEW stock AS SELECT item_id,pieces,note FROM stock_2";
        assert_eq!(table.show("CREATE OR REPLACE", "stock", "stock_2"), view);
    }
}
