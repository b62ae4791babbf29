//! The daemons of a demo.

use futures_util::future::try_join_all;

use throwaway::Daemon;
use throwaway::servers::Servers;

/// The demo's daemons must not cut a reply off before it is read.
const REPLY_LENGTH: (&str, &str) = ("LOCKKEEPER_STREAM_REPLY_LENGTH", "1000000");

/// Daemons that run on the same servers.
#[derive(Debug)]
pub struct Fleet {
    daemons: Vec<Daemon>,
    started: usize,
}

impl Fleet {
    /// Starts this many daemons at once and waits until they are ready.
    pub async fn start(servers: &Servers, count: usize) -> anyhow::Result<Fleet> {
        let names: Vec<String> = (1..=count).map(name).collect();
        let daemons = try_join_all(names.iter().map(|name| Daemon::start(servers, name, &[REPLY_LENGTH]))).await?;
        Ok(Fleet { daemons, started: count })
    }

    /// Starts one more and returns its name.
    pub async fn add(&mut self, servers: &Servers) -> anyhow::Result<String> {
        self.started += 1;
        let daemon = Daemon::start(servers, &name(self.started), &[REPLY_LENGTH]).await?;
        let name = daemon.name().to_owned();
        self.daemons.push(daemon);
        Ok(name)
    }

    /// Kills the oldest with SIGKILL, which owns the stream unless another one has just taken it, and returns its name.
    pub fn kill_oldest(&mut self) -> Option<String> {
        if self.daemons.is_empty() {
            return None;
        }
        let mut daemon = self.daemons.remove(0);
        daemon.kill();
        Some(daemon.name().to_owned())
    }

    /// What those said that have ended by themselves.
    pub fn obituaries(&mut self) -> Vec<String> {
        self.daemons.iter_mut().filter_map(Daemon::exit_report).collect()
    }

    /// The ends of all logs.
    pub fn last_lines(&self) -> Vec<String> {
        self.daemons.iter().map(Daemon::last_lines).collect()
    }

    /// Has all of them drain, and returns how many there were, or what went wrong.
    pub async fn drain(&mut self) -> Result<usize, Vec<String>> {
        let ends = futures_util::future::join_all(self.daemons.iter_mut().map(Daemon::drain)).await;
        let failures: Vec<String> = ends.into_iter().filter_map(Result::err).collect();
        if failures.is_empty() { Ok(self.daemons.len()) } else { Err(failures) }
    }
}

fn name(number: usize) -> String {
    format!("daemon-{number}")
}
