//! The engine with a domain of ten lines: what happens when somebody else writes in between, when the database refuses, and
//! when the domain panics.

pub mod counter;
mod leases;
pub mod models;
mod starts;
mod succession;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lockkeeper::batch::{self, Cache, Ended, Engine, Parts};
use lockkeeper::domain::{AggregateId, Domain, Targets};
use lockkeeper::job::{self, Entry, EntryId, Job, JobId, Outcome, Turn};
use lockkeeper::lock::{NodeAddress, Redlock, Settings};
use lockkeeper::metrics::Metrics;
use lockkeeper::plan::{Batch, BatchId, Planned, Queued};
use lockkeeper::projection::{Change, Projection};
use lockkeeper::store::sql::Sql;
use sqlx::{Connection, MySqlConnection};
use tokio::sync::mpsc;

use counter::Counter;

use support::hold::consumer;
use support::world::World;

/// Runs between decision and commit, which is when projections are asked for their statements: here a second writer gets
/// its chance, or a statement is added that the database refuses.
struct InBetween {
    times: AtomicUsize,
    act: Act,
}

/// Told which time it is, from 0, and given the statements so far.
type Act = Box<dyn Fn(usize, &mut Sql) + Send + Sync>;

impl Projection<Counter> for InBetween {
    fn name(&self) -> &'static str {
        "in_between"
    }

    fn write(&self, _: &[Change<'_, Counter>], sql: &mut Sql) {
        (self.act)(self.times.fetch_add(1, Ordering::SeqCst), sql);
    }
}

fn nodes(world: &World) -> Vec<NodeAddress> {
    let client = redis::Client::open(world.lock_nodes[0].as_str()).expect("a lock node's URL");
    vec![NodeAddress { name: "redis1".into(), client }]
}

async fn engine(world: &World, act: impl Fn(usize, &mut Sql) + Send + Sync + 'static) -> Engine<Counter> {
    let settings = Settings { node_timeout: Duration::from_secs(1), ..Settings::new(Duration::from_secs(4)) };
    Engine::new(Parts {
        store: world.store.clone(),
        broker: consumer(world, "engine").await,
        locks: Redlock::start(nodes(world), settings, Arc::new(|_| {})).expect("one node"),
        projections: vec![Arc::new(InBetween { times: AtomicUsize::new(0), act: Box::new(act) })],
        metrics: Arc::new(Metrics::new().expect("metrics")),
        max_packet: 1 << 24,
        hold_after_dead: false,
        cache_bytes: 1,
    })
}

/// A job as the plan gives it.
pub fn as_planned<D: Domain>(job: Job<D>, aggregates: Vec<AggregateId>, turn: u64) -> Planned<Job<D>> {
    let turn = Turn { rank: turn, ..Turn::default() };
    let queued = Queued::new(turn, job.id, Targets::Known(aggregates), job.bytes, job);
    Planned { batch: BatchId::default(), queued: Box::new(queued) }
}

/// A planned job, as if it had been read and planned.
pub fn planned(job_type: &str, key: &str, data: &str, turn: u64) -> Planned<Job<Counter>> {
    let fields = [("type", job_type), ("key", key), ("data", data)];
    let fields = fields.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).to_vec();
    let id = EntryId { ms: turn, seq: u64::from(uuid::Uuid::new_v4().as_fields().0) };
    planned_entry(&Entry::new("jobs".into(), id, fields), turn)
}

fn planned_entry(entry: &Entry, turn: u64) -> Planned<Job<Counter>> {
    let job = job::decode::<Counter>(entry, 1000);
    let aggregates = job.subject.iter().cloned().collect();
    as_planned(job, aggregates, turn)
}

/// The lock nodes connect in the background: the first tries may find none.
pub async fn run(engine: &Engine<Counter>, jobs: Vec<Planned<Job<Counter>>>) -> Ended<Counter> {
    support::eventually("the lock node is connected", async || engine.locks.nodes()[0].is_up().then_some(())).await;
    let batch = Batch { id: BatchId::default(), after: Vec::new(), jobs };
    batch::run(engine, batch, Vec::new(), &mpsc::unbounded_channel().0).await
}

/// How many batches rested on something that was believed and was not so.
fn decided_in_vain(engine: &Engine<Counter>) -> u64 {
    retries(engine, "decided_in_vain")
}

