//! A Galera cluster, on which another node's transaction may abort ours in the middle of a packet.

mod cluster;

use std::collections::HashSet;

use lockkeeper::job::JobId;
use sqlx::{Connection, MySqlConnection};
use throwaway::proxy::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::engine::models::with_model;
use crate::engine::{outcomes, planned, run};
use crate::process::load::{produce_all, stock_up};
use cluster::Cluster;
use support::{
    audit, eventually, lockkeeper,
    world::{Daemon, World},
};

/// Orders of a load: enough that two writers abort each other many times.
const ORDERS: u64 = 1600;

/// Surroundings with a database on the cluster.
async fn world_on(cluster: &Cluster) -> World {
    let shared = World::new().await;
    World::on(&cluster.first.url(""), &shared.broker, shared.lock_nodes.clone(), cluster.folder.clone()).await
}

/// Every job that was pushed has its receipt on this node, and the log, the read models and the receipts agree.
async fn audited(url: &str, pushed: &HashSet<JobId>) {
    assert_eq!(audit(url, Some(pushed)).await, Ok(()), "{url}");
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

/// Sends transactions of a dozen statements to the first node while the second keeps changing a row that they change, until one is
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
            // It ends without an error also when the transaction is aborted meanwhile.
            statements.push("DO SLEEP(0.002)".to_owned());
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
    // The owner of the stream leaves it to the other in the middle of the work.
    let pass_on = async {
        let before = appended(&daemons[0], &world).await;
        eventually("the first has work", async || (appended(&daemons[0], &world).await > before).then_some(())).await;
        daemons[0].process.signal("TSTP").expect("SIGTSTP");
    };
    let (more, ()) = tokio::join!(produce_all(&world, ORDERS), pass_on);
    pushed.extend(more);
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
        // Of any outcome, since the stock is enough for a part of the orders, and for how many is a matter of the seed.
        let mut node = MySqlConnection::connect(&world.database).await.expect("the first node answers");
        let is_amid = async || {
            let receipts: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM receipts").fetch_one(&mut node).await.ok()?;
            (receipts > ORDERS as i64 / 4).then_some(())
        };
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

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_another_node_aborts_leaves_nothing_and_is_repeated() {
    let cluster = Cluster::start().await;
    let world = world_on(&cluster).await;
    let table = "CREATE TABLE counter (id INT PRIMARY KEY, n INT NOT NULL); INSERT INTO counter VALUES (1, 0)";
    sqlx::raw_sql(table).execute(&mut world.sql().await).await.expect("a read model");
    // It waits for the abort, which ends the wait without an error: the statement that follows, which takes the sequence row, is the
    // one that would be committed alone. Once the other node has written, nothing is waited for.
    let waits =
        "UPDATE counter SET n = n + 1 WHERE id = 1; DO SLEEP(IF((SELECT n FROM counter WHERE id = 1) < 10, 20, 0))";
    let engine = with_model(&world, waits).await;
    let second = cluster.second.url(world.database.rsplit('/').next().expect("a database"));
    let mut other = MySqlConnection::connect(&second).await.expect("the second node answers");
    let abort = async {
        let mut look = world.sql().await;
        eventually("the batch holds the read model's row", async || {
            let look = sqlx::raw_sql("SELECT n FROM counter WHERE id = 1 FOR UPDATE NOWAIT").execute(&mut look).await;
            look.is_err().then_some(())
        })
        .await;
        sqlx::raw_sql("UPDATE counter SET n = n + 10 WHERE id = 1").execute(&mut other).await
    };
    let (ended, aborted) = tokio::join!(run(&engine, vec![planned("counter.add", &world.id("c"), "7", 1)]), abort);
    aborted.expect("the second node's transaction is committed");
    assert_eq!(outcomes(&ended), ["applied"]);
    let ends = "SELECT CAST(CONCAT(n, ' ', (SELECT position FROM event_sequence), ' ', (SELECT GROUP_CONCAT(position) FROM \
        events)) AS CHAR) FROM counter";
    let ends: String = sqlx::query_scalar(ends).fetch_one(&mut world.sql().await).await.expect("how it ends");
    assert_eq!(ends, "11 1 1", "the read model, the sequence row and the log, each changed once");
}

/// An address that leads to `port`, where every text `from` in what is sent becomes `to`, of the same length.
async fn rewriting(port: u16, from: &'static str, to: &'static str) -> u16 {
    assert_eq!(from.len(), to.len());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let own = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let server = TcpStream::connect(("127.0.0.1", port)).await.expect("the node answers");
                let ((mut asks, mut hears), (mut answers, mut takes)) = (client.into_split(), server.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut answers, &mut hears).await });
                let mut bytes = vec![0; 1 << 16];
                while let Ok(count @ 1..) = asks.read(&mut bytes).await {
                    for at in 0..count.saturating_sub(from.len() - 1) {
                        if bytes[at..count].starts_with(from.as_bytes()) {
                            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
                        }
                    }
                    if takes.write_all(&bytes[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    own
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_take_the_setting_is_refused_with_the_reason() {
    let cluster = Cluster::start().await;
    let world = world_on(&cluster).await;
    let setting = "wsrep_retry_autocommit = 0";
    // One that does not know it, and one that takes it and does something else.
    for (other, reason) in
        [("wsrep_retry_autocommix = 0", "wsrep_retry_autocommix"), ("wsrep_retry_autocommit = 1", "is 1, not 0")]
    {
        let port = rewriting(cluster.first.port(), setting, other).await;
        let mut environment = world.environment();
        let relayed = world.database.replace(&cluster.first.port().to_string(), &port.to_string());
        environment.insert("DATABASE_URL".into(), relayed);
        for command in ["run", "check"] {
            let (code, output) = lockkeeper(&[command], &environment).await;
            assert!(code != Some(0) && output.contains(reason), "{command} with {other}: {code:?}: {output}");
        }
    }
    let (code, output) = lockkeeper(&["check"], &world.environment()).await;
    assert_eq!(code, Some(0), "as it is, the node will do: {output}");
}
