//! `schema` describes what really goes over the wire and into the log.

use std::collections::HashMap;

use serde_json::{Value, json};
use support::world::World;
use support::{eventually, lockkeeper};

async fn schema(arguments: &[&str]) -> Value {
    let (code, printed) = lockkeeper(&[&["schema"], arguments].concat(), &HashMap::new()).await;
    assert_eq!(code, Some(0), "{printed}");
    serde_json::from_str(&printed).expect("one JSON document")
}

/// Fails unless `schema` takes `value`.
fn takes(schema: &Value, value: &Value) {
    let validator = jsonschema::validator_for(schema).expect("a schema");
    let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{value} against {schema:#}: {errors:?}");
}

#[tokio::test]
async fn what_is_written_to_the_log_and_to_replies_is_what_the_schema_says() {
    let world = World::new().await;
    let _daemon = world.daemon(&[]).await;
    let (pen, order, reply) = (world.id("pen"), world.id("order"), format!("reply:{}", world.prefix));
    world.item_on_sale(&pen, 5).await;
    let lines = format!(r#"{{"member_id":7,"lines":[{{"item_id":"{pen}","quantity":2}}]}}"#);
    for (job_type, key, data) in [
        ("item.restock", &pen, r#"{"quantity":2}"#),
        ("item.reprice", &pen, r#"{"supply_price":"20","vat":2.5}"#),
        ("order.place", &order, &lines),
        ("order.place", &order, &lines),
        ("order.cancel", &order, r#"{"reason":"changed my mind"}"#),
        ("item.deny_sale", &pen, "{}"),
        ("item.restock", &pen, "{}"),
    ] {
        world.push_with(job_type, key, data, &[("reply", &reply)]).await;
    }
    let replies = eventually("every job is answered", async || {
        let replies = world.entries(&reply).await;
        (replies.len() == 7).then_some(replies)
    })
    .await;
    let all = schema(&[]).await;
    replies.iter().for_each(|reply| takes(&all["reply"], &json!(reply)));
    let events = [world.history("item", &pen).await, world.history("order", &order).await].concat();
    assert_eq!(events.len(), 9);
    for event in events {
        let payload = serde_json::from_slice(&event.payload).expect("JSON");
        takes(&all["events"][&event.event_type], &payload);
    }
    assert_eq!(schema(&["--job", "order.place"]).await, all["jobs"]["order.place"]);
    assert_eq!(schema(&["--event", "order.placed"]).await, all["events"]["order.placed"]);
    assert_eq!(schema(&["--reply"]).await, all["reply"]);
    let (code, told) = lockkeeper(&["schema", "--job", "order.vanish"], &HashMap::new()).await;
    assert!(code == Some(1) && told.contains("`order.vanish`") && told.contains("order.place"), "{told}");
    let (code, _) = lockkeeper(&["schema", "--reply", "--job", "order.place"], &HashMap::new()).await;
    assert_eq!(code, Some(64), "one at a time");
}
