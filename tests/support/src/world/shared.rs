//! Servers that all tests of a process share.

use std::sync::OnceLock;

use throwaway::servers::{Options, Servers};

/// The servers of this test run: throwaway ones, or those that the environment names.
pub(super) struct Shared {
    pub mysql: String,
    pub redis: String,
    pub lock_nodes: Vec<String>,
    /// The last thing to go: it ends with the process, which makes the servers and their folder go away.
    pub servers: Option<Servers>,
}

pub(super) fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let given = |name: &str| std::env::var(name).ok();
        if let (Some(mysql), Some(redis)) = (given("LOCKKEEPER_TEST_MYSQL_URL"), given("LOCKKEEPER_TEST_REDIS_URL")) {
            return Shared { mysql, lock_nodes: vec![redis.clone()], redis, servers: None };
        }
        // A thread of its own, since a runtime cannot be started within another.
        let start = || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            let servers = runtime.block_on(Servers::start(Options::default())).expect("the throwaway servers start");
            // The tasks that serve the servers' pipes live in it.
            std::mem::forget(runtime);
            servers
        };
        let servers = std::thread::spawn(start).join().expect("the servers' thread");
        Shared {
            mysql: servers.database.url("").trim_end_matches('/').to_owned(),
            redis: servers.broker.url(),
            lock_nodes: servers.lock_nodes.iter().map(|node| node.url()).collect(),
            servers: Some(servers),
        }
    })
}
