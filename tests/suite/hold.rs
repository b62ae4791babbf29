//! Keeping jobs in a daemon's hand, and looking at who has which.

use sqlx::MySqlConnection;

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
