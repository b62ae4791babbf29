//! A throwaway database server: MariaDB, or MySQL when there is no MariaDB.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::process::Process;
use super::program::{self, DatabasePrograms, free_port};
use super::{Folder, ServersError};

/// The database that is there from the start.
pub const DATABASE: &str = "lockkeeper";

/// What each start makes sure of: MySQL's own root may log in by name of the host only, and we never resolve names.
const INITIAL_SQL: &str = "\
CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';
GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;
CREATE DATABASE IF NOT EXISTS lockkeeper;
";

const FILLED_WITHIN: Duration = Duration::from_secs(180);
const READY_WITHIN: Duration = Duration::from_secs(90);

/// A database server on 127.0.0.1 whose user `root` has no password. Dropping it kills it.
#[derive(Debug)]
pub struct DatabaseServer {
    name: String,
    port: u16,
    folder: Arc<Folder>,
    extra: Vec<String>,
    process: Process,
}

impl DatabaseServer {
    /// Starts a server under a name that is unique in the folder and waits until it answers. A new data directory is
    /// filled first.
    pub async fn start(folder: &Arc<Folder>, name: &str) -> Result<DatabaseServer, ServersError> {
        Self::start_with(folder, name, &[]).await
    }

    /// The same, with further arguments for the server, which come after all others.
    pub async fn start_with(folder: &Arc<Folder>, name: &str, extra: &[&str]) -> Result<DatabaseServer, ServersError> {
        fill(folder, name).await?;
        let extra: Vec<String> = extra.iter().map(|&argument| argument.to_owned()).collect();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let port = free_port().map_err(|source| ServersError::Spawn { name: name.to_owned(), source })?;
            match launch(folder, name, port, &extra).await {
                Err(error) if error.is_port_taken() && attempts < 5 => {}
                launched => {
                    let (name, folder) = (name.to_owned(), Arc::clone(folder));
                    return Ok(DatabaseServer { name, port, folder, extra, process: launched? });
                }
            }
        }
    }

    /// The address of a database, such as [`DATABASE`], on this server. Another one must be created first.
    pub fn url(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port)
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

/// Makes a data directory. It gets its name only when it is complete, so a start that was cut short is begun anew.
async fn fill(folder: &Arc<Folder>, name: &str) -> Result<(), ServersError> {
    let data = folder.path().join(name);
    if data.exists() {
        return Ok(());
    }
    let unfinished = folder.path().join(format!("{name}.unfinished"));
    let failed = |source| ServersError::Folder { path: unfinished.clone(), source };
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(failed)?;
    }
    let (program, mut arguments) = match program::database()? {
        DatabasePrograms::MariaDb { install, .. } => (
            install,
            vec![
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                // Without it, the script gives up on a machine that cannot look up its own name.
                "--force",
            ],
        ),
        DatabasePrograms::MySql { server } => (server, vec!["--no-defaults", "--initialize-insecure"]),
    };
    let directory = format!("--datadir={}", unfinished.display());
    arguments.push(&directory);
    arguments.extend(user_argument(folder)?);
    let temporary = temporary(folder, name)?;
    let environment = [("TMPDIR", temporary.as_str())];
    let mut process = Process::start(folder, &format!("{name}-install"), &program, arguments, &environment)?;
    let status = process.finished(FILLED_WITHIN).await?;
    if !status.success() {
        return Err(ServersError::Exited { name: format!("{name}-install"), status, log: process.last_lines() });
    }
    fs::rename(&unfinished, &data).map_err(failed)
}

/// A folder for temporary tables, made when missing. In one that servers share, each that starts removes the tables of
/// the others, whose statements then fail.
fn temporary(folder: &Folder, name: &str) -> Result<String, ServersError> {
    let path = folder.path().join(format!("{name}.tmp"));
    fs::create_dir_all(&path).map_err(|source| ServersError::Folder { path: path.clone(), source })?;
    Ok(path.display().to_string())
}

async fn launch(folder: &Arc<Folder>, name: &str, port: u16, extra: &[String]) -> Result<Process, ServersError> {
    let programs = program::database()?;
    let initial = folder.path().join(format!("{name}.sql"));
    fs::write(&initial, INITIAL_SQL).map_err(|source| ServersError::Folder { path: initial.clone(), source })?;
    let socket = folder.socket(name)?;
    let mut arguments = arguments(port, &folder.path().join(name), &socket, &initial);
    arguments.extend(user_argument(folder)?.map(str::to_owned));
    let program = match programs {
        DatabasePrograms::MariaDb { server, .. } => server,
        DatabasePrograms::MySql { server } => {
            arguments.extend(["--mysqlx=OFF", "--secure-file-priv=NULL"].map(str::to_owned));
            server
        }
    };
    arguments.extend_from_slice(extra);
    let temporary = temporary(folder, name)?;
    let mut process = Process::start(folder, name, &program, arguments, &[("TMPDIR", &temporary)])?;
    process.ready(READY_WITHIN, || answers(socket.clone())).await?;
    Ok(process)
}

fn arguments(port: u16, data: &Path, socket: &Path, initial: &Path) -> Vec<String> {
    let mut arguments = vec![
        "--no-defaults".to_owned(),
        format!("--datadir={}", data.display()),
        format!("--socket={}", socket.display()),
        format!("--pid-file={}", data.join("server.pid").display()),
        format!("--init-file={}", initial.display()),
        format!("--port={port}"),
    ];
    let fixed = [
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--skip-log-bin",
        "--innodb-flush-log-at-trx-commit=1",
        "--max-connections=300",
    ];
    arguments.extend(fixed.map(str::to_owned));
    arguments
}

/// Database servers refuse to run as root unless told so. Whoever owns the reaper's marker is who we are.
fn user_argument(folder: &Folder) -> Result<Option<&'static str>, ServersError> {
    let marker = folder.open_marker();
    let owner = fs::metadata(&marker).map_err(|source| ServersError::Folder { path: marker.clone(), source })?.uid();
    Ok((owner == 0).then_some("--user=root"))
}

/// Whether the server sends its handshake on its Unix socket. The socket lies in our folder, so this is never a
/// stranger who took the port, and it is opened after the port is bound.
async fn answers(socket: PathBuf) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket).await else {
        return false;
    };
    stream.read_u8().await.is_ok()
}
