//! One process of a run: started in the folder, known to the reaper, killed when dropped.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Folder, ServersError};

/// Writes the pid file and becomes the server, unless the reaper is already at work (see [`super::folder`]).
const LAUNCHER: &str = r#"echo $$ >"$1" && [ -e "$2" ] && shift 2 && exec "$@""#;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// How long a server that keeps its data may take to shut down before it is killed.
const SHUTDOWN: Duration = Duration::from_secs(20);

/// A process that runs in a [`Folder`]. It leads its own process group, so that a terminal's Ctrl-C does not reach it.
#[derive(Debug)]
pub struct Process {
    name: String,
    folder: Arc<Folder>,
    child: Option<Child>,
    /// Where in the log the words of this start begin: a kept log also has those of earlier ones.
    log_start: u64,
}

impl Process {
    /// Starts `program` under a name that is unique in the folder, with the folder as its working directory. Its
    /// output goes to the file `NAME.log` there. Of `lockkeeper`'s own variables it gets those in `environment` only.
    pub fn start(
        folder: &Arc<Folder>,
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
        environment: &[(&str, &str)],
    ) -> Result<Process, ServersError> {
        let failed = |source| ServersError::Spawn { name: name.to_owned(), source };
        let log = File::options().append(true).create(true).open(folder.log(name)).map_err(failed)?;
        let log_start = log.metadata().map_err(failed)?.len();
        let mut command = Command::new("sh");
        own_variables().for_each(|variable| {
            command.env_remove(variable);
        });
        let child = command
            .args(["-c", LAUNCHER, "launcher"])
            .args([folder.pid_file(name), folder.open_marker()])
            .arg(program)
            .args(arguments.into_iter().map(Into::into))
            .envs(environment.iter().copied())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Ok(Process { name: name.to_owned(), folder: Arc::clone(folder), child: Some(child), log_start })
    }

    /// The process id, or `None` after a kill.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How the process ended, or `None` while it runs or when it was killed by [`Process::kill`].
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Kills it with SIGKILL, its process group with it, and waits until it is gone.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Until it is waited for, its id cannot be given to another process.
        if matches!(child.try_wait(), Ok(None)) {
            if let Err(error) = signal("KILL", &format!("-{}", child.id())) {
                tracing::debug!(%error, name = self.name, "the process group was not killed");
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_file(self.folder.pid_file(&self.name));
    }

    /// Stops it in the middle of whatever it does (SIGSTOP), until [`Process::thaw`].
    pub fn freeze(&self) -> Result<(), ServersError> {
        self.signal("STOP")
    }

    /// Lets a frozen process go on (SIGCONT).
    pub fn thaw(&self) -> Result<(), ServersError> {
        self.signal("CONT")
    }

    /// Sends it a signal by name, such as `TERM`.
    pub fn signal(&self, signal_name: &str) -> Result<(), ServersError> {
        let failed = |source| ServersError::Spawn { name: self.name.clone(), source };
        let pid = self.pid().ok_or_else(|| failed(io::Error::from(io::ErrorKind::NotConnected)))?;
        signal(signal_name, &pid.to_string()).map_err(failed)
    }

    /// Asks it to shut down, waits, and kills it when that takes too long.
    pub async fn terminate(&mut self) {
        // A frozen process would take the first signal only when it is woken.
        let asked = self.signal("TERM").and_then(|()| self.thaw());
        if asked.is_ok() && self.finished(SHUTDOWN).await.is_err() {
            tracing::warn!(name = self.name, "did not shut down in time and is killed");
        }
        self.kill();
    }

    /// Waits for the process to end by itself.
    pub async fn finished(&mut self, limit: Duration) -> Result<ExitStatus, ServersError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exit_status() {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(self.not_ready(limit));
            }
            sleep(POLL).await;
        }
    }

    /// Waits until `probe` says yes, and fails when the process ends before that.
    pub async fn ready<F: Future<Output = bool>>(
        &mut self,
        limit: Duration,
        probe: impl Fn() -> F,
    ) -> Result<(), ServersError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exit_status() {
                return Err(ServersError::Exited { name: self.name.clone(), status, log: self.last_lines() });
            }
            if tokio::time::timeout_at(deadline, probe()).await == Ok(true) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.not_ready(limit));
            }
            sleep(POLL).await;
        }
    }

    /// All that the process has written since this start.
    pub fn words(&self) -> String {
        let bytes = fs::read(self.folder.log(&self.name)).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap_or(usize::MAX).min(bytes.len());
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }

    /// The last lines of it.
    pub fn last_lines(&self) -> String {
        let text = self.words();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    fn not_ready(&self, limit: Duration) -> ServersError {
        ServersError::NotReady { name: self.name.clone(), seconds: limit.as_secs(), log: self.last_lines() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl ServersError {
    /// Whether somebody else took the port between our look and the server's start.
    pub fn is_port_taken(&self) -> bool {
        matches!(self, ServersError::Exited { log, .. } if log.contains("Address already in use"))
    }
}

/// This process's variables that would configure a daemon: a throwaway one must never reach the servers they name.
pub fn own_variables() -> impl Iterator<Item = OsString> {
    let ours = |name: &OsString| {
        let name = name.to_string_lossy();
        ["LOCKKEEPER_", "DATABASE_URL", "REDIS_URL"].iter().any(|prefix| name.starts_with(prefix))
    };
    std::env::vars_os().map(|(name, _)| name).filter(ours)
}

/// Sends a signal through the shell's own `kill`: the standard library sends none but SIGKILL, and small
/// installations have no program of that name.
fn signal(signal_name: &str, target: &str) -> io::Result<()> {
    let script = r#"kill -s "$1" -- "$2""#;
    let output = Command::new("sh").args(["-c", script, "kill", signal_name, target]).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
