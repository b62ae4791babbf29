//! The example producers, each run as its reader would run it, against a daemon.

use std::path::{Path, PathBuf};
use std::process::Command;

use support::world::World;

/// Runs a producer for one item and one order, and expects both to be applied, and both jobs' effects to be there.
async fn buys(program: PathBuf, script: &str) {
    let world = World::new().await;
    let streams: Vec<String> = (0..5).map(|number| format!("{}:{number}", world.stream)).collect();
    let _daemon = world.daemon(&[("LOCKKEEPER_STREAM_NAMES", &streams.join(","))]).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/producers").join(script);
    let item = world.id("pen");
    let mut command = Command::new(&program);
    command.arg(script).arg(&item).env("REDIS_URL", &world.broker).env("JOBS_STREAM", streams.join(","));
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
    for (number, stream) in streams.iter().enumerate() {
        let run: Option<u64> = world.redis_do(&["GET", &format!("{stream}:finished")]).await;
        let expected = if crc32(item.as_bytes()) as usize % streams.len() == number { 3 } else { 0 };
        assert_eq!(run.unwrap_or(0), expected, "jobs by way of {stream}");
    }
    let left: Vec<String> =
        redis::cmd("KEYS").arg("reply:*").query_async(&mut world.redis.clone()).await.expect("the keys");
    assert!(!left.iter().any(|key| key.contains(&item)), "the producer left its reply stream: {left:?}");
}

/// As zlib has it.
fn crc32(bytes: &[u8]) -> u32 {
    let shift = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    let next = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| shift(crc));
    !bytes.iter().fold(u32::MAX, next)
}

#[test]
fn the_rule_by_which_a_stream_is_chosen_is_the_one_of_the_documentation() {
    for (text, crc, of_4, of_16) in [
        ("pen", 422_601_471, 3, 15),
        ("order-1", 3_769_860_079, 3, 15),
        ("item-42", 3_355_916_728, 0, 8),
        ("é", 235_179_326, 2, 14),
    ] {
        assert_eq!((crc32(text.as_bytes()), crc % 4, crc % 16), (crc, of_4, of_16), "{text}");
        let row = format!("| `{text}` | {crc} | {of_4} | {of_16} |");
        assert!(include_str!("../../../docs/producers.md").contains(&row), "{row}");
    }
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
