//! What a daemon tells of itself: fields, traces, levels that change live, floods, secrets.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use support::{
    eventually, lockkeeper,
    world::{Daemon, World},
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Every line so far; each is one JSON object.
fn lines(daemon: &Daemon) -> Vec<Value> {
    let words = daemon.process.words();
    // The last line may be on its way.
    let whole = words.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn said(daemon: &Daemon, message: &str) -> Vec<Value> {
    lines(daemon).into_iter().filter(|line| line["message"] == message).collect()
}

async fn hears(daemon: &Daemon, message: &str, like: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("the log says: {message}"), async || said(daemon, message).into_iter().find(&like)).await
}

#[tokio::test]
async fn a_job_s_trace_is_in_its_events_its_reply_and_its_log_lines() {
    let world = World::new().await;
    let daemon = world.daemon(&[("LOCKKEEPER_LOG_FORMAT", "auto"), ("LOCKKEEPER_LOG_LEVEL", "trace")]).await;
    let (pen, reply) = (world.id("pen"), format!("reply:{}", world.prefix));
    world.item_on_sale(&pen, 1).await;
    let with = [("traceparent", TRACE), ("reply", reply.as_str())];
    let traced = world.push_with("item.restock", &pen, r#"{"quantity":1}"#, &with).await;
    let dead = world.push_with("item.restock", &pen, r#"{"quantity":0}"#, &with).await;
    let plain = world.push_with("item.restock", &pen, r#"{"quantity":1}"#, &with[1..]).await;

    let ended = hears(&daemon, "a job ended", |line| line["job.id"] == traced.to_string()).await;
    let expected = [
        ("level", "TRACE"),
        ("job.type", "item.restock"),
        ("job.outcome", "applied"),
        ("aggregate.id", &format!("item/{pen}")),
        ("traceparent", TRACE),
        ("queue", &world.stream),
    ];
    for (field, value) in expected {
        assert_eq!(ended[field], value, "{field} in {ended}");
    }
    let letter = hears(&daemon, "a job went to the dead letters", |line| line["job.id"] == dead.to_string()).await;
    assert_eq!((&letter["level"], &letter["traceparent"]), (&"WARN".into(), &TRACE.into()), "{letter}");
    assert!(letter["job.reason"].as_str().is_some_and(|why| why.contains("data.quantity")), "{letter}");
    let batch = hears(&daemon, "a batch ended", |line| line["batch.jobs"].as_u64() >= Some(1)).await;
    assert!(batch["level"] == "DEBUG" && batch["batch.settled"].is_u64() && batch["batch.ms"].is_f64(), "{batch}");

    world.drained().await;
    let replies = world.entries(&reply).await;
    let of = |id: String| replies.iter().find(|reply| reply["id"] == id).expect("a reply");
    assert_eq!(of(traced.to_string())["traceparent"], TRACE);
    assert_eq!(of(dead.to_string())["traceparent"], TRACE);
    assert!(!of(plain.to_string()).contains_key("traceparent"), "a reply without one looks as it always did");
    let history = world.history("item", &pen).await;
    let metadata: Value = serde_json::from_slice(&history[2].metadata).expect("JSON");
    assert_eq!(metadata["traceparent"], TRACE);
}

#[tokio::test]
async fn a_traceparent_that_is_none_harms_neither_its_job_nor_the_log() {
    let world = World::new().await;
    let daemon = world.daemon(&[("LOCKKEEPER_LOG_LEVEL", "info,lockkeeper=trace")]).await;
    let pen = world.id("pen");
    world.item_on_sale(&pen, 1).await;
    let long = "x".repeat(200);
    let forged = "00-\n2026-01-01T00:00:00.000000Z ERROR forged: line\u{1b}[31m";
    for traceparent in [long.as_str(), forged, "00-00000000000000000000000000000000-0000000000000000-00", "\u{0}"] {
        let job = world.push_with("item.restock", &pen, r#"{"quantity":1}"#, &[("traceparent", traceparent)]).await;
        assert_eq!(world.receipt(job).await.outcome, "applied", "{traceparent:?}");
    }
    let fields: [(&[u8], &[u8]); 4] = [
        (b"type", b"item.restock"),
        (b"key", pen.as_bytes()),
        (b"data", b"{\"quantity\":1}"),
        (b"traceparent", b"\xff"),
    ];
    world.push_raw(&fields).await;
    world.drained().await;
    let history = world.history("item", &pen).await;
    assert_eq!(history.len(), 7, "every job is applied");
    let traceparent = |at: usize| {
        let metadata: Value = serde_json::from_slice(&history[at].metadata).expect("JSON");
        metadata.get("traceparent").cloned()
    };
    assert_eq!((traceparent(2), traceparent(3), traceparent(6)), (None, Some(forged.into()), None));
    let words = daemon.process.words();
    assert!(words.contains("forged") && !words.contains('\u{1b}'), "{words}");
    assert!(words.lines().all(|line| !line.starts_with("2026-01-01")), "a line was forged");
}

/// A configuration file of this test's own.
struct File {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { path: folder.path().join("lockkeeper.toml"), _folder: folder }
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.path, text).expect("the file is written");
    }
}

#[tokio::test]
async fn sighup_changes_the_level_and_reports_the_rest_and_a_broken_file_changes_nothing() {
    let world = World::new().await;
    let file = File::new();
    file.write("[log]\nlevel = 'error'\nformat = 'json'\n");
    let path = file.path.to_string_lossy().into_owned();
    let mut daemon = world.daemon(&[("LOCKKEEPER_CONFIG", path.as_str()), ("LOCKKEEPER_LOG_FORMAT", "json")]).await;
    let pen = world.id("pen");
    world.item_on_sale(&pen, 1).await;
    assert_eq!(lines(&daemon), Vec::<Value>::new(), "nothing is worth an error yet");

    file.write("[log]\nlevel = 'debug'\n[batch]\nmax_jobs = 7\n[drain]\ntimeout_ms = 9000\n");
    daemon.process.signal("HUP").expect("SIGHUP is sent");
    let report = "the configuration was read again; some of its changes need a restart";
    let line = hears(&daemon, report, |_| true).await;
    assert_eq!(line["config.changed"], "log.level", "{line}");
    assert_eq!(line["config.needs_restart"], "batch.max_jobs,drain.timeout_ms", "{line}");
    assert_eq!(world.outcome("item.restock", &pen, r#"{"quantity":1}"#).await, "applied");
    hears(&daemon, "a batch ended", |_| true).await;

    let reloads = async |succeeded: f64| {
        eventually(&format!("the metric says {succeeded}"), async || {
            let value = daemon.metric("lockkeeper_config_last_reload_successful").await?;
            (value.to_bits() == succeeded.to_bits()).then_some(())
        })
        .await;
    };
    reloads(1.0).await;
    file.write("[log]\nlevel = 'loud'\n[database]\nurl = mysql://root:canary@h/d\n");
    daemon.process.signal("HUP").expect("SIGHUP is sent");
    let line = hears(&daemon, "the configuration is broken: nothing has changed", |_| true).await;
    assert!(line["config.problems"].as_str().is_some_and(|problems| problems.contains("line 4")), "{line}");
    file.write("[log]\nlevel = 'loud'\n[lock]\nttl_ms = 1\n");
    daemon.process.signal("HUP").expect("SIGHUP is sent");
    let both = |line: &Value| {
        let problems = line["config.problems"].as_str().unwrap_or_default();
        problems.contains("log.level") && problems.contains("lock.ttl_ms")
    };
    hears(&daemon, "the configuration is broken: nothing has changed", both).await;
    reloads(0.0).await;
    let before = said(&daemon, "a batch ended").len();
    assert_eq!(world.outcome("item.restock", &pen, r#"{"quantity":1}"#).await, "applied");
    eventually("the level is still what it was", async || {
        (said(&daemon, "a batch ended").len() > before).then_some(())
    })
    .await;

    file.write("[log]\nlevel = 'warn'\n");
    daemon.process.signal("HUP").expect("SIGHUP is sent");
    hears(&daemon, "the configuration was read again", |line| line["config.changed"] == "log.level").await;
    reloads(1.0).await;
    assert!(!daemon.process.words().contains("canary"), "a password is in the log");
    assert_eq!(daemon.terminate().await, Some(0));
    assert!(said(&daemon, "lockkeeper has ended").is_empty(), "info is not written any more");
}

#[tokio::test]
async fn a_flood_of_dead_jobs_leaves_a_few_lines_and_their_number() {
    let world = World::new().await;
    let daemon = world.daemon(&[("LOCKKEEPER_LOG_FORMAT", "json")]).await;
    let began = Instant::now();
    let mut pipeline = redis::pipe();
    for _ in 0..500 {
        pipeline.cmd("XADD").arg(&world.stream).arg("*").arg("type").arg("nonsense").ignore();
    }
    pipeline.query_async::<()>(&mut world.redis.clone()).await.expect("the jobs are pushed");
    world.drained().await;
    let message = "a job went to the dead letters";
    let (told, most) = (said(&daemon, message).len() as u64, 10 + 1 + began.elapsed().as_secs());
    assert!((1..=most).contains(&told), "{told} lines, at most {most}");
    // A slow machine buries them over several of the throttle's seconds, each of which is told of.
    let omitted = || said(&daemon, "lines like the next one were left out");
    eventually("the log says how many it left out", async || {
        world.push_raw(&[(b"type", b"nonsense")]).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let omitted: u64 = omitted().iter().filter_map(|line| line["omitted"].as_u64()).sum();
        (omitted >= 500 - most).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_secret_is_in_any_output_even_at_the_most_talkative_level() {
    let world = World::new().await;
    let (password, written) = ("can@ry:1", "can%40ry%3A1");
    let user = format!("u{}", world.prefix);
    let name = world.database.rsplit('/').next().expect("a database").to_owned();
    let create = format!(
        "CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'; GRANT ALL ON {name}.* TO '{user}'@'%'; \
         CREATE USER '{user}'@'127.0.0.1' IDENTIFIED BY '{password}'; GRANT ALL ON {name}.* TO '{user}'@'127.0.0.1'"
    );
    sqlx::raw_sql(&create).execute(&mut world.sql().await).await.expect("an account");
    let with_user = |url: &str| {
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        format!("{scheme}://{user}:{written}@{host}")
    };
    for url in world.lock_nodes.iter().chain([&world.broker]) {
        let client = redis::Client::open(url.as_str()).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("the server answers");
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(&user).arg("on").arg(format!(">{password}")).arg("~*").arg("&*").arg("+@all");
        command.query_async::<()>(&mut connection).await.expect("ACL SETUSER");
    }
    let urls: HashMap<&str, String> = HashMap::from([
        ("DATABASE_URL", with_user(&world.database)),
        ("LOCKKEEPER_STREAM_URL", with_user(&world.broker)),
        ("LOCKKEEPER_LOCK_NODES", world.lock_nodes.iter().map(|url| with_user(url)).collect::<Vec<_>>().join(",")),
        ("LOCKKEEPER_LOG_LEVEL", "trace".to_owned()),
    ]);
    let pairs: Vec<(&str, &str)> = urls.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut daemon = world.daemon(&pairs).await;
    let pen = world.id("pen");
    world.item_on_sale(&pen, 1).await;
    daemon.process.signal("HUP").expect("SIGHUP is sent");
    let mut outputs = Vec::new();
    for path in ["/metrics", "/readyz", "/livez"] {
        outputs.push(daemon.get(path).await.expect("an answer").1);
    }
    assert_eq!(daemon.terminate().await, Some(0), "{}", daemon.process.last_lines());
    outputs.push(daemon.process.words());
    assert!(outputs.iter().any(|output| output.contains(" TRACE ")), "it was not talkative");
    let mut environment = world.environment();
    environment.extend(urls.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    outputs.push(lockkeeper(&["check"], &environment).await.1);
    for (name, url) in &urls {
        // A wrong password, in each place in turn, is an error that somebody reads.
        let wrong = url.replace(written, "can%40ry%3A2");
        let environment = environment.clone().into_iter().chain([((*name).to_owned(), wrong)]).collect();
        outputs.push(lockkeeper(&["check", "--json"], &environment).await.1);
    }
    for output in outputs {
        for secret in ["can@ry", "can%40ry"] {
            let at =
                output.find(secret).map(|at| output[at.saturating_sub(200)..].chars().take(300).collect::<String>());
            assert_eq!(at, None, "a password is in the output");
        }
    }
}