/// How many transactions were repeated for this reason.
fn retries(engine: &Engine<Counter>, reason: &str) -> u64 {
    let series = format!(r#"lockkeeper_store_transaction_retries_total{{reason="{reason}"}} "#);
    let text = engine.metrics.render();
    text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or(0)
}

pub fn outcomes(ended: &Ended<Counter>) -> Vec<String> {
    let told = |outcome: &Outcome| match outcome.reason_text() {
        Some(reason) => format!("{}: {reason}", outcome.kind.as_str()),
        None => outcome.kind.as_str().to_owned(),
    };
    ended.settled.iter().map(|settled| told(&settled.end.outcome)).collect()
}

/// Writes an event as another program would: its own position, the next version, no lock.
fn write_aside(database: &str, key: &str, version: u64, payload: u64) {
    execute_aside(
        database,
        format!(
            "START TRANSACTION; UPDATE event_sequence SET position = LAST_INSERT_ID(position + 1) WHERE id = 1; \
         INSERT INTO events VALUES (LAST_INSERT_ID(), 'counter', '{key}', {version}, UNHEX(REPLACE(UUID(), '-', '')), \
         'counter.added', 1, '{payload}', '{{}}', UTC_TIMESTAMP(6)); COMMIT"
        ),
    );
}

/// Sets the database back to `position`, as a failover to a server does that lacked the last commits.
fn set_back(database: &str, position: u64) {
    execute_aside(
        database,
        format!(
            "START TRANSACTION; DELETE FROM events WHERE position > {position}; DELETE FROM receipts WHERE \
             last_position > {position}; UPDATE event_sequence SET position = {position} WHERE id = 1; COMMIT"
        ),
    );
}

fn execute_aside(database: &str, statement: String) {
    let database = database.to_owned();
    let write = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut connection = MySqlConnection::connect(&database).await.expect("the database answers");
            sqlx::raw_sql(&statement).execute(&mut connection).await.expect("the second writer writes");
        });
    };
    std::thread::spawn(write).join().expect("the second writer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_somebody_else_wrote_in_between_is_decided_on_again() {
    let world = World::new().await;
    let (key, database) = (world.id("c"), world.database.clone());
    let (name, seen) = (key.clone(), Arc::new(AtomicUsize::new(0)));
    let tries = seen.clone();
    let engine = engine(&world, move |time, _| {
        tries.fetch_add(1, Ordering::SeqCst);
        if time == 0 {
            write_aside(&database, &name, 1, 8);
        }
    })
    .await;
    let ended = run(&engine, vec![planned("counter.add", &key, "2", 1), planned("counter.add", &key, "3", 2)]).await;
    assert_eq!(outcomes(&ended), ["applied", "rejected: too_much"], "decided on the state with the other's 8 in it");
    assert_eq!(seen.load(Ordering::SeqCst), 2, "one conflict, one success");
    let history = world.history("counter", &key).await;
    assert_eq!(history.iter().map(|event| (event.position, event.version)).collect::<Vec<_>>(), [(1, 1), (2, 2)]);
    assert_eq!(decided_in_vain(&engine), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_on_a_state_that_somebody_else_changed_in_between_is_decided_on_again() {
    let world = World::new().await;
    let (key, database) = (world.id("c"), world.database.clone());
    let name = key.clone();
    let engine = engine(&world, move |time, _| {
        if time == 1 {
            // The count starts anew, so what was too much is not any more.
            write_aside(&database, &name, 2, 0);
        }
    })
    .await;
    assert_eq!(outcomes(&run(&engine, vec![planned("counter.add", &key, "9", 1)]).await), ["applied"]);
    let ended = run(&engine, vec![planned("counter.add", &key, "5", 2)]).await;
    assert_eq!(outcomes(&ended), ["applied"], "the rejection rested on a state that was gone");
    assert_eq!(decided_in_vain(&engine), 1);
    assert_eq!(world.history("counter", &key).await.len(), 3);
}

/// An engine that remembers states.
async fn mindful(world: &World, act: impl Fn(usize, &mut Sql) + Send + Sync + 'static) -> Engine<Counter> {
    Engine { cache: Cache::new(1 << 20), ..engine(world, act).await }
}

async fn versions(world: &World, key: &str) -> Vec<u64> {
    world.history("counter", key).await.iter().map(|event| event.version).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remembered_state_that_somebody_else_has_changed_is_not_decided_on() {
    let world = World::new().await;
    let (key, engine) = (world.id("c"), mindful(&world, |_, _| {}).await);
    let add = async |by: &str, turn| outcomes(&run(&engine, vec![planned("counter.add", &key, by, turn)]).await);
    assert_eq!(add("2", 1).await, ["applied"]);
    write_aside(&world.database, &key, 2, 7);
    assert_eq!(add("5", 2).await, ["rejected: too_much"], "2 is remembered, and 9 is so");
    assert_eq!(decided_in_vain(&engine), 1);
    write_aside(&world.database, &key, 3, 0);
    assert_eq!(add("5", 3).await, ["applied"], "9 is remembered, and nothing is so");
    assert_eq!(decided_in_vain(&engine), 1, "whoever was wrong lately looks first");
    assert_eq!(versions(&world, &key).await, [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_sent_twice_is_run_once_although_nobody_looks_for_its_receipt() {
    let world = World::new().await;
    let (key, engine) = (world.id("c"), mindful(&world, |_, _| {}).await);
    let id = JobId::from_text(&key);
    let sent = || {
        let mut planned = planned("counter.add", &key, "2", 1);
        (planned.queued.id, planned.queued.job.id) = (id, id);
        planned
    };
    for turn in 2..5 {
        let ended = run(&engine, vec![sent(), planned("counter.add", &key, "1", turn)]).await;
        assert_eq!(outcomes(&ended), ["applied", "applied"]);
    }
    assert_eq!(versions(&world, &key).await, [1, 2, 3, 4], "one event of the job, and one of each of the others");
    assert_eq!(decided_in_vain(&engine), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_rests_on_commits_which_the_database_has_lost_is_not_decided_on() {
    let world = World::new().await;
    let (key, engine) = (world.id("c"), mindful(&world, |_, _| {}).await);
    let add = async |by: &str, turn| outcomes(&run(&engine, vec![planned("counter.add", &key, by, turn)]).await);
    assert_eq!([add("2", 1).await, add("7", 2).await], [["applied"], ["applied"]]);
    set_back(&world.database, 1);
    // The log is longer by now than it was, so its length tells nothing.
    (1..4).for_each(|version| write_aside(&world.database, "other", version, 1));
    assert_eq!(add("3", 3).await, ["applied"], "9 is remembered, and 2 is so");
    assert_eq!(versions(&world, &key).await, [1, 2], "the log has no gap");
    assert!(engine.metrics.render().contains("lockkeeper_store_went_back_total 1"), "an operator has to know");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_between_load_and_commit_that_loses_commits_leaves_no_gap() {
    let world = World::new().await;
    let (key, database) = (world.id("c"), world.database.clone());
    // Nothing is remembered, so the state is always loaded just before.
    let engine = engine(&world, move |time, _| {
        if time == 2 {
            set_back(&database, 1);
            (1..4).for_each(|version| write_aside(&database, "other", version, 1));
        }
    })
    .await;
    for turn in 1..4 {
        assert_eq!(outcomes(&run(&engine, vec![planned("counter.add", &key, "1", turn)]).await), ["applied"]);
    }
    assert_eq!(versions(&world, &key).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_domain_costs_that_job_alone() {
    let world = World::new().await;
    let key = world.id("c");
    let engine = engine(&world, |_, _| {}).await;
    let jobs = ["1", "2"].iter().enumerate().map(|(turn, by)| planned("counter.add", &key, by, turn as u64));
    let mut jobs: Vec<_> = jobs.collect();
    jobs.insert(1, planned("counter.panic", &key, "", 9));
    let ended = run(&engine, jobs).await;
    let expected = "dead: panicked: the domain's code panicked: a bug in the domain";
    assert_eq!(outcomes(&ended), ["applied", expected, "applied"]);
}

/// A statement that every server refuses in strict mode: the text is too long for its column.
fn refused(sql: &mut Sql) {
    sql.raw("INSERT INTO receipts (job_id, outcome, fingerprint, recorded_at) VALUES ")
        .raw("('x', 'an outcome that does not fit into sixteen', 'x', UTC_TIMESTAMP(6)); ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_the_database_refuses_goes_back_and_a_job_alone_is_dead() {
    let world = World::new().await;
    let key = world.id("c");
    // The transaction that rests on what was believed, the one after a look, and that of the job alone are refused; the receipt
    // of the dead job gets through.
    let engine = engine(&world, |time, sql| {
        if time < 3 {
            refused(sql)
        }
    })
    .await;
    let ended = run(&engine, vec![planned("counter.add", &key, "1", 1), planned("counter.add", &key, "2", 2)]).await;
    assert!(ended.settled.is_empty(), "which of the two it is cannot be known yet");
    assert!(ended.back.iter().all(|(_, why)| *why == batch::PutBackReason::Refused));
    let ended = run(&engine, vec![planned("counter.add", &key, "1", 3)]).await;
    assert!(outcomes(&ended)[0].starts_with("dead: cannot_commit: "), "{:?}", outcomes(&ended));
    assert!(world.history("counter", &key).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_dense_although_transactions_fail_and_two_engines_write() {
    let world = World::new().await;
    let (one, two) = (engine(&world, |_, _| {}).await, engine(&world, |_, _| {}).await);
    let keys: Vec<String> = (0..20).map(|n| world.id(n)).collect();
    let work = async |engine: &Engine<Counter>, half: usize| {
        for round in 0..10 {
            let keys = keys.iter().skip(half).step_by(2);
            let jobs = keys.map(|key| planned("counter.add", key, "1", round)).collect();
            let ended = run(engine, jobs).await;
            assert!(ended.back.is_empty(), "{:?}", ended.back.iter().map(|(_, why)| why).collect::<Vec<_>>());
        }
    };
    tokio::join!(work(&one, 0), work(&two, 1));
    let events = world.store.events_from(0, 1000).await.expect("the log");
    let positions: Vec<u64> = events.iter().map(|event| event.position).collect();
    assert_eq!(positions, (1..=200).collect::<Vec<u64>>());
}
