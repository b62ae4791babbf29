//! Jobs that were taken over: when a start of theirs is counted.

use std::sync::Mutex;
use std::time::Instant;

use throwaway::proxy::{Fault, Proxy};

use super::*;
use support::hold::{give_lock, pending, read_as, started, take_lock};
use support::{PATIENCE, eventually};

/// As often was work on the jobs started before.
const EARLIER: u64 = 2;

/// Delivery counts of all pending entries, from within an act.
fn starts(broker: &str, stream: &str) -> Vec<u64> {
    let mut connection = redis::Client::open(broker).expect("a URL").get_connection().expect("the broker answers");
    let words = [stream, "lockkeeper", "-", "+", "10"];
    let rows: Vec<(String, String, u64, u64)> =
        redis::cmd("XPENDING").arg(&words).query(&mut connection).expect("XPENDING");
    rows.into_iter().map(|(.., count)| count).collect()
}

/// A world with one lock node, so that somebody else can take what the engine locks with.
async fn world() -> World {
    let mut world = World::new().await;
    world.lock_nodes.truncate(1);
    world
}

/// Two jobs that add to `key`, taken over by `engine` from a consumer that has died.
async fn taken_over(world: &World, engine: &Engine<Counter>, key: &str) -> Vec<Planned<Job<Counter>>> {
    let dead = consumer(world, "dead").await;
    dead.ensure_groups().await.expect("the group");
    for by in ["1", "2"] {
        world.push("counter.add", key, by).await;
    }
    let read = read_as(world, &dead).await;
    started(world, &dead, &read, EARLIER).await;
    let ids: Vec<_> = read.iter().map(|entry| entry.id).collect();
    let seized = engine.broker.seize(&world.stream, &ids).await.expect("the broker answers").entries;
    assert_eq!(seized.len(), 2);
    seized.iter().zip(1..).map(|(entry, turn)| planned_entry(entry, turn)).collect()
}

fn again(ended: Ended<Counter>) -> Vec<Planned<Job<Counter>>> {
    ended.back.into_iter().map(|(planned, _)| planned).collect()
}

