//! Programs that know a build, and programs that do not.

use sqlx::Executor;

use super::{command, json, states};
use support::world::World;
use support::{eventually, lockkeeper};

const NEWER: &str = "UPDATE projections SET version = 9 WHERE name = 'items' AND build = 2";
const GENERATION: &str = "UPDATE event_sequence SET generation = generation + 1";

#[tokio::test]
async fn a_program_that_does_not_know_what_is_written_commits_nothing_says_so_and_goes_on_when_it_is_let_go() {
    let world = World::new().await;
    let mut daemon = world.daemon(&[]).await;
    let item = world.id("pen");
    world.item_on_sale(&item, 1000).await;
    json(&world, "rebuild items --yes --no-switch", 0).await;
    for statement in [NEWER, GENERATION] {
        world.sql().await.execute(statement).await.expect("as a newer program leaves it");
    }
    let restocked = world.push("item.restock", &item, r#"{"quantity":1}"#).await;
    eventually("it is not ready, and says which build", async || {
        let (code, text) = daemon.get("/readyz").await?;
        (code == 503 && text.contains("items has a build 2 of version 9")).then_some(())
    })
    .await;
    let (code, said) = lockkeeper(&["run"], &world.environment()).await;
    assert_eq!(code, Some(78), "one that starts now is told at once: {said}");
    command(&world, "retire items@2", 0).await;
    world.receipt(restocked).await;
    daemon.await_ready().await;
    assert_eq!(daemon.terminate().await, Some(0));
}

#[tokio::test]
async fn a_build_that_no_running_daemon_knows_is_filled_and_not_written() {
    let world = World::new().await;
    let mut daemon = world.daemon(&[]).await;
    let item = world.id("pen");
    world.item_on_sale(&item, 1000).await;
    assert_eq!(daemon.terminate().await, Some(0));
    let refused = command(&world, "rebuild items --yes", 1).await;
    assert!(refused.contains("no running daemon has said that it can write it"), "{refused}");
    assert!(states(&world).await.contains(&"items@2 building".to_owned()));
    let built = json(&world, "rebuild items --yes --unattended", 0).await;
    assert_eq!(built[0]["state"], "shown", "it goes on: {built:?}");
}

#[tokio::test]
async fn beside_a_daemon_of_an_earlier_release_nothing_is_filled() {
    let world = World::new().await;
    let mut daemon = world.daemon(&[]).await;
    world.item_on_sale(&world.id("pen"), 1000).await;
    let fleet = format!("{}:fleet", world.stream);
    let now: Vec<String> = world.redis_do(&["TIME"]).await;
    // As earlier releases write themselves down.
    let member = format!("{}000 older-host:7 1 item.restock,order.place", now[0]);
    let _: i64 = world.redis_do(&["HSET", &fleet, "0123456789abcdef", &member]).await;
    let refused = command(&world, "rebuild items --yes", 1).await;
    assert!(refused.contains("older-host:7 runs an earlier release"), "{refused}");
    assert!(!states(&world).await.contains(&"items@2 building".to_owned()), "nothing is begun");
    let _: i64 = world.redis_do(&["HDEL", &fleet, "0123456789abcdef"]).await;
    json(&world, "rebuild items --yes", 0).await;
    assert_eq!(daemon.terminate().await, Some(0));
}
