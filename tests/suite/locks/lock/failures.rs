//! Nodes that are down, frozen, late or full.

use super::*;
use lockkeeper::lock::{NodeOutcome, Op, Report};
use std::sync::Mutex;
use throwaway::proxy::Proxy;

#[tokio::test]
async fn a_minority_down_is_no_hindrance() {
    let mut nodes = Nodes::start(3);
    let redlock = nodes.redlock().await;
    nodes.0[1].kill();
    let held = redlock.acquire(&keys(&["a", "b"])).await;
    assert_eq!(held.results, [Granted, Granted]);
    redlock.release(held.lease);
    redlock.settle(PATIENCE).await;
    assert!(!nodes.0[0].has("lock:item:a") && !nodes.0[2].has("lock:item:a"));
    until("the dead node is known", || !redlock.nodes()[1].is_up()).await;
    assert_eq!(redlock.nodes()[1].name, "redis2");
}

#[tokio::test]
async fn a_majority_down_is_unavailable_and_leaves_nothing_behind() {
    let mut nodes = Nodes::start(3);
    let redlock = nodes.redlock().await;
    nodes.0[0].kill();
    nodes.0[1].kill();
    let refused = redlock.acquire(&keys(&["a", "b"])).await;
    assert_eq!(refused.results, [Unavailable, Unavailable]);
    assert!(!refused.lease.is_valid() && refused.lease.keys().is_empty());
    assert!(refused.elapsed < NODE_TIMEOUT * 3);
    redlock.settle(PATIENCE).await;
    assert!(!nodes.0[2].has("lock:item:a") && !nodes.0[2].has("lock:item:b"));
}

#[tokio::test]
async fn a_restarted_node_is_used_again_by_itself() {
    let mut nodes = Nodes::start(3);
    let redlock = nodes.redlock().await;
    nodes.0[0].kill();
    until("the dead node is known", || !redlock.nodes()[0].is_up()).await;
    nodes.0[0].restart();
    until("it is up again", || redlock.nodes()[0].is_up()).await;
    nodes.0[1].kill();
    assert_eq!(redlock.acquire(&keys(&["a"])).await.results, [Granted]);
    until("the restarted node has the key", || nodes.0[0].has("lock:item:a")).await;
}

#[tokio::test]
async fn a_redlock_starts_without_its_nodes_and_finds_them_later() {
    let mut nodes = Nodes::start(3);
    nodes.0.iter_mut().for_each(Server::kill);
    let redlock = Redlock::start(nodes.addresses(), SETTINGS, Arc::new(|_| ())).expect("an odd number");
    let started = Instant::now();
    assert_eq!(redlock.acquire(&keys(&["a"])).await.results, [Unavailable]);
    assert!(started.elapsed() < NODE_TIMEOUT * 3);
    nodes.0.iter_mut().for_each(Server::restart);
    until("all nodes are up", || redlock.nodes().iter().all(|node| node.is_up())).await;
    assert_eq!(redlock.acquire(&keys(&["a"])).await.results, [Granted]);
}

#[tokio::test]
async fn a_frozen_minority_costs_no_time() {
    let nodes = Nodes::start(3);
    let redlock = nodes.redlock().await;
    nodes.0[2].signal("-STOP");
    let started = Instant::now();
    for round in 0..200 {
        let held = redlock.acquire(&keys(&[&round.to_string(), "same"])).await;
        assert_eq!(held.results, [Granted, Granted]);
        assert!(held.elapsed < NODE_TIMEOUT * 3, "round {round} took {:?}", held.elapsed);
        redlock.release(held.lease);
    }
    assert!(started.elapsed() < Duration::from_secs(5), "200 rounds took {:?}", started.elapsed());
    until("the frozen node is known", || !redlock.nodes()[2].is_up()).await;
    nodes.0[2].signal("-CONT");
    until("it is up again", || redlock.nodes()[2].is_up()).await;
    nodes.until_gone("lock:item:same").await;
}

