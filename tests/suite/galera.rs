//! A Galera cluster, on which another node's transaction may abort ours in the middle of a packet.

mod cluster;

use std::collections::HashSet;
use std::time::Duration;

use lockkeeper::dev::audit::audit;
use lockkeeper::dev::proxy::Proxy;
use lockkeeper::job::JobId;
use lockkeeper::store::Store;
use sqlx::{Connection, MySqlConnection};

use crate::load::{produce_all, stock_up};
use crate::world::{Daemon, World, eventually};
use cluster::Cluster;

/// Orders of a load: enough that two writers abort each other many times.
const ORDERS: u64 = 1600;

/// Surroundings with a database on the cluster.
async fn world_on(cluster: &Cluster) -> World {
    let shared = World::new().await;
    World::on(&cluster.first.url(""), &shared.broker, shared.lock_nodes.clone(), cluster.folder.clone()).await
}

/// Every job that was pushed has its receipt on this node, and the log, the read models and the receipts agree.
async fn audited(url: &str, pushed: &HashSet<JobId>) {
    let store = Store::connect(url, 2, Duration::from_secs(10)).await.expect("the node answers");
    let audit = audit(&store, Some(pushed)).await.expect("the database is audited");
    assert!(audit.passed(), "{url}: {audit}");
}

/// How many orders the daemon has placed.
async fn appended(daemon: &Daemon, world: &World) -> f64 {
    let labels = format!(r#"{{queue="{}",job_type="order.place",outcome="applied"}}"#, world.stream);
    daemon.metric(&format!("lockkeeper_jobs_processed_total{labels}")).await.unwrap_or(0.0)
}

/// How a transaction's statements are sent.
#[derive(Clone, Copy, PartialEq)]
enum Sent {
    AsOne,
    OneByOne,
}

/// Sends transactions of ten statements to the first node while the second keeps changing a row that they change, until one is
/// there in part or `most` were sent. Returns how many were refused, and how many are there in part.
async fn transactions(cluster: &Cluster, how: Sent, most: u32) -> (u32, i64) {
    let mut ours = MySqlConnection::connect(&cluster.first.url("lockkeeper")).await.expect("the first node answers");
    let tables = "SET SESSION wsrep_retry_autocommit = 0; DROP TABLE IF EXISTS counter, parts; \
        CREATE TABLE counter (id INT PRIMARY KEY, n INT NOT NULL); \
        CREATE TABLE parts (packet INT, part INT, PRIMARY KEY (packet, part)); INSERT INTO counter VALUES (1, 0)";
    sqlx::raw_sql(tables).execute(&mut ours).await.expect("tables");
    let url = cluster.second.url("lockkeeper");
    let rival = async {
        let mut rival = MySqlConnection::connect(&url).await.expect("the second node answers");
        loop {
            // One that is aborted itself is an error, and the next comes.
            let _ = sqlx::raw_sql("UPDATE counter SET n = n + 1 WHERE id = 1").execute(&mut rival).await;
        }
    };
    let sends = async {
        let (mut refused, mut torn) = (0, 0);
        for number in 1..=most {
            let part = |part: u32| format!("INSERT INTO parts VALUES ({number}, {part})");
            let mut statements = vec!["START TRANSACTION".to_owned(), part(0)];
            statements.push("UPDATE counter SET n = n + 1 WHERE id = 1".to_owned());
            statements.extend((1..8).map(part));
            statements.push("COMMIT".to_owned());
            let packets = if how == Sent::AsOne { vec![statements.join("; ")] } else { statements };
            for packet in packets {
                if sqlx::raw_sql(&packet).execute(&mut ours).await.is_err() {
                    refused += 1;
                    sqlx::raw_sql("ROLLBACK").execute(&mut ours).await.expect("the end of it");
                    break;
                }
            }
            if number % 100 == 0 {
                let look = "SELECT COUNT(*) FROM (SELECT packet FROM parts GROUP BY packet HAVING COUNT(*) <> 8) torn";
                torn = sqlx::query_scalar(look).fetch_one(&mut ours).await.expect("a count");
            }
            if torn > 0 {
                break;
            }
        }
        (refused, torn)
    };
    tokio::select! {
        counts = sends => counts,
        () = rival => unreachable!("it has no end"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_another_node_aborts_leaves_nothing_when_its_statements_come_one_by_one() {
    let cluster = Cluster::start().await;
    // Why they do: what the server makes of one packet.
    let (_, torn) = transactions(&cluster, Sent::AsOne, 3000).await;
    assert!(torn > 0, "this server keeps packets whole, so nothing is shown by what follows");
    let (refused, torn) = transactions(&cluster, Sent::OneByOne, 1000).await;
    assert!(refused > 0, "the second node has aborted none");
    assert_eq!(torn, 0, "of {refused} that were aborted");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_that_write_to_two_nodes_lose_and_double_nothing() {
    let cluster = Cluster::start().await;
    let world = world_on(&cluster).await;
    let name = world.database.rsplit('/').next().expect("a database");
    let second = cluster.second.url(name);
    let daemons = [world.daemon(&[]).await, world.daemon(&[("DATABASE_URL", &second)]).await];
    let mut pushed = stock_up(&world).await;
    pushed.extend(produce_all(&world, ORDERS).await);
    world.drained().await;
    let dead = world.entries(&format!("{}:dead", world.stream)).await;
    assert!(dead.is_empty(), "no job of this load is dead: {dead:?}");
    for (daemon, node) in daemons.iter().zip(["first", "second"]) {
        assert!(appended(daemon, &world).await > 0.0, "the daemon on the {node} node has written");
    }
    for url in [&world.database, &second] {
        audited(url, &pushed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_under_load_takes_no_acknowledged_job_with_it() {
    let mut cluster = Cluster::start().await;
    let world = world_on(&cluster).await;
    let address = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let proxy = Proxy::start(address(cluster.first.port())).await.expect("a proxy");
    let relayed = world.database.replace(&cluster.first.port().to_string(), &proxy.address().port().to_string());
    let daemon = world.daemon(&[("DATABASE_URL", &relayed)]).await;
    let mut pushed = stock_up(&world).await;
    let load = produce_all(&world, ORDERS);
    let kill = async {
        let is_amid = async || (appended(&daemon, &world).await > ORDERS as f64 / 4.0).then_some(());
        eventually("it is in the middle of its work", is_amid).await;
        cluster.first.kill();
        proxy.lead_to(address(cluster.second.port()));
    };
    pushed.extend(tokio::join!(load, kill).0);
    world.drained().await;
    audited(&cluster.second.url(world.database.rsplit('/').next().expect("a database")), &pushed).await;
    let (status, text) = daemon.get("/readyz").await.expect("an answer");
    assert_eq!(status, 200, "{text}");
}
