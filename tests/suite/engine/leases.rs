//! A batch that takes longer than its locks live.

use super::*;
use lockkeeper::lock::{KeyResult, NodeHealth};

const TTL: Duration = Duration::from_millis(1_500);

/// Keeps the batch from its commit for longer than its locks live without being extended.
fn dawdle() {
    std::thread::sleep(TTL + TTL / 3);
}

fn ask(url: &str, words: &[&str]) {
    let mut connection = redis::Client::open(url).expect("a URL").get_connection().expect("the node answers");
    redis::cmd(words[0]).arg(&words[1..]).exec(&mut connection).expect("the node obeys");
}

/// Like the others', with locks that live for a shorter time.
async fn short_engine(world: &World, act: impl Fn(usize, &mut Sql) + Send + Sync + 'static) -> Engine<Counter> {
    let settings = Settings { node_timeout: Duration::from_millis(500), ..Settings::new(TTL) };
    let locks = Redlock::start(nodes(world), settings, Arc::new(|_| {})).expect("one node");
    Engine { locks, ..engine(world, act).await }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_batch_keeps_its_locks_and_nobody_else_gets_them() {
    let world = World::new().await;
    let key = world.id("c");
    let rival = Redlock::start(nodes(&world), Settings::new(TTL), Arc::new(|_| {})).expect("one node");
    support::eventually("the rival is connected", async || (rival.nodes()[0].health == NodeHealth::Up).then_some(()))
        .await;
    let locked = Arc::new(tokio::sync::Notify::new());
    let begin = locked.clone();
    let engine = short_engine(&world, move |time, _| {
        if time == 0 {
            begin.notify_one();
            dawdle();
        }
    })
    .await;
    let lock = [format!("lock:counter:{key}")];
    // In a task of its own, since the batch blocks its thread.
    let watch = tokio::spawn(async move {
        let (mut busy, mut granted) = (0, 0);
        // Before that, the key is the rival's as well as the batch's.
        locked.notified().await;
        let started = std::time::Instant::now();
        while started.elapsed() < TTL + TTL / 6 {
            let tried = rival.acquire(&lock).await;
            busy += usize::from(tried.results == [KeyResult::Busy]);
            granted += usize::from(tried.results == [KeyResult::Granted]);
            rival.release(tried.lease);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (busy, granted)
    });
    let ended = run(&engine, vec![planned("counter.add", &key, "1", 1)]).await;
    let (busy, granted) = watch.await.expect("the rival ends");
    assert_eq!(outcomes(&ended), ["applied"]);
    assert!(busy > 0 && granted == 0, "busy {busy} times, and granted {granted} times while the batch ran");
    assert!(!engine.metrics.render().contains("lockkeeper_lock_lost_total{"), "no lock was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_locks_ran_out_commits_nothing_and_is_run_again() {
    let world = World::new().await;
    let (key, node) = (world.id("c"), world.lock_nodes[0].clone());
    let lock = format!("lock:counter:{key}");
    let engine = short_engine(&world, move |time, _| {
        if time == 0 {
            // Somebody else has the lock now, so it cannot be extended.
            ask(&node, &["SET", &lock, "another client", "PX", "100"]);
            dawdle();
        }
    })
    .await;
    let ended = run(&engine, vec![planned("counter.add", &key, "1", 1)]).await;
    assert!(ended.settled.is_empty(), "nothing may be decided under a lock that is gone: {:?}", outcomes(&ended));
    assert!(ended.back.iter().all(|(_, why)| *why == batch::PutBackReason::LockLost) && ended.back.len() == 1);
    assert!(world.history("counter", &key).await.is_empty());
    assert!(engine.metrics.render().contains(r#"lockkeeper_lock_lost_total{reason="value_changed"} 1"#));
    let ended = run(&engine, ended.back.into_iter().map(|(planned, _)| planned).collect()).await;
    assert_eq!(outcomes(&ended), ["applied"]);
}
