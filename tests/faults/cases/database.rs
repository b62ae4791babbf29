//! Faults of the database: killed, frozen, refusing, in the way.

use std::time::{Duration, Instant};

use sqlx::{Connection, MySqlConnection};
use throwaway::proxy::Fault;

use crate::load::{ITEMS, Job};
use crate::site::Site;
use support::{eventually, lockkeeper};

pub async fn killed(site: &mut Site) {
    site.under_load().await;
    for _ in 0..2 {
        site.servers.database.kill();
        site.not_ready("database").await;
        site.servers.database.restart().await.expect("the database starts again");
        site.mended().await;
    }
}

/// Somebody holds the sequence row for too long; then takes rows in the other order, with more to lose.
pub async fn lock_wait_and_deadlock(site: &mut Site) {
    site.under_load().await;
    let holder = site.hold_sequence().await;
    site.counted(r#"lockkeeper_store_transaction_retries_total{reason="lock_wait"}"#, 1.0).await;
    drop(holder);
    site.mended().await;
    site.sql("CREATE TABLE ballast (n INT PRIMARY KEY)").await;
    let rows: Vec<String> = (0..2000).map(|n| format!("({n})")).collect();
    let prefix = site.world.prefix.clone();
    let items: Vec<String> = (0..ITEMS).map(|number| format!("'{prefix}-item{number}'")).collect();
    let begin = format!(
        "START TRANSACTION; INSERT INTO ballast VALUES {}; SELECT position FROM event_sequence WHERE id = 1 FOR UPDATE",
        rows.join(",")
    );
    let cross = format!("SELECT version FROM items WHERE item_id IN ({}) FOR UPDATE; ROLLBACK", items.join(","));
    let series = r#"lockkeeper_store_transaction_retries_total{reason="deadlock"}"#;
    eventually("I7: the daemon was the victim of a deadlock", async || {
        let mut other = site.root().await;
        sqlx::raw_sql(&begin).fetch_all(&mut other).await.ok()?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let _ = sqlx::raw_sql(&cross).fetch_all(&mut other).await;
        site.daemons[0].metric(series).await.filter(|count| *count >= 1.0)
    })
    .await;
    site.mended().await;
}

/// Two daemons that share nothing but the stream and the database: only the unique key stands between them.
pub async fn conflicts(site: &mut Site) {
    let nodes = site.world.lock_nodes.clone();
    for node in &nodes[..2] {
        let both_own = ("LOCKKEEPER_TEST_OWNS", "all");
        site.daemon(&[("LOCKKEEPER_LOCK_NODES", node), ("LOCKKEEPER_STREAM_READ_COUNT", "2"), both_own]).await;
    }
    site.stock_up().await;
    site.load();
    eventually("I7: a conflict is counted", async || {
        let mut count = 0.0;
        for daemon in &site.daemons {
            for kind in ["version", "head", "receipt"] {
                count += daemon.metric(&format!(r#"lockkeeper_store_conflicts_total{{kind="{kind}"}}"#)).await?;
            }
        }
        (count >= 1.0).then_some(())
    })
    .await;
    site.daemons.pop();
    site.mended().await;
}

pub async fn read_only(site: &mut Site) {
    site.under_load().await;
    site.sql("SET GLOBAL read_only = 1").await;
    site.not_ready("database").await;
    site.counted(r#"lockkeeper_store_errors_total{class="read_only"}"#, 1.0).await;
    site.sql("SET GLOBAL read_only = 0").await;
    site.mended().await;
}

/// The daemon's connections are cut while others hold all that the server gives.
pub async fn too_many_connections(site: &mut Site) {
    site.under_load().await;
    let mut root = site.root().await;
    sqlx::raw_sql("SET GLOBAL max_connections = 10").execute(&mut root).await.expect("a limit");
    site.to_database.set(Fault::Refuse);
    site.not_ready("database").await;
    let url = site.servers.database.url("");
    let mut held = Vec::new();
    while let Ok(connection) = MySqlConnection::connect(&url).await {
        held.push(connection);
    }
    site.to_database.set(Fault::None);
    site.counted(r#"lockkeeper_store_errors_total{class="too_many_connections"}"#, 1.0).await;
    site.not_ready("database").await;
    sqlx::raw_sql("SET GLOBAL max_connections = 300").execute(&mut root).await.expect("no limit");
    drop(held);
    site.mended().await;
}

pub async fn frozen(site: &mut Site) {
    site.under_load().await;
    let since = Instant::now();
    site.servers.database.freeze().expect("SIGSTOP");
    while since.elapsed() < Duration::from_secs(60) {
        site.not_ready("database").await;
    }
    // What is pushed now waits behind all that came together meanwhile.
    site.servers.database.thaw().expect("SIGCONT");
    site.resumed().await;
    site.to_database.set(Fault::Stall);
    site.not_ready("database").await;
    site.to_database.set(Fault::None);
    site.resumed().await;
}

/// One job's event is larger than what the server takes; those beside it are not delayed.
pub async fn large_packet(site: &mut Site) {
    site.sql("SET GLOBAL max_allowed_packet = 524288").await;
    site.under_load().await;
    let order = site.world.id("large");
    let lines = format!(r#"[{{"item_id":"{}","quantity":1}}]"#, site.world.id("item0"));
    let placed = Job::new("order.place", &order, &format!(r#"{{"member_id":1,"lines":{lines}}}"#));
    site.push(std::slice::from_ref(&placed)).await;
    site.done(&placed).await;
    let cancel = Job::new("order.cancel", &order, &format!(r#"{{"reason":"{}"}}"#, "x".repeat(700_000)));
    site.push(std::slice::from_ref(&cancel)).await;
    site.done(&cancel).await;
    site.dead += 1;
    site.mended().await;
    site.sql("SET GLOBAL max_allowed_packet = 16777216").await;
}

/// Databases that the daemon must not run on, each with an exit code and a word on why; then one that it runs on.
pub async fn unfit(site: &mut Site) {
    site.under_load().await;
    assert_eq!(site.daemons[0].terminate().await, Some(0));
    site.daemons.clear();
    let mut environment = site.world.environment();
    let name = site.world.database.rsplit('/').next().unwrap_or_default().to_owned();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'newer', 1, '', 0)";
    let account = format!("'{name}'@'127.0.0.1'");
    let read = format!("REVOKE ALL ON {name}.* FROM {account}; GRANT SELECT, CREATE ON {name}.* TO {account}");
    let faults = [
        (newer.to_owned(), "DELETE FROM _sqlx_migrations WHERE version = 9999".to_owned(), 78, "newer"),
        (read, format!("GRANT ALL ON {name}.* TO {account}"), 77, "INSERT"),
        (
            "RENAME TABLE _sqlx_migrations TO gone".to_owned(),
            "RENAME TABLE gone TO _sqlx_migrations".to_owned(),
            78,
            "migrat",
        ),
    ];
    environment.insert("LOCKKEEPER_DATABASE_MIGRATE".to_owned(), "false".to_owned());
    for (fault, mend, expected, word) in faults {
        site.sql(&fault).await;
        let (code, output) = lockkeeper(&["run"], &environment).await;
        assert_eq!(code, Some(expected), "{word}: {output}");
        assert!(output.contains(word) && !output.contains(crate::site::CANARY), "{word}: {output}");
        site.sql(&mend).await;
    }
    site.daemon(&[]).await;
    site.mended().await;
}
