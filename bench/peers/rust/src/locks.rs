//! `rslock` for the scenario `locks`.

#[path = "../../../src/locks/contend.rs"]
mod contend;

use std::time::{Duration, Instant};

use rslock::LockManager;

use self::contend::Locker;

/// One manager for all tasks, as its documentation has it.
#[derive(Clone)]
struct Rslock {
    manager: LockManager,
    ttl: Duration,
}

impl Locker for Rslock {
    async fn cycle(&self, keys: &[String]) -> Option<Duration> {
        let started = Instant::now();
        let lock = self.manager.lock(keys.first()?.as_str(), self.ttl).await.ok()?;
        let took = started.elapsed();
        self.manager.unlock(&lock).await;
        Some(took)
    }

    /// A release is over when every node has answered it.
    async fn settle(&self) {}
}

/// Runs as a contender.
pub async fn contend() -> anyhow::Result<()> {
    contend::contend(async |load| {
        anyhow::ensure!(load.keys == 1, "rslock takes one key per call");
        let manager = LockManager::new(load.nodes.clone());
        Ok(Rslock { manager, ttl: Duration::from_millis(load.ttl_ms) })
    })
    .await
}
