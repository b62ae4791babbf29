//! A daemon of the version before, which shared a stream with others: its behaviour at the broker, as it was recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::world::World;

/// What a daemon of that version is called.
pub const NAME: &str = "lockkeeper-01928e2c-0000-7000-8000-000000000000";

/// Reads as such a daemon does: all the time, and each entry is left pending. Returns when it is told to, as if it was killed.
pub async fn reads_as_before(world: &World, until: Arc<AtomicBool>) -> Vec<String> {
    let mut read = Vec::new();
    while !until.load(Ordering::Relaxed) {
        let words = ["XREADGROUP", "GROUP", "lockkeeper", NAME, "COUNT", "10", "STREAMS", &world.stream, ">"];
        let entries = lockkeeper::stream::entries_of(world.redis_do(&words).await);
        read.extend(entries.iter().map(|entry| entry.id.to_string()));
        // A sign of life for what it has in hand.
        for id in &read {
            world.redis_do::<redis::Value>(&["XCLAIM", &world.stream, "lockkeeper", NAME, "0", id, "JUSTID"]).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    read
}

/// Claims what others have had in hand for long, as such a daemon does when it takes the work over, and returns how many entries.
pub async fn claims_as_before(world: &World, idle_ms: u64) -> usize {
    let idle = idle_ms.to_string();
    let words = ["XAUTOCLAIM", &world.stream, "lockkeeper", NAME, &idle, "0-0", "COUNT", "100000", "JUSTID"];
    let (_, claimed, _): (String, Vec<String>, redis::Value) = world.redis_do(&words).await;
    claimed.len()
}
