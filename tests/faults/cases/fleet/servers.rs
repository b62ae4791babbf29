//! Servers that stall, forget or refuse under a fleet, and an owner whose dispatcher stands still.

use std::time::{Duration, Instant};

use rand::RngExt;
use throwaway::servers::RedisServer;

use super::{longest_pause, now};
use crate::load::{ITEMS, Job, send};
use crate::site::{RECOVERY, Site};
use support::eventually;

/// How long nothing may be committed when the owner's dispatcher stands still: until its beats stop, and then for the lease.
const WEDGED: Duration = Duration::from_millis(2700);

/// A database that stalls for all takes nothing from the owner.
pub async fn database_stalled(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    let before = site.epoch().await;
    for _ in 0..3 {
        site.servers.database.freeze().expect("SIGSTOP");
        tokio::time::sleep(Duration::from_secs(3)).await;
        site.servers.database.thaw().expect("SIGCONT");
        site.mended().await;
        assert_eq!(site.epoch().await, before, "the stream was taken while the database stood still");
    }
}

/// The broker is replaced by a copy that lacks the last entries, acknowledgements and signs of life; the second time also a take.
pub async fn broker_went_back(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    let mut olds: Vec<RedisServer> = Vec::new();
    for name in ["second", "third", "fourth"] {
        let successor = site.successor(name).await;
        let follows = async || (site.world.redis_do::<u64>(&["WAIT", "1", "30000"]).await >= 1).then_some(());
        eventually("the copy follows", follows).await;
        let client = redis::Client::open(successor.url()).expect("its URL");
        let mut promoted = client.get_multiplexed_async_connection().await.expect("the copy answers");
        redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec_async(&mut promoted).await.expect("it follows no more");
        site.progress().await;
        if name != "second" {
            let (owner, before) = (site.owner().await, site.epoch().await);
            site.daemons.remove(owner).process.kill();
            eventually("the other one takes it", async || (site.epoch().await > before).then_some(())).await;
            site.progress().await;
            site.daemon(&[]).await;
        }
        site.broker.kill();
        site.to_broker.lead_to(([127, 0, 0, 1], successor.port()).into());
        olds.push(std::mem::replace(&mut site.broker, successor));
        // What the copy lacks, a producer that waits for replies sends again.
        site.resend().await;
        site.mended_within(RECOVERY).await;
        site.load();
        site.progress().await;
    }
    site.stop_load().await;
}

/// Everything that the broker has is gone while a fleet runs on it, and then only who owns the stream.
pub async fn emptied(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    let (stream, owner) = (site.world.stream.clone(), format!("{}:owner", site.world.stream));
    for words in [&["DEL", &owner][..], &["FLUSHALL"], &["DEL", &stream, &owner]] {
        site.world.redis_do::<redis::Value>(words).await;
        site.mended().await;
        site.progress().await;
    }
    site.resend().await;
    site.mended().await;
}

/// Ends cannot be told to the broker, whose memory is full, and then whoever knows of them is killed.
pub async fn acknowledgements_refused(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    let holder = site.hold_sequence().await;
    site.counted("lockkeeper_jobs_in_flight", 1.0).await;
    site.world.redis_do::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    drop(holder);
    site.logged("OOM").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut owner = site.daemons.remove(0);
    owner.process.kill();
    site.world.redis_do::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    site.mended().await;
    site.stop_load().await;
    eventually("no entry is left", async || (site.world.left().await == (0, 0)).then_some(())).await;
}

