//! A batch that goes by what the one before it will come to.

use std::sync::Mutex;
use std::sync::mpsc as sync;

use lockkeeper::batch::{Prepared, PreparedBatch, PutBackReason};
use tokio::task::JoinHandle;

use super::*;
use support::{PATIENCE, eventually};

/// Starts a batch that succeeds others, and returns what its own successors can expect once it is on its way.
fn start(
    engine: &Arc<Engine<Counter>>,
    jobs: Vec<Planned<Job<Counter>>>,
    after: Vec<PreparedBatch<Counter>>,
) -> (JoinHandle<Ended<Counter>>, mpsc::UnboundedReceiver<Prepared<Counter>>) {
    let (engine, (sender, openings)) = (engine.clone(), mpsc::unbounded_channel());
    let batch = Batch { id: BatchId::default(), after: Vec::new(), jobs };
    (tokio::spawn(async move { batch::run(&engine, batch, after, &sender).await }), openings)
}

async fn opened(openings: &mut mpsc::UnboundedReceiver<Prepared<Counter>>) -> Prepared<Counter> {
    let opening = tokio::time::timeout(PATIENCE, openings.recv()).await;
    opening.expect("the batch is on its way").expect("it says that it may be succeeded")
}

/// Keeps every transaction from its end until it is dropped.
async fn hold_sequence(world: &World) -> MySqlConnection {
    let mut holder = world.sql().await;
    let hold = "START TRANSACTION; SELECT position FROM event_sequence WHERE id = 1 FOR UPDATE";
    sqlx::raw_sql(hold).execute(&mut holder).await.expect("the sequence row is held");
    holder
}

/// Keeps a transaction that writes the receipt of `job` from its end until it is dropped.
async fn hold_receipt(world: &World, job: JobId) -> MySqlConnection {
    let mut holder = world.sql().await;
    let hold = format!(
        "START TRANSACTION; INSERT INTO receipts VALUES (x'{}', 'applied', NULL, NULL, NULL, x'{:032}', UTC_TIMESTAMP(6))",
        job.0.simple(),
        0
    );
    sqlx::raw_sql(&hold).execute(&mut holder).await.expect("the receipt is held");
    holder
}

/// How many transactions have been sent and are not at their end.
async fn under_way(world: &World) -> i64 {
    let ask = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND command = 'Query' AND \
               info NOT LIKE '%processlist%'";
    sqlx::query_scalar(ask).fetch_one(&mut world.sql().await).await.expect("the server tells")
}

async fn connected(engine: Engine<Counter>) -> Arc<Engine<Counter>> {
    eventually("the lock node is connected", async || engine.locks.nodes()[0].is_up().then_some(())).await;
    Arc::new(engine)
}

/// A point between a batch's decision and its commit, at which it stands still until it is told to go on.
fn barrier() -> (sync::Receiver<()>, sync::Sender<()>, impl Fn() + Send + Sync) {
    let ((reached, is_there), (go, told)) = (sync::channel(), sync::channel());
    let told = Mutex::new(told);
    let stop = move || {
        reached.send(()).expect("the test waits");
        let told = told.lock().expect("nobody panicked");
        tokio::task::block_in_place(|| told.recv_timeout(PATIENCE)).expect("the test says so");
    };
    (is_there, go, stop)
}

