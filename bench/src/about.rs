//! What was measured, and on what: figures without that are worth little.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use serde::Serialize;

/// Versions and the machine.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// Of this program, of the peers and what they are made of, of the servers.
    pub versions: BTreeMap<String, String>,
    /// `release` or `debug`.
    pub build: &'static str,
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    /// The load of the last minute before the first round: others may be at work here.
    pub load: Option<f64>,
}

impl About {
    /// This machine, and these versions beside our own.
    pub fn here(versions: impl IntoIterator<Item = (String, String)>) -> About {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(std::env::consts::ARCH);
        let mut versions: BTreeMap<_, _> = versions.into_iter().collect();
        versions.insert("lockkeeper".into(), env!("CARGO_PKG_VERSION").into());
        About {
            versions,
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()),
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<String> = self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let load = self.load.map(|load| format!(", load {load}")).unwrap_or_default();
        write!(formatter, "{} ({} build)\n{} cores, {}{load}", versions.join(", "), self.build, self.cores, self.cpu)
    }
}
