//! A build's life, with the shop.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::{Executor, Row};

use super::{command, json, states};
use support::world::World;
use support::{eventually, lockkeeper, sales};

/// Sells so many of an item in as many orders, of which each third is cancelled, and waits for it.
async fn sell(world: &World, item: &str, name: &str, count: usize) {
    for number in 0..count {
        let order = world.id(format!("{name}-{number}"));
        let data = format!(r#"{{"member_id":1,"lines":[{{"item_id":"{item}","quantity":1}}]}}"#);
        world.push("order.place", &order, &data).await;
        if number % 3 == 0 {
            world.push("order.cancel", &order, r#"{"reason":"r"}"#).await;
        }
    }
    world.drained().await;
}

/// Every row of a table, as the server compares them.
async fn rows(world: &World, table: &str) -> String {
    let query = format!("SELECT * FROM {table} ORDER BY 1");
    let rows = world.sql().await.fetch_all(query.as_str()).await.expect("the rows");
    let text = |row: &sqlx::mysql::MySqlRow| {
        let each =
            (0..row.len()).map(|at| format!("{:?}", row.try_get_unchecked::<Option<Vec<u8>>, _>(at).expect("bytes")));
        each.collect::<Vec<_>>().join(",")
    };
    rows.iter().map(|row| text(row) + "\n").collect()
}

/// Every build that is written is as it should be.
async fn all_are_right(world: &World) {
    let verified = json(world, "verify", 0).await;
    assert!(verified.len() >= 4, "{verified:?}");
    for one in verified {
        assert_eq!(one["differences"], 0, "{one}");
        let is_of_items = one["projection"].as_str().is_some_and(|name| name.starts_with("items"));
        assert!(one["compared"].as_u64() > Some(0) || !is_of_items, "{one}");
    }
}

#[tokio::test]
async fn a_read_model_is_filled_anew_shown_shown_back_and_let_go_while_it_is_written() {
    let world = World::new().await;
    let mut daemon = world.daemon(&[]).await;
    let item = world.id("pen");
    world.item_on_sale(&item, 1000).await;
    sell(&world, &item, "before", 12).await;
    let plan = command(&world, "rebuild items", 0).await;
    assert!(plan.contains("fills items@2 (items_2) with version 1"), "{plan}");
    assert!(!states(&world).await.contains(&"items@2 building".to_owned()), "a plan does nothing");

    let built = json(&world, "rebuild items --yes", 0).await;
    assert_eq!((&built[0]["state"], &built[0]["kept"]), (&"shown".into(), &1.into()), "{built:?}");
    assert!(built[0]["held_ms"].as_f64() > Some(0.0), "{built:?}");
    sell(&world, &item, "after", 12).await;
    assert_eq!(rows(&world, "items").await, rows(&world, "items_1").await, "both are written");
    all_are_right(&world).await;
    let refused = command(&world, "retire items@2", 1).await;
    assert!(refused.contains("items@2 is shown"), "{refused}");

    command(&world, "switch items@1", 0).await;
    sell(&world, &item, "back", 6).await;
    all_are_right(&world).await;
    let early = command(&world, "drop items@2 --yes items@2", 1).await;
    assert!(early.contains("retire it first"), "{early}");
    command(&world, "retire items@2", 0).await;
    sell(&world, &item, "alone", 6).await;
    assert_ne!(rows(&world, "items").await, rows(&world, "items_2").await, "what is retired is not written");
    all_are_right(&world).await;
    let other = command(&world, "drop items@2 --yes items@1", 64).await;
    assert!(other.contains("must name the build"), "{other}");
    command(&world, "drop items@2 --yes items@2", 0).await;
    let gone = world.sql().await.fetch_one("SELECT 1 FROM items_2").await;
    assert!(gone.is_err(), "the table is gone");
    let unknown = command(&world, "switch items@7", 1).await;
    assert!(unknown.contains("there is no build items@7; there are: items@1, items@2"), "{unknown}");
    assert_eq!(
        states(&world).await,
        ["items@1 shown", "items@2 dropped", "order_items@1 shown", "orders@1 shown", "sales_per_day@1 shown"]
    );
    assert_eq!(daemon.terminate().await, Some(0));
}

#[tokio::test]
async fn what_is_read_from_the_log_is_filled_anew_too_and_daemons_go_on_with_it() {
    let world = World::new().await;
    let mut daemon = world.daemon(&[("LOCKKEEPER_SUBSCRIPTIONS_POLL_MS", "50")]).await;
    let item = world.id("pen");
    world.item_on_sale(&item, 1000).await;
    sell(&world, &item, "before", 12).await;
    let built = json(&world, "rebuild sales_per_day --yes", 0).await;
    assert_eq!((&built[0]["state"], &built[0]["kept"]), (&"shown".into(), &1.into()), "{built:?}");
    sell(&world, &item, "after", 9).await;
    eventually("both builds have all sales", async || {
        let (one, two) = (rows(&world, "sales_per_day_1").await, rows(&world, "sales_per_day_2").await);
        let behind = lockkeeper(&["subscriptions", "list", "--json"], &world.environment()).await.1;
        let is_done = behind.lines().filter(|line| line.contains(r#""lag_events":0"#)).count() == 2;
        (is_done && one == two && !one.is_empty()).then_some(())
    })
    .await;
    sales::compare(&mut world.sql().await).await;
    all_are_right(&world).await;
    command(&world, "retire sales_per_day@1", 0).await;
    sell(&world, &item, "alone", 6).await;
    eventually("the second goes on alone", async || {
        let listed = lockkeeper(&["subscriptions", "list", "--json"], &world.environment()).await.1;
        let is_alone = listed.lines().count() == 1 && listed.contains(r#""subscription":"sales_per_day@2""#);
        (is_alone && listed.contains(r#""lag_events":0"#)).then_some(())
    })
    .await;
    all_are_right_but(&world, 4).await;
    let (code, audit) = lockkeeper(&["audit"], &world.environment()).await;
    assert_eq!(code, Some(0), "an audit goes by what is shown: {audit}");
    assert_eq!(daemon.terminate().await, Some(0));
}

async fn all_are_right_but(world: &World, count: usize) {
    let verified = json(world, "verify", 0).await;
    assert_eq!(verified.len(), count, "{verified:?}");
}

#[tokio::test]
async fn whoever_fills_a_build_may_be_killed_anywhere_and_another_goes_on() {
    let world = World::new().await;
    let mut daemon = world.daemon(&[]).await;
    let item = world.id("pen");
    world.item_on_sale(&item, 1000).await;
    sell(&world, &item, "before", 12).await;
    for place in ["page:items@2", "take_over:items", "page:items@2", "take_over:items"] {
        let mut environment: HashMap<String, String> = world.environment();
        environment.insert("LOCKKEEPER_TEST_ABORT".to_owned(), place.to_owned());
        let (code, said) = lockkeeper(&["projections", "rebuild", "items", "--yes"], &environment).await;
        // What was filled before is not filled again.
        if code == Some(0) {
            assert!(place.starts_with("page"), "{place}: {said}");
            break;
        }
        assert_eq!(code, None, "it is killed at {place}: {said}");
        sell(&world, &item, &format!("{}-{}", place.len(), rand::random::<u32>()), 3).await;
    }
    if !states(&world).await.contains(&"items@2 shown".to_owned()) {
        json(&world, "rebuild items --yes", 0).await;
    }
    sell(&world, &item, "after", 3).await;
    assert_eq!(rows(&world, "items").await, rows(&world, "items_1").await);
    all_are_right(&world).await;
    assert_eq!(daemon.terminate().await, Some(0));
}

#[tokio::test]
async fn one_wrong_one_missing_and_one_surplus_row_are_found_and_mended() {
    let world = World::new().await;
    let mut daemon = world.daemon(&[]).await;
    for number in 0..30 {
        world.item_on_sale(&world.id(number), 10).await;
    }
    let mut sql = world.sql().await;
    let [wrong, missing] = [3, 4].map(|number| world.id(number));
    for damage in [
        format!("UPDATE items_1 SET name = CONCAT(name, ' ') WHERE item_id = '{wrong}'"),
        format!("DELETE FROM items_1 WHERE item_id = '{missing}'"),
        format!(
            "INSERT INTO items_1 SELECT 'zz-nobody',name,supply_price,vat,total_price,is_tax_free,stock,sale_status,member_id,version FROM items_1 WHERE item_id = '{wrong}'"
        ),
    ] {
        sql.execute(damage.as_str()).await.expect("the damage is done");
    }
    let found = json(&world, "verify items", 1).await;
    assert_eq!((&found[0]["differences"], &found[0]["repaired"]), (&3.into(), &0.into()), "{found:?}");
    let text = command(&world, "verify items", 1).await;
    for line in
        [format!("{wrong} | "), " is missing".to_owned(), "zz-nobody".to_owned(), " should not be there".to_owned()]
    {
        assert!(text.contains(&line), "{line}: {text}");
    }
    assert!(text.contains(&missing), "{text}");
    let mended = json(&world, "verify items --repair", 1).await;
    assert_eq!((&mended[0]["differences"], &mended[0]["repaired"]), (&3.into(), &3.into()), "{mended:?}");
    all_are_right(&world).await;
    assert_eq!(daemon.terminate().await, Some(0));
}

#[tokio::test]
async fn a_long_reader_holds_up_the_switch_and_nobody_who_writes() {
    let world = World::new().await;
    let mut daemon = world.daemon(&[]).await;
    let item = world.id("pen");
    world.item_on_sale(&item, 1000).await;
    json(&world, "rebuild items --yes --no-switch", 0).await;
    let mut reader = world.sql().await;
    let reading = tokio::spawn(async move {
        reader.fetch_all("SELECT stock, SLEEP(6) FROM items LIMIT 1").await.expect("it reads");
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = std::time::Instant::now();
    let switching = tokio::spawn({
        let environment = world.environment();
        async move { lockkeeper(&["projections", "switch", "items@2"], &environment).await }
    });
    sell(&world, &item, "meanwhile", 30).await;
    assert!(began.elapsed() < Duration::from_secs(4), "commits go on: {:?}", began.elapsed());
    let (code, said) = switching.await.expect("it ends");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("waiting for those who read items") && said.contains("SLEEP(6)"), "{said}");
    reading.await.expect("the reader ends");
    all_are_right(&world).await;
    assert_eq!(daemon.terminate().await, Some(0));
}
