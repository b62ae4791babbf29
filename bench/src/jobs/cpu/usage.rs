//! What a run costs, kind of process by kind of process.

use std::fs;
use std::ops::Sub;

use anyhow::Context;
use serde::Serialize;

use crate::contender::cpu_seconds;
use throwaway::servers::{RedisServer, Servers};

/// The processes of a run.
#[derive(Clone, Debug)]
pub struct Processes {
    /// The daemons or the peer.
    workers: Vec<u32>,
    broker: Option<u32>,
    lock_nodes: Vec<Option<u32>>,
    database: Option<u32>,
}

/// CPU time of each kind of process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// The peer, or all daemons together.
    pub worker: f64,
    pub broker: f64,
    /// All lock nodes together.
    pub lock_nodes: f64,
    pub database: f64,
}

impl Processes {
    /// Those of `servers`, and the workers, as many as there are.
    pub fn of(servers: &Servers, workers: impl IntoIterator<Item = u32>) -> Processes {
        Processes {
            workers: workers.into_iter().collect(),
            broker: servers.broker.pid(),
            lock_nodes: servers.lock_nodes.iter().map(RedisServer::pid).collect(),
            database: servers.database.pid(),
        }
    }

    /// The seconds taken so far. Fails when a process is gone.
    pub fn cpu(&self) -> anyhow::Result<Cpu> {
        let seconds = |pid: Option<u32>| pid.and_then(cpu_seconds).context("a process of the run is gone");
        Ok(Cpu {
            worker: self.workers.iter().map(|pid| seconds(Some(*pid))).sum::<anyhow::Result<f64>>()?,
            broker: seconds(self.broker)?,
            lock_nodes: self.lock_nodes.iter().map(|pid| seconds(*pid)).sum::<anyhow::Result<f64>>()?,
            database: seconds(self.database)?,
        })
    }

    /// The most memory that any of the workers has ever held, in MiB.
    pub fn peak_rss_mib(&self) -> anyhow::Result<f64> {
        let mut most = 0.0_f64;
        for pid in &self.workers {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the worker is gone")?;
            let kib = peak_kib(&status).context("the system does not tell how much memory the worker holds")?;
            most = most.max(kib / 1024.0);
        }
        Ok(most)
    }
}

fn peak_kib(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

impl Sub for Cpu {
    type Output = Cpu;

    fn sub(self, before: Cpu) -> Cpu {
        Cpu {
            worker: self.worker - before.worker,
            broker: self.broker - before.broker,
            lock_nodes: self.lock_nodes - before.lock_nodes,
            database: self.database - before.database,
        }
    }
}

impl Cpu {
    /// Seconds of all jobs as microseconds of one.
    pub fn micros_per(self, jobs: f64) -> Cpu {
        let share = |seconds: f64| seconds * 1e6 / jobs;
        Cpu {
            worker: share(self.worker),
            broker: share(self.broker),
            lock_nodes: share(self.lock_nodes),
            database: share(self.database),
        }
    }

    /// Broker and lock nodes together.
    pub fn redis(&self) -> f64 {
        self.broker + self.lock_nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_a_job_is_that_of_the_window() {
        let cpu =
            |factor: f64| Cpu { worker: factor, broker: 2.0 * factor, lock_nodes: 3.0 * factor, database: factor };
        let per_job = (cpu(1.5) - cpu(0.5)).micros_per(100_000.0);
        assert_eq!(per_job, Cpu { worker: 10.0, broker: 20.0, lock_nodes: 30.0, database: 10.0 });
        assert_eq!(per_job.redis(), 50.0);
    }

    #[test]
    fn the_peak_of_memory_is_read() {
        assert_eq!(peak_kib("Name:\tx\nVmHWM:\t   34060 kB\nVmRSS:\t 1 kB\n"), Some(34060.0));
        assert_eq!(peak_kib("Name:\tx\n"), None);
    }
}
