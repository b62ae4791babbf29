//! The statements of a migration, each of a kind that can be run again.
//!
//! Data definition commits by itself on MySQL and MariaDB, so a process that dies in a migration leaves the statements before
//! as they are. Whoever comes next asks of each statement whether it has happened.

use sqlx::mysql::MySqlDatabaseError;
use sqlx::{Executor, MySqlConnection};

use crate::store::commit::part::Part;
use crate::store::{StoreError, column};

/// A statement of a migration.
#[derive(Debug)]
pub(super) struct Step {
    sql: String,
    kind: Kind,
}

/// What tells that a statement has happened.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// `CREATE TABLE`: the table is there, with these columns or more.
    Table { table: String, columns: Vec<String> },
    /// `ALTER TABLE … ADD COLUMN`, one: the column is there.
    Column { table: String, column: String },
    /// `INSERT`: the server says so, since the row's key is taken.
    Rows,
    /// `ALTER TABLE … MODIFY`: a second time it changes nothing.
    Repeatable,
}

/// Why a statement could not be run.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The server cannot be used now, or a grant is missing.
    Store(StoreError),
    /// The server or the schema does not admit it.
    Refused(String),
}

/// The server's errors that have nothing to do with the statement: the disk or a table is full, the server is short of memory,
/// shuts down, is not part of its cluster, or ended the statement or the connection.
const PASSING: [u16; 9] = [1021, 1030, 1041, 1047, 1053, 1114, 1180, 1317, 1927];
/// The row's key is taken.
const DUPLICATE: u16 = 1062;

impl Stopped {
    pub(super) fn from(error: sqlx::Error) -> Self {
        let number = number(&error);
        match (StoreError::classify(error, false, Part::Frame), number) {
            (error @ (StoreError::Unavailable(crate::store::Outage::Other, _) | StoreError::Data(_)), Some(number))
                if !PASSING.contains(&number) =>
            {
                Self::Refused(error.to_string())
            }
            (error, _) => Self::Store(error),
        }
    }
}

fn number(error: &sqlx::Error) -> Option<u16> {
    error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

/// The statements of a migration's text. A semicolon ends one, but for those in comments, which have lines of their own.
pub(super) fn steps(text: &str) -> Vec<Step> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let statements = code.join("\n");
    let statements = statements.split(';').map(str::trim).filter(|statement| !statement.is_empty());
    statements.map(|sql| Step { sql: sql.to_owned(), kind: kind(sql) }).collect()
}

fn kind(sql: &str) -> Kind {
    let words: Vec<&str> = sql.split_whitespace().collect();
    match &words[..] {
        ["CREATE", "TABLE", table, ..] => {
            let firsts = sql.lines().skip(1).filter_map(|line| line.split_whitespace().next());
            let columns = firsts.filter(|word| word.starts_with(|first: char| first.is_ascii_lowercase()));
            Kind::Table { table: (*table).to_owned(), columns: columns.map(str::to_owned).collect() }
        }
        ["ALTER", "TABLE", table, "ADD", "COLUMN", column, ..] => {
            Kind::Column { table: (*table).to_owned(), column: (*column).to_owned() }
        }
        ["INSERT", ..] => Kind::Rows,
        _ => Kind::Repeatable,
    }
}

impl Step {
    /// The statement's first words, to name it by.
    pub(super) fn title(&self) -> String {
        self.sql.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
    }

    /// Runs the statement, unless it has happened.
    pub(super) async fn apply(&self, connection: &mut MySqlConnection) -> Result<(), Stopped> {
        if self.has_happened(connection).await? {
            return Ok(());
        }
        match connection.execute(self.sql.as_str()).await {
            Ok(_) => Ok(()),
            Err(error) if self.kind == Kind::Rows && number(&error) == Some(DUPLICATE) => Ok(()),
            Err(error) => Err(Stopped::from(error)),
        }
    }

    async fn has_happened(&self, connection: &mut MySqlConnection) -> Result<bool, Stopped> {
        match &self.kind {
            Kind::Table { table, columns } => {
                let there = columns_of(connection, table).await?;
                let missing: Vec<&str> =
                    columns.iter().filter(|name| !there.contains(name)).map(String::as_str).collect();
                match (there.is_empty(), missing.is_empty()) {
                    (true, _) => Ok(false),
                    (false, true) => Ok(true),
                    (false, false) => Err(Stopped::Refused(format!(
                        "there is a table `{table}` already, and it is none of ours: it lacks {}. Use an empty database",
                        missing.join(", ")
                    ))),
                }
            }
            Kind::Column { table, column } => Ok(columns_of(connection, table).await?.contains(column)),
            Kind::Rows | Kind::Repeatable => Ok(false),
        }
    }
}

async fn columns_of(connection: &mut MySqlConnection, table: &str) -> Result<Vec<String>, Stopped> {
    let question = format!(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = '{table}'"
    );
    let rows = connection.fetch_all(question.as_str()).await.map_err(Stopped::from)?;
    rows.iter().map(|row| column::<String>(row, 0)).collect::<Result<_, _>>().map_err(Stopped::Store)
}

#[cfg(test)]
mod tests {
    use super::super::Migration;
    use super::*;

    #[test]
    fn every_statement_is_of_a_kind_that_can_be_run_again() {
        let mut kinds = Vec::new();
        for Migration { version, text, .. } in super::super::ENGINE {
            for step in steps(text) {
                let words: Vec<&str> = step.sql.split_whitespace().collect();
                match &step.kind {
                    Kind::Table { columns, .. } => assert!(columns.len() > 2, "{step:?}"),
                    Kind::Column { .. } => {
                        assert_eq!(step.sql.matches(" COLUMN ").count(), 1, "one at a time: {step:?}")
                    }
                    Kind::Rows => {}
                    Kind::Repeatable => {
                        let is_modify = matches!(&words[..], ["ALTER", "TABLE", _, "MODIFY", ..]);
                        assert!(is_modify, "{version}: a statement of a new kind needs a question: {step:?}");
                        let others = ["ADD", "DROP", "RENAME", "CHANGE"];
                        assert!(!words.iter().any(|word| others.contains(word)), "one kind at a time: {step:?}");
                    }
                }
                kinds.push((version, step.title()));
            }
        }
        assert_eq!(kinds[3], (1, "INSERT INTO event_sequence".to_owned()));
        assert_eq!(kinds.iter().filter(|(version, _)| *version == 4).count(), 2);
    }
}
