//! What has to hold, scene by scene. Each says what it saw.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use lockkeeper::metrics::FAMILIES;
use sqlx::Connection;

use crate::ask::{self, Question};
use crate::fleet::Fleet;
use crate::load::{item, job, push};
use crate::prometheus::{check, configuration, promtool};
use support::eventually;
use support::panels::{Dashboard, family, file};

const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// How many jobs of types and of aggregates that nobody has seen before.
const STRANGERS: usize = 10_000;

pub fn files() -> String {
    let rules = file("grafana/alerts/lockkeeper.yml");
    check("rules", &rules);
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("prometheus.yml");
    std::fs::write(&config, configuration(&rules.display().to_string(), "\"lockkeeper:9464\"")).expect("written");
    check("config", &config);
    let tests = file("grafana/alerts/lockkeeper_test.yml");
    let (content, said) = promtool(&["test", "rules", &tests.display().to_string()], "");
    assert!(content, "promtool test rules: {said}");
    "promtool check rules, check config, test rules".to_owned()
}

pub async fn metrics(fleet: &Fleet) -> String {
    let wanted = r#"lockkeeper_jobs_processed_total{queue="jobs",job_type="order.place",outcome="applied"}"#;
    eventually("orders are applied", async || fleet.daemons[0].metric(wanted).await.filter(|count| *count > 50.0))
        .await;
    let (_, text) = fleet.daemons[0].get("/metrics").await.expect("/metrics");
    let (content, said) = promtool(&["check", "metrics"], &text);
    assert!(content && said.trim().is_empty(), "promtool check metrics: {said}");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
    format!("promtool check metrics has no complaint about {lines} series")
}

pub async fn expressions(fleet: &Fleet) -> String {
    let dashboard = Dashboard::load();
    for variable in dashboard.templating.list.iter().filter(|variable| variable.kind == "query") {
        let definition = variable.definition.replace("$job", ".+");
        let inside = definition.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (matching, label) =
            inside.and_then(|inside| inside.rsplit_once(", ")).expect("label_values(metric, label)");
        let expected = if label == "job" { 1 } else { fleet.daemons.len() };
        eventually(&format!("variable {} has {expected} values", variable.name), async || {
            let values = fleet.prometheus.label_values(label, matching).await;
            (values.len() == expected).then_some(())
        })
        .await;
    }
    let (of_drains, others): (Vec<_>, Vec<_>) = questions(fleet).await.into_iter().partition(Question::is_of_a_drain);
    ask::all_answered(&fleet.prometheus, &others, LONG_ENOUGH).await;
    format!(
        "{} panels with {} expressions, {} annotations, {} alerts: {} answered, {} while one drains",
        dashboard.shown().count(),
        dashboard.targets().count(),
        dashboard.annotations.list.len(),
        fleet.prometheus.alerts().await.len(),
        others.len(),
        of_drains.len()
    )
}

async fn questions(fleet: &Fleet) -> Vec<Question> {
    let alerts = ask::of_alerts(&fleet.prometheus.alerts().await);
    ask::of_dashboard(&Dashboard::load()).into_iter().chain(alerts).collect()
}

