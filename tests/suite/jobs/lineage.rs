//! Jobs to which their producer gave no id: each is told from every other, and recognised when it comes again.

use redis::aio::MultiplexedConnection;
use throwaway::servers::{Folder, RedisServer};

use support::{eventually, world::World};

const GROUP: &str = "lockkeeper";

async fn connected(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("the broker's URL");
    client.get_multiplexed_async_connection().await.expect("the broker answers")
}

/// Adds a job without an id that restocks the pen, as this entry.
async fn restock(redis: &mut MultiplexedConnection, world: &World, entry: &str, quantity: u32) {
    let mut command = redis::cmd("XADD");
    command.arg(&world.stream).arg(entry).arg("type").arg("item.restock").arg("key").arg(world.id("pen"));
    command.arg("data").arg(format!(r#"{{"quantity":{quantity}}}"#));
    command.query_async::<String>(redis).await.expect("XADD");
}

async fn register(world: &World) {
    let data = r#"{"name":"pen","supply_price":"10.000","vat":"1.000","is_tax_free":false,"stock":1,"member_id":1}"#;
    assert_eq!(world.outcome("item.register", &world.id("pen"), data).await, "applied");
    assert_eq!(world.outcome("item.allow_sale", &world.id("pen"), "{}").await, "applied");
    world.drained().await;
}

#[tokio::test]
async fn two_brokers_that_give_the_same_entry_ids_to_different_jobs_lose_none() {
    let world = World::new().await;
    let folder = Folder::temporary().expect("a folder");
    let second = RedisServer::start(&folder, "second", &[]).await.expect("a second broker");
    let _first = world.daemon(&[]).await;
    let _other = world.daemon(&[("LOCKKEEPER_STREAM_URL", &second.url())]).await;
    register(&world).await;
    for number in 1..=20 {
        let entry = format!("9000000000000-{number}");
        restock(&mut world.redis.clone(), &world, &entry, 7).await;
        restock(&mut connected(&second.url()).await, &world, &entry, 7).await;
    }
    eventually("every job of both brokers has run", async || {
        (world.restocked(&world.id("pen")).await.len() == 40).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_made_again_gives_its_jobs_ids_of_their_own() {
    let world = World::new().await;
    let _daemon = world.daemon(&[]).await;
    register(&world).await;
    let mut redis = world.redis.clone();
    let keys = [":finished", ":lineage"].map(|suffix| format!("{}{suffix}", world.stream));
    let mut runs = 0;
    // Deleted alone; with all that belongs to it; and in one step with what it is made of, so that nobody sees that it was gone.
    for deleted in 0..4 {
        for number in 1..=5 {
            restock(&mut redis, &world, &format!("9000000000000-{number}"), 7).await;
        }
        runs += 5;
        eventually("each of them has run", async || {
            (world.restocked(&world.id("pen")).await.len() == runs).then_some(())
        })
        .await;
        world.drained().await;
        match deleted {
            0 => world.redis_do::<u64>(&["DEL", &world.stream]).await,
            1 => world.redis_do::<u64>(&["DEL", &world.stream, &keys[0], &keys[1]]).await,
            _ => {
                let again = "redis.call('DEL', KEYS[1]) redis.call('XGROUP', 'CREATE', KEYS[1], 'lockkeeper', '0', 'MKSTREAM') return 1";
                world.redis_do::<u64>(&["EVAL", again, "1", &world.stream]).await
            }
        };
    }
    assert_eq!(world.restocked(&world.id("pen")).await.len(), runs);
}

#[tokio::test]
async fn a_job_without_an_id_is_recognised_however_it_comes_again() {
    let mut world = World::new().await;
    let folder = Folder::temporary().expect("a folder");
    let arguments = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut broker = RedisServer::start(&folder, "own", &arguments).await.expect("a broker of its own");
    world.broker = broker.url();
    world.redis = connected(&world.broker).await;
    let daemon = world.daemon(&[]).await;
    register(&world).await;
    let mut redis = world.redis.clone();
    // Its receipt is there, and the entry stays.
    world.redis_do::<()>(&["ACL", "SETUSER", "default", "-xack"]).await;
    for number in 1..=5 {
        restock(&mut redis, &world, &format!("9000000000000-{number}"), 7).await;
    }
    eventually("all have run", async || (world.restocked(&world.id("pen")).await.len() == 5).then_some(())).await;
    drop(daemon);
    assert_eq!(world.redis_do::<u64>(&["XLEN", &world.stream]).await, 5, "nothing is acknowledged");
    // The group is gone, so that they are read anew; then the broker comes back from its file.
    world.redis_do::<u64>(&["XGROUP", "DESTROY", &world.stream, GROUP]).await;
    world.redis_do::<()>(&["ACL", "SETUSER", "default", "+xack"]).await;
    broker.kill();
    broker.restart().await.expect("the broker comes back");
    world.redis = connected(&world.broker).await;
    let _daemon = world.daemon(&[]).await;
    world.drained().await;
    assert_eq!(world.restocked(&world.id("pen")).await.len(), 5, "none has run twice");
}

#[tokio::test]
async fn jobs_in_hand_keep_their_ids_when_the_daemon_learns_to_tell_streams_apart() {
    let world = World::new().await;
    let daemon = world.daemon(&[]).await;
    register(&world).await;
    drop(daemon);
    // What an earlier version leaves behind: a receipt under the id that was made of stream and entry alone, and the entry pending.
    world.redis_do::<u64>(&["DEL", &format!("{}:lineage", world.stream)]).await;
    restock(&mut world.redis.clone(), &world, "9000000000000-1", 7).await;
    let id = lockkeeper::job::JobId::from_text(&format!("{}/9000000000000-1", world.stream));
    let insert = "INSERT INTO receipts (job_id, fingerprint, outcome, recorded_at) VALUES (?, ?, 'applied', NOW(6))";
    let entry =
        lockkeeper::stream::entries_of(world.redis_do(&["XREAD", "STREAMS", &world.stream, "0"]).await).remove(0);
    let job = lockkeeper::job::decode::<lockkeeper::testing::account::Accounts>(&entry, 1 << 20);
    assert_eq!(job.id, id);
    let query = sqlx::query(insert).bind(id.0.as_bytes().to_vec()).bind(job.fingerprint.0.to_vec());
    query.execute(&mut world.sql().await).await.expect("a receipt");
    let _daemon = world.daemon(&[]).await;
    restock(&mut world.redis.clone(), &world, "9000000000000-2", 8).await;
    world.drained().await;
    assert_eq!(world.restocked(&world.id("pen")).await, [8], "the one that had its receipt has not run again");
}

#[tokio::test]
async fn a_dead_job_with_a_useless_id_is_requeued_under_the_id_of_its_receipt() {
    let world = World::new().await;
    let _daemon = world.daemon(&[]).await;
    let long = "x".repeat(200);
    world.push_raw(&[(b"type", b"item.restock"), (b"key", b"pen"), (b"data", b"{}"), (b"id", long.as_bytes())]).await;
    let dead = format!("{}:dead", world.stream);
    let letters = async || Some(world.entries(&dead).await).filter(|letters| !letters.is_empty());
    let letter = eventually("it has a letter", letters).await.remove(0);
    let job = lockkeeper::job::JobId::from_text(&letter["job"]);
    assert_eq!(world.receipt(job).await.outcome, "dead");
    let (code, output) = support::lockkeeper(&["dead-letters", "requeue", "--all"], &world.environment()).await;
    assert_eq!(code, Some(0), "{output}");
    // It dies again, since its receipt went with the requeue; a duplicate would leave no letter.
    let again = async || {
        let letters = world.entries(&dead).await;
        letters.first().filter(|again| again["source"] != letter["source"]).map(|again| again["job"].clone())
    };
    let again = eventually("it has another letter", again).await;
    assert_ne!(again, letter["job"], "its entry is another one");
}
