//! Who gets a key, and who does not.

use super::*;
use lockkeeper::lock::{SetupError, quorum};
use std::sync::atomic::{AtomicUsize, Ordering};

#[tokio::test]
async fn two_clients_exclude_each_other_key_by_key() {
    let nodes = Nodes::start(3);
    let (first, second) = (nodes.redlock().await, nodes.redlock().await);
    let mut held = first.acquire(&keys(&["a", "b"])).await;
    assert_eq!(held.results, [Granted, Granted]);
    assert!(held.lease.is_valid() && held.lease.remaining() < SETTINGS.ttl);

    let partial = second.acquire(&keys(&["c", "b", "d", "a"])).await;
    assert_eq!(partial.results, [Granted, Busy, Granted, Busy]);
    assert_eq!(partial.lease.keys(), keys(&["c", "d"]));
    assert_eq!(first.acquire(&keys(&["a", "d"])).await.results, [Busy, Busy]);

    first.release_keys(&mut held.lease, &keys(&["a"]));
    first.settle(PATIENCE).await;
    let freed = second.acquire(&keys(&["a", "b"])).await;
    assert_eq!(freed.results, [Granted, Busy]);
    first.release(held.lease);
    first.settle(PATIENCE).await;
    assert!(nodes.0.iter().all(|server| server.has("lock:item:a")), "the next holder's key stays");
    second.release(freed.lease);
    second.release(partial.lease);
    second.settle(PATIENCE).await;
    assert!(nodes.0.iter().all(|server| server.ask::<u64>(&["DBSIZE"]) == 0));
}

#[tokio::test]
async fn the_successor_of_a_holder_that_is_gone_has_its_keys_at_once_and_nobody_elses() {
    const GONE: &str = "0123456789abcdef";
    let nodes = Nodes::start(3);
    let (gone, stranger) = (nodes.redlock().await.named(GONE), nodes.redlock().await);
    let heir = nodes.redlock().await.named("fedcba9876543210");
    let held = gone.acquire(&keys(&["a", "b"])).await;
    let foreign = stranger.acquire(&keys(&["c"])).await;
    assert_eq!(heir.acquire(&keys(&["a"])).await.results, [Busy], "nobody has said yet that it is gone");
    heir.succeed(&format!("{GONE}-7"));
    let taken = heir.acquire(&keys(&["a", "c", "d"])).await;
    assert_eq!(taken.results, [Granted, Busy, Granted]);
    let single = heir.acquire(&keys(&["b"])).await;
    assert_eq!(single.results, [Granted], "a single key as well");
    // It lives all the same, and lets go of what is not its own any more.
    gone.release(held.lease);
    gone.settle(PATIENCE).await;
    for key in ["lock:item:a", "lock:item:b"] {
        // A node that was late to answer the heir may have had the key from the other alone.
        let left = nodes.0.iter().filter(|server| server.has(key)).count();
        assert!(left >= 2, "{key} is left on {left} of 3 nodes");
    }
    assert_eq!(gone.acquire(&keys(&["a"])).await.results, [Busy]);
    drop((foreign, taken, single));
}

#[tokio::test]
async fn the_keys_are_those_of_node_redlock() {
    let nodes = Nodes::start(1);
    let redlock = nodes.redlock().await;
    let held = redlock.acquire(&keys(&["a"])).await;
    let value: String = nodes.0[0].ask(&["GET", "lock:item:a"]);
    let left: u64 = nodes.0[0].ask(&["PTTL", "lock:item:a"]);
    assert_eq!(value.len(), 40);
    assert!(left <= SETTINGS.ttl.as_millis() as u64 && left > 0);
    drop(held.lease);
    let () = nodes.0[0].ask(&["SET", "lock:item:b", "another client", "NX", "PX", "30000"]);
    assert_eq!(redlock.acquire(&keys(&["b"])).await.results, [Busy]);
    let value: String = nodes.0[0].ask(&["GET", "lock:item:b"]);
    assert_eq!(value, "another client");
}

#[tokio::test]
async fn a_key_named_twice_is_one_key_and_no_key_is_no_question() {
    let nodes = Nodes::start(3);
    let redlock = nodes.redlock().await;
    let held = redlock.acquire(&keys(&["b", "a", "b"])).await;
    assert_eq!(held.results, [Granted, Granted, Granted]);
    assert_eq!(held.lease.keys(), keys(&["a", "b"]));
    assert_eq!(redlock.acquire(&keys(&["b", "b"])).await.results, [Busy, Busy]);
    assert!(nodes.0.iter().all(|server| server.has("lock:item:b")));
    let nothing = redlock.acquire(&[]).await;
    assert!(nothing.results.is_empty() && !nothing.lease.is_valid());
}

#[tokio::test]
async fn a_key_of_another_type_is_busy_and_the_others_are_granted() {
    let nodes = Nodes::start(3);
    for server in &nodes.0 {
        let _: u64 = server.ask(&["RPUSH", "lock:item:list", "x"]);
    }
    let redlock = nodes.redlock().await;
    let mut held = redlock.acquire(&keys(&["a", "list", "b"])).await;
    assert_eq!(held.results, [Granted, Busy, Granted]);
    redlock.release_keys(&mut held.lease, &keys(&["list", "a", "b"]));
    redlock.settle(PATIENCE).await;
    assert!(nodes.0.iter().all(|server| server.has("lock:item:list") && !server.has("lock:item:a")));
}

