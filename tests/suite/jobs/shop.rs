//! The shop end to end: every job type, every outcome, the read models.

use sqlx::Row;

use support::{
    eventually,
    world::{World, told},
};

#[tokio::test]
async fn every_job_type_goes_from_the_stream_to_events_and_read_models() {
    let world = World::new().await;
    let _daemon = world.daemon(&[]).await;
    let (pen, ink, order) = (world.id("pen"), world.id("ink"), world.id("order"));
    world.item_on_sale(&pen, 10).await;
    world.item_on_sale(&ink, 5).await;
    let lines =
        format!(r#"{{"member_id":7,"lines":[{{"item_id":"{pen}","quantity":4}},{{"item_id":"{ink}","quantity":1}}]}}"#);
    for (job_type, key, data, outcome) in [
        ("item.restock", &pen, r#"{"quantity":2}"#, "applied"),
        ("item.reprice", &pen, r#"{"supply_price":"20","vat":2.5}"#, "applied"),
        ("order.place", &order, lines.as_str(), "applied"),
        ("order.place", &order, lines.as_str(), "rejected: order_exists"),
        ("item.deny_sale", &pen, "{}", "applied"),
        ("order.place", &world.id("late"), lines.as_str(), "rejected: item_not_on_sale"),
        ("order.cancel", &order, r#"{"reason":"changed my mind"}"#, "applied"),
        ("order.cancel", &order, r#"{"reason":"again"}"#, "rejected: order_already_cancelled"),
        ("order.cancel", &world.id("none"), r#"{"reason":"none"}"#, "rejected: order_not_found"),
        ("item.restock", &world.id("none"), r#"{"quantity":2}"#, "rejected: item_not_found"),
    ] {
        assert_eq!(world.outcome(job_type, key, data).await, outcome, "{job_type} {key} {data}");
    }
    let types: Vec<_> = world.history("item", &pen).await.iter().map(|e| e.event_type.clone()).collect();
    let expected =
        ["registered", "sale_allowed", "restocked", "repriced", "stock_reserved", "sale_denied", "stock_released"];
    assert_eq!(types, expected.map(|name| format!("item.{name}")));
    let mut sql = world.sql().await;
    let query = "SELECT CAST(item_id AS CHAR), CAST(total_price AS CHAR), stock, CAST(sale_status AS CHAR), version FROM items ORDER BY 1";
    let rows = sqlx::raw_sql(query).fetch_all(&mut sql).await.expect("the items");
    let row = |i: usize| -> (String, String, u32, String, u64) {
        (rows[i].get(0), rows[i].get(1), rows[i].get(2), rows[i].get(3), rows[i].get(4))
    };
    assert_eq!(row(0), (ink, "11.000".into(), 5, "ALLOW".into(), 4));
    assert_eq!(row(1), (pen, "22.500".into(), 12, "DENY".into(), 7));
    let query = "SELECT CAST(total_price AS CHAR), CAST(status AS CHAR), version FROM orders";
    let orders = sqlx::raw_sql(query).fetch_all(&mut sql).await.expect("the orders");
    assert_eq!(orders.len(), 1);
    let order: (String, String, u64) = (orders[0].get(0), orders[0].get(1), orders[0].get(2));
    assert_eq!(order, ("101.000".into(), "CANCELLED".into(), 2));
    world.drained().await;
}

#[tokio::test]
async fn a_reply_stream_gets_the_outcome_and_a_duplicate_gets_the_first_one_again() {
    let world = World::new().await;
    let daemon = world.daemon(&[]).await;
    let (pen, reply) = (world.id("pen"), format!("reply:{}", world.prefix));
    world.item_on_sale(&pen, 1).await;
    let with = [("reply", reply.as_str()), ("id", "delivery-1"), ("corr", "c-1"), ("traceparent", "00-ab-cd-01")];
    for _ in 0..2 {
        world.push_with("item.restock", &pen, r#"{"quantity":3}"#, &with).await;
    }
    world.push_with("item.restock", &pen, r#"{"quantity":4}"#, &with).await;
    let mut replies =
        eventually("three replies", async || Some(world.entries(&reply).await).filter(|replies| replies.len() == 3))
            .await;
    // Batches are told beside each other, so the order of replies is not the order of jobs.
    replies.sort_by_key(|reply| reply["outcome"].clone());
    let field = |i: usize, name: &str| replies[i][name].clone();
    assert_eq!((field(0, "outcome"), field(0, "first"), field(0, "last")), ("applied".into(), "3".into(), "3".into()));
    assert_eq!(replies[1], replies[0], "a duplicate repeats the first outcome");
    assert_eq!((field(2, "outcome"), field(2, "reason")), ("rejected".into(), "id_reused".into()));
    let metadata = String::from_utf8(world.history("item", &pen).await[2].metadata.clone()).expect("JSON");
    assert!(metadata.contains(r#""corr":"c-1""#) && metadata.contains(r#""traceparent":"00-ab-cd-01""#), "{metadata}");
    eventually("the reused id is counted", async || {
        (daemon.metric("lockkeeper_job_ids_reused_total").await == Some(1.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn expect_exp_and_at_are_looked_at_in_their_order() {
    let world = World::new().await;
    let _daemon = world.daemon(&[]).await;
    let pen = world.id("pen");
    world.item_on_sale(&pen, 1).await;
    let restock = async |more: &[(&str, &str)]| {
        let job = world.push_with("item.restock", &pen, r#"{"quantity":1}"#, more).await;
        told(&world.receipt(job).await)
    };
    assert_eq!(restock(&[("expect", "7")]).await, "rejected: version_mismatch");
    assert_eq!(restock(&[("expect", "2")]).await, "applied");
    assert_eq!(restock(&[("exp", "1000")]).await, "expired");
    assert_eq!(restock(&[("exp", "1000"), ("at", "99999999999999")]).await, "expired", "exp comes before at");
    let now: (u64, u64) = redis::cmd("TIME").query_async(&mut world.redis.clone()).await.expect("TIME");
    let due = now.0 * 1000 + now.1 / 1000 + 700;
    let job = world.push_with("item.restock", &pen, r#"{"quantity":1}"#, &[("at", &due.to_string())]).await;
    let scheduled = format!("{}:scheduled", world.stream);
    eventually("the job is in the schedule", async || {
        let count: u64 = redis::cmd("ZCARD").arg(&scheduled).query_async(&mut world.redis.clone()).await.ok()?;
        (count == 1).then_some(())
    })
    .await;
    assert_eq!(told(&world.receipt(job).await), "applied");
    let now: (u64, u64) = redis::cmd("TIME").query_async(&mut world.redis.clone()).await.expect("TIME");
    assert!(now.0 * 1000 + now.1 / 1000 >= due, "it ran before it was due");
}