/// Under load, and with everything as it should be.
pub async fn silence(fleet: &Fleet) -> String {
    // Something of the start may still be in the alerts' windows.
    eventually("no alert fires", async || fleet.prometheus.firing().await.is_empty().then_some(())).await;
    for _ in 0..20 {
        let firing = fleet.prometheus.firing().await;
        assert!(firing.is_empty(), "these fire without a fault: {firing:?}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    "none fires for 5 s".to_owned()
}

pub async fn drain(fleet: &mut Fleet) -> String {
    let questions: Vec<Question> = questions(fleet).await.into_iter().filter(Question::is_of_a_drain).collect();
    assert!(!questions.is_empty());
    // A batch that cannot commit keeps it from ending for a while.
    let holder = fleet.hold_sequence().await;
    // The owner of the stream, whichever it is by now.
    let owner = eventually("one of them owns the stream", async || {
        let owned = r#"lockkeeper_stream_owned{queue="jobs"}"#;
        let first = fleet.daemons[0].metric(owned).await?;
        let second = fleet.daemons[1].metric(owned).await?;
        (first + second == 1.0).then_some(usize::from(second > 0.0))
    })
    .await;
    let oldest = async || fleet.daemons[owner].metric("lockkeeper_job_oldest_running_seconds").await;
    eventually("it has a batch that waits", async || oldest().await.filter(|seconds| *seconds > 0.3)).await;
    fleet.daemons[owner].process.signal("TERM").expect("SIGTERM");
    ask::all_answered(&fleet.prometheus, &questions, Duration::from_secs(20)).await;
    let state = r#"sum(lockkeeper_state{state="draining"})"#;
    eventually("one daemon is seen draining", async || {
        let seen = fleet.prometheus.query(state).await.ok()?;
        seen.first().filter(|series| series.value > 0.0).map(drop)
    })
    .await;
    holder.close().await.expect("the sequence row is free");
    let ended = fleet.daemons[owner].process.finished(Duration::from_secs(40)).await.expect("it ends");
    fleet.restart(owner).await;
    format!("{} expressions answered while one drains; {ended}", questions.len())
}

pub async fn lock_node(fleet: &mut Fleet) -> String {
    fleet.servers.lock_nodes[0].kill();
    fires(fleet, "LockkeeperLockNodeDown", &[("node", "redis1")]).await;
    fleet.servers.lock_nodes[1].kill();
    fires(fleet, "LockkeeperLockNoQuorum", &[]).await;
    fires(fleet, "LockkeeperNotReady", &[("check", "locks")]).await;
    for node in &mut fleet.servers.lock_nodes[..2] {
        node.restart().await.expect("the node is back");
    }
    let cleared = clears(fleet, "LockkeeperLockNodeDown").await;
    format!("{cleared}; with a second one {}", clears(fleet, "LockkeeperLockNoQuorum").await)
}

pub async fn database(fleet: &mut Fleet) -> String {
    fleet.servers.database.kill();
    fires(fleet, "LockkeeperNotReady", &[("check", "database")]).await;
    fires(fleet, "LockkeeperAppendErrors", &[]).await;
    eventually("what the database tells is absent, and what the broker tells is not", async || {
        let (_, text) = fleet.daemons[0].get("/metrics").await?;
        let told = |series: &str| text.contains(series);
        (!told("\nlockkeeper_store_head_position ") && told("\nlockkeeper_queue_length{")).then_some(())
    })
    .await;
    fleet.servers.database.restart().await.expect("the database is back");
    let cleared = clears(fleet, "LockkeeperNotReady").await;
    format!("{cleared}; {}", clears(fleet, "LockkeeperAppendErrors").await)
}

pub async fn consumers(fleet: &Fleet) -> String {
    fleet.daemons.iter().for_each(|daemon| daemon.process.signal("TSTP").expect("SIGTSTP"));
    fires(fleet, "LockkeeperQueueNotConsumed", &[("queue", "jobs")]).await;
    fires(fleet, "LockkeeperQueueOldestAgeHigh", &[("queue", "jobs"), ("state", "undelivered")]).await;
    fires(fleet, "LockkeeperPaused", &[]).await;
    fleet.daemons.iter().for_each(|daemon| daemon.process.signal("CONT").expect("SIGCONT"));
    let cleared = clears(fleet, "LockkeeperQueueNotConsumed").await;
    format!("{cleared}; {}", clears(fleet, "LockkeeperQueueOldestAgeHigh").await)
}

pub async fn dead_letter(fleet: &Fleet) -> String {
    let malformed = job("item.restock", fleet.world.id("dead"), r#"{"quantity":0}"#);
    push(&mut fleet.world.redis.clone(), &fleet.world.stream, &[malformed]).await.expect("XADD");
    fires(fleet, "LockkeeperDeadLetters", &[("queue", "jobs"), ("reason", "malformed")]).await;
    clears(fleet, "LockkeeperDeadLetters").await
}

/// An unread entry that is deleted is a lost job. From then on the broker cannot tell the lag, and the daemon tells it all the same.
pub async fn lost(fleet: &Fleet) -> String {
    let signal = |name| fleet.daemons.iter().for_each(|daemon| daemon.process.signal(name).expect("a signal"));
    let lag = r#"lockkeeper_queue_lag{queue="jobs",group="lockkeeper"}"#;
    signal("TSTP");
    let length = r#"lockkeeper_queue_length{queue="jobs"}"#;
    eventually("a backlog", async || fleet.daemons[0].metric(length).await.filter(|length| *length > 200.0)).await;
    let stream = &fleet.world.stream;
    // The last read before the pause may still have been on its way, so it is tried until one was unread.
    eventually("the broker does not tell the lag", async || {
        let newest: Vec<(String, redis::Value)> =
            fleet.world.redis_do(&["XREVRANGE", stream, "+", "-", "COUNT", "1"]).await;
        let (unread, _) = newest.first()?;
        let _: u64 = fleet.world.redis_do(&["XDEL", stream, unread]).await;
        let groups: Vec<std::collections::HashMap<String, redis::Value>> =
            fleet.world.redis_do(&["XINFO", "GROUPS", stream]).await;
        groups.first().filter(|group| group.get("lag") == Some(&redis::Value::Nil)).map(drop)
    })
    .await;
    // Producers go on meanwhile, so it lies between what there was before it was told and what there is afterwards.
    eventually("the lag is that of the stream", async || {
        let (before, pending) = fleet.world.left().await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let told = fleet.daemons[0].metric(lag).await?;
        let (after, _) = fleet.world.left().await;
        ((before - pending) as f64 <= told && told <= (after - pending) as f64).then_some(())
    })
    .await;
    fires(fleet, "LockkeeperJobsLost", &[("queue", "jobs")]).await;
    signal("CONT");
    format!("lag told; {}", clears(fleet, "LockkeeperJobsLost").await)
}

/// What the others tell is seen while one is frozen.
pub async fn frozen(fleet: &Fleet) -> String {
    fleet.daemons[1].process.freeze().expect("SIGSTOP");
    let listen = &fleet.daemons[1].listen;
    fires(fleet, "LockkeeperInstanceDown", &[("instance", listen)]).await;
    let questions: Vec<_> = questions(fleet).await.into_iter().filter(|one| !one.is_of_a_drain()).collect();
    ask::all_answered(&fleet.prometheus, &questions, LONG_ENOUGH).await;
    fleet.daemons[1].process.thaw().expect("SIGCONT");
    format!("{} expressions answered; {}", questions.len(), clears(fleet, "LockkeeperInstanceDown").await)
}

pub async fn down(fleet: &mut Fleet) -> String {
    fleet.daemons.iter_mut().for_each(|daemon| daemon.process.kill());
    fires(fleet, "LockkeeperDown", &[]).await;
    let listen = fleet.daemons[0].listen.clone();
    fires(fleet, "LockkeeperInstanceDown", &[("instance", &listen)]).await;
    for number in 0..fleet.daemons.len() {
        fleet.restart(number).await;
    }
    let cleared = clears(fleet, "LockkeeperDown").await;
    format!("{cleared}; {}", clears(fleet, "LockkeeperInstanceDown").await)
}

/// Strangers of each kind are counted beside one of their kind that has come before.
pub async fn cardinality(fleet: &mut Fleet) -> String {
    fleet.pause_load().await;
    fleet.world.drained().await;
    // A job's first kind of end makes a series on the daemon that meets it first, so it is the fleet that is counted.
    let series = async |fleet: &Fleet| {
        let mut series = BTreeSet::new();
        for daemon in &fleet.daemons {
            let (_, text) = daemon.get("/metrics").await.expect("/metrics");
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            series.extend(lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())));
        }
        series
    };
    let strangers = |from: usize, to: usize| {
        let of_types = (from..to).map(|number| job(&format!("strange.type{number}"), "x".to_owned(), "{}"));
        let of_items = (from..to).map(|number| item(fleet.world.id(format!("stranger{number}"))));
        of_types.chain(of_items).collect::<Vec<_>>()
    };
    let (few, many) = (strangers(0, 500), strangers(500, 500 + STRANGERS));
    let mut redis = fleet.world.redis.clone();
    // Twice, since a busy machine may have some of the many delivered twice, and a duplicate is a kind of end too.
    for _ in 0..2 {
        push(&mut redis, &fleet.world.stream, &few).await.expect("XADD");
        fleet.world.drained().await;
    }
    // Whoever reads the log has read of them too.
    support::sales::have_caught_up(&fleet.world).await;
    let before = series(fleet).await;
    for jobs in many.chunks(1000) {
        push(&mut redis, &fleet.world.stream, jobs).await.expect("XADD");
    }
    fleet.world.drained().await;
    let after = series(fleet).await;
    let (new, gone) = (after.difference(&before), before.difference(&after));
    let changed: Vec<_> = new.chain(gone).collect();
    assert!(changed.is_empty(), "series that came or went: {changed:?}");
    let others = r#"sum(lockkeeper_jobs_processed_total{job_type="other"})"#;
    let counted = async || {
        let counted = fleet.prometheus.query(others).await.ok()?;
        counted.first().map(|series| series.value).filter(|value| *value >= (STRANGERS + 500) as f64)
    };
    let counted = eventually("Prometheus has seen them all as `other`", counted).await;
    let series = after.len();
    format!("{series} series before and after; {counted} jobs counted as `other`")
}

/// What the code registers and what a Prometheus has seen of it are the same.
pub async fn names(fleet: &Fleet) -> String {
    let seen = fleet.prometheus.label_values("__name__", "").await;
    let ours = |name: &&String| name.starts_with("lockkeeper_") || name.starts_with("process_");
    let seen: BTreeSet<&str> = seen.iter().filter(ours).map(|name| family(name)).collect();
    let registered: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    let missing: Vec<_> = registered.difference(&seen).collect();
    assert!(missing.is_empty(), "registered, and never seen: {missing:?}");
    let process: Vec<_> = seen.difference(&registered).collect();
    let strange: Vec<_> = process.iter().filter(|name| !name.starts_with("process_")).collect();
    assert!(strange.is_empty(), "seen, and not registered: {strange:?}");
    format!("{} families of ours and {} of the process", registered.len(), process.len())
}

/// Draws the dashboard from what this Prometheus has seen.
pub fn picture(fleet: &Fleet, to: &str) -> String {
    let python = std::env::var("LOCKKEEPER_PICTURE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut command = Command::new(python);
    command.arg(file("grafana/picture.py")).arg(fleet.prometheus.url()).arg(file(to));
    assert!(command.status().expect("python runs").success(), "the picture cannot be drawn");
    to.to_owned()
}

async fn fires(fleet: &Fleet, alert: &str, labels: &[(&str, &str)]) {
    let has = |firing: &std::collections::BTreeMap<String, String>| {
        let is = |(name, value): &(&str, &str)| firing.get(*name).is_some_and(|given| given == value);
        is(&("alertname", alert)) && labels.iter().all(is)
    };
    eventually(&format!("{alert} fires with {labels:?}"), async || {
        fleet.prometheus.firing().await.iter().any(has).then_some(())
    })
    .await;
}

async fn clears(fleet: &Fleet, alert: &str) -> String {
    eventually(&format!("{alert} clears"), async || {
        let firing = fleet.prometheus.firing().await;
        (!firing.iter().any(|labels| labels["alertname"] == alert)).then_some(())
    })
    .await;
    format!("{alert} fired and cleared")
}
