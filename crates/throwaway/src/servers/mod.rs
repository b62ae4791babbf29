//! Throwaway servers for `dev`, `demo` and the tests: one broker, some lock nodes and a database, started from the
//! binaries on the PATH, on free ports of 127.0.0.1, with everything they write in one folder.
//!
//! They leave nothing behind, however this process ends, `kill -9` included: each [`Folder`] has a reaper.

mod database;
mod folder;
mod process;
mod program;
mod redis;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};

pub use self::database::{DATABASE, DatabaseServer};
pub use self::folder::Folder;
pub use self::process::Process;
pub use self::process::own_variables;
pub use self::program::free_port;
pub use self::redis::{BROKER, LOCK_NODE, RedisServer};

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many independent Redis servers to start for locks.
    pub lock_nodes: usize,
    /// Keep the data in this folder, and go on with what an earlier start left there. `None`: a temporary folder.
    pub keep: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { lock_nodes: 3, keep: None }
    }
}

/// The servers of one development run. Dropping them kills them and removes what they wrote, unless it is to be kept.
#[derive(Debug)]
pub struct Servers {
    /// The Redis server that carries the streams.
    pub broker: RedisServer,
    /// The Redis servers that grant locks, independent of each other.
    pub lock_nodes: Vec<RedisServer>,
    /// The MariaDB or MySQL server.
    pub database: DatabaseServer,
    folder: Arc<Folder>,
}

impl Servers {
    /// Starts all servers at once and returns when each of them answers.
    pub async fn start(options: Options) -> Result<Servers, ServersError> {
        program::require_all()?;
        let folder = match &options.keep {
            Some(path) => Folder::kept(path).await?,
            None => Folder::temporary()?,
        };
        let lock_names: Vec<String> = (1..=options.lock_nodes).map(|n| format!("lock-{n}")).collect();
        let lock_nodes = lock_names.iter().map(|name| RedisServer::start(&folder, name, LOCK_NODE));
        let (broker, lock_nodes, database) = tokio::try_join!(
            RedisServer::start(&folder, "broker", BROKER),
            try_join_all(lock_nodes),
            DatabaseServer::start(&folder, "database"),
        )?;
        Ok(Servers { broker, lock_nodes, database, folder })
    }

    /// The folder with the servers' data and logs; other processes of the same run may be started in it.
    pub fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// The directory behind [`Servers::folder`].
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Stops all servers and returns when they are gone. Data that is kept is shut down in good order first.
    pub async fn stop(mut self) {
        if self.folder.is_kept() {
            let nodes = self.lock_nodes.iter_mut().chain([&mut self.broker]).map(|node| node.process_mut().terminate());
            tokio::join!(join_all(nodes), self.database.process_mut().terminate());
        }
        // Dropping waits for processes and removes many files, which would hold up the other tasks of this thread.
        if let Err(error) = tokio::task::spawn_blocking(move || drop(self)).await {
            tracing::warn!(%error, "the servers were not stopped in good order");
        }
    }
}

/// Why throwaway servers could not be started or told something.
#[derive(Debug, thiserror::Error)]
pub enum ServersError {
    /// Programs that nobody has installed.
    #[error(
        "not found on the PATH: {}; on Debian: apt-get install redis-server mariadb-server",
        programs.join(", ")
    )]
    Missing {
        /// What was looked for.
        programs: Vec<String>,
    },
    /// The folder cannot be made or used.
    #[error("the folder {} for the servers cannot be used", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another run has its servers in this folder.
    #[error("the folder {} is in use by another run", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Unix sockets have short names, and the servers' sockets are in the folder.
    #[error("the path {} is too long for a server's socket (at most 100 bytes)", path.display())]
    PathTooLong {
        /// The socket's path.
        path: PathBuf,
    },
    /// The system did not start a process, or did not take a signal for it.
    #[error("{name} cannot be run")]
    Spawn {
        /// Which of the servers.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A server ended before it answered.
    #[error("{name} did not start ({status}); its log ends:\n{log}")]
    Exited {
        /// Which of the servers.
        name: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// A server did not answer in time.
    #[error("{name} did not answer within {seconds} s; its log ends:\n{log}")]
    NotReady {
        /// Which of the servers.
        name: String,
        /// How long it was waited for.
        seconds: u64,
        /// The last lines of its log.
        log: String,
    },
}
