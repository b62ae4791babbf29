//! The lock against real lock nodes: redis-server processes that are frozen, killed and restarted.

use lockkeeper::lock::{
    KeyResult, NodeAddress, NodeOutcome, NodeReport, Op, Redlock, Refusal, Settings, SetupError, quorum,
};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
/// A busy machine may keep a healthy node from answering for a while; a frozen one answers never.
const NODE_TIMEOUT: Duration = Duration::from_millis(500);

/// Long enough that no key expires within a test by itself.
const SETTINGS: Settings = Settings { ttl: Duration::from_secs(30), node_timeout: NODE_TIMEOUT };

struct Server {
    port: u16,
    options: Vec<&'static str>,
    process: Child,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(options: &[&'static str]) -> Server {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address").port();
        let process = Server::spawn(port, options, &folder);
        let server = Server { port, options: options.to_vec(), process, folder };
        server.await_ready();
        server
    }

    fn spawn(port: u16, options: &[&str], folder: &tempfile::TempDir) -> Child {
        Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is on PATH")
    }

    fn await_ready(&self) {
        let end = Instant::now() + PATIENCE;
        while self.client().get_connection().is_err() {
            assert!(Instant::now() < end, "redis-server does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn restart(&mut self) {
        self.process = Server::spawn(self.port, &self.options, &self.folder);
        self.await_ready();
    }

    fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it is our child");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(status.expect("kill is on PATH").success());
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).expect("a valid URL")
    }

    fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut connection = self.client().get_connection().expect("the node runs");
        redis::cmd(command[0]).arg(&command[1..]).query(&mut connection).expect("the node obeys")
    }

