//! Our locks as a contender.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::contend::{Load, Locker, contend as contend_with};
use lockkeeper::lock::{KeyResult, NodeAddress, Redlock, Settings};

#[derive(Clone)]
struct Ours {
    redlock: Redlock,
    /// A frozen node is waited for no longer when releases are counted.
    patience: Duration,
}

impl Locker for Ours {
    async fn cycle(&self, keys: &[String]) -> Option<Duration> {
        let started = Instant::now();
        let acquisition = self.redlock.acquire(keys).await;
        let took = started.elapsed();
        self.redlock.release(acquisition.lease);
        acquisition.results.iter().all(|result| *result == KeyResult::Granted).then_some(took)
    }

    async fn settle(&self) {
        self.redlock.settle(self.patience).await;
    }
}

/// Runs as a contender.
pub async fn contend() -> anyhow::Result<()> {
    contend_with(connect).await
}

async fn connect(load: &Load) -> anyhow::Result<Ours> {
    let address = |(url, number): (&String, usize)| {
        let client = redis::Client::open(url.as_str())?;
        anyhow::Ok(NodeAddress { name: format!("lock-{number}"), client })
    };
    let nodes = load.nodes.iter().zip(1..).map(address).collect::<anyhow::Result<_>>()?;
    let patience = Duration::from_millis(load.node_timeout_ms);
    let settings = Settings { node_timeout: patience, ..Settings::new(Duration::from_millis(load.ttl_ms)) };
    let redlock = Redlock::start(nodes, settings, Arc::new(|_| ()))?;
    while !redlock.nodes().iter().all(|node| node.is_up()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(Ours { redlock, patience })
}