/// Somebody else's lock on an aggregate outlives the owner: its jobs wait for it in their place, whoever runs them.
pub async fn foreign_lock(site: &mut Site) {
    site.under_load().await;
    site.daemon(&[]).await;
    let (item, other) = (site.world.id("held"), site.world.id("item0"));
    let data = r#"{"name":"item","supply_price":"10","vat":"1","is_tax_free":false,"stock":10,"member_id":1}"#;
    let register = Job::new("item.register", &item, data);
    site.push(std::slice::from_ref(&register)).await;
    site.done(&register).await;
    let lock = format!("lock:item:{item}");
    let mut nodes = Vec::new();
    for node in &site.servers.lock_nodes {
        let client = redis::Client::open(node.url()).expect("the node's URL");
        nodes.push(client.get_multiplexed_async_connection().await.expect("the node answers"));
    }
    for node in &mut nodes {
        let mut set = redis::cmd("SET");
        set.arg(&lock).arg("another client").arg("NX").arg("PX").arg(600_000).exec_async(node).await.expect("SET");
    }
    let restock = Job::new("item.restock", &item, r#"{"quantity":1}"#);
    site.push(std::slice::from_ref(&restock)).await;
    for _ in 0..3 {
        let (owner, before) = (site.owner().await, site.epoch().await);
        site.daemons.remove(owner).process.kill();
        eventually("the other one takes it", async || (site.epoch().await > before).then_some(())).await;
        site.daemon(&[]).await;
        let beside = Job::new("item.restock", &other, r#"{"quantity":1}"#);
        site.push(std::slice::from_ref(&beside)).await;
        site.done(&beside).await;
        let id = lockkeeper::job::JobId::from_text(&restock.id);
        let receipts = site.world.store.read(&[id], &[], &[]).await.expect("a read").receipts;
        assert!(receipts.is_empty(), "a job ran whose aggregate somebody else has locked");
    }
    for node in &mut nodes {
        let held: Option<String> = redis::cmd("GET").arg(&lock).query_async(node).await.expect("GET");
        assert_eq!(held.as_deref(), Some("another client"), "the lock was taken over from somebody who is not gone");
        redis::cmd("DEL").arg(&lock).exec_async(node).await.expect("DEL");
    }
    site.done(&restock).await;
    site.mended().await;
}

/// The owner's dispatcher stands still while the rest of the process lives: no beat says that it is there.
pub async fn wedged(site: &mut Site) {
    let bomb = site.world.id("bomb");
    let hang = format!("accept:{bomb}");
    site.under_load_with(&[("LOCKKEEPER_TEST_HANG", &hang)]).await;
    site.daemon(&[]).await;
    let (before, since) = (site.epoch().await, now(site).await);
    site.push(&[Job::new("item.restock", &bomb, r#"{"quantity":1}"#)]).await;
    eventually("the other one takes it", async || (site.epoch().await > before).then_some(())).await;
    site.progress().await;
    let pause = longest_pause(site, since).await;
    site.paused(pause, WEDGED, "the dispatcher stands still");
    site.daemons.remove(0).process.kill();
    let calm = Instant::now();
    while calm.elapsed() < Duration::from_secs(1) {
        site.progress().await;
    }
    site.mended().await;
}

/// Jobs of each producer, of which the first go to the one and the others to the other number of streams.
const OF_A_PRODUCER: usize = 300;

/// One stream becomes four and four become one, under producers that change from the old ones to the new ones one after the other.
pub async fn streams_split_and_joined(site: &mut Site) {
    // Between two streams there is no order but each producer's.
    site.is_unordered = true;
    let one = site.world.stream.clone();
    let four: Vec<String> = (0..4).map(|number| format!("{one}:{number}")).collect();
    let names = [std::slice::from_ref(&one), &four].concat().join(",");
    site.daemon(&[]).await;
    site.stock_up().await;
    for is_split in [true, false, true] {
        let first = if is_split { one.clone() } else { four.join(",") };
        let settings = [("LOCKKEEPER_STREAM_NAMES", names.as_str()), ("LOCKKEEPER_STREAM_FIRST", first.as_str())];
        while let Some(mut leaving) = site.daemons.pop() {
            assert_eq!(leaving.terminate().await, Some(0), "{}", leaving.process.last_lines());
        }
        site.daemon(&settings).await;
        site.daemon(&settings).await;
        let changes: Vec<usize> = (0..ITEMS).map(|_| site.random.random_range(50..OF_A_PRODUCER - 50)).collect();
        let producers = changes.into_iter().enumerate().map(|(number, changes)| {
            let (old, new) = if is_split { (&one, &four[number % 4]) } else { (&four[number % 4], &one) };
            produce(site, number, (old.clone(), new.clone(), changes))
        });
        futures_util::future::join_all(producers).await;
        let (owner, before) = (site.owner().await, site.epoch().await);
        site.daemons.remove(owner).process.kill();
        eventually("the other one takes it", async || (site.epoch().await > before).then_some(())).await;
        for stream in names.split(',') {
            let empty = async || (site.world.redis_do::<u64>(&["XLEN", stream]).await == 0).then_some(());
            eventually("every stream is empty", empty).await;
        }
        site.in_order().await;
    }
}

/// Restocks an item, one after the other: through the old stream at first, and from a moment on through the new one.
async fn produce(site: &Site, item: usize, (old, new, changes): (String, String, usize)) {
    let item = site.world.id(format!("item{item}"));
    for number in 0..OF_A_PRODUCER {
        let job = [Job::new("item.restock", &item, r#"{"quantity":1}"#)];
        site.pushed.add(&job);
        let stream = if number < changes { &old } else { &new };
        send(&site.client(), &site.pushed, stream, &job).await;
    }
}
