//! How long keys are held, how they are extended, and when the holder must stop.

use super::*;
use lockkeeper::lock::{ExtendError, LockError};

fn short(ttl: u64) -> Settings {
    Settings { ttl: Duration::from_millis(ttl), ..SETTINGS }
}

#[tokio::test]
async fn an_extension_gives_every_key_another_life() {
    let nodes = Nodes::start(3);
    let redlock = nodes.redlock().await;
    let mut held = redlock.acquire(&keys(&["a", "b"])).await;
    redlock.settle(PATIENCE).await;
    for server in &nodes.0 {
        let _: u64 = server.ask(&["PEXPIRE", "lock:item:a", "15000"]);
    }
    let before = held.lease.deadline();
    redlock.extend(&mut held.lease).await.expect("every node has both keys");
    assert!(held.lease.deadline() > before);
    redlock.settle(PATIENCE).await;
    for server in &nodes.0 {
        let left: u64 = server.ask(&["PTTL", "lock:item:a"]);
        assert!(left > 15_000 && left <= 30_000, "{left} ms are left of 30,000");
        assert!(held.lease.remaining() < Duration::from_millis(left), "we trust it for less than the node keeps it");
    }
}

#[tokio::test]
async fn a_failed_extension_leaves_the_lock_and_its_deadline_as_they_were() {
    let nodes = Nodes::start(3);
    let (redlock, other) = (nodes.redlock().await, nodes.redlock().await);
    let mut held = redlock.acquire(&keys(&["a"])).await;
    redlock.settle(PATIENCE).await;
    let deadline = held.lease.deadline();
    nodes.0[0].signal("-STOP");
    nodes.0[1].signal("-STOP");
    assert_eq!(redlock.extend(&mut held.lease).await, Err(ExtendError::Unavailable));
    nodes.0[0].signal("-CONT");
    nodes.0[1].signal("-CONT");
    assert_eq!(held.lease.deadline(), deadline);
    assert!(held.lease.is_valid());
    until("all nodes are up for the other", || other.nodes().iter().all(|node| node.is_up())).await;
    assert_eq!(other.acquire(&keys(&["a"])).await.results, [Busy], "nobody else gets it before the deadline");
    until("all nodes are up", || redlock.nodes().iter().all(|node| node.is_up())).await;
    redlock.extend(&mut held.lease).await.expect("trying again helps");
    assert!(held.lease.deadline() > deadline);
}

#[tokio::test]
async fn an_extension_neither_takes_what_is_not_ours_nor_revives_what_is_gone() {
    let nodes = Nodes::start(3);
    let redlock = nodes.redlock().await;
    let mut held = redlock.acquire(&keys(&["a", "b"])).await;
    redlock.settle(PATIENCE).await;
    for server in &nodes.0[..2] {
        let () = server.ask(&["SET", "lock:item:a", "somebody else", "PX", "5000"]);
        let _: u64 = server.ask(&["DEL", "lock:item:b"]);
    }
    assert_eq!(redlock.extend(&mut held.lease).await, Err(ExtendError::Lost));
    for server in &nodes.0[..2] {
        let left: u64 = server.ask(&["PTTL", "lock:item:a"]);
        assert!(left <= 5_000 && !server.has("lock:item:b"));
    }
    redlock.release(held.lease);
    redlock.settle(PATIENCE).await;
    assert!(nodes.0[0].has("lock:item:a"), "a release leaves the other holder's key alone");
}

#[tokio::test]
async fn a_lease_that_ran_out_is_not_extended() {
    let nodes = Nodes::start(1);
    let redlock = nodes.redlock_with(short(100)).await;
    let mut held = redlock.acquire(&keys(&["a"])).await;
    until("it is over", || held.lease.remaining().is_zero()).await;
    assert_eq!(redlock.extend(&mut held.lease).await, Err(ExtendError::Expired));
    assert!(!held.lease.is_valid());
}

#[tokio::test]
async fn what_is_held_outlives_its_ttl_and_is_free_when_it_is_dropped() {
    let nodes = Nodes::start(3);
    let (redlock, other) = (nodes.redlock_with(short(1_500)).await, nodes.redlock().await);
    let held = redlock.lock("lock:item:a").await.expect("it is free");
    let first = held.deadline();
    until("it was extended twice", || held.deadline() > first + Duration::from_millis(1_000)).await;
    assert_eq!(other.lock("lock:item:a").await.err(), Some(LockError::Busy));
    assert!(!held.remaining().is_zero() && held.failure().is_none());
    drop(held);
    other.lock_within("lock:item:a", PATIENCE, Duration::from_millis(20)).await.expect("it is free").release();
}

#[tokio::test]
async fn nothing_is_held_for_longer_than_the_limit() {
    let nodes = Nodes::start(3);
    let settings = Settings { hold_limit: Duration::from_millis(1_200), ..short(1_000) };
    let (redlock, other) = (nodes.redlock_with(settings).await, nodes.redlock().await);
    let (started, held) = (Instant::now(), redlock.lock("lock:item:a").await.expect("it is free"));
    held.over().await;
    assert!(started.elapsed() >= Duration::from_millis(1_300), "it was extended at least once");
    assert!(started.elapsed() < PATIENCE && held.remaining().is_zero());
    until("the limit is named", || held.failure() == Some(ExtendError::HeldTooLong)).await;
    other
        .lock_within("lock:item:a", PATIENCE, Duration::from_millis(20))
        .await
        .expect("its ttl has freed it")
        .release();
}

#[tokio::test]
async fn the_work_is_told_to_stop_whatever_the_network_does() {
    let nodes = Nodes::start(3);
    let redlock = nodes.redlock_with(short(1_000)).await;
    let held = redlock.lock("lock:item:a").await.expect("it is free");
    let deadline = held.deadline();
    nodes.0.iter().for_each(|server| server.signal("-STOP"));
    held.over().await;
    assert!(Instant::now() >= deadline && held.deadline() == deadline);
    nodes.0.iter().for_each(|server| server.signal("-CONT"));
}

#[tokio::test]
async fn one_key_is_had_when_it_is_free_and_the_error_says_why_not() {
    let mut nodes = Nodes::start(3);
    let (redlock, other) = (nodes.redlock().await, nodes.redlock().await);
    let held = redlock.lock("lock:item:a").await.expect("it is free");
    let (patience, delay) = (Duration::from_millis(50), Duration::from_millis(10));
    assert_eq!(other.lock_within("lock:item:a", patience, delay).await.err(), Some(LockError::Busy));
    let waiting = {
        let other = other.clone();
        tokio::spawn(async move { other.lock_within("lock:item:a", PATIENCE, delay).await.is_ok() })
    };
    held.release();
    assert!(waiting.await.expect("it ends"), "who waits gets it when it is free");
    nodes.0[0].kill();
    nodes.0[1].kill();
    assert_eq!(other.lock("lock:item:b").await.err(), Some(LockError::Unavailable));
    assert_eq!(
        other.lock_within("lock:item:b", Duration::ZERO, Duration::ZERO).await.err(),
        Some(LockError::Unavailable)
    );
}
