//! Daemons as child processes on throwaway servers.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::servers::{DATABASE, Process, RedisServer, Servers, ServersError, free_port};

/// How long a daemon may take to be ready; a debug build on a busy machine migrates slowly.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a daemon may take to end after SIGTERM: more than its own limit.
const DRAINED_WITHIN: Duration = Duration::from_secs(30);

/// A daemon that runs as a child of this process. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    process: Process,
    http: SocketAddr,
}

impl Daemon {
    /// Starts this program's `run` on `servers`, under a name that is unique there, with `settings` as further
    /// variables, and waits until it is ready.
    pub async fn start(servers: &Servers, name: &str, settings: &[(&str, &str)]) -> anyhow::Result<Daemon> {
        Self::of(&program()?, (servers, &servers.lock_nodes), name, settings).await
    }

    /// The same of another program, the file `program`, and with these nodes to grant the locks.
    pub async fn of(
        program: &Path,
        (servers, lock_nodes): (&Servers, &[RedisServer]),
        name: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Daemon> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match Self::launch(program, servers, lock_nodes, name, settings).await {
                Err(error) if attempts < 5 && is_port_taken(&error) => {}
                launched => return launched,
            }
        }
    }

    async fn launch(
        program: &Path,
        servers: &Servers,
        lock_nodes: &[RedisServer],
        name: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Daemon> {
        let http = SocketAddr::from(([127, 0, 0, 1], free_port().context("no port is free")?));
        let variables = environment(servers, lock_nodes, http);
        let variables = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let variables: Vec<_> = variables.chain(settings.iter().copied()).collect();
        let mut process = Process::start(servers.folder(), name, program, ["run"], &variables)?;
        process.ready(READY_WITHIN, || is_ready(http)).await?;
        Ok(Daemon { name: name.to_owned(), process, http })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id, or `None` after a kill.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Where it serves its metrics.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// What it tells on `/metrics`.
    pub async fn metrics(&self) -> io::Result<String> {
        let answer = get(self.http, "/metrics").await?;
        Ok(answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
    }

    /// Runs a command of `program` with this daemon's settings: its exit code and all it printed.
    pub async fn command(
        &self,
        program: &Path,
        servers: &Servers,
        arguments: &[&str],
    ) -> anyhow::Result<(Option<i32>, String)> {
        let mut command = tokio::process::Command::new(program);
        for name in crate::servers::own_variables() {
            command.env_remove(name);
        }
        let variables = environment(servers, &servers.lock_nodes, self.http);
        let output = command.args(arguments).envs(variables).output().await?;
        let printed = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&printed).into_owned()))
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// How it ended, with its last words, when it did so by itself.
    pub fn exit_report(&mut self) -> Option<String> {
        let status = self.process.exit_status()?;
        Some(format!("{} ended ({status}); its log ends:\n{}", self.name, self.process.last_lines()))
    }

    /// The end of its log.
    pub fn last_lines(&self) -> String {
        format!("the log of {} ends:\n{}", self.name, self.process.last_lines())
    }

    /// Asks it to drain and waits for its end. The error says how it went wrong.
    pub async fn drain(&mut self) -> Result<(), String> {
        let status = match self.process.signal("TERM") {
            Ok(()) => self.process.finished(DRAINED_WITHIN).await,
            Err(error) => Err(error),
        };
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{} ended with {status} after SIGTERM", self.name)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// This program, as a child runs it.
pub fn program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("this program's own file cannot be found")
}

/// The variables that tell a command where its servers are.
pub fn client_environment(servers: &Servers) -> Vec<(String, String)> {
    environment(servers, &servers.lock_nodes, SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// The variables that tell a daemon where its servers are.
fn environment(servers: &Servers, lock_nodes: &[RedisServer], http: SocketAddr) -> Vec<(String, String)> {
    let mut variables = vec![
        ("DATABASE_URL".to_owned(), servers.database.url(DATABASE)),
        ("REDIS_URL".to_owned(), servers.broker.url()),
        ("LOCKKEEPER_HTTP_LISTEN".to_owned(), http.to_string()),
        ("LOCKKEEPER_LOG_FORMAT".to_owned(), "text".to_owned()),
    ];
    let nodes = lock_nodes.iter().zip(1..);
    variables.extend(nodes.map(|(node, number)| (format!("REDIS_URL_{number}"), node.url())));
    variables
}

fn is_port_taken(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ServersError>().is_some_and(ServersError::is_port_taken)
}

/// Whether `/readyz` says yes.
async fn is_ready(http: SocketAddr) -> bool {
    get(http, "/readyz").await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// A whole answer, head and body.
async fn get(http: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(http).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
