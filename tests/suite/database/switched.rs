//! A database that is alive and of no use for a while: it only reads, refuses the account, or is silent on what is open.

use std::time::{Duration, Instant};

use sqlx::{Connection, MySqlConnection};
use throwaway::proxy::Proxy;
use throwaway::servers::DatabaseServer;

use support::{
    eventually,
    world::{Daemon, World},
};

/// How soon it has to be told, and how soon work has to go on.
const NOTICE: Duration = Duration::from_secs(3);
const RECOVERY: Duration = Duration::from_secs(5);

async fn run(server: &DatabaseServer, statements: &str) {
    let mut root = MySqlConnection::connect(&server.url("")).await.expect("the database server answers");
    sqlx::raw_sql(statements).execute(&mut root).await.expect(statements);
}

/// Ends every session of the daemon's account, so that what is open is not older than the fault.
async fn end_sessions(server: &DatabaseServer) {
    let mut root = MySqlConnection::connect(&server.url("")).await.expect("the database server answers");
    let sessions = "SELECT CONCAT('KILL ', id) FROM information_schema.processlist WHERE user = 'app'";
    let kills: Vec<String> = sqlx::query_scalar(sessions).fetch_all(&mut root).await.expect("the sessions");
    for kill in kills {
        // One that has ended meanwhile is an error.
        let _ = sqlx::raw_sql(&kill).execute(&mut root).await;
    }
}

async fn ready_is(daemon: &Daemon, expected: u16, limit: Duration) {
    let since = Instant::now();
    let is = async || daemon.get("/readyz").await.filter(|(status, _)| *status == expected);
    eventually(&format!("/readyz says {expected}"), is).await;
    assert!(since.elapsed() < limit, "{expected} only after {:?}", since.elapsed());
}

/// Breaks the database, has a job come, mends it: the job runs soon, once, and nobody has to help.
async fn goes_on(world: &World, daemon: &Daemon, server: &DatabaseServer, fault: &str, cure: &str) {
    let name = world.database.rsplit('/').next().expect("a database");
    let pen = world.id("pen");
    run(server, &fault.replace("DATABASE", name)).await;
    // A switch-over leaves what is open as it is. An account's trouble shows to new sessions alone.
    if !fault.contains("read_only") {
        end_sessions(server).await;
    }
    let before = world.history("item", &pen).await.len();
    let job = world.push("item.restock", &pen, r#"{"quantity":1}"#).await;
    ready_is(daemon, 503, NOTICE).await;
    run(server, &cure.replace("DATABASE", name)).await;
    let mended = Instant::now();
    assert_eq!(world.receipt(job).await.outcome, "applied", "{fault}");
    assert!(mended.elapsed() < RECOVERY, "{fault}: its job has run {:?} after the cure", mended.elapsed());
    ready_is(daemon, 200, RECOVERY).await;
    assert_eq!(world.history("item", &pen).await.len(), before + 1, "{fault}: once");
    world.drained().await;
}

#[tokio::test]
async fn work_goes_on_by_itself_when_a_database_takes_writes_again() {
    let (world, server) = World::with_database(&[]).await;
    let daemon = world.daemon(&[]).await;
    world.item_on_sale(&world.id("pen"), 1).await;
    let app = "'app'@'127.0.0.1'";
    let cases = [
        ("SET GLOBAL read_only = 1".to_owned(), "SET GLOBAL read_only = 0".to_owned()),
        (format!("REVOKE INSERT ON `DATABASE`.* FROM {app}"), format!("GRANT INSERT ON `DATABASE`.* TO {app}")),
        (format!("REVOKE ALL ON `DATABASE`.* FROM {app}"), format!("GRANT ALL ON `DATABASE`.* TO {app}")),
        (format!("ALTER USER {app} IDENTIFIED BY 'other'"), format!("ALTER USER {app} IDENTIFIED BY 'first'")),
        (format!("ALTER USER {app} PASSWORD EXPIRE"), format!("ALTER USER {app} IDENTIFIED BY 'first'")),
        (format!("ALTER USER {app} ACCOUNT LOCK"), format!("ALTER USER {app} ACCOUNT UNLOCK")),
    ];
    for (fault, cure) in &cases {
        goes_on(&world, &daemon, &server, fault, cure).await;
    }
    assert_eq!(daemon.metric(r#"lockkeeper_ready{check="database"}"#).await, Some(1.0));
}

#[tokio::test]
async fn sessions_that_would_only_read_by_the_server_s_default_write() {
    let (world, server) = World::with_database(&[]).await;
    let daemon = world.daemon(&[]).await;
    world.item_on_sale(&world.id("pen"), 1).await;
    run(&server, "SET GLOBAL TRANSACTION READ ONLY").await;
    end_sessions(&server).await;
    let job = world.push("item.restock", &world.id("pen"), r#"{"quantity":1}"#).await;
    assert_eq!(world.receipt(job).await.outcome, "applied");
    ready_is(&daemon, 200, RECOVERY).await;
}

/// Has this many connections idle in the daemon's pool: as many batches wait for the sequence row at once.
async fn fill_pool(world: &World, daemon: &Daemon, connections: usize) {
    let mut sql = world.sql().await;
    let hold = "START TRANSACTION; UPDATE event_sequence SET position = position WHERE id = 1";
    sqlx::raw_sql(hold).execute(&mut sql).await.expect("the sequence row is held");
    for number in 1..=connections {
        world.push("item.allow_sale", &world.id(number), "{}").await;
        eventually(&format!("{number} batches are in flight"), async || {
            daemon.metric("lockkeeper_batches_in_flight").await.filter(|batches| *batches >= number as f64)
        })
        .await;
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut sql).await.expect("the sequence row is free");
    world.drained().await;
    eventually("the connections are idle", async || {
        let idle = daemon.metric(r#"lockkeeper_db_pool_connections{state="idle"}"#).await?;
        (idle >= connections as f64).then_some(())
    })
    .await;
}

#[tokio::test]
async fn silent_connections_cost_less_than_five_seconds_however_many_there_are() {
    for connections in [1, 30] {
        let mut world = World::new().await;
        let address =
            world.database.split(['@', '/']).find(|part| part.starts_with("127.")).expect("an address").to_owned();
        let direct = world.database.clone();
        let proxy = Proxy::start(address.parse().expect("an address")).await.expect("a proxy");
        let relayed = direct.replace(&address, &proxy.address().to_string());
        let settings = [
            ("DATABASE_URL", relayed.as_str()),
            ("LOCKKEEPER_DATABASE_MAX_CONNECTIONS", "34"),
            ("LOCKKEEPER_BATCH_IN_FLIGHT", "30"),
        ];
        let daemon = world.daemon(&settings).await;
        let pen = world.id("pen");
        world.item_on_sale(&pen, 1).await;
        fill_pool(&world, &daemon, connections).await;
        world.database = direct;
        proxy.silence_open();
        let since = Instant::now();
        let job = world.push("item.restock", &pen, r#"{"quantity":1}"#).await;
        assert_eq!(world.receipt(job).await.outcome, "applied");
        assert!(since.elapsed() < RECOVERY, "with {connections} idle: {:?}", since.elapsed());
        eprintln!("with {connections} idle connections: {:?}", since.elapsed());
        ready_is(&daemon, 200, RECOVERY).await;
    }
}
