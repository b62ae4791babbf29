//! A throwaway Redis server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::process::Process;
use super::program::{self, free_port};
use super::{Folder, ServersError};

/// Arguments of a broker: an acknowledged XADD outlives the server, at most a second old.
pub const BROKER: &[&str] = &["--appendonly", "yes", "--appendfsync", "everysec"];

/// Arguments of a lock node: it keeps nothing, as a restart must not revive locks that have long expired.
pub const LOCK_NODE: &[&str] = &["--appendonly", "no"];

const READY_WITHIN: Duration = Duration::from_secs(30);

/// A Redis server on 127.0.0.1. Dropping it kills it.
#[derive(Debug)]
pub struct RedisServer {
    name: String,
    port: u16,
    folder: Arc<Folder>,
    extra: Vec<String>,
    process: Process,
}

impl RedisServer {
    /// Starts a server under a name that is unique in the folder, with further arguments for `redis-server`, and
    /// waits until it answers.
    pub async fn start(folder: &Arc<Folder>, name: &str, extra: &[&str]) -> Result<RedisServer, ServersError> {
        let extra: Vec<String> = extra.iter().map(|&argument| argument.to_owned()).collect();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let port = free_port().map_err(|source| ServersError::Spawn { name: name.to_owned(), source })?;
            match launch(folder, name, port, &extra).await {
                Err(error) if error.is_port_taken() && attempts < 5 => {}
                launched => {
                    let (name, folder) = (name.to_owned(), Arc::clone(folder));
                    return Ok(RedisServer { name, port, folder, extra, process: launched? });
                }
            }
        }
    }

    /// The address, without a database number: `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id, or `None` after a kill.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Kills it with SIGKILL and waits until it is gone; its data stays where it is.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, on the same port and the same data. A server that runs is killed first.
    pub async fn restart(&mut self) -> Result<(), ServersError> {
        self.kill();
        self.process = launch(&self.folder, &self.name, self.port, &self.extra).await?;
        Ok(())
    }

    /// Stops it in the middle of whatever it does (SIGSTOP): connections stay open and nothing answers.
    pub fn freeze(&self) -> Result<(), ServersError> {
        self.process.freeze()
    }

    /// Lets a frozen server go on (SIGCONT).
    pub fn thaw(&self) -> Result<(), ServersError> {
        self.process.thaw()
    }

    pub(super) fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

async fn launch(folder: &Arc<Folder>, name: &str, port: u16, extra: &[String]) -> Result<Process, ServersError> {
    let program = program::redis()?;
    let data = folder.path().join(name);
    std::fs::create_dir_all(&data).map_err(|source| ServersError::Folder { path: data.clone(), source })?;
    let socket = folder.socket(name)?;
    let arguments = arguments(port, &data, &socket).into_iter().chain(extra.iter().cloned());
    let mut process = Process::start(folder, name, &program, arguments, &[])?;
    process.ready(READY_WITHIN, || answers(socket.clone())).await?;
    Ok(process)
}

fn arguments(port: u16, data: &Path, socket: &Path) -> Vec<String> {
    let (port, data, socket) = (port.to_string(), data.display().to_string(), socket.display().to_string());
    let pairs = [
        ["--port", &port],
        ["--bind", "127.0.0.1"],
        ["--dir", &data],
        ["--unixsocket", &socket],
        ["--save", ""],
        ["--maxmemory-policy", "noeviction"],
        // Redis otherwise overwrites its command line, by which the reaper knows its processes.
        ["--set-proc-title", "no"],
    ];
    pairs.concat().into_iter().map(str::to_owned).collect()
}

/// Whether the server answers a PING on its Unix socket. The socket lies in our folder, so the answer is never that of
/// a stranger who took the port, and it is opened after the port is bound.
async fn answers(socket: PathBuf) -> bool {
    let ping = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    // A server with a password refuses the PING, and so is up; one that still loads its data says -LOADING.
    matches!(ping.await.as_ref(), Ok(b"+PONG" | b"-NOAU"))
}
