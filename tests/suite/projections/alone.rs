//! Who changes what is shown, or written, is alone: also when several want to at once, and when the session that is alone is lost.

use std::time::Duration;

use sqlx::{Executor, Row};
use tokio::task::JoinHandle;

use super::{command, json, states};
use support::world::World;
use support::{eventually, lockkeeper};

const LOCK: &str = "CONCAT('lockkeeper:', LEFT(DATABASE(), 40), ':builds')";

type Ended = (Option<i32>, String);

fn run(world: &World, word: &'static str) -> JoinHandle<Ended> {
    let environment = world.environment();
    tokio::spawn(async move { lockkeeper(&["projections", word, "items@2"], &environment).await })
}

/// A daemon, an item, and a second build of `items` that is ready.
async fn with_two_builds() -> (World, support::world::Daemon, String) {
    let world = World::new().await;
    let daemon = world.daemon(&[]).await;
    let item = world.id("pen");
    world.item_on_sale(&item, 1000).await;
    json(&world, "rebuild items --yes --no-switch", 0).await;
    (world, daemon, item)
}

/// What the name shows has what has just happened.
async fn what_is_shown_is_written(world: &World, item: &str) {
    let restocked = world.push("item.restock", item, r#"{"quantity":7}"#).await;
    world.receipt(restocked).await;
    let query = format!("SELECT CAST(stock AS SIGNED) FROM items WHERE item_id = '{item}'");
    let row = world.sql().await.fetch_one(query.as_str()).await.expect("the row");
    assert_eq!(row.get::<i64, _>(0), 1007, "what is shown is written: {:?}", states(world).await);
    command(world, "verify", 0).await;
}

#[tokio::test]
async fn of_a_switch_and_a_retirement_at_once_the_second_is_refused() {
    let (world, mut daemon, item) = with_two_builds().await;
    let mut sql = world.sql().await;
    sql.fetch_one(format!("SELECT GET_LOCK({LOCK}, 0)").as_str()).await.expect("as a switch of another has it");
    let waiting = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND state = 'User lock'";
    let wait_for = async |count: i64| {
        let mut sql = world.sql().await;
        eventually("they wait", async || {
            (sql.fetch_one(waiting).await.expect("sessions").get::<i64, _>(0) == count).then_some(())
        })
        .await;
    };
    let retiring = run(&world, "retire");
    wait_for(1).await;
    let switching = run(&world, "switch");
    wait_for(2).await;
    sql.fetch_one(format!("SELECT RELEASE_LOCK({LOCK})").as_str()).await.expect("it is free");
    let ended = [retiring.await.expect("it ends"), switching.await.expect("it ends")];
    let codes = [ended[0].0, ended[1].0];
    assert!(codes == [Some(0), Some(1)] || codes == [Some(1), Some(0)], "one of them is refused: {ended:?}");
    what_is_shown_is_written(&world, &item).await;
    assert_eq!(daemon.terminate().await, Some(0));
}

#[tokio::test]
async fn a_switch_whose_session_is_lost_while_it_waits_changes_nothing() {
    let (world, mut daemon, item) = with_two_builds().await;
    let mut reader = world.sql().await;
    let reading = tokio::spawn(async move {
        reader.fetch_all("SELECT stock, SLEEP(7) FROM items LIMIT 1").await.expect("it reads");
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let switching = run(&world, "switch");
    let holder = format!(
        "SELECT CAST(ID AS SIGNED) FROM information_schema.PROCESSLIST WHERE ID = IS_USED_LOCK({LOCK}) AND COMMAND = 'Sleep'"
    );
    let mut sql = world.sql().await;
    let id = eventually("the switch rests between two tries", async || {
        let row = sql.fetch_optional(holder.as_str()).await.expect("sessions");
        row.map(|row| row.get::<i64, _>(0))
    })
    .await;
    sql.execute(format!("KILL {id}").as_str()).await.expect("its session is ended");
    let (code, retired) = run(&world, "retire").await.expect("it ends");
    let (switched, said) = switching.await.expect("it ends");
    reading.await.expect("the reader ends");
    assert_ne!((code, switched), (Some(0), Some(0)), "not both: {retired} {said}");
    what_is_shown_is_written(&world, &item).await;
    assert_eq!(daemon.terminate().await, Some(0));
}

#[tokio::test]
async fn a_generation_that_goes_back_is_noticed() {
    let (world, mut daemon, item) = with_two_builds().await;
    let mut sql = world.sql().await;
    sql.execute("UPDATE event_sequence SET generation = 5").await.expect("as after a failover that lost much");
    what_is_shown_is_written(&world, &item).await;
    assert_eq!(daemon.terminate().await, Some(0));
}
