//! Which programs to start, and on which port.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::ServersError;

/// Debian keeps database servers in `sbin`, which is not on the PATH of most users.
const ALSO_IN: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/usr/libexec"];

/// The variable that names a MySQL server to start in place of what is found, for whoever has both.
const MYSQLD: &str = "LOCKKEEPER_MYSQLD";

/// A database server's programs.
#[derive(Debug)]
pub(super) enum DatabasePrograms {
    /// MariaDB, whose data directory a second program fills.
    MariaDb { server: PathBuf, install: PathBuf },
    /// MySQL, which fills its data directory itself.
    MySql { server: PathBuf },
}

/// The Redis server on the PATH, or Valkey, which speaks the same protocol and takes the same arguments.
pub(super) fn redis() -> Result<PathBuf, ServersError> {
    find("redis-server").or_else(|| find("valkey-server")).ok_or_else(|| missing(["redis-server"]))
}

/// The database server that [`MYSQLD`] names, or else the one on the PATH: MariaDB, or else MySQL.
pub(super) fn database() -> Result<DatabasePrograms, ServersError> {
    if let Some(server) = std::env::var_os(MYSQLD).map(PathBuf::from) {
        let is_there = is_executable(&server);
        return if is_there {
            Ok(DatabasePrograms::MySql { server })
        } else {
            Err(missing(["what LOCKKEEPER_MYSQLD names"]))
        };
    }
    if let Some(server) = find("mariadbd") {
        let install = find("mariadb-install-db").ok_or_else(|| missing(["mariadb-install-db"]))?;
        return Ok(DatabasePrograms::MariaDb { server, install });
    }
    let server = find("mysqld").ok_or_else(|| missing(["mariadbd or mysqld"]))?;
    Ok(DatabasePrograms::MySql { server })
}

/// Names everything that is missing at once, so that one installation is enough.
pub(super) fn require_all() -> Result<(), ServersError> {
    let failures = [redis().err(), database().err()].into_iter().flatten();
    let mut all_missing = Vec::new();
    for failure in failures {
        match failure {
            ServersError::Missing { programs } => all_missing.extend(programs),
            other => return Err(other),
        }
    }
    if all_missing.is_empty() { Ok(()) } else { Err(ServersError::Missing { programs: all_missing }) }
}

fn missing<const N: usize>(programs: [&str; N]) -> ServersError {
    ServersError::Missing { programs: programs.map(str::to_owned).to_vec() }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(ALSO_IN.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// A port of 127.0.0.1 that is free now, and that this process has not been given before: whoever asked for that one may not have
/// opened it yet, or be about to open it again.
///
/// It lies below the ports that systems give to outgoing connections: a client that keeps reconnecting to a killed
/// server can be given the server's own port, is then connected to itself, and the server cannot come back.
pub fn free_port() -> std::io::Result<u16> {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let next = || PORTS.start + (NEXT.fetch_add(1, Ordering::Relaxed) % u32::from(PORTS.end - PORTS.start)) as u16;
    let candidate = (0..100).map(|_| next()).find(is_free);
    candidate.map_or_else(|| Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port()), Ok)
}

const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// Tests of one process run side by side and share nothing else by which they could agree; those of another begin elsewhere.
static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(rand::random_range(0..17_000)));
