//! The lock against real lock nodes: redis-server processes that are frozen, killed and restarted.

mod admission;
mod exclusion;
mod failures;
mod lease;
mod pipelines;

use lockkeeper::lock::{KeyResult, NodeAddress, NodeHealth, Redlock, Settings};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
/// A busy machine may keep a healthy node from answering for a while; a frozen one answers never.
const NODE_TIMEOUT: Duration = Duration::from_millis(500);

/// Long enough that no key expires within a test by itself.
const SETTINGS: Settings =
    Settings { ttl: Duration::from_secs(30), node_timeout: NODE_TIMEOUT, hold_limit: Duration::from_secs(300) };

/// A node that forgets nothing votes as soon as it runs.
const PERSISTENT: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];
/// A node that is started empty.
const FORGETFUL: &[&str] = &["--appendonly", "no"];

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
        // A configuration file comes before all else; a Sentinel does not start without one.
        let (file, options) =
            options.split_at(usize::from(options.first().is_some_and(|first| !first.starts_with("--"))));
        Command::new("redis-server")
            .args(file)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
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
        Nodes((0..number).map(|_| Server::start(PERSISTENT)).collect())
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
        self.redlock_with(SETTINGS).await
    }

    async fn redlock_with(&self, settings: Settings) -> Redlock {
        let redlock = Redlock::start(self.addresses(), settings, Arc::new(|_| ())).expect("an odd number");
        until("all nodes are up", || redlock.nodes().iter().all(|node| node.is_up())).await;
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

use KeyResult::{Busy, Granted, Unavailable};

fn keys(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("lock:item:{name}")).collect()
}

async fn until_health(redlock: &Redlock, node: usize, health: NodeHealth) {
    until(&format!("node {node} is {health:?}"), || redlock.nodes()[node].health == health).await;
}
