//! The tables of builds, and the names that show them. Each of these statements is committed by itself, whatever it is sent with.

use crate::store::sql::Sql;
use crate::store::{Outage, Store, StoreError, column};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A table.
    Table,
    /// A view.
    View,
}

impl Store {
    /// What these names stand for, in their order.
    pub async fn named(&self, names: &[String]) -> Result<Vec<Option<Named>>, StoreError> {
        let mut sql = Sql::new();
        sql.raw("SELECT CAST(table_name AS CHAR), table_type = 'VIEW' FROM information_schema.tables WHERE ");
        sql.raw("table_schema = DATABASE() AND table_name IN (")
            .list(names, |sql, name| {
                sql.text(name);
            })
            .raw(")");
        let rows = self.rows(sql.into_string(), false).await?;
        let found = rows.iter().map(|row| Ok((column::<String>(row, 0)?, column::<i64>(row, 1)? != 0)));
        let found: Vec<_> = found.collect::<Result<_, StoreError>>()?;
        let of = |name: &String| found.iter().find(|(known, _)| known == name).map(|(_, is_view)| *is_view);
        Ok(names.iter().map(|name| of(name).map(|is_view| if is_view { Named::View } else { Named::Table })).collect())
    }

    /// What a view shows, as far as the account may see.
    pub async fn shown_by(&self, view: &str) -> Result<Option<String>, StoreError> {
        let mut sql = Sql::new();
        sql.raw("SELECT CAST(view_definition AS CHAR) FROM information_schema.views WHERE table_schema = DATABASE() ");
        sql.raw("AND table_name = ").text(view);
        let rows = self.rows(sql.into_string(), false).await?;
        let text: Option<Option<String>> = rows.first().map(|row| column(row, 0)).transpose()?;
        Ok(text.flatten().filter(|text| !text.is_empty()))
    }

    /// Whether a table has any row.
    pub async fn has_rows(&self, table: &str) -> Result<bool, StoreError> {
        let rows = self.rows(format!("SELECT EXISTS(SELECT 1 FROM {table})"), false).await?;
        Ok(rows.first().map(|row| column::<i64>(row, 0)).transpose()? == Some(1))
    }

    /// Adds keys to a table that nobody else changes.
    pub async fn add_keys(&self, statement: &str) -> Result<(), StoreError> {
        self.rows(statement, true).await.map(drop)
    }

    /// Who has been at a statement for a second and more, as far as the account may see: `session 7, for 12 s: SELECT …`.
    pub async fn long_statements(&self) -> Result<Vec<String>, StoreError> {
        let text = "SELECT CAST(ID AS UNSIGNED), CAST(TIME AS SIGNED), CAST(LEFT(INFO, 80) AS CHAR) \
                    FROM information_schema.PROCESSLIST WHERE COMMAND <> 'Sleep' AND TIME >= 1 AND INFO IS NOT NULL \
                    AND ID <> CONNECTION_ID() ORDER BY TIME DESC LIMIT 5";
        let rows = self.rows(text, false).await?;
        let each = rows.iter().map(|row| {
            let (id, seconds): (u64, i64) = (column(row, 0)?, column(row, 1)?);
            Ok(format!("session {id}, for {seconds} s: {}", column::<String>(row, 2)?))
        });
        each.collect()
    }

    /// About how many bytes these tables have on disk.
    pub async fn table_bytes(&self, tables: &[String]) -> Result<u64, StoreError> {
        let mut sql = Sql::new();
        sql.raw(
            "SELECT CAST(COALESCE(SUM(data_length + index_length), 0) AS UNSIGNED) FROM information_schema.tables ",
        );
        sql.raw("WHERE table_schema = DATABASE() AND table_name IN (")
            .list(tables, |sql, name| {
                sql.text(name);
            })
            .raw(")");
        let rows = self.rows(sql.into_string(), false).await?;
        rows.first().map_or(Ok(0), |row| column(row, 0))
    }

    /// How many keys a table has beside its primary one.
    pub async fn secondary_keys(&self, table: &str) -> Result<usize, StoreError> {
        let mut sql = Sql::new();
        sql.raw(
            "SELECT COUNT(DISTINCT index_name) FROM information_schema.statistics WHERE table_schema = DATABASE() ",
        );
        sql.raw("AND index_name <> 'PRIMARY' AND table_name = ").text(table);
        let rows = self.rows(sql.into_string(), false).await?;
        Ok(rows.first().map_or(Ok(0), |row| column::<i64>(row, 0))? as usize)
    }

    /// Waits, at most a minute, until nobody else changes what builds there are.
    pub async fn alone(&self) -> Result<Alone, StoreError> {
        let session = self.patient().one_session();
        let rows = session.rows(format!("SELECT GET_LOCK({NAME}, 60)"), false).await?;
        match rows.first().map(|row| column::<Option<i64>>(row, 0)).transpose()?.flatten() {
            Some(1) => Ok(Alone(session)),
            _ => {
                session.close().await;
                let text = "somebody else has been changing read models for a minute".to_owned();
                Err(StoreError::Unavailable(Outage::Other, text))
            }
        }
    }

    /// Tries what a daemon does with a build's table, on no rows. The server's refusal names the grant that is missing.
    pub async fn may_fill(&self, table: &str, column: &str) -> Result<(), StoreError> {
        let text = format!(
            "START TRANSACTION; INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0; \
             UPDATE {table} SET {column} = {column} WHERE 1 = 0; ROLLBACK"
        );
        // As if it committed: whatever ends it before its ROLLBACK, the session is cleaned up before somebody else has it.
        self.rows(text, true).await.map(drop)
    }
}

/// The name of the server's lock that whoever changes builds has.
const NAME: &str = "CONCAT('lockkeeper:', LEFT(DATABASE(), 40), ':builds')";

/// Nobody else changes what builds there are until this is closed.
#[derive(Debug)]
pub struct Alone(Store);

impl Alone {
    /// What is read through the same session.
    pub fn store(&self) -> &Store {
        &self.0
    }

    /// Changes what tables and views there are. Nothing is changed when the session was lost, and the lock with it.
    pub async fn define(&self, statements: &[String]) -> Result<(), StoreError> {
        self.0.rows(guarded(&statements.join("; ")), true).await.map(drop)
    }

    /// The same, waiting at most so many seconds for whoever is using one of them.
    pub async fn define_within(&self, seconds: u32, statements: &[String]) -> Result<(), StoreError> {
        let text = format!(
            "SET SESSION lock_wait_timeout = {seconds}; {}; SET SESSION lock_wait_timeout = DEFAULT",
            statements.join("; ")
        );
        self.0.rows(guarded(&text), true).await.map(drop)
    }

    /// Gives way to others.
    pub async fn close(self) {
        self.0.close().await;
    }
}

/// No server takes another word for how a COMMIT ends: a session that has not the lock goes no further.
fn guarded(text: &str) -> String {
    format!("SET SESSION completion_type = IF(IS_USED_LOCK({NAME}) = CONNECTION_ID(), 'NO_CHAIN', 'no lock'); {text}")
}
