//! The shop's read model of the log, `sales_per_day`, beside what the log says.

use sqlx::{Executor, MySqlConnection, Row};

use crate::eventually;
use crate::world::World;

/// The first column of each row, as text.
pub async fn texts(sql: &mut MySqlConnection, query: &str) -> Vec<String> {
    let rows = sql.fetch_all(query).await.expect("rows");
    rows.iter().map(|row| row.try_get_unchecked(0).expect("text")).collect()
}

/// The read model, a text for each day.
pub async fn rows(sql: &mut MySqlConnection) -> Vec<String> {
    texts(sql, "SELECT CONCAT_WS(' ', day, orders, revenue, cancelled) FROM sales_per_day ORDER BY day").await
}

/// What it has to be, by the log alone, up to this position.
pub async fn of_log(sql: &mut MySqlConnection, position: u64) -> Vec<String> {
    let price = "CAST(JSON_UNQUOTE(JSON_EXTRACT(CONVERT(payload USING utf8mb4), '$.total_price')) AS DECIMAL(20,3))";
    let query = format!(
        "SELECT CONCAT_WS(' ', day, SUM(is_placed), CAST(SUM(IF(is_placed, {price}, 0)) AS DECIMAL(20,3)), \
         SUM(NOT is_placed)) FROM (SELECT DATE(recorded_at) AS day, event_type = 'order.placed' AS is_placed, payload \
         FROM events WHERE event_type IN ('order.placed', 'order.cancelled') AND position <= {position}) sales \
         GROUP BY day ORDER BY 1"
    );
    texts(sql, &query).await
}

/// How far the read model is; `None` when nobody has ever read for it.
async fn position(sql: &mut MySqlConnection) -> Option<u64> {
    let found = texts(sql, "SELECT CAST(position AS CHAR) FROM checkpoints WHERE name = 'sales_per_day'").await;
    found.first().map(|position| position.parse().expect("a position"))
}

/// Compares the rows with the log up to the checkpoint, as they are at one moment; returns that position.
pub async fn compare(sql: &mut MySqlConnection) -> Option<u64> {
    sqlx::raw_sql(
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT",
    )
    .execute(&mut *sql)
    .await
    .expect("a moment");
    let position = position(sql).await;
    let (rows, expected) = (rows(sql).await, of_log(sql, position.unwrap_or(0)).await);
    sql.execute("COMMIT").await.expect("the moment is over");
    assert_eq!(rows, expected, "sales_per_day is what the log says up to position {position:?}");
    position
}

/// Waits until the read model has all of the log, and compares.
pub async fn have_caught_up(world: &World) {
    eventually("the sales have caught up with the log", async || {
        let checkpoints = world.store.checkpoints().await.ok()?;
        checkpoints.iter().any(|checkpoint| checkpoint.lag() == 0).then_some(())
    })
    .await;
    compare(&mut world.sql().await).await;
}
