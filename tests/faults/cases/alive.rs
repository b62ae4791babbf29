//! Servers that are alive and wrong: what was right moved elsewhere, or does not answer, and the old connections stay.

use std::net::SocketAddr;
use std::time::Duration;

use sqlx::{Connection, MySqlConnection, Row};
use throwaway::servers::{DatabaseServer, RedisServer};

use crate::load::Job;
use crate::site::Site;
use support::{eventually, lockkeeper};

/// How soon work has to go on once a good server can be reached.
const RECOVERY: Duration = Duration::from_secs(5);

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A planned switch: the old primary only reads and lives on, its replica is the primary now, and the address leads there.
pub async fn database_switched(site: &mut Site) {
    site.with_database(&["--log-bin=log", "--server-id=1"]).await;
    let version: String =
        sqlx::raw_sql("SELECT VERSION()").fetch_one(&mut site.root().await).await.expect("it answers").get(0);
    if !version.contains("MariaDB") {
        site.not_run = Some("the case speaks MariaDB's language of replication".to_owned());
        return;
    }
    site.sql(
        "CREATE USER 'copy'@'127.0.0.1' IDENTIFIED BY 'copy'; GRANT REPLICATION SLAVE ON *.* TO 'copy'@'127.0.0.1'",
    )
    .await;
    let successor =
        DatabaseServer::start_with(site.folder(), "successor", &["--server-id=2"]).await.expect("a replica");
    let mut replica = MySqlConnection::connect(&successor.url("")).await.expect("the replica answers");
    let old = site.database.as_ref().expect("the case's own database").port();
    let follow = format!(
        "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {old}, MASTER_USER = 'copy', \
         MASTER_PASSWORD = 'copy', MASTER_USE_GTID = slave_pos; START SLAVE"
    );
    sqlx::raw_sql(&follow).execute(&mut replica).await.expect("the replica follows");
    site.under_load().await;
    site.sql("SET GLOBAL read_only = 1").await;
    site.not_ready("database").await;
    let given: String =
        sqlx::raw_sql("SELECT @@gtid_binlog_pos").fetch_one(&mut site.root().await).await.expect("a position").get(0);
    eventually("the replica has all that was committed", async || {
        let row = sqlx::raw_sql("SELECT @@gtid_slave_pos").fetch_one(&mut replica).await.ok()?;
        (row.get::<String, _>(0) == given).then_some(())
    })
    .await;
    sqlx::raw_sql("STOP SLAVE; RESET SLAVE ALL").execute(&mut replica).await.expect("the replica is promoted");
    site.read_from(&successor).await;
    // The old primary lives to the end of the case.
    let _old = site.database.replace(successor);
    site.to_database.lead_to(address(site.database.as_ref().expect("the successor").port()));
    site.mended_within(RECOVERY).await;
}

/// The database's host vanishes, and its address comes back at once: all that was open is silent, and all that is new works.
pub async fn database_silent(site: &mut Site) {
    site.under_load_with(&[("LOCKKEEPER_DATABASE_TIMEOUT_MS", "10000")]).await;
    for _ in 0..3 {
        site.to_database.silence_open();
        site.mended_within(RECOVERY).await;
        site.progress().await;
    }
}

/// The same of the broker.
pub async fn broker_silent(site: &mut Site) {
    site.under_load().await;
    for _ in 0..3 {
        site.to_broker.silence_open();
        site.mended_within(RECOVERY).await;
        site.progress().await;
    }
    let entries = site.world.entries(&site.world.stream).await.len();
    assert!(entries < 5000, "what is run is acknowledged: {entries} entries");
}

/// The broker's replica is the master now, and the address leads there; the old master lives on as a replica.
pub async fn broker_switched(site: &mut Site) {
    site.under_load().await;
    let mut olds: Vec<RedisServer> = Vec::new();
    for name in ["second", "third"] {
        let successor = site.successor(name).await;
        // What a producer sends to a master that has been replaced is lost by the switch.
        site.stop_load().await;
        let jobs: Vec<Job> =
            (0..500).map(|_| Job::new("item.restock", &site.world.id("item0"), r#"{"quantity":1}"#)).collect();
        site.push(&jobs).await;
        // The copy of all that was there before may be under way still. The masters before are replicas too.
        let all = olds.len() as u64 + 1;
        let wait = ["WAIT", &all.to_string(), "30000"];
        let have = async || (site.world.redis_do::<u64>(&wait).await >= all).then_some(());
        eventually("every replica has all", have).await;
        let mut promoted = redis::Client::open(successor.url())
            .expect("its URL")
            .get_multiplexed_async_connection()
            .await
            .expect("the second broker answers");
        redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec_async(&mut promoted).await.expect("it is promoted");
        let port = successor.port().to_string();
        site.world.redis_do::<()>(&["REPLICAOF", "127.0.0.1", &port]).await;
        site.to_broker.lead_to(address(successor.port()));
        olds.push(std::mem::replace(&mut site.broker, successor));
        site.mended_within(RECOVERY).await;
        site.done(&jobs[jobs.len() - 1]).await;
        site.load();
        site.progress().await;
    }
    site.stop_load().await;
}

/// Every setting that a server can give its sessions, at its worst; then a dead job is put back and has to run.
pub async fn hostile_sessions(site: &mut Site) {
    let worst = [
        "--autocommit=0",
        "--sql-mode=",
        "--default-time-zone=+05:00",
        "--transaction-isolation=SERIALIZABLE",
        "--completion-type=CHAIN",
        "--init-connect=SET sql_select_limit = 2, sql_safe_updates = 1",
    ];
    site.with_database(&worst).await;
    site.under_load().await;
    let (item, last) = (site.world.id("later"), site.world.id("item0"));
    let dead = Job::new("item.restock", &item, r#"{"quantity":0}"#);
    site.push(std::slice::from_ref(&dead)).await;
    site.done(&dead).await;
    let letter = async |not: Option<&String>| {
        let letters = site.world.entries(&format!("{}:dead", site.world.stream)).await;
        letters.first().map(|letter| letter["source"].clone()).filter(|source| Some(source) != not)
    };
    let first = eventually("the letter is there", async || letter(None).await).await;
    let (code, output) = lockkeeper(&["dead-letters", "requeue", "--all"], &site.world.environment()).await;
    assert_eq!(code, Some(0), "{output}");
    // It is as malformed as before, so it dies again, which it can only when it runs.
    eventually("I1: what was put back has run", async || letter(Some(&first)).await).await;
    site.done(&dead).await;
    site.dead += 1;
    let many: Vec<Job> = (0..50).map(|_| Job::new("item.restock", &last, r#"{"quantity":1}"#)).collect();
    site.push(&many).await;
    site.done(&many[49]).await;
    site.mended().await;
}
