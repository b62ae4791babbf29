//! What may vote: at the start, and at every reconnect.

use super::*;
use lockkeeper::lock::{NodeFinding, Refusal, Report};
use std::sync::atomic::{AtomicUsize, Ordering};

#[tokio::test]
async fn inspect_refuses_what_is_no_independent_master() {
    let mut nodes = Nodes::start(2);
    nodes.0.push(Server::start(&["--cluster-enabled", "yes"]));
    nodes.0.push(Server::start(PERSISTENT));
    nodes.0.push(Server::start(PERSISTENT));
    let () = nodes.0[3].ask(&["REPLICAOF", "127.0.0.1", &nodes.0[0].port.to_string()]);
    nodes.0[4].kill();
    let redlock = Redlock::start(nodes.addresses(), SETTINGS, Arc::new(|_| ())).expect("an odd number");
    let findings = redlock.inspect().await;
    assert_eq!(findings[0].result, Ok(()));
    assert_eq!(findings[1].result, Ok(()));
    assert_eq!(findings[2].result, Err(Refusal::Cluster));
    assert_eq!(findings[3].result, Err(Refusal::Replica));
    assert!(matches!(findings[4].result, Err(Refusal::Unreachable(_))));
    let messages = findings.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(messages[2].contains("redis3") && messages[2].contains("Redis Cluster"), "{}", messages[2]);
    assert!(messages[4].contains("redis5") && messages[4].contains("refused"), "{}", messages[4]);
    assert!(messages.iter().all(|message| !message.contains("redis://")));
}

