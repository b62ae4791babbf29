//! Streams that are shared out among a fleet.

use support::{
    eventually,
    world::{Daemon, World},
};

const STREAMS: usize = 5;

/// How many of the streams each of these daemons says to own.
async fn owned(daemons: &[&Daemon], streams: &[String]) -> Option<Vec<usize>> {
    let mut counts = Vec::new();
    for daemon in daemons {
        let mut count = 0;
        for stream in streams {
            let series = format!(r#"lockkeeper_stream_owned{{queue="{stream}"}}"#);
            count += usize::from(daemon.metric(&series).await? > 0.0);
        }
        counts.push(count);
    }
    Some(counts)
}

/// Waits until they own so many, each in its turn of size.
async fn shared_out(daemons: &[&Daemon], streams: &[String], expected: &[usize]) {
    eventually(&format!("the streams are shared out as {expected:?}"), async || {
        let mut counts = owned(daemons, streams).await?;
        counts.sort_unstable();
        (counts == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn streams_are_shared_out_and_each_keeps_its_order_while_daemons_come_and_go() {
    let world = World::new().await;
    let streams: Vec<String> = (0..STREAMS).map(|number| format!("{}:{number}", world.stream)).collect();
    let names = streams.join(",");
    let settings = [
        ("LOCKKEEPER_STREAM_NAMES", names.as_str()),
        ("LOCKKEEPER_STREAM_SPREAD", "true"),
        ("LOCKKEEPER_FLEET_LEASE_MS", "400"),
    ];
    let first = world.daemon(&settings).await;
    shared_out(&[&first], &streams, &[5]).await;
    let items: Vec<String> = (0..STREAMS).map(|number| world.id(number)).collect();
    let data = r#"{"name":"item","supply_price":"1","vat":"0","is_tax_free":true,"stock":0,"member_id":1}"#;
    let push = async |number: usize, job_type: &str, data: &str| {
        let id = uuid::Uuid::now_v7().to_string();
        let job = ["type", job_type, "key", &items[number], "data", data, "id", &id];
        world.redis_do::<String>(&[&["XADD", &streams[number], "*"], &job[..]].concat()).await;
    };
    for number in 0..STREAMS {
        push(number, "item.register", data).await;
    }
    let mut quantity = 0;
    let mut restock = async || {
        for _ in 0..40 {
            quantity += 1;
            for number in 0..STREAMS {
                push(number, "item.restock", &format!(r#"{{"quantity":{quantity}}}"#)).await;
            }
        }
    };
    restock().await;
    let second = world.daemon(&settings).await;
    restock().await;
    shared_out(&[&first, &second], &streams, &[2, 3]).await;
    let mut third = world.daemon(&settings).await;
    restock().await;
    shared_out(&[&first, &second, &third], &streams, &[1, 2, 2]).await;
    third.process.kill();
    restock().await;
    shared_out(&[&first, &second], &streams, &[2, 3]).await;
    drop(second);
    restock().await;
    shared_out(&[&first], &streams, &[5]).await;
    let expected: Vec<u64> = (1..=quantity).collect();
    for item in &items {
        eventually("every job of the item is done", async || {
            (world.restocked(item).await.len() >= expected.len()).then_some(())
        })
        .await;
        assert_eq!(world.restocked(item).await, expected, "in the order of its stream");
    }
    let left = format!(r#"lockkeeper_fleet_releases_total{{queue="{}",reason="balance"}}"#, streams[0]);
    assert!(first.metric(&left).await.is_some(), "why streams were left is told");
}
