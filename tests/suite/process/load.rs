//! Many buyers, little stock, and daemons that are killed or frozen on the way; afterwards the audit of everything.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use lockkeeper::job::JobId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redis::aio::MultiplexedConnection;
use sqlx::Row;

use support::{
    audit, eventually,
    world::{World, told},
};

const ITEMS: u64 = 40;
const STOCK: u32 = 50;
const PRODUCERS: u64 = 8;
const ORDERS: u64 = 6000;

/// Registers the items, and returns the ids of the jobs that did.
pub async fn stock_up(world: &World) -> HashSet<JobId> {
    let mut pushed = HashSet::new();
    for item in 0..ITEMS {
        let (key, money) = (world.id(item), r#""supply_price":"10","vat":"1""#);
        let data = format!(r#"{{"name":"item",{money},"is_tax_free":false,"stock":{STOCK},"member_id":1}}"#);
        pushed.insert(world.push("item.register", &key, &data).await);
        pushed.insert(world.push("item.allow_sale", &key, "{}").await);
    }
    pushed
}

/// One producer: orders of one to five items, and now and then a cancel of an earlier one, in pipelines of fifty.
async fn produce(world: &World, mut redis: MultiplexedConnection, seed: u64, orders: u64) -> HashSet<JobId> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut pushed = HashSet::new();
    let mut pipeline = redis::pipe();
    for order in 0..orders {
        let key = world.id(format!("{seed}-{order}"));
        let items = rand::seq::index::sample(&mut random, ITEMS as usize, 5);
        let lines: Vec<String> = items
            .into_iter()
            .take(random.random_range(1..=5))
            .map(|item| format!(r#"{{"item_id":"{}","quantity":{}}}"#, world.id(item), random.random_range(1..=3)))
            .collect();
        let data = format!(r#"{{"member_id":{seed},"lines":[{}]}}"#, lines.join(","));
        let mut push = |job_type: &str, data: &str| {
            let id = uuid::Uuid::now_v7();
            pushed.insert(JobId(id));
            let command = pipeline.cmd("XADD").arg(&world.stream).arg("*").arg("id").arg(id.to_string());
            command.arg("type").arg(job_type).arg("key").arg(&key).arg("data").arg(data).ignore();
        };
        push("order.place", &data);
        if order % 20 == 19 {
            push("order.cancel", r#"{"reason":"changed my mind"}"#);
        }
        if order % 50 == 49 || order + 1 == orders {
            pipeline.query_async::<()>(&mut redis).await.expect("the broker takes the orders");
            pipeline.clear();
        }
    }
    pushed
}

/// All producers at once, with so many orders in all; each with a connection of its own.
pub async fn produce_all(world: &World, orders: u64) -> HashSet<JobId> {
    let seed: u64 = rand::random_range(0..1_000_000);
    eprintln!("seed {seed}");
    let client = redis::Client::open(world.broker.as_str()).expect("the broker's URL");
    let producers = (0..PRODUCERS).map(async |producer| {
        let redis = client.get_multiplexed_async_connection().await.expect("the broker answers");
        produce(world, redis, seed + producer, orders / PRODUCERS).await
    });
    futures_util::future::join_all(producers).await.into_iter().flatten().collect()
}

/// Nothing is left in the stream, nothing is dead, and the audit of the whole database passes.
async fn audited(world: &World, pushed: &HashSet<JobId>) {
    world.drained().await;
    let dead = world.entries(&format!("{}:dead", world.stream)).await;
    assert!(dead.is_empty(), "no job of this load is dead: {dead:?}");
    let verdict = audit(&world.database, Some(pushed)).await;
    assert_eq!(verdict, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_sell_little_stock_to_many_buyers_and_the_audit_passes() {
    let world = World::new().await;
    let mut pushed = stock_up(&world).await;
    let (mut one, mut two) = (world.daemon(&[]).await, world.daemon(&[]).await);
    world.drained().await;
    pushed.extend(produce_all(&world, ORDERS).await);
    audited(&world, &pushed).await;
    let mut done = Vec::new();
    for daemon in [&one, &two] {
        let series = format!(
            r#"lockkeeper_jobs_processed_total{{queue="{}",job_type="order.place",outcome="applied"}}"#,
            world.stream
        );
        done.push(daemon.metric(&series).await.unwrap_or_default());
    }
    done.sort_by(f64::total_cmp);
    assert!(done[0] == 0.0 && done[1] > 0.0, "one of the two owns the stream: {done:?}");
    assert_eq!((one.terminate().await, two.terminate().await), (Some(0), Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_twenty_times_under_load_loses_and_doubles_nothing() {
    let world = World::new().await;
    let recover = [("LOCKKEEPER_FLEET_LEASE_MS", "300"), ("LOCKKEEPER_FLEET_LOOK_MS", "50")];
    let mut pushed = stock_up(&world).await;
    let mut daemon = world.daemon(&recover).await;
    world.drained().await;
    let kill = async {
        let mut sql = world.sql().await;
        for _ in 0..20 {
            let enough = receipts(&mut sql).await + rand::random_range(50..250);
            let deadline = Instant::now() + support::PATIENCE;
            while receipts(&mut sql).await < enough {
                assert!(
                    Instant::now() < deadline,
                    "no {enough} receipts within a minute: jobs are lost, or nothing moves"
                );
                tokio::task::yield_now().await;
            }
            daemon.process.kill();
            daemon = world.daemon(&recover).await;
        }
    };
    let (more, ()) = tokio::join!(produce_all(&world, ORDERS), kill);
    pushed.extend(more);
    audited(&world, &pushed).await;
}

async fn receipts(sql: &mut sqlx::MySqlConnection) -> i64 {
    let count = sqlx::raw_sql("SELECT COUNT(*) FROM receipts").fetch_one(sql).await.expect("the receipts are counted");
    count.get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_frozen_while_it_holds_the_sequence_row_stops_its_peers_for_less_than_ten_seconds() {
    let world = World::new().await;
    let (pen, ink) = (world.id("pen"), world.id("ink"));
    let sleeper = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    world.item_on_sale(&ink, 0).await;
    // Somebody holds the version that the sleeper is going to write, so that its transaction stops just there: with the
    // sequence row taken, and not committed.
    let mut holder = world.sql().await;
    let hold = format!(
        "START TRANSACTION; INSERT INTO events VALUES (1000000, 'item', '{pen}', 3, 'x', 'item.restocked', 1, '{{}}', '{{}}', \
         UTC_TIMESTAMP(6))"
    );
    sqlx::raw_sql(&hold).execute(&mut holder).await.expect("the version is held");
    let stuck = world.push("item.restock", &pen, r#"{"quantity":1}"#).await;
    let mut watcher = world.sql().await;
    let mut is_held = async || {
        let take =
            "START TRANSACTION; SELECT position FROM event_sequence WHERE id = 1 FOR UPDATE SKIP LOCKED; ROLLBACK";
        let rows = sqlx::raw_sql(take).fetch_all(&mut watcher).await.ok()?;
        rows.is_empty().then_some(())
    };
    eventually("the sleeper's transaction waits with the sequence row in its hand", &mut is_held).await;
    sleeper.process.freeze().expect("SIGSTOP");
    let frozen = Instant::now();
    let peer = world.daemon(&[]).await;
    assert!(is_held().await.is_some(), "the peer started too late to find the row held");
    let job = world.push("item.restock", &ink, r#"{"quantity":1}"#).await;
    assert_eq!(told(&world.receipt(job).await), "applied");
    assert!(frozen.elapsed() < Duration::from_secs(10), "the peer waited {:?}", frozen.elapsed());
    assert!(world.history("item", &pen).await.len() == 2, "the sleeper's transaction is not committed");
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.expect("the version is free");
    sleeper.process.thaw().expect("SIGCONT");
    assert_eq!(told(&world.receipt(stuck).await), "applied", "the sleeper's job has its effect once, in a new batch");
    world.drained().await;
    assert_eq!(world.history("item", &pen).await.len(), 3);
    let verdict = audit(&world.database, None).await;
    assert_eq!(verdict, Ok(()));
    drop((sleeper, peer));
}

#[tokio::test]
async fn jobs_of_the_same_items_in_one_read_keep_the_streams_order_in_every_permutation() {
    let world = World::new().await;
    let (mut expected, mut histories) = (Vec::new(), Vec::new());
    for (n, order_of_jobs) in permutations([0, 1, 2, 3]).into_iter().enumerate() {
        let (a, b, order) = (world.id(format!("{n}a")), world.id(format!("{n}b")), world.id(format!("{n}o")));
        let money = r#""supply_price":"10","vat":"1""#;
        for item in [&a, &b] {
            let data = format!(r#"{{"name":"item",{money},"is_tax_free":false,"stock":1,"member_id":1}}"#);
            world.push("item.register", item, &data).await;
            world.push("item.allow_sale", item, "{}").await;
        }
        let lines = format!(r#"[{{"item_id":"{a}","quantity":1}},{{"item_id":"{b}","quantity":1}}]"#);
        let place = format!(r#"{{"member_id":1,"lines":{lines}}}"#);
        let (mut placed, mut cancelled, mut history) = (false, false, vec!["item.registered", "item.sale_allowed"]);
        for job in order_of_jobs {
            let (job, outcome) = match job {
                0 => {
                    placed = true;
                    history.push("item.stock_reserved");
                    (world.push("order.place", &order, &place).await, "applied")
                }
                1 => {
                    history.push("item.restocked");
                    (world.push("item.restock", &a, r#"{"quantity":1}"#).await, "applied")
                }
                _ => {
                    let outcome = match (placed, cancelled) {
                        (false, _) => "rejected: order_not_found",
                        (true, true) => "rejected: order_already_cancelled",
                        (true, false) => {
                            cancelled = true;
                            history.push("item.stock_released");
                            "applied"
                        }
                    };
                    (world.push("order.cancel", &order, r#"{"reason":"changed my mind"}"#).await, outcome)
                }
            };
            expected.push((order_of_jobs, job, outcome));
        }
        histories.push((order_of_jobs, a, history));
    }
    let _daemon = world.daemon(&[]).await;
    for (order_of_jobs, job, outcome) in expected {
        assert_eq!(told(&world.receipt(job).await), outcome, "jobs in the order {order_of_jobs:?}");
    }
    for (order_of_jobs, item, expected) in histories {
        let history: Vec<_> = world.history("item", &item).await.into_iter().map(|event| event.event_type).collect();
        assert_eq!(history, expected, "jobs in the order {order_of_jobs:?}");
    }
}

fn permutations(jobs: [u8; 4]) -> Vec<[u8; 4]> {
    let mut all = Vec::new();
    for n in 0..24 {
        let (mut rest, mut taken, mut n) = (jobs.to_vec(), Vec::new(), n);
        for left in (1..=4).rev() {
            taken.push(rest.remove(n % left));
            n /= left;
        }
        all.extend(<[u8; 4]>::try_from(taken));
    }
    all
}
