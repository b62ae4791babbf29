//! Another number of streams: what was pushed to an old one comes before what its producer pushed to a new one afterwards.

use support::world::World;

/// Pushes restocks of these quantities to a stream.
async fn push(world: &World, stream: &str, item: &str, quantities: std::ops::RangeInclusive<u64>) {
    for quantity in quantities {
        let data = format!(r#"{{"quantity":{quantity}}}"#);
        let words = ["XADD", stream, "*", "type", "item.restock", "key", item, "data", &data];
        world.redis_do::<String>(&words).await;
    }
}

async fn emptied(world: &World, streams: &[&str]) {
    support::eventually("every stream is empty", async || {
        for stream in streams {
            if world.redis_do::<u64>(&["XLEN", stream]).await > 0 {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_producer_that_changes_to_another_stream_keeps_the_order_of_its_jobs() {
    let world = World::new().await;
    let pen = world.id("pen");
    let daemon = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    drop(daemon);
    let (old, new) = (world.stream.clone(), [0, 1].map(|number| format!("{}:{number}", world.stream)));
    let names = [&old, &new[0], &new[1]].map(String::as_str);
    // From one to two, with a backlog; the stream that comes first is read last.
    push(&world, &old, &pen, 1..=300).await;
    push(&world, &new[1], &pen, 301..=400).await;
    let settings = [
        ("LOCKKEEPER_STREAM_NAMES", [names[2], names[1], names[0]].join(",")),
        ("LOCKKEEPER_STREAM_FIRST", old.clone()),
    ];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let one = world.daemon(&settings).await;
    let other = world.daemon(&settings).await;
    emptied(&world, &names).await;
    // While they are empty, again and again.
    let mut last = 400;
    for _ in 0..20 {
        push(&world, &old, &pen, last + 1..=last + 10).await;
        push(&world, &new[0], &pen, last + 11..=last + 20).await;
        emptied(&world, &names).await;
        last += 20;
    }
    assert_eq!(world.restocked(&pen).await, (1..=last).collect::<Vec<_>>(), "in the order of their producer");
    drop((one, other));
    // And back, from two to one: those are first now.
    push(&world, &new[1], &pen, last + 1..=last + 100).await;
    push(&world, &old, &pen, last + 101..=last + 200).await;
    let both = new.join(",");
    let _daemon =
        world.daemon(&[("LOCKKEEPER_STREAM_NAMES", &names.join(",")), ("LOCKKEEPER_STREAM_FIRST", &both)]).await;
    emptied(&world, &names).await;
    assert_eq!(world.restocked(&pen).await, (1..=last + 200).collect::<Vec<_>>());
}