    fn has(&self, key: &str) -> bool {
        self.ask(&["EXISTS", key])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Nodes(Vec<Server>);

impl Nodes {
    fn start(number: usize) -> Nodes {
        Nodes((0..number).map(|_| Server::start(&[])).collect())
    }

    fn addresses(&self) -> Vec<NodeAddress> {
        let address = |(index, server): (usize, &Server)| NodeAddress {
            name: format!("redis{}", index + 1),
            client: server.client(),
        };
        self.0.iter().enumerate().map(address).collect()
    }

    /// A Redlock that is connected to every node which runs.
    async fn redlock(&self) -> Redlock {
        let redlock = Redlock::start(self.addresses(), SETTINGS, Arc::new(|_| ())).expect("an odd number");
        let up = || redlock.nodes().iter().all(|node| node.up);
        until("all nodes are up", up).await;
        redlock
    }

    async fn until_gone(&self, key: &str) {
        until("the key is gone from every node", || !self.0.iter().any(|server| server.has(key))).await;
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn keys(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("lock:item:{name}")).collect()
}

use KeyResult::{Busy, Granted, Unavailable};

#[tokio::test]
async fn two_clients_exclude_each_other_key_by_key() {
    let nodes = Nodes::start(3);
    let (first, second) = (nodes.redlock().await, nodes.redlock().await);
    let held = first.acquire(&keys(&["a", "b"])).await;
    assert_eq!(held.results, [Granted, Granted]);
    assert!(held.lease.is_valid() && held.lease.remaining() < SETTINGS.ttl);

    let partial = second.acquire(&keys(&["c", "b", "d", "a"])).await;
    assert_eq!(partial.results, [Granted, Busy, Granted, Busy]);
    assert_eq!(partial.lease.keys(), keys(&["c", "d"]));
    assert_eq!(first.acquire(&keys(&["a", "d"])).await.results, [Busy, Busy]);

    first.release_keys(&held.lease, &keys(&["a"]));
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
    let held = redlock.acquire(&keys(&["a", "list", "b"])).await;
    assert_eq!(held.results, [Granted, Busy, Granted]);
    redlock.release_keys(&held.lease, &keys(&["list", "a", "b"]));
    redlock.settle(PATIENCE).await;
    assert!(nodes.0.iter().all(|server| server.has("lock:item:list") && !server.has("lock:item:a")));
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
async fn a_minority_down_is_no_hindrance() {
    let mut nodes = Nodes::start(3);
    let redlock = nodes.redlock().await;
    nodes.0[1].kill();
    let held = redlock.acquire(&keys(&["a", "b"])).await;
    assert_eq!(held.results, [Granted, Granted]);
    redlock.release(held.lease);
    redlock.settle(PATIENCE).await;
    assert!(!nodes.0[0].has("lock:item:a") && !nodes.0[2].has("lock:item:a"));
    until("the dead node is known", || !redlock.nodes()[1].up).await;
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
    until("the dead node is known", || !redlock.nodes()[0].up).await;
    nodes.0[0].restart();
    until("it is up again", || redlock.nodes()[0].up).await;
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
    until("all nodes are up", || redlock.nodes().iter().all(|node| node.up)).await;
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
    until("the frozen node is known", || !redlock.nodes()[2].up).await;
    nodes.0[2].signal("-CONT");
    until("it is up again", || redlock.nodes()[2].up).await;
    nodes.until_gone("lock:item:same").await;
}

#[tokio::test]
async fn nodes_frozen_from_the_start_hold_nobody_up() {
    let nodes = Nodes::start(3);
    nodes.0[0].signal("-STOP");
    let redlock = Redlock::start(nodes.addresses(), SETTINGS, Arc::new(|_| ())).expect("an odd number");
    until("two nodes are up", || redlock.nodes().iter().filter(|node| node.up).count() == 2).await;
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
    until("it is up again", || redlock.nodes()[0].up).await;
    redlock.settle(PATIENCE).await;
    let seen: String = nodes.0[0].ask(&["INFO", "commandstats"]);
    assert!(seen.contains("cmdstat_set:calls=1"), "{seen}");
    assert!(!nodes.0[0].has("lock:item:a"));
}

#[tokio::test]
async fn a_lock_that_came_too_late_is_none_and_is_removed() {
    let nodes = Nodes::start(3);
    let settings = Settings { ttl: Duration::from_secs(1), node_timeout: PATIENCE };
    let redlock = Redlock::start(nodes.addresses(), settings, Arc::new(|_| ())).expect("an odd number");
    until("all nodes are up", || redlock.nodes().iter().all(|node| node.up)).await;
    let () = nodes.0[0].ask(&["CLIENT", "PAUSE", "1200", "ALL"]);
    let () = nodes.0[1].ask(&["CLIENT", "PAUSE", "1200", "ALL"]);
    let late = redlock.acquire(&keys(&["a"])).await;
    assert!(late.elapsed > settings.ttl);
    assert_eq!(late.results, [Unavailable]);
    assert!(!late.lease.is_valid() && late.lease.remaining().is_zero());
    nodes.until_gone("lock:item:a").await;
}

#[tokio::test]
async fn a_life_of_next_to_nothing_never_locks_and_never_panics() {
    let nodes = Nodes::start(1);
    for millis in 0..3 {
        let settings = Settings { ttl: Duration::from_millis(millis), node_timeout: NODE_TIMEOUT };
        let redlock = Redlock::start(nodes.addresses(), settings, Arc::new(|_| ())).expect("an odd number");
        until("the node is up", || redlock.nodes()[0].up).await;
        let none = redlock.acquire(&keys(&["a"])).await;
        assert_eq!(none.results, [Unavailable]);
        assert!(!none.lease.is_valid());
    }
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
async fn a_node_that_cannot_write_votes_for_nothing_and_comes_back() {
    let nodes = Nodes::start(1);
    let redlock = nodes.redlock().await;
    let () = nodes.0[0].ask(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(redlock.acquire(&keys(&["a"])).await.results, [Unavailable]);
    assert!(!redlock.nodes()[0].up);
    let () = nodes.0[0].ask(&["CONFIG", "SET", "maxmemory", "0"]);
    let () = nodes.0[0].ask(&["SCRIPT", "FLUSH"]);
    assert_eq!(redlock.acquire(&keys(&["a"])).await.results, [Granted]);
    assert!(redlock.nodes()[0].up);
}

#[tokio::test]
async fn the_observer_hears_of_every_request_once() {
    let mut nodes = Nodes::start(3);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = heard.clone();
    let observer = Arc::new(move |report: NodeReport<'_>| {
        ear.lock().expect("no panic").push((report.node.to_owned(), report.op, report.outcome));
    });
    let other = nodes.redlock().await;
    let redlock = Redlock::start(nodes.addresses(), SETTINGS, observer).expect("an odd number");
    until("all nodes are up", || redlock.nodes().iter().all(|node| node.up)).await;
    nodes.0[2].kill();
    until("the dead node is known", || !redlock.nodes()[2].up).await;
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
    assert_eq!(times("redis3", Op::Acquire, NodeOutcome::Error), 2);
}

#[tokio::test]
async fn inspect_refuses_what_is_no_independent_master() {
    let mut nodes = Nodes::start(2);
    nodes.0.push(Server::start(&["--cluster-enabled", "yes"]));
    nodes.0.push(Server::start(&[]));
    nodes.0.push(Server::start(&[]));
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
