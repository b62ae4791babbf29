//! A program on servers of its own.

use std::path::{Path, PathBuf};

use throwaway::Daemon;
use throwaway::servers::{Options, Servers};

/// A domain's program as its users run it: a broker, three lock nodes and a database that nobody else has, and the daemon on
/// them. All of it is gone when this is. It needs `redis-server` and `mariadbd` or `mysqld` on the `PATH`.
///
/// It panics where it cannot do what it is asked for, as tests do.
pub struct TestDaemon {
    program: PathBuf,
    servers: Servers,
    daemon: Daemon,
}

impl TestDaemon {
    /// Starts `program`, which a test of its own package finds as `env!("CARGO_BIN_EXE_name")`, and waits until it is ready.
    pub async fn start(program: impl AsRef<Path>) -> Self {
        let program = program.as_ref().to_owned();
        let servers = Servers::start(Options::default()).await.unwrap_or_else(|error| panic!("no servers: {error}"));
        let daemon = Daemon::of(&program, (&servers, &servers.lock_nodes), "daemon", &[]).await;
        let daemon = daemon.unwrap_or_else(|error| panic!("the daemon does not start: {error:#}"));
        Self { program, servers, daemon }
    }

    /// Runs another command of the program on the same servers: its exit code, and all that it printed.
    pub async fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let ended = self.daemon.command(&self.program, &self.servers, arguments).await;
        ended.unwrap_or_else(|error| panic!("{arguments:?} cannot be run: {error:#}"))
    }

    /// Ends it as `kill -9` does, and starts it again.
    pub async fn kill_and_restart(&mut self) {
        self.daemon.kill();
        let daemon = Daemon::of(&self.program, (&self.servers, &self.servers.lock_nodes), "daemon", &[]).await;
        self.daemon = daemon.unwrap_or_else(|error| panic!("the daemon does not start again: {error:#}"));
    }

    /// Drains it; panics unless it ends in order.
    pub async fn drain(mut self) {
        self.daemon.drain().await.unwrap_or_else(|problem| panic!("{problem}; {}", self.daemon.last_lines()));
    }
}
