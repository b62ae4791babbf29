//! `/readyz` tells the truth: 503 for as long as nothing can be committed or acknowledged, also when nothing is to be done.

use std::time::{Duration, Instant};

use throwaway::proxy::{Fault, Proxy};

use support::hold::consumer;
use support::{
    eventually,
    world::{Daemon, World},
};

/// How soon it has to say that nothing can be done, and that something can be done again.
const NOTICE: Duration = Duration::from_secs(3);
const RECOVERY: Duration = Duration::from_secs(5);

async fn not_ready(daemon: &Daemon, check: &str) -> String {
    let since = Instant::now();
    let why = eventually(&format!("/readyz says what is wrong with the {check}"), async || {
        let (status, text) = daemon.get("/readyz").await?;
        let line = text.lines().find(|line| line.starts_with(check))?.to_owned();
        (status == 503 && !line.ends_with(": ok")).then_some(line)
    })
    .await;
    assert!(since.elapsed() < NOTICE, "503 only after {:?}", since.elapsed());
    let ready = format!(r#"lockkeeper_ready{{check="{check}"}}"#);
    eventually("the metric says the same", async || daemon.metric(&ready).await.filter(|ready| *ready == 0.0)).await;
    why
}

async fn ready(daemon: &Daemon) {
    let since = Instant::now();
    eventually("/readyz says 200", async || daemon.get("/readyz").await.filter(|(status, _)| *status == 200)).await;
    assert!(since.elapsed() < RECOVERY, "200 only after {:?}", since.elapsed());
}

async fn run(world: &World, statement: &str) {
    sqlx::raw_sql(statement).execute(&mut world.sql().await).await.expect(statement);
}

#[tokio::test]
async fn a_daemon_without_work_notices_that_it_could_not_commit() {
    let world = World::new().await;
    let daemon = world.daemon(&[]).await;
    run(&world, "CREATE TABLE kept AS SELECT * FROM event_sequence; DELETE FROM event_sequence").await;
    let why = not_ready(&daemon, "database").await;
    assert!(why.contains("event_sequence"), "{why}");
    run(&world, "INSERT INTO event_sequence SELECT * FROM kept").await;
    ready(&daemon).await;
}

#[tokio::test]
async fn a_daemon_with_work_notices_that_more_than_the_proof_is_refused() {
    let world = World::new().await;
    let daemon = world.daemon(&[]).await;
    let pen = world.id("pen");
    world.item_on_sale(&pen, 0).await;
    run(&world, "RENAME TABLE events TO events_elsewhere").await;
    let job = world.push("item.restock", &pen, r#"{"quantity":1}"#).await;
    not_ready(&daemon, "database").await;
    run(&world, "RENAME TABLE events_elsewhere TO events").await;
    assert_eq!(world.receipt(job).await.outcome, "applied");
    ready(&daemon).await;
}

#[tokio::test]
async fn a_daemon_without_work_notices_that_it_could_not_acknowledge() {
    let mut world = World::new().await;
    let (user, stream) = (world.id("user"), world.stream.clone());
    world.redis_do::<()>(&["ACL", "SETUSER", &user, "on", ">word", "~*", "&*", "+@all"]).await;
    world.broker = world.broker.replace("redis://", &format!("redis://{user}:word@"));
    let daemon = world.daemon(&[]).await;
    // The counter of what was run is one of the keys that an acknowledgement touches.
    world.redis_do::<()>(&["ACL", "SETUSER", &user, "resetkeys", &format!("~{stream}"), "~reply:*"]).await;
    let why = not_ready(&daemon, "broker").await;
    assert!(why.contains("NoPerm") || why.contains("NOPERM"), "{why}");
    world.redis_do::<()>(&["ACL", "SETUSER", &user, "allkeys"]).await;
    ready(&daemon).await;
    world.redis_do::<()>(&["ACL", "DELUSER", &user]).await;
    not_ready(&daemon, "broker").await;
    world.redis_do::<()>(&["ACL", "SETUSER", &user, "on", ">word", "~*", "&*", "+@all"]).await;
    ready(&daemon).await;
}

#[tokio::test]
async fn a_silent_database_is_told_at_once_and_trusted_again_at_once() {
    let mut world = World::new().await;
    let address =
        world.database.split(['@', '/']).find(|part| part.starts_with("127.")).expect("an address").to_owned();
    let proxy = Proxy::start(address.parse().expect("an address")).await.expect("a proxy");
    world.database = world.database.replace(&address, &proxy.address().to_string());
    let daemon = world.daemon(&[("LOCKKEEPER_DATABASE_TIMEOUT_MS", "3000")]).await;
    proxy.set(Fault::Stall);
    let since = Instant::now();
    not_ready(&daemon, "database").await;
    assert!(since.elapsed() < NOTICE);
    let asked = Instant::now();
    daemon.get("/readyz").await.expect("an answer");
    assert!(asked.elapsed() < Duration::from_secs(1), "/readyz took {:?}", asked.elapsed());
    proxy.set(Fault::None);
    ready(&daemon).await;
}

#[tokio::test]
async fn a_proof_makes_no_counter_from_which_entries_seem_to_be_lost() {
    let world = World::new().await;
    let broker = consumer(&world, "proof").await;
    broker.ensure_groups().await.expect("a group");
    world.push_raw(&[(b"type", b"x")]).await;
    world.redis_do::<u64>(&["XTRIM", &world.stream, "MAXLEN", "0"]).await;
    broker.prove().await.expect("entries can be acknowledged");
    assert_eq!(world.redis_do::<u64>(&["EXISTS", &format!("{}:finished", world.stream)]).await, 0);
    assert_eq!(broker.lost(&world.stream).await.expect("an answer"), 0, "nobody has counted before");
}