async fn lock_value(world: &World, key: &str) -> Option<String> {
    let client = redis::Client::open(world.lock_nodes[0].as_str()).expect("a lock node's URL");
    let mut node = client.get_multiplexed_async_connection().await.expect("the node answers");
    redis::cmd("GET").arg(format!("lock:counter:{key}")).query_async(&mut node).await.expect("GET")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_decides_before_its_predecessor_is_committed_and_holds_its_lock_on() {
    let world = World::new().await;
    let key = world.id("c");
    let (is_decided, go_on, stop) = barrier();
    let act = move |time, _: &mut Sql| {
        if time == 1 {
            stop();
        }
    };
    let engine = connected(mindful(&world, act).await).await;
    let row = hold_sequence(&world).await;
    let (first, mut openings) = start(&engine, vec![planned("counter.add", &key, "8", 1)], Vec::new());
    let Prepared { blocked, prospect, .. } = opened(&mut openings).await;
    assert_eq!(blocked, [], "no job of it will go back");
    let jobs = vec![planned("counter.add", &key, "5", 2), planned("counter.add", &key, "2", 3)];
    let (second, _openings) = start(&engine, jobs, vec![prospect]);
    tokio::task::spawn_blocking(move || is_decided.recv_timeout(PATIENCE).expect("it decides at once"))
        .await
        .expect("no panic");
    assert_eq!(versions(&world, &key).await, [0; 0], "nothing is committed so far");
    let lock = lock_value(&world, &key).await;
    drop(row);
    assert_eq!(outcomes(&first.await.expect("no panic")), ["applied"]);
    assert!(lock.is_some());
    assert_eq!(lock_value(&world, &key).await, lock, "nobody could come in between");
    go_on.send(()).expect("it waits");
    assert_eq!(outcomes(&second.await.expect("no panic")), ["rejected: too_much", "applied"], "8 and 5 is too much");
    assert_eq!((versions(&world, &key).await, decided_in_vain(&engine)), (vec![1, 2], 0));
    eventually("the lock is free", async || lock_value(&world, &key).await.is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_of_a_batch_that_fails_goes_back_and_leaves_nothing() {
    let world = World::new().await;
    let key = world.id("c");
    let database = world.database.clone();
    let name = key.clone();
    // Somebody else writes the version that the first batch is about to write.
    let act = move |time, _: &mut Sql| {
        if time == 0 {
            write_aside(&database, &name, 1, 7);
        }
    };
    let engine = connected(mindful(&world, act).await).await;
    let (first, mut openings) = start(&engine, vec![planned("counter.add", &key, "1", 1)], Vec::new());
    let Prepared { prospect, .. } = opened(&mut openings).await;
    let (second, _openings) = start(&engine, vec![planned("counter.add", &key, "1", 2)], vec![prospect]);
    assert_eq!(outcomes(&first.await.expect("no panic")), ["applied"], "it is decided again");
    let second = second.await.expect("no panic");
    assert!(second.settled.is_empty(), "its turn comes after the first job has come to an end");
    assert_eq!(second.back.iter().map(|(_, why)| *why).collect::<Vec<_>>(), [PutBackReason::Behind]);
    assert_eq!(versions(&world, &key).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_whose_log_lacks_the_predecessor_is_decided_again() {
    let (world, other) = (World::new().await, World::new().await);
    let key = world.id("c");
    let (_is_decided, go_on, stop) = barrier();
    let act = move |time, _: &mut Sql| {
        if time == 0 {
            stop();
        }
    };
    let engine = connected(mindful(&world, |_, _| {}).await).await;
    // The server that was failed over to. The lock is taken on another node, since it is not the process that fails over.
    let client = redis::Client::open(world.lock_nodes[1].as_str()).expect("a lock node's URL");
    let node = vec![NodeAddress { name: "redis2".into(), client }];
    let locks = Redlock::start(node, Settings::new(Duration::from_secs(4)), Arc::new(|_| {})).expect("one node");
    let failed_over = Engine { store: other.store.clone(), locks, ..mindful(&world, act).await };
    let failed_over = connected(failed_over).await;
    let row = hold_sequence(&world).await;
    let (first, mut openings) = start(&engine, vec![planned("counter.add", &key, "1", 1)], Vec::new());
    let Prepared { prospect, .. } = opened(&mut openings).await;
    let (second, _openings) = start(&failed_over, vec![planned("counter.add", &key, "1", 2)], vec![prospect]);
    drop(row);
    assert_eq!(outcomes(&first.await.expect("no panic")), ["applied"]);
    go_on.send(()).expect("it waits");
    assert_eq!(outcomes(&second.await.expect("no panic")), ["applied"]);
    assert_eq!(versions(&other, &key).await, [1], "the log has no gap");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_of_rejections_waits_for_their_receipts() {
    let world = World::new().await;
    let key = world.id("c");
    let engine = connected(mindful(&world, |_, _| {}).await).await;
    let rejected = planned("counter.add", &key, "99", 1);
    let receipt = hold_receipt(&world, rejected.queued.id).await;
    let (first, mut openings) = start(&engine, vec![rejected], Vec::new());
    let Prepared { prospect, .. } = opened(&mut openings).await;
    eventually("it has the sequence row", async || (under_way(&world).await == 1).then_some(())).await;
    let (second, mut after) = start(&engine, vec![planned("counter.add", &key, "1", 2)], vec![prospect]);
    opened(&mut after).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let sent = under_way(&world).await;
    assert_eq!(sent, 1, "a transaction without events leaves nothing by which the next one could know of it");
    drop(receipt);
    assert_eq!(outcomes(&first.await.expect("no panic")), ["rejected: too_much"]);
    assert_eq!(outcomes(&second.await.expect("no panic")), ["applied"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_positions_somebody_else_has_taken_is_sent_again_as_it_is() {
    let world = World::new().await;
    let (key, other, database) = (world.id("c"), world.id("d"), world.database.clone());
    let (decisions, name) = (Arc::new(AtomicUsize::new(0)), other.clone());
    let seen = decisions.clone();
    let act = move |time, _: &mut Sql| {
        seen.fetch_add(1, Ordering::SeqCst);
        if time == 1 {
            write_aside(&database, &name, 1, 7);
        }
    };
    let engine = connected(mindful(&world, act).await).await;
    for turn in 1..4 {
        let jobs = vec![planned("counter.add", &key, "1", turn), planned("counter.add", &key, "2", turn)];
        let ended = run(&engine, jobs).await;
        let positions: Vec<_> = ended.settled.iter().map(|settled| settled.end.outcome.positions).collect();
        let first = if turn == 1 { 1 } else { 2 * turn };
        assert_eq!(positions, [Some((first, first)), Some((first + 1, first + 1))], "in batch {turn}");
    }
    assert_eq!(versions(&world, &key).await, [1, 2, 3, 4, 5, 6]);
    let positions: Vec<_> = world.history("counter", &key).await.iter().map(|event| event.position).collect();
    assert_eq!(positions, [1, 2, 4, 5, 6, 7], "3 is the other's");
    assert_eq!(decisions.load(Ordering::SeqCst), 3, "nothing was wrong with what was decided");
    assert_eq!((retries(&engine, "position"), decided_in_vain(&engine)), (1, 0));
}
