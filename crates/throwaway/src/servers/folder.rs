//! One folder with all that the servers write, and the reaper that clears it.
//!
//! A destructor does not run after `kill -9`, and `PR_SET_PDEATHSIG` needs unsafe code and Linux. So each folder has a
//! reaper: a small shell script whose standard input is a pipe that only this process holds open. However this process
//! ends, the pipe ends with it; then the reaper kills every server that has a pid file and removes the folder.
//!
//! Invariant: a server never runs without its pid file. It is launched through a shell that writes the file and then
//! looks for the file `run/open`, which the reaper removes before it reads the pid files; whoever comes second sees
//! the first.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ServersError;

const REAPER: &str = include_str!("reaper.sh");

/// How long an earlier run's reaper may take to leave a kept folder.
const PREDECESSOR_LEAVES: Duration = Duration::from_secs(5);

/// A folder for servers. The servers in it hold it; when the last one is dropped, it is cleared.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    is_kept: bool,
    reaper: Child,
}

impl Folder {
    /// A new folder that disappears with this process.
    pub fn temporary() -> Result<Arc<Folder>, ServersError> {
        let parent = std::env::temp_dir();
        let failed = |source| ServersError::Folder { path: parent.clone(), source };
        let directory = tempfile::Builder::new().prefix("lockkeeper-").tempdir().map_err(failed)?;
        let path = directory.path().canonicalize().map_err(failed)?;
        let folder = Self::open(path, false, Stdio::null()).map_err(failed)?;
        // From here on the reaper alone removes the folder, after the servers are dead.
        let _ = directory.keep();
        Ok(Arc::new(folder))
    }

    /// The folder at `path`, made when missing, whose data outlives this process. One run at a time may use it.
    pub async fn kept(path: &Path) -> Result<Arc<Folder>, ServersError> {
        let failed = |source| ServersError::Folder { path: path.to_owned(), source };
        fs::create_dir_all(path.join("run")).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let lock = File::create(path.join("run/lock")).map_err(failed)?;
        wait_for_lock(&lock, &path).await?;
        // After a crash of the machine or of a reaper, pid files or even servers of an earlier run may be left.
        let swept = reaper(&path, true, Stdio::null(), Stdio::null()).and_then(|mut sweep| sweep.wait());
        swept.map_err(failed)?;
        // The reaper's standard output carries the lock on, so that no new run begins before it has finished.
        let folder = Self::open(path.clone(), true, Stdio::from(lock)).map_err(failed)?;
        Ok(Arc::new(folder))
    }

    fn open(path: PathBuf, is_kept: bool, output: Stdio) -> io::Result<Folder> {
        fs::create_dir_all(path.join("run"))?;
        let reaper = reaper(&path, is_kept, Stdio::piped(), output)?;
        let folder = Folder { path, is_kept, reaper };
        File::create(folder.open_marker())?;
        Ok(folder)
    }

    /// Where it is: an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the data outlives this process.
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// The log of the process with this name.
    pub fn log(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.log"))
    }

    pub(super) fn pid_file(&self, name: &str) -> PathBuf {
        self.path.join("run").join(format!("{name}.pid"))
    }

    /// The file whose presence allows a server to start.
    pub(super) fn open_marker(&self) -> PathBuf {
        self.path.join("run/open")
    }

    /// The path of a server's Unix socket, refused while it can be said clearly: the servers' own messages are not.
    pub(super) fn socket(&self, name: &str) -> Result<PathBuf, ServersError> {
        let path = self.path.join("run").join(format!("{name}.sock"));
        if path.as_os_str().len() > 100 {
            return Err(ServersError::PathTooLong { path });
        }
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.reaper.stdin.take());
        if let Err(error) = self.reaper.wait() {
            tracing::warn!(%error, folder = %self.path.display(), "the folder of the servers may not be cleared");
        }
    }
}

/// Starts the reaper in a process group of its own, so that a terminal's Ctrl-C does not reach it.
fn reaper(path: &Path, is_kept: bool, input: Stdio, output: Stdio) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", REAPER, "reaper"])
        .arg(path)
        .arg(if is_kept { "keep" } else { "" })
        .current_dir("/")
        .stdin(input)
        .stdout(output)
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// Takes the lock on a kept folder, waiting for the reaper of a run that has just ended.
async fn wait_for_lock(lock: &File, path: &Path) -> Result<(), ServersError> {
    let deadline = Instant::now() + PREDECESSOR_LEAVES;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(Duration::from_millis(50)).await,
            Err(TryLockError::WouldBlock) => return Err(ServersError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => {
                return Err(ServersError::Folder { path: path.to_owned(), source });
            }
        }
    }
}