#[tokio::test]
async fn a_frozen_node_is_unreachable_within_a_second_or_two() {
    let nodes = Nodes::start(1);
    let redlock = nodes.redlock().await;
    nodes.0[0].signal("-STOP");
    let started = Instant::now();
    assert!(matches!(redlock.inspect().await[0].result, Err(Refusal::Unreachable(_))));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn inspect_refuses_an_evicting_server_a_sentinel_and_one_that_says_nothing() {
    let mut nodes = Nodes::start(1);
    nodes.0.push(Server::start(&["--maxmemory-policy", "allkeys-lru"]));
    let sentinel = tempfile::NamedTempFile::new().expect("a file");
    let sentinel = Server::start(&[sentinel.path().to_string_lossy().into_owned().leak(), "--sentinel"]);
    nodes.0.push(sentinel);
    let () = nodes.0[0].ask(&["ACL", "SETUSER", "default", "-info"]);
    let redlock = Redlock::start(nodes.addresses(), SETTINGS, Arc::new(|_| ())).expect("an odd number");
    let findings = redlock.inspect().await;
    let messages = findings.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(matches!(findings[0].result, Err(Refusal::Unknown(_))) && messages[0].contains("+info"), "{}", messages[0]);
    assert_eq!(findings[1].result, Err(Refusal::Evicting("allkeys-lru".into())));
    assert!(messages[1].contains("redis2") && messages[1].contains("noeviction"), "{}", messages[1]);
    assert_eq!(findings[2].result, Err(Refusal::Sentinel));
    for (node, word) in ["INFO", "allkeys-lru", "Sentinel"].into_iter().enumerate() {
        until_health(&redlock, node, NodeHealth::Barred).await;
        assert!(redlock.nodes()[node].why.contains(word), "{:?}", redlock.nodes()[node]);
    }
    assert_eq!(redlock.acquire(&keys(&["a"])).await.results, [Unavailable], "none of them has a vote");
}

#[tokio::test]
async fn one_server_behind_several_names_has_one_vote() {
    let nodes = Nodes::start(2);
    let url = |server: &Server, database: u8| format!("redis://localhost:{}/{database}", server.port);
    let mut addresses = nodes.addresses();
    let client = redis::Client::open(url(&nodes.0[0], 1)).expect("a valid URL");
    addresses.push(NodeAddress { name: "redis3".into(), client });
    let redlock = Redlock::start(addresses, SETTINGS, Arc::new(|_| ())).expect("an odd number");
    let findings = redlock.inspect().await;
    let result = |finding: &NodeFinding| finding.result.clone();
    assert_eq!(
        findings.iter().map(result).collect::<Vec<_>>(),
        [Ok(()), Ok(()), Err(Refusal::SameServer("redis1".into()))]
    );
    until("two nodes are up and one is barred", || {
        let count = |health| redlock.nodes().iter().filter(|node| node.health == health).count();
        count(NodeHealth::Up) == 2 && count(NodeHealth::Barred) == 1
    })
    .await;
    nodes.0[1].signal("-STOP");
    assert_eq!(redlock.acquire(&keys(&["a"])).await.results, [Unavailable], "one server is no majority of three");
}

#[tokio::test]
async fn a_node_that_forgets_does_not_vote_for_a_ttl_after_its_restart() {
    let mut nodes = Nodes(vec![Server::start(FORGETFUL), Server::start(PERSISTENT), Server::start(PERSISTENT)]);
    let restarts = Arc::new(AtomicUsize::new(0));
    let counter = restarts.clone();
    let observer = Arc::new(move |report: Report<'_>| {
        if matches!(report, Report::Restarted { node: "redis1" }) {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let settings = Settings { ttl: Duration::from_secs(3), ..SETTINGS };
    let redlock = Redlock::start(nodes.addresses(), settings, observer).expect("an odd number");
    until("all nodes are up", || redlock.nodes().iter().all(|node| node.is_up())).await;
    let held = redlock.lock("lock:item:a").await.expect("it is free");
    until("the node has the key", || nodes.0[0].has("lock:item:a")).await;

    nodes.0[0].kill();
    nodes.0[0].restart();
    let restarted = Instant::now();
    until_health(&redlock, 0, NodeHealth::Quarantined).await;
    assert_eq!(restarts.load(Ordering::SeqCst), 1);
    assert!(redlock.nodes()[0].why.contains("forgotten"), "{:?}", redlock.nodes()[0]);
    // The restarted node would grant the key to anyone; with the other two it must not come to a majority.
    nodes.0[1].signal("-STOP");
    assert_eq!(redlock.acquire(&keys(&["b"])).await.results, [Unavailable]);
    nodes.0[1].signal("-CONT");
    until("it votes again", || redlock.nodes()[0].is_up()).await;
    assert!(restarted.elapsed() >= Duration::from_secs(2), "it voted after {:?}", restarted.elapsed());
    drop(held);
}

#[tokio::test]
async fn a_node_that_forgets_nothing_votes_at_once_after_its_restart() {
    let mut nodes = Nodes::start(3);
    let redlock = nodes.redlock().await;
    let held = redlock.acquire(&keys(&["a", "b"])).await;
    until("the node has the keys", || nodes.0[0].has("lock:item:b")).await;
    nodes.0[0].kill();
    until_health(&redlock, 0, NodeHealth::Down).await;
    nodes.0[0].restart();
    until("it is up, long before its ttl has passed", || redlock.nodes()[0].is_up()).await;
    for key in keys(&["a", "b"]) {
        let left: i64 = nodes.0[0].ask(&["PTTL", &key]);
        assert!(left > 0 && left < SETTINGS.ttl.as_millis() as i64, "{key} has {left} ms left");
    }
    redlock.release(held.lease);
}

#[tokio::test]
async fn a_node_that_comes_back_as_something_else_is_barred_until_it_is_mended() {
    let mut nodes = Nodes::start(3);
    let redlock = nodes.redlock().await;
    nodes.0[2].kill();
    until_health(&redlock, 2, NodeHealth::Down).await;
    nodes.0[2].restart();
    let () = nodes.0[2].ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]);
    let _: u64 = nodes.0[2].ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    until_health(&redlock, 2, NodeHealth::Barred).await;
    assert!(redlock.nodes()[2].why.contains("allkeys-random"), "{:?}", redlock.nodes()[2]);
    assert_eq!(redlock.acquire(&keys(&["a"])).await.results, [Granted], "the others go on");
    let () = nodes.0[2].ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    until_health(&redlock, 2, NodeHealth::Up).await;
}

/// What the documentation gives to an account for lock nodes.
const RIGHTS: &[&str] = &[
    "-@all",
    "+ping",
    "+info",
    "+config|get",
    "+set",
    "+copy",
    "+get",
    "+mget",
    "+del",
    "+pexpire",
    "+eval",
    "~lock:*",
];

/// A Redlock that asks one node under an account with these rights.
async fn with_rights(nodes: &Nodes, rights: &[&str]) -> Redlock {
    let () = nodes.0[0].ask(&[&["ACL", "SETUSER", "locker", "reset", "on", ">secret"], rights].concat());
    let client = redis::Client::open(format!("redis://locker:secret@127.0.0.1:{}", nodes.0[0].port)).expect("a URL");
    let node = NodeAddress { name: "redis1".into(), client };
    let redlock = Redlock::start(vec![node], SETTINGS, Arc::new(|_| ())).expect("one node");
    until_health(&redlock, 0, NodeHealth::Up).await;
    redlock
}

/// Whether the node has refused somebody to copy a key.
fn has_refused_copies(node: &Server) -> bool {
    format!("{:?}", node.ask::<redis::Value>(&["ACL", "LOG"])).contains("\"copy\"")
}

#[tokio::test]
async fn an_account_with_no_more_rights_than_these_locks_extends_and_releases() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/locks.md")).expect("the documentation");
    assert!(text.contains(&RIGHTS.join(" ")), "the documentation names other rights than are tested");
    let nodes = Nodes::start(1);
    let redlock = with_rights(&nodes, RIGHTS).await;
    for names in [&["a"][..], &["a", "b"]] {
        let mut held = redlock.acquire(&keys(names)).await;
        assert!(held.results.iter().all(|result| *result == Granted), "{:?}: {:?}", held.results, redlock.nodes());
        redlock.extend(&mut held.lease).await.expect("it may extend");
        redlock.release(held.lease);
        nodes.until_gone("lock:item:a").await;
    }
    assert!(!has_refused_copies(&nodes.0[0]));
}

#[tokio::test]
async fn an_account_without_the_right_to_copy_sets_each_key_and_leaves_none_without_an_end() {
    let nodes = Nodes::start(1);
    let rights: Vec<&str> = RIGHTS.iter().copied().filter(|right| *right != "+copy").collect();
    let redlock = with_rights(&nodes, &rights).await;
    let () = nodes.0[0].ask(&["SET", "lock:item:c", "theirs"]);
    let held = redlock.acquire(&keys(&["a", "b", "c", "d"])).await;
    assert_eq!(held.results, [Granted, Granted, Busy, Granted], "{:?}", redlock.nodes());
    for key in keys(&["a", "b", "d"]) {
        assert!(nodes.0[0].ask::<i64>(&["PTTL", &key]) > 0);
    }
    assert!(has_refused_copies(&nodes.0[0]));
    redlock.release(held.lease);
    nodes.until_gone("lock:item:a").await;
}
