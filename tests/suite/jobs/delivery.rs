//! One effect per job, whatever happens to its deliveries.

use support::hold::{give_lock, hold_sequence, release, restock, take_lock};
use support::{eventually, world::World};

#[tokio::test]
async fn a_job_sent_a_hundred_times_by_two_producers_has_one_effect() {
    let world = World::new().await;
    let pen = world.id("pen");
    let (first, second) = (world.daemon(&[]).await, world.daemon(&[]).await);
    world.item_on_sale(&pen, 0).await;
    let (id, reply) = (world.id("job"), format!("reply:{}", world.prefix));
    let send = async || {
        for _ in 0..50 {
            world.push_with("item.restock", &pen, r#"{"quantity":3}"#, &[("id", &id), ("reply", &reply)]).await;
        }
    };
    tokio::join!(send(), send());
    world.drained().await;
    let replies = eventually("a reply for every delivery", async || {
        Some(world.entries(&reply).await).filter(|replies| replies.len() >= 100)
    })
    .await;
    assert!(replies.iter().all(|reply| *reply == replies[0]), "every reply repeats the first outcome: {replies:?}");
    assert_eq!(replies[0]["outcome"], "applied");
    assert_eq!(world.history("item", &pen).await.len(), 3, "registered, on sale, restocked once");
    drop((first, second));
}

#[tokio::test]
async fn several_streams_are_read_through_a_small_hand_and_none_is_read_twice() {
    let world = World::new().await;
    let other = format!("{}:more", world.stream);
    let names = format!("{},{other}", world.stream);
    let small = [
        ("LOCKKEEPER_STREAM_NAMES", names.as_str()),
        ("LOCKKEEPER_STREAM_PREFETCH", "10"),
        ("LOCKKEEPER_STREAM_READ_COUNT", "10"),
        ("LOCKKEEPER_BATCH_MAX_JOBS", "10"),
    ];
    let (pen, ink) = (world.id("pen"), world.id("ink"));
    let daemon = world.daemon(&small).await;
    // A read that a take interrupts is made again, from the head.
    eventually("the daemon owns both streams", async || {
        (daemon.get("/readyz").await?.1.matches("owns jobs").count() == 2).then_some(())
    })
    .await;
    world.item_on_sale(&pen, 0).await;
    world.item_on_sale(&ink, 0).await;
    // The take shows before the read that it interrupts has ended, so one of these may have been read twice.
    let claimed = async |stream: &str| {
        daemon.metric(&format!(r#"lockkeeper_jobs_fetched_total{{queue="{stream}",source="claimed"}}"#)).await
    };
    let before = [claimed(&world.stream).await, claimed(&other).await];
    let mut pipeline = redis::pipe();
    for _ in 0..100 {
        for (stream, key) in [(&world.stream, &pen), (&other, &ink)] {
            let command = pipeline.cmd("XADD").arg(stream).arg("*").arg("type").arg("item.restock");
            command.arg("key").arg(key).arg("data").arg(r#"{"quantity":1}"#).ignore();
        }
    }
    pipeline.query_async::<()>(&mut world.redis.clone()).await.expect("the jobs are pushed");
    for key in [&pen, &ink] {
        eventually("every job of both streams has run", async || {
            (world.history("item", key).await.len() == 102).then_some(())
        })
        .await;
    }
    let after = [claimed(&world.stream).await, claimed(&other).await];
    assert!(after[0].is_some() && after == before, "an entry was read and then forgotten: {before:?}, {after:?}");
}

#[tokio::test]
async fn a_job_that_waits_for_a_foreign_lock_lets_the_others_go_on() {
    let world = World::new().await;
    let (held, free) = (world.id("held"), world.id("free"));
    let _daemon = world.daemon(&[]).await;
    world.item_on_sale(&held, 0).await;
    world.item_on_sale(&free, 0).await;
    let key = format!("lock:item:{held}");
    take_lock(&world, &key).await;
    let waits = world.push("item.restock", &held, r#"{"quantity":1}"#).await;
    let goes = world.push("item.restock", &free, r#"{"quantity":1}"#).await;
    assert_eq!(world.receipt(goes).await.outcome, "applied");
    assert!(world.store.read(&[waits], &[], &[]).await.expect("a read").receipts.is_empty(), "the lock is respected");
    let length: u64 = redis::cmd("XLEN").arg(&world.stream).query_async(&mut world.redis.clone()).await.expect("XLEN");
    assert!(length >= 1, "a job that waits stays in the stream, so that a peer finds it when this daemon is killed");
    give_lock(&world, &key).await;
    assert_eq!(world.receipt(waits).await.outcome, "applied");
}

/// What a dashboard sees of the stream at one moment: its length, the group's lag, and how many entries are pending. The broker tells no
/// lag while the last entry that was delivered is finished and an older one is not (it takes that one for a hole among the unread ones);
/// then the lag is what there is besides, and in no other case.
async fn figures(world: &World) -> (i64, i64, i64) {
    let look = "local group, stream = {}, {} \
        for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do \
            for i = 1, #info, 2 do group[info[i]] = info[i + 1] end end \
        local info = redis.call('XINFO', 'STREAM', KEYS[1]) \
        for i = 1, #info, 2 do stream[info[i]] = info[i + 1] end \
        local is_hidden = stream['max-deleted-entry-id'] == group['last-delivered-id'] and group.pending > 0 \
        local rest = is_hidden and stream.length - group.pending or -1 \
        return {stream.length, group.lag or rest, group.pending}";
    world.redis_do(&["EVAL", look, "1", &world.stream]).await
}

#[tokio::test]
async fn lag_and_pending_of_the_group_add_up_to_the_length_of_the_stream_whoever_owns_it() {
    let world = World::new().await;
    let pen = world.id("pen");
    let small = [
        ("LOCKKEEPER_STREAM_PREFETCH", "64"),
        ("LOCKKEEPER_BATCH_MAX_JOBS", "64"),
        ("LOCKKEEPER_FLEET_LEASE_MS", "400"),
    ];
    let mut owner = world.daemon(&small).await;
    let _other = world.daemon(&small).await;
    world.item_on_sale(&pen, 0).await;
    let holder = hold_sequence(&world).await;
    restock(&world, &pen, 500).await;
    let adds_up = async |what: &str| {
        let (length, lag, pending) = figures(&world).await;
        assert_eq!(length, lag + pending, "{what}: {lag} unread and {pending} pending of {length}");
        (length, pending)
    };
    eventually("the owner has its hand full", async || {
        let (length, pending) = adds_up("while it reads").await;
        (length == 500 && pending >= 64).then_some(())
    })
    .await;
    owner.process.kill();
    let epoch = async || world.redis_do::<u64>(&["HGET", &format!("{}:owner", world.stream), "epoch"]).await;
    eventually("the other one has taken over", async || {
        adds_up("while nobody reads").await;
        (epoch().await == 2).then_some(())
    })
    .await;
    release(holder).await;
    eventually("all are done", async || (adds_up("while they are done").await == (0, 0)).then_some(())).await;
}