#[tokio::test]
async fn more_keys_than_one_command_takes_are_decided_each_by_itself() {
    let nodes = Nodes::start(1);
    let settings = Settings { node_timeout: PATIENCE, ..SETTINGS };
    let (redlock, server) = (nodes.redlock_with(settings).await, &nodes.0[0]);
    let keys: Vec<String> = (0..2_500).map(|key| format!("lock:item:{key:04}")).collect();
    for foreign in [&[][..], &[0], &[1_700], &[2_499, 5]] {
        for &key in foreign {
            let () = server.ask(&["SET", &keys[key], "theirs"]);
        }
        let held = redlock.acquire(&keys).await;
        for (key, result) in held.results.iter().enumerate() {
            let theirs = foreign.contains(&key);
            assert_eq!(*result, if theirs { Busy } else { Granted }, "key {key} of {foreign:?}");
        }
        let endless = "local n = 0
            for _, key in ipairs(redis.call('KEYS', '*')) do if redis.call('PTTL', key) < 0 then n = n + 1 end end
            return n";
        assert_eq!(server.ask::<usize>(&["EVAL", endless, "0"]), foreign.len(), "only theirs have no end");
        assert_eq!(server.ask::<usize>(&["DBSIZE"]), keys.len());
        for lost in [3, 2_000] {
            let () = server.ask(&["SET", &keys[lost], "theirs"]);
        }
        redlock.release(held.lease);
        redlock.settle(PATIENCE).await;
        assert!([3, 2_000].iter().chain(foreign).all(|key| server.has(&keys[*key])), "what is theirs stays");
        assert_eq!(server.ask::<usize>(&["DBSIZE"]), foreign.len() + 2);
        let () = server.ask(&["FLUSHALL"]);
    }
}

#[tokio::test]
async fn an_acquire_after_a_release_never_finds_the_own_key() {
    let nodes = Nodes::start(3);
    let redlock = nodes.redlock().await;
    let tasks = (0..8).map(|task| {
        let (redlock, keys) = (redlock.clone(), keys(&[&format!("{task}-x"), &format!("{task}-y")]));
        tokio::spawn(async move {
            for _ in 0..200 {
                let held = redlock.acquire(&keys).await;
                assert_eq!(held.results, [Granted, Granted]);
                redlock.release(held.lease);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("every acquire is granted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_is_inside_with_somebody_else() {
    let nodes = Nodes::start(3);
    let (inside, entered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let redlock = nodes.redlock().await;
        for _ in 0..2 {
            let (redlock, inside, entered) = (redlock.clone(), inside.clone(), entered.clone());
            tasks.push(tokio::spawn(async move {
                let end = Instant::now() + PATIENCE;
                while entered.load(Ordering::SeqCst) < 100 && Instant::now() < end {
                    let held = redlock.acquire(&keys(&["hot"])).await;
                    if held.results == [Granted] {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        tokio::task::yield_now().await;
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                        entered.fetch_add(1, Ordering::SeqCst);
                    }
                    redlock.release(held.lease);
                    tokio::time::sleep(Duration::from_micros(rand::random_range(0..2_000))).await;
                }
            }));
        }
    }
    for task in tasks {
        task.await.expect("nobody met anybody");
    }
    assert!(entered.load(Ordering::SeqCst) >= 100, "the lock makes progress");
}

#[tokio::test]
async fn an_acquire_dropped_half_way_leaves_nothing_behind() {
    let nodes = Nodes::start(3);
    let redlock = nodes.redlock().await;
    for server in &nodes.0 {
        server.signal("-STOP");
    }
    let keys = keys(&["a"]);
    assert!(tokio::time::timeout(Duration::from_millis(10), redlock.acquire(&keys)).await.is_err());
    for server in &nodes.0 {
        server.signal("-CONT");
    }
    redlock.settle(PATIENCE).await;
    assert!(nodes.0.iter().all(|server| !server.has("lock:item:a")));
    assert_eq!(redlock.acquire(&keys).await.results, [Granted]);
}

#[tokio::test]
async fn a_life_of_next_to_nothing_never_locks_and_never_panics() {
    let nodes = Nodes::start(1);
    for millis in 0..3 {
        let settings = Settings { ttl: Duration::from_millis(millis), ..SETTINGS };
        let redlock = Redlock::start(nodes.addresses(), settings, Arc::new(|_| ())).expect("an odd number");
        until("the node is up", || redlock.nodes()[0].is_up()).await;
        let none = redlock.acquire(&keys(&["a"])).await;
        assert_eq!(none.results, [Unavailable]);
        assert!(!none.lease.is_valid());
    }
}

#[tokio::test]
async fn an_even_number_of_nodes_is_refused_with_the_reason() {
    let client = redis::Client::open("redis://127.0.0.1:1").expect("a valid URL");
    let start = |number: usize| {
        let address = |index| NodeAddress { name: format!("redis{index}"), client: client.clone() };
        Redlock::start((0..number).map(address).collect(), SETTINGS, Arc::new(|_| ())).err()
    };
    assert_eq!(start(0), Some(SetupError::NoNode));
    assert_eq!(start(4), Some(SetupError::EvenNodes(4)));
    let message = SetupError::EvenNodes(4).to_string();
    assert!(message.contains("tolerates no more failures than one of 3"), "{message}");
    assert_eq!(start(3), None);
    assert_eq!(quorum::quorum(3), 2);
}
