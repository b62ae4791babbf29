//! `lockkeeper top` beside live daemons.

use serde_json::Value;

use support::{lockkeeper, world::World};

async fn top(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    // Of the world it needs nothing but an address: it asks no server.
    let environment = world.environment().into_iter().filter(|(name, _)| name == "LOCKKEEPER_HTTP_LISTEN").collect();
    lockkeeper(&[&["top", "--once"], arguments].concat(), &environment).await
}

#[tokio::test]
async fn scripts_get_what_a_fleet_does_and_what_is_wrong_with_it() {
    let world = World::new().await;
    let mut daemons = [world.daemon(&[]).await, world.daemon(&[]).await];
    let pen = world.id("pen");
    world.item_on_sale(&pen, 1).await;
    world.push("item.restock", &pen, r#"{"quantity":0}"#).await;
    world.drained().await;
    // What the broker is asked for is sampled every two seconds.
    let urls = [format!("http://{}", daemons[0].listen), format!("{}/metrics", daemons[1].listen)];
    let arguments = ["--json", "--url", urls[0].as_str(), "--url", urls[1].as_str()];
    let view = loop {
        let (code, output) = top(&world, &arguments).await;
        assert_eq!(code, Some(0), "{output}");
        let view: Value = serde_json::from_str(&output).expect("one line of JSON");
        if view["queues"][0]["dead_letters"] == 1.0 && view["locks"]["nodes"][0]["up_for"] == 2 {
            break view;
        }
    };
    assert_eq!(view["queues"][0]["name"], world.stream.as_str(), "{view}");
    assert!(view["jobs"]["ended_per_second"].is_f64() && view["jobs"]["in_flight"] == 0.0, "{view}");
    assert_eq!(view["daemons"].as_array().map(Vec::len), Some(2), "{view}");
    let (url, version) = (&view["daemons"][0]["url"], &view["daemons"][0]["version"]);
    assert_eq!((url, version), (&daemons[0].listen.as_str().into(), &env!("CARGO_PKG_VERSION").into()));
    let nodes = view["locks"]["nodes"].as_array().expect("lock nodes").len();
    assert_eq!(nodes, world.lock_nodes.len(), "{view}");
    let texts = |view: &Value| view["findings"].as_array().cloned().unwrap_or_default();
    let letters = texts(&view)
        .into_iter()
        .find(|finding| finding["text"].as_str().is_some_and(|t| t.contains("dead-letters list")));
    assert_eq!(letters.expect("the finding")["severity"], "warning");

    assert_eq!(daemons[1].terminate().await, Some(0));
    let (code, output) = top(&world, &arguments).await;
    let view: Value = serde_json::from_str(&output).expect("one line of JSON");
    assert_eq!((code, &view["daemons"][1]["state"]), (Some(69), &"away".into()), "{output}");
    assert_eq!(view["findings"][0]["severity"], "critical", "{output}");
    assert!(view["findings"][0]["text"].as_str().is_some_and(|text| text.starts_with(&daemons[1].listen)), "{output}");

    let (code, output) = top(&world, &["--url", &urls[0]]).await;
    assert_eq!(code, Some(0), "{output}");
    for part in ["1 of 1 daemons answer", "JOBS/S", world.stream.as_str(), "redis1", "DATABASE", &daemons[0].listen] {
        assert!(output.contains(part), "{part} is missing: {output}");
    }
}

#[tokio::test]
async fn top_asks_http_listen_without_knowing_any_server_and_wants_a_terminal() {
    let world = World::new().await;
    let (code, output) = top(&world, &[]).await;
    assert_eq!(code, Some(69), "{output}");
    assert!(output.contains("0 of 1 daemons answer") && output.contains("has not answered"), "{output}");
    let (code, output) = lockkeeper(&["top"], &Default::default()).await;
    assert!(code == Some(64) && output.contains("--once"), "{output}");
    let (code, output) = lockkeeper(&["top", "--json"], &Default::default()).await;
    assert!(code == Some(64) && output.contains("--once"), "{output}");
}