fn reasons(ended: &Ended<Counter>) -> Vec<batch::PutBackReason> {
    ended.back.iter().map(|(_, why)| *why).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_counted_while_the_locks_are_had_and_the_job_is_decided() {
    let world = world().await;
    let key = world.id("c");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (noted, name) = (seen.clone(), key.clone());
    let (broker, stream, database) = (world.broker.clone(), world.stream.clone(), world.database.clone());
    let engine = engine(&world, move |time, sql| {
        noted.lock().expect("no act has panicked").push(starts(&broker, &stream));
        match time {
            0 => write_aside(&database, &name, 1, 1),
            1 => refused(sql),
            _ => {}
        }
    })
    .await;
    let jobs = taken_over(&world, &engine, &key).await;

    let lock = format!("lock:counter:{key}");
    take_lock(&world, &lock).await;
    let waits = run(&engine, jobs).await;
    assert_eq!(reasons(&waits), [batch::PutBackReason::Busy, batch::PutBackReason::Busy]);
    assert!(waits.back.iter().all(|(planned, _)| !planned.queued.job.counted), "nothing has been done with them");
    let counts: Vec<u64> = pending(&world).await.into_iter().map(|(_, count)| count).collect();
    assert_eq!(counts, [EARLIER; 2]);

    give_lock(&world, &lock).await;
    let refused = run(&engine, again(waits)).await;
    assert_eq!(reasons(&refused), [batch::PutBackReason::Refused, batch::PutBackReason::Refused]);
    let counts: Vec<u64> = pending(&world).await.into_iter().map(|(_, count)| count).collect();
    assert_eq!(counts, [0; 2], "they were decided, so nothing speaks against them");
    let ended = run(&engine, again(refused)).await;
    assert_eq!(outcomes(&ended), ["applied", "applied"]);
    let seen = seen.lock().expect("no act has panicked");
    assert_eq!(
        *seen,
        [[EARLIER + 1; 2], [1; 2], [1; 2]],
        "while they are decided: at first, after a conflict, and after they went back"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_wait_for_what_they_rest_on_are_not_counted() {
    let world = world().await;
    let key = world.id("c");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (noted, broker, stream) = (seen.clone(), world.broker.clone(), world.stream.clone());
    let act = move |_, _: &mut Sql| noted.lock().expect("no act has panicked").push(starts(&broker, &stream));
    let engine = engine(&world, act).await;
    execute_aside(
        &world.database,
        format!(
            "START TRANSACTION; UPDATE event_sequence SET position = 300 WHERE id = 1; \
             INSERT INTO events WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 300) \
             SELECT v, 'counter', '{key}', v, UNHEX(REPLACE(UUID(), '-', '')), 'counter.added', 1, '0', '{{}}', \
             UTC_TIMESTAMP(6) FROM n; COMMIT"
        ),
    );
    let jobs = taken_over(&world, &engine, &key).await;
    let mut holder = world.sql().await;
    sqlx::raw_sql("LOCK TABLES snapshots WRITE").execute(&mut holder).await.expect("nobody reads a snapshot");
    let watch = async {
        let ask = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID() \
                   AND info LIKE 'SELECT%FROM snapshots%'";
        eventually("the batch asks for a snapshot", async || {
            let waiting: i64 = sqlx::query_scalar(ask).fetch_one(&mut world.sql().await).await.ok()?;
            (waiting == 1).then_some(())
        })
        .await;
        let counts: Vec<u64> = pending(&world).await.into_iter().map(|(_, count)| count).collect();
        drop(holder);
        counts
    };
    let (counts, ended) = tokio::join!(watch, run(&engine, jobs));
    assert_eq!(counts, [EARLIER; 2], "whatever ends the process while they wait says nothing of them");
    assert_eq!(reasons(&ended), [], "nothing keeps them from being run");
    assert_eq!(outcomes(&ended), ["applied", "applied"]);
    assert_eq!(
        *seen.lock().expect("no act has panicked"),
        [[EARLIER + 1; 2]],
        "they are counted when they are decided"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_comes_to_nothing_leaves_what_was_counted_before() {
    let world = world().await;
    let key = world.id("c");
    let mut engine = engine(&world, |_, _| {}).await;
    // No packet is as small.
    engine.max_packet = 100;
    let jobs = taken_over(&world, &engine, &key).await;
    let ended = run(&engine, jobs).await;
    assert_eq!(reasons(&ended), [batch::PutBackReason::Refused; 2]);
    let left: Vec<_> =
        ended.back.iter().map(|(planned, _)| (planned.queued.job.deliveries, planned.queued.job.counted)).collect();
    assert_eq!(left, [(Some(EARLIER), false); 2]);
    let counts: Vec<u64> = pending(&world).await.into_iter().map(|(_, count)| count).collect();
    assert_eq!(counts, [EARLIER; 2], "neither more nor less speaks against them");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_whose_start_cannot_be_counted_are_not_started_and_keep_no_lock() {
    let world = world().await;
    let key = world.id("c");
    let asked = Arc::new(AtomicUsize::new(0));
    let times = asked.clone();
    let engine = engine(&world, move |_, _| {
        times.fetch_add(1, Ordering::SeqCst);
    })
    .await;
    let mut jobs = taken_over(&world, &engine, &key).await;
    jobs.push(planned("counter.add", &key, "3", 3));
    let destroyed: u64 = world.redis_do(&["XGROUP", "DESTROY", &world.stream, "lockkeeper"]).await;
    assert_eq!(destroyed, 1);
    let waits = run(&engine, jobs).await;
    assert_eq!(reasons(&waits), [batch::PutBackReason::Unavailable; 3]);
    let counted: Vec<bool> = waits.back.iter().map(|(planned, _)| planned.queued.job.counted).collect();
    assert_eq!(counted, [false, false, true], "the last one's read counts");
    assert_eq!(asked.load(Ordering::SeqCst), 0, "nothing was decided");
    let since = Instant::now();
    take_lock(&world, &format!("lock:counter:{key}")).await;
    assert!(since.elapsed() < engine.locks.settings().ttl, "it was released, and has not run out by itself");
    assert!(world.history("counter", &key).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_counted_once_although_the_broker_s_answers_are_lost() {
    let mut world = world().await;
    let (key, direct) = (world.id("c"), world.broker.clone());
    let address = direct.trim_start_matches("redis://").parse().expect("the broker's address");
    let proxy = Proxy::start(address).await.expect("a proxy");
    world.broker = format!("redis://{}", proxy.address());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (noted, stream) = (seen.clone(), world.stream.clone());
    let engine =
        engine(&world, move |_, _| noted.lock().expect("no act has panicked").push(starts(&direct, &stream))).await;
    let jobs = taken_over(&world, &engine, &key).await;
    // That start has been counted already; from now on the broker knows the script.
    let known = engine.broker.set_starts(&world.stream, &[(jobs[0].queued.job.entry, EARLIER)]).await;
    known.expect("the broker answers");
    proxy.set(Fault::DropReplies);
    let mut ended = run(&engine, jobs).await;
    assert_eq!(reasons(&ended), [batch::PutBackReason::Unavailable; 2]);
    let counts: Vec<u64> = pending(&world).await.into_iter().map(|(_, count)| count).collect();
    assert_eq!(counts, [EARLIER + 1; 2], "the broker has done it all the same");
    proxy.set(Fault::None);
    let deadline = Instant::now() + PATIENCE;
    while !ended.back.is_empty() {
        assert!(Instant::now() < deadline, "the broker does not answer again");
        assert_eq!(reasons(&ended), [batch::PutBackReason::Unavailable; 2]);
        ended = run(&engine, again(ended)).await;
    }
    assert_eq!(outcomes(&ended), ["applied", "applied"]);
    assert_eq!(*seen.lock().expect("no act has panicked"), [[EARLIER + 1; 2]]);
}
