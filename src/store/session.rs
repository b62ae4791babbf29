//! What a session is: every setting that a statement of ours rests on, said and not assumed.
//!
//! A server gives its sessions what its operator has set for all of its users, and that may be anything. So each connection says
//! first what it is, in one packet, whichever command it is for.

use sqlx::mysql::MySqlRow;
use sqlx::{Executor, MySqlConnection, Row};

/// How long a transaction may sit idle, in seconds, before the server ends it: its daemon is frozen or gone. Together with
/// [`LOCK_WAIT_SECONDS`] it bounds how long anyone can hold the sequence row.
pub(super) const IDLE_IN_TRANSACTION_SECONDS: u32 = 1;

/// How long a statement waits for a row lock, in seconds.
pub(super) const LOCK_WAIT_SECONDS: u32 = 2;

/// The same for whoever holds the sequence row. It is shorter, so that one that waits in vain for somebody else gives the row
/// up while those behind it still wait for it, and not at the moment in which they all give up.
pub(super) const HOLDER_WAIT_SECONDS: u32 = 1;

/// Strict, so that the server refuses what does not fit, rather than cutting it to size.
const SQL_MODE: &str =
    "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION";

/// The settings that MySQL and MariaDB both have, each with its value and with what goes wrong without it. How text is encoded is
/// said by the driver, in the packet before.
const SETTINGS: [(&str, &str, &str); 13] = [
    ("autocommit", "1", "without it a statement outside a transaction is never committed, and reports success"),
    (
        "completion_type",
        "'NO_CHAIN'",
        "with CHAIN a COMMIT begins the next transaction, with RELEASE it ends the session",
    ),
    ("sql_select_limit", "18446744073709551615", "a history would be read in part, and look whole"),
    ("sql_big_selects", "1", "a server may refuse what it takes for a large join"),
    ("sql_safe_updates", "0", "a server may refuse a change that names no key"),
    ("unique_checks", "1", "without it a key over versions may be given twice"),
    ("foreign_key_checks", "1", "a read model may rest on it"),
    ("sql_auto_is_null", "0", "a comparison with NULL would find the row that was inserted last"),
    ("max_sort_length", "1024", "ids that are alike at their beginning would come in any order"),
    ("group_concat_max_len", "1048576", "a read model's list would be cut, and look whole"),
    ("time_zone", "'+00:00'", "times are UTC"),
    ("sql_mode", "", "see SQL_MODE"),
    ("innodb_lock_wait_timeout", "", "see LOCK_WAIT_SECONDS"),
];

/// The statements that make a session ours.
pub(super) fn settings() -> String {
    let mut text =
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; SET SESSION TRANSACTION READ WRITE; SET ".to_owned();
    for (index, (name, value, _)) in SETTINGS.iter().enumerate() {
        let value = match *name {
            "sql_mode" => format!("'{SQL_MODE}'"),
            "innodb_lock_wait_timeout" => LOCK_WAIT_SECONDS.to_string(),
            _ => (*value).to_owned(),
        };
        text.push_str(if index > 0 { ", " } else { "" });
        text.push_str(&format!("SESSION {name} = {value}"));
    }
    text
}

/// Whether the session is one whose packets are sent statement by statement.
pub(super) const ONE_BY_ONE: &str = "@lockkeeper_one_by_one IS NOT NULL";

/// Makes `connection` a session of ours.
///
/// On a Galera cluster another node's transaction may abort ours at any moment, also in the middle of a packet. The server must not
/// repeat what was hit, which it does by itself and without an error (mysql-wsrep issue 191). Even so, in one packet, a statement
/// that comes when the transaction is aborted already is committed alone before the server says so (MariaDB 10.11: of 100 packets,
/// whose row another node kept changing, 13 were there in part). It is not when each statement comes by itself, so that is how they
/// are sent there. And nothing is read before all that the cluster had committed is here. A server that refuses any of it, or does
/// not do as it is told, is not one to write to.
pub(super) async fn begin(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    connection.execute(settings().as_str()).await?;
    let wsrep: Option<MySqlRow> = connection.fetch_optional("SHOW VARIABLES LIKE 'wsrep_on'").await?;
    if wsrep.is_some_and(|row| row.try_get_unchecked::<String, _>(1).is_ok_and(|value| value == "ON")) {
        let barrier = "SET SESSION wsrep_retry_autocommit = 0, @lockkeeper_one_by_one = 1; SET SESSION wsrep_sync_wait = 1; \
                       SELECT @@SESSION.wsrep_retry_autocommit; SET SESSION wsrep_sync_wait = 0";
        let repeats: i64 =
            connection.fetch_all(barrier).await?.first().map_or(Ok(-1), |row| row.try_get_unchecked(0))?;
        if repeats != 0 {
            let why =
                format!("the cluster's node repeats aborted statements: wsrep_retry_autocommit is {repeats}, not 0");
            return Err(sqlx::Error::Configuration(why.into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_is_said_once_and_has_a_value_and_a_reason() {
        let text = settings();
        for (name, _, reason) in SETTINGS {
            assert_eq!(text.matches(&format!("SESSION {name} = ")).count(), 1, "{name}");
            assert!(!reason.is_empty(), "{name}");
        }
        assert!(!text.contains("= ,") && !text.ends_with("= "), "{text}");
    }
}