#[tokio::test]
async fn nodes_frozen_from_the_start_hold_nobody_up() {
    let nodes = Nodes::start(3);
    nodes.0[0].signal("-STOP");
    let redlock = Redlock::start(nodes.addresses(), SETTINGS, Arc::new(|_| ())).expect("an odd number");
    until("two nodes are up", || redlock.nodes().iter().filter(|node| node.is_up()).count() == 2).await;
    let started = Instant::now();
    let tasks = (0..64).map(|task| {
        let redlock = redlock.clone();
        tokio::spawn(async move { redlock.acquire(&keys(&[&task.to_string()])).await.results })
    });
    for task in tasks.collect::<Vec<_>>() {
        assert_eq!(task.await.expect("it ends"), [Granted]);
    }
    assert!(started.elapsed() < NODE_TIMEOUT * 3);
}

#[tokio::test]
async fn a_late_set_of_a_resumed_node_is_undone_by_its_release() {
    let nodes = Nodes::start(3);
    let redlock = nodes.redlock().await;
    nodes.0[0].signal("-STOP");
    nodes.0[1].signal("-STOP");
    let refused = redlock.acquire(&keys(&["a"])).await;
    assert_eq!(refused.results, [Unavailable]);
    assert!(refused.elapsed < NODE_TIMEOUT * 3);
    nodes.0[0].signal("-CONT");
    nodes.0[1].signal("-CONT");
    redlock.settle(PATIENCE).await;
    for server in &nodes.0 {
        let seen: String = server.ask(&["INFO", "commandstats"]);
        assert!(seen.contains("cmdstat_set:calls=1") && seen.contains("cmdstat_del:calls=1"), "{seen}");
        assert!(!server.has("lock:item:a"));
    }
}

#[tokio::test]
async fn a_late_set_is_undone_even_on_a_connection_that_was_given_up() {
    let nodes = Nodes::start(3);
    let redlock = nodes.redlock().await;
    nodes.0[0].signal("-STOP");
    let held = redlock.acquire(&keys(&["a"])).await;
    assert_eq!(held.results, [Granted]);
    redlock.release(held.lease);
    let started = Instant::now();
    // A node that is given up is not waited for, so settling ends as soon as the silent connection does.
    redlock.settle(PATIENCE).await;
    assert!(started.elapsed() < PATIENCE);
    nodes.0[0].signal("-CONT");
    until("it is up again", || redlock.nodes()[0].is_up()).await;
    redlock.settle(PATIENCE).await;
    let seen: String = nodes.0[0].ask(&["INFO", "commandstats"]);
    assert!(seen.contains("cmdstat_set:calls=1"), "{seen}");
    assert!(!nodes.0[0].has("lock:item:a"));
}

#[tokio::test]
async fn a_lock_that_came_too_late_is_none_and_is_removed() {
    let nodes = Nodes::start(3);
    let settings = Settings { ttl: Duration::from_secs(1), node_timeout: PATIENCE, hold_limit: PATIENCE };
    let redlock = Redlock::start(nodes.addresses(), settings, Arc::new(|_| ())).expect("an odd number");
    until("all nodes are up", || redlock.nodes().iter().all(|node| node.is_up())).await;
    let () = nodes.0[0].ask(&["CLIENT", "PAUSE", "1200", "ALL"]);
    let () = nodes.0[1].ask(&["CLIENT", "PAUSE", "1200", "ALL"]);
    let late = redlock.acquire(&keys(&["a"])).await;
    assert!(late.elapsed > settings.ttl);
    assert_eq!(late.results, [Unavailable]);
    assert!(!late.lease.is_valid() && late.lease.remaining().is_zero());
    nodes.until_gone("lock:item:a").await;
}

