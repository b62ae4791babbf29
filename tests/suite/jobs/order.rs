//! The jobs of a stream come to what they come to one by one, in stream order: every receipt, every event.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::eventually;
use support::journal::{Fields, Journal};
use support::world::World;

const ITEMS: u32 = 20;
const JOBS: usize = 4_000;

fn job(job_type: &str, key: &str, data: String) -> Fields {
    let id = uuid::Uuid::now_v7().to_string();
    vec![("type", job_type.to_owned()), ("key", key.to_owned()), ("data", data), ("id", id)]
}

/// Jobs of every type about few items and orders, so that most of them decide on what the ones just before have done.
fn jobs(world: &World, random: &mut StdRng) -> Vec<Fields> {
    let item = |number: u32| world.id(format!("i{number}"));
    let register = |number: u32| {
        let data = r#"{"name":"x","supply_price":"1","vat":"0","is_tax_free":false,"stock":9,"member_id":1}"#;
        job("item.register", &item(number), data.to_owned())
    };
    let mut jobs: Vec<Fields> = Vec::new();
    for number in 0..ITEMS {
        jobs.extend([register(number), job("item.allow_sale", &item(number), "{}".to_owned())]);
    }
    for place in 0..JOBS {
        let (one, other) = (random.random_range(0..ITEMS), random.random_range(0..ITEMS - 1));
        let other = if other >= one { other + 1 } else { other };
        let order = |place: usize| world.id(format!("o{place}"));
        jobs.push(match random.random_range(0..10) {
            0 => job("item.deny_sale", &item(one), "{}".to_owned()),
            1 | 2 => job("item.allow_sale", &item(one), "{}".to_owned()),
            3 => job("item.restock", &item(one), format!(r#"{{"quantity":{}}}"#, random.random_range(0..4))),
            4 => job("item.reprice", &item(one), r#"{"supply_price":"2.5","vat":"0.1"}"#.to_owned()),
            5 | 6 => {
                let earlier = order(random.random_range(0..=place));
                job("order.cancel", &earlier, r#"{"reason":"r"}"#.to_owned())
            }
            _ => {
                let line = |number: u32| format!(r#"{{"item_id":"{}","quantity":{}}}"#, item(number), 1 + number % 3);
                let lines = format!(r#"{{"member_id":1,"lines":[{},{}]}}"#, line(one), line(other));
                job("order.place", &order(place), lines)
            }
        });
    }
    jobs
}

#[tokio::test]
async fn one_daemon_keeps_the_order_of_its_stream() {
    assert_eq!(serial_run(1).await, Ok(()), "the serial run:\n");
}

#[tokio::test]
async fn two_daemons_keep_the_order_of_their_stream() {
    assert_eq!(serial_run(2).await, Ok(()), "the serial run:\n");
}

#[tokio::test]
async fn a_daemon_that_is_killed_ten_times_under_load_keeps_the_order_of_its_stream() {
    let world = World::new().await;
    let mut journal = Journal::default();
    let jobs = jobs(&world, &mut StdRng::seed_from_u64(18));
    let soon = [("LOCKKEEPER_FLEET_LEASE_MS", "300"), ("LOCKKEEPER_FLEET_LOOK_MS", "50")];
    for jobs in jobs.chunks(JOBS / 10) {
        let before = world.store.sequence().await.expect("the database answers");
        let mut daemon = world.daemon(&soon).await;
        journal.push(&mut world.redis.clone(), &world.stream, jobs).await;
        eventually("it is at work", async || {
            (world.store.sequence().await.expect("the database answers") > before).then_some(())
        })
        .await;
        daemon.process.kill();
    }
    let _last = world.daemon(&soon).await;
    world.drained().await;
    assert_eq!(journal.audit(&world.database).await, Ok(()), "the serial run:\n");
}

/// Runs jobs on so many daemons, and holds what they came to against the serial run.
async fn serial_run(daemons: usize) -> Result<(), String> {
    let world = World::new().await;
    let mut journal = Journal::default();
    let jobs = jobs(&world, &mut StdRng::seed_from_u64(17));
    let (first, rest) = jobs.split_at(JOBS / 4);
    journal.push(&mut world.redis.clone(), &world.stream, first).await;
    let mut running = Vec::new();
    for _ in 0..daemons {
        running.push(world.daemon(&[]).await);
    }
    journal.push(&mut world.redis.clone(), &world.stream, rest).await;
    world.drained().await;
    journal.audit(&world.database).await
}
