//! Which process runs on which core.
//!
//! Pinned, the database has a core to itself and everything else shares another: then the database is the limit and not
//! the machine. `taskset` of util-linux does it, for all threads of a process; what a process starts later inherits it.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// The cores of a pinned run.
#[derive(Clone, Debug)]
pub struct Cores {
    database: usize,
    rest: usize,
    /// Every core that this process may use, as the system writes it.
    all: String,
}

impl Cores {
    /// The first two that this process may use; `None` when there is but one.
    pub fn available() -> Option<Cores> {
        let all = allowed(std::process::id())?;
        let mut cores = cores(&all);
        let (database, rest) = (cores.next()?, cores.next()?);
        drop(cores);
        Some(Cores { database, rest, all })
    }

    /// Keeps the database server on its core.
    pub fn keep_database(&self, pid: u32) -> anyhow::Result<()> {
        taskset(&self.database.to_string(), pid)
    }

    /// Keeps this process, and all that it starts from now on, on the core for everything but the database.
    pub fn keep_own(&self) -> anyhow::Result<()> {
        taskset(&self.rest.to_string(), std::process::id())
    }

    /// Lets this process, and what it starts from now on, use every core again.
    pub fn free_own(&self) -> anyhow::Result<()> {
        taskset(&self.all, std::process::id())
    }
}

impl std::fmt::Display for Cores {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "database on core {}, all else on core {}", self.database, self.rest)
    }
}

/// The cores that a process may use, as the system writes them.
fn allowed(pid: u32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(list.trim().to_owned())
}

/// The numbers in a list such as `0-3,8`.
fn cores(list: &str) -> impl Iterator<Item = usize> + '_ {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.split(',').filter_map(range).flatten()
}

fn taskset(cores: &str, pid: u32) -> anyhow::Result<()> {
    let output = Command::new("taskset")
        .args(["--all-tasks", "--pid", "--cpu-list", cores, &pid.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("taskset (of util-linux), which pins processes to cores, cannot be run; --unpinned goes without")?;
    // It does not fail when there is no such process.
    if !output.status.success() || allowed(pid).as_deref() != Some(cores) {
        bail!("process {pid} cannot be pinned: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cores_is_read() {
        assert_eq!(cores("0-1").collect::<Vec<_>>(), [0, 1]);
        assert_eq!(cores("2,5-7,9").collect::<Vec<_>>(), [2, 5, 6, 7, 9]);
        assert_eq!(cores("3").collect::<Vec<_>>(), [3]);
        assert_eq!(cores("").count(), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn all_threads_of_a_process_are_pinned() {
        let Some(cores) = Cores::available() else { return };
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pinned = cores.keep_database(child.id());
        let allowed = allowed(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        pinned.unwrap();
        assert_eq!(allowed, cores.database.to_string());
        assert!(taskset("0", child.id()).unwrap_err().to_string().contains("cannot be pinned"));
    }
}
