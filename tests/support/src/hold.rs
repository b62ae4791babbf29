//! Keeping jobs in a daemon's hand, and looking at who has which.

use std::time::Duration;

use lockkeeper::job::Entry;
use lockkeeper::stream::{Broker, Settings};
use sqlx::MySqlConnection;

use crate::eventually;
use crate::world::World;

/// Keeps every daemon from committing until it is dropped.
pub async fn hold_sequence(world: &World) -> MySqlConnection {
    let mut holder = world.sql().await;
    let take = "START TRANSACTION; SELECT position FROM event_sequence WHERE id = 1 FOR UPDATE";
    sqlx::raw_sql(take).fetch_all(&mut holder).await.expect("the sequence row is held");
    holder
}

/// Lets daemons commit again.
pub async fn release(mut holder: MySqlConnection) {
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.expect("the sequence row is free");
}

/// Pending entries as consumer and delivery count, oldest first.
pub async fn pending(world: &World) -> Vec<(String, u64)> {
    let mut command = redis::cmd("XPENDING");
    command.arg(&world.stream).arg("lockkeeper").arg("-").arg("+").arg(5000);
    let rows: Vec<(String, String, u64, u64)> = command.query_async(&mut world.redis.clone()).await.expect("XPENDING");
    rows.into_iter().map(|(_, consumer, _, count)| (consumer, count)).collect()
}

/// Pushes restocks of an item, each of one piece.
pub async fn restock(world: &World, item: &str, times: usize) {
    let mut pipeline = redis::pipe();
    for _ in 0..times {
        let command = pipeline.cmd("XADD").arg(&world.stream).arg("*").arg("type").arg("item.restock");
        command.arg("key").arg(item).arg("data").arg(r#"{"quantity":1}"#).ignore();
    }
    pipeline.query_async::<()>(&mut world.redis.clone()).await.expect("the jobs are pushed");
}

/// A consumer of this world's group beside the daemons.
pub async fn consumer(world: &World, name: &str) -> Broker {
    let client = redis::Client::open(world.broker.as_str()).expect("the broker's URL");
    let settings = Settings {
        names: vec![world.stream.clone()],
        group: "lockkeeper".to_owned(),
        block: Duration::from_millis(10),
        claim_after: Duration::from_secs(600),
        reply_length: 10,
    };
    Broker::connect(client, settings, name.to_owned()).await.expect("the broker answers")
}

/// Reads up to ten new entries of this world's stream, as if a daemon had.
pub async fn read_as(world: &World, consumer: &Broker) -> Vec<Entry> {
    let mut reader = consumer.reader().await.expect("a reader");
    reader.read(std::slice::from_ref(&world.stream), 10).await.expect("a read").entries
}

/// Has the broker say that work on these entries of `consumer`'s was started so often.
pub async fn started(world: &World, consumer: &Broker, entries: &[Entry], times: u64) {
    let counts: Vec<_> = entries.iter().map(|entry| (entry.id, times)).collect();
    consumer.set_starts(&world.stream, &counts).await.expect("they are counted");
}

/// Has somebody else take the lock `key` on every node, as soon as each daemon has let go of it.
pub async fn take_lock(world: &World, key: &str) {
    for node in &world.lock_nodes {
        eventually("the key is free", async || {
            let words = [key, "somebody else", "NX", "PX", "600000"];
            redis::cmd("SET").arg(&words).query_async::<Option<String>>(&mut connection(node).await).await.ok()?
        })
        .await;
    }
}

/// Gives back what [`take_lock`] took.
pub async fn give_lock(world: &World, key: &str) {
    for node in &world.lock_nodes {
        redis::cmd("DEL").arg(key).query_async::<()>(&mut connection(node).await).await.expect("DEL");
    }
}

async fn connection(node: &str) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(node).expect("the node's URL");
    client.get_multiplexed_async_connection().await.expect("the node answers")
}
