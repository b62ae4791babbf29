//! The example producers, each run as its reader would run it, against a daemon.

use std::path::{Path, PathBuf};
use std::process::Command;

use support::world::World;

/// Runs a producer for one item and one order, and expects both to be applied, and both jobs' effects to be there.
async fn buys(program: PathBuf, script: &str) {
    let world = World::new().await;
    let _daemon = world.daemon(&[]).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/producers").join(script);
    let item = world.id("pen");
    let mut command = Command::new(&program);
    command.arg(script).arg(&item).env("REDIS_URL", &world.broker).env("JOBS_STREAM", &world.stream);
    let run = tokio::task::spawn_blocking(move || command.output()).await.expect("the producer's task");
    let output = run.unwrap_or_else(|error| {
        panic!("{} cannot be run ({error}): `make setup-producers` installs what the examples need", program.display())
    });
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "the producer failed with {}: {text}", output.status);
    for line in ["item.register applied", "item.allow_sale applied", "order.place applied"] {
        assert!(text.lines().any(|given| given.trim_end() == line), "no line `{line}`: {text}");
    }
    let history: Vec<_> = world.history("item", &item).await.into_iter().map(|event| event.event_type).collect();
    assert_eq!(history, ["item.registered", "item.sale_allowed", "item.stock_reserved"]);
    let left: Vec<String> =
        redis::cmd("KEYS").arg("reply:*").query_async(&mut world.redis.clone()).await.expect("the keys");
    assert!(!left.iter().any(|key| key.contains(&item)), "the producer left its reply stream: {left:?}");
}

#[tokio::test]
async fn the_shell_producer_buys() {
    buys("sh".into(), "shell/order.sh").await;
}

#[tokio::test]
async fn the_node_producer_buys() {
    buys("node".into(), "node/order.js").await;
}

#[tokio::test]
async fn the_python_producer_buys() {
    buys(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/producers-venv/bin/python"), "python/order.py").await;
}
