//! The bench's own contender, told what to do as `locks` tells it; and the smallest bench of whole jobs.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use throwaway::servers::{Folder, RedisServer};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// A node that forgets its locks with a restart may not vote when it is young; this one remembers.
const PERSISTENT: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

#[tokio::test]
async fn our_contender_locks_as_many_keys_as_it_says() {
    let folder = Folder::temporary().expect("a temporary folder");
    let node = RedisServer::start(&folder, "lock", PERSISTENT).await.expect("a lock node");
    let mut contender = Command::new(Path::new(env!("CARGO_BIN_EXE_lockkeeper-bench")))
        .arg("contend")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary runs");
    let mut commands = contender.stdin.take().expect("it is piped");
    let mut answers = BufReader::new(contender.stdout.take().expect("it is piped")).lines();
    let task = json!({
        "nodes": [node.url()], "tasks": 4, "keys": 3, "ttl_ms": 60_000, "node_timeout_ms": 20_000, "millis": 100,
    });
    commands.write_all(format!("{task}\n").as_bytes()).await.expect("it reads");
    assert_eq!(answers.next_line().await.expect("it answers").as_deref(), Some("ready"));
    let client = redis::Client::open(node.url()).expect("a valid URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("the node answers");
    let calls = async |connection: &mut redis::aio::MultiplexedConnection| {
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(connection).await.expect("INFO");
        // Of many keys that are free, the first is set and each other is copied from it.
        let sets = ["cmdstat_set:calls=", "cmdstat_copy:calls="];
        let calls =
            |line: &str| sets.iter().find_map(|set| line.strip_prefix(set))?.split(',').next()?.parse::<u64>().ok();
        stats.lines().filter_map(calls).sum::<u64>()
    };
    let before = calls(&mut connection).await;
    commands.write_all(b"go\n").await.expect("it reads");
    let answer = answers.next_line().await.expect("it answers").expect("it has figures");
    let done: Value = serde_json::from_str(&answer).expect("figures in JSON");
    let cycles = done["cycles"].as_u64().expect("a number");
    assert!(cycles >= 4 && done["refused"] == 0, "{done}");
    assert_eq!(calls(&mut connection).await - before, cycles * 3, "the node has set other than what was counted");
    let left: u64 = redis::cmd("DBSIZE").query_async(&mut connection).await.expect("DBSIZE");
    assert_eq!(left, 0, "what was acquired is released");
    drop(commands);
    assert!(contender.wait().await.expect("it ends").success());
}

#[tokio::test]
async fn a_bench_of_whole_jobs_tells_every_figure_and_judges_it() {
    let output = Command::new(Path::new(env!("CARGO_BIN_EXE_lockkeeper-bench")))
        .args(["uniform", "--only", "lockkeeper", "--rounds", "2", "--seconds", "1", "--unpinned", "--json"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("the binary runs");
    let (told, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}{log}"));
    // Unpinned, and without a peer, there is nothing to be held to.
    assert!(output.status.success() && report["ratios"] == json!([]), "{log}");
    let cases = report["rows"]["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 1);
    assert_eq!((&cases[0]["scenario"], &cases[0]["who"]), (&json!("uniform"), &json!("lockkeeper")));
    let measured = cases[0]["measured"].as_array().expect("rounds");
    assert_eq!(measured.len(), 2);
    for round in measured {
        for figure in ["jobs_per_second", "peak_rss_mib"] {
            assert!(round[figure].as_f64().expect("a number") > 1.0, "{figure}: {round}");
        }
        // A window in which nothing was done would have no cost.
        let cpu = &round["cpu_us"];
        assert!(cpu["worker"].as_f64() > Some(0.0) && cpu["database"].as_f64() > Some(0.0), "{round}");
    }
    let settings = &report["settings"];
    assert_eq!(
        (&settings["innodb_flush_log_at_trx_commit"], &settings["broker_appendfsync"]),
        (&json!("1"), &json!("everysec"))
    );
    assert_eq!((&settings["pinned"], &settings["audited_runs"]), (&json!("no"), &json!(2)));
    for name in ["lockkeeper", "database", "redis-server"] {
        assert!(report["about"]["versions"][name].is_string(), "{name}: {report}");
    }
}
