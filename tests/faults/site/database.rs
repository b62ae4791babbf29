//! The database of a case, past the proxy.

use std::net::SocketAddr;
use std::time::Duration;

use lockkeeper::store::Store;
use sqlx::{Connection, MySqlConnection, Row};
use throwaway::servers::DatabaseServer;

use super::{CANARY, Site};
use support::eventually;

impl Site {
    /// Goes to a database of its own, with these arguments, before there is a daemon.
    pub async fn with_database(&mut self, arguments: &[&str]) {
        let server = DatabaseServer::start_with(&self.folder, "own", arguments).await.expect("a database of its own");
        let name = self.world.database.rsplit('/').next().expect("a database's name").to_owned();
        let mut root = MySqlConnection::connect(&server.url("")).await.expect("the database answers");
        let create = format!("CREATE DATABASE {name}; {}", create_account(&name));
        sqlx::raw_sql(&create).execute(&mut root).await.expect("a database and an account");
        self.to_database.lead_to(SocketAddr::from(([127, 0, 0, 1], server.port())));
        self.read_from(&server).await;
        self.world.store.migrate().await.expect("the migrations apply");
        self.database = Some(server);
    }

    /// What the suite itself looks at from now on.
    pub async fn read_from(&mut self, server: &DatabaseServer) {
        let name = self.world.database.rsplit('/').next().expect("a database's name");
        let store = Store::connect(&server.url(name), 4, Duration::from_secs(10)).await;
        self.world.store = store.expect("the database answers");
    }

    /// An administrator's connection to this case's database, past the proxy.
    pub async fn root(&self) -> MySqlConnection {
        let name = self.world.database.rsplit('/').next().expect("a database's name");
        let server = self.database.as_ref().unwrap_or(&self.servers.database);
        MySqlConnection::connect(&server.url(name)).await.expect("the database answers")
    }

    pub async fn sql(&self, text: &str) {
        let text = &text;
        sqlx::raw_sql(text).execute(&mut self.root().await).await.expect("the statements succeed");
    }

    /// Keeps every daemon from committing until it is dropped or rolled back.
    pub async fn hold_sequence(&self) -> MySqlConnection {
        let mut holder = self.root().await;
        let take = "START TRANSACTION; SELECT position FROM event_sequence WHERE id = 1 FOR UPDATE";
        sqlx::raw_sql(take).fetch_all(&mut holder).await.expect("the sequence row is held");
        holder
    }

    /// Keeps every daemon from appending to the log until it is dropped or rolled back.
    pub async fn hold_end_of_log(&self) -> MySqlConnection {
        let mut holder = self.root().await;
        let take = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION; \
            SELECT position FROM events ORDER BY position DESC LIMIT 1 FOR UPDATE";
        sqlx::raw_sql(take).fetch_all(&mut holder).await.expect("the end of the log is held");
        holder
    }

    /// Waits until a batch stands behind a row that somebody else holds.
    pub async fn batch_waits(&self) {
        // The table of transactions shows an old state to whoever looks more often than ten times a second.
        let waiting = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'";
        eventually("a batch waits for a row", async || {
            let row = sqlx::raw_sql(waiting).fetch_one(&mut self.root().await).await.expect("the waits are counted");
            (row.get::<String, _>(1) != "0").then_some(())
        })
        .await;
    }

    pub async fn receipts(&self) -> i64 {
        let count = sqlx::raw_sql("SELECT COUNT(*) FROM receipts").fetch_one(&mut self.root().await).await;
        count.expect("the receipts are counted").get(0)
    }
}

/// The statements that make the daemons' account, which is that of an application.
pub(super) fn create_account(database: &str) -> String {
    format!(
        "CREATE USER '{database}'@'127.0.0.1' IDENTIFIED BY '{CANARY}'; \
         GRANT ALL ON {database}.* TO '{database}'@'127.0.0.1'"
    )
}