#[tokio::test]
async fn a_node_that_cannot_write_votes_for_nothing_and_comes_back() {
    let nodes = Nodes::start(1);
    let redlock = nodes.redlock().await;
    let () = nodes.0[0].ask(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(redlock.acquire(&keys(&["a"])).await.results, [Unavailable]);
    assert!(!redlock.nodes()[0].is_up());
    let () = nodes.0[0].ask(&["CONFIG", "SET", "maxmemory", "0"]);
    let () = nodes.0[0].ask(&["SCRIPT", "FLUSH"]);
    assert_eq!(redlock.acquire(&keys(&["a"])).await.results, [Granted]);
    assert!(redlock.nodes()[0].is_up());
}

#[tokio::test]
async fn the_observer_hears_of_every_request_once() {
    let mut nodes = Nodes::start(3);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = heard.clone();
    let observer = Arc::new(move |report: Report<'_>| {
        if let Report::Request { node, op, outcome, .. } = report {
            ear.lock().expect("no panic").push((node.to_owned(), op, outcome));
        }
    });
    let other = nodes.redlock().await;
    let redlock = Redlock::start(nodes.addresses(), SETTINGS, observer).expect("an odd number");
    until("all nodes are up", || redlock.nodes().iter().all(|node| node.is_up())).await;
    nodes.0[2].kill();
    until("the dead node is known", || !redlock.nodes()[2].is_up()).await;
    let held = other.acquire(&keys(&["taken"])).await;
    assert_eq!(redlock.acquire(&keys(&["taken"])).await.results, [Busy]);
    let own = redlock.acquire(&keys(&["free"])).await;
    redlock.release(own.lease);
    redlock.settle(PATIENCE).await;
    other.release(held.lease);

    let heard = heard.lock().expect("no panic");
    let times = |node: &str, op, outcome| heard.iter().filter(|report| **report == (node.into(), op, outcome)).count();
    for node in ["redis1", "redis2"] {
        assert_eq!(times(node, Op::Acquire, NodeOutcome::Held), 1);
        assert_eq!(times(node, Op::Acquire, NodeOutcome::Ok), 1);
        assert_eq!(times(node, Op::Release, NodeOutcome::Ok), 2);
    }
    assert_eq!(times("redis3", Op::Acquire, NodeOutcome::Skipped), 2);
}

#[tokio::test]
async fn nodes_whose_open_connections_are_silent_while_new_ones_work_grant_again_soon() {
    let nodes = Nodes::start(3);
    let (mut proxies, mut addresses) = (Vec::new(), Vec::new());
    for (server, address) in nodes.0.iter().zip(nodes.addresses()) {
        let proxy = Proxy::start(([127, 0, 0, 1], server.port).into()).await.expect("a proxy");
        let client = redis::Client::open(format!("redis://{}", proxy.address())).expect("a valid URL");
        addresses.push(NodeAddress { client, ..address });
        proxies.push(proxy);
    }
    let redlock = Redlock::start(addresses, SETTINGS, Arc::new(|_| ())).expect("an odd number");
    until("all nodes are up", || redlock.nodes().iter().all(|node| node.is_up())).await;
    for key in ["a", "b"] {
        proxies.iter().for_each(Proxy::silence_open);
        let since = Instant::now();
        let held = loop {
            let held = redlock.acquire(&keys(&[key])).await;
            if held.results == [Granted] {
                break held;
            }
            assert!(since.elapsed() < Duration::from_secs(5), "no lock is granted after {:?}", since.elapsed());
        };
        redlock.release(held.lease);
        until("all nodes are up again", || redlock.nodes().iter().all(|node| node.is_up())).await;
        assert!(since.elapsed() < Duration::from_secs(5), "all nodes are up only after {:?}", since.elapsed());
    }
}

#[tokio::test]
async fn a_node_that_became_a_replica_is_left_for_whatever_its_name_leads_to() {
    let nodes = Nodes::start(2);
    let proxy = Proxy::start(([127, 0, 0, 1], nodes.0[0].port).into()).await.expect("a proxy");
    let client = redis::Client::open(format!("redis://{}", proxy.address())).expect("a valid URL");
    let address = NodeAddress { name: "redis1".into(), client };
    let redlock = Redlock::start(vec![address], SETTINGS, Arc::new(|_| ())).expect("an odd number");
    until("it is up", || redlock.nodes()[0].is_up()).await;
    nodes.0[0].ask::<()>(&["REPLICAOF", "127.0.0.1", &nodes.0[1].port.to_string()]);
    assert_eq!(redlock.acquire(&keys(&["a"])).await.results, [Unavailable]);
    until_health(&redlock, 0, NodeHealth::Barred).await;
    proxy.lead_to(([127, 0, 0, 1], nodes.0[1].port).into());
    let since = Instant::now();
    until("it is up again", || redlock.nodes()[0].is_up()).await;
    assert_eq!(redlock.acquire(&keys(&["b"])).await.results, [Granted]);
    assert!(since.elapsed() < Duration::from_secs(5), "only after {:?}", since.elapsed());
}
