//! The last moments of a process: what it takes leave of, and what it has to leave behind.

use std::sync::Arc;
use std::time::Duration;

use crate::batch::Engine;
use crate::domain::Domain;
use crate::stream::Broker;
use crate::worker::{Prefetch, Seats};

/// Takes leave of the broker after a clean drain. Returns the number of jobs still in hand, which are those that it could not
/// be told of.
pub(super) async fn leave(broker: &Broker, prefetch: &Prefetch, seats: &Seats) -> usize {
    let goodbye = async {
        seats.leave().await;
        for stream in &broker.settings().names {
            if let Err(error) = broker.remove_consumers(stream, true).await {
                tracing::warn!(queue = %stream, %error, "this consumer is left for others to remove");
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(500), goodbye).await;
    prefetch.count()
}

/// Gives up what is in hand: its locks are released, its ids logged. Returns how many there are.
pub(super) async fn abandon<D: Domain>(engine: &Arc<Engine<D>>, prefetch: &Prefetch, seats: &Seats) -> usize {
    // The batches' tasks have been told to stop. Each releases its locks as it goes, which takes no longer than a turn.
    let gone = async {
        while Arc::strong_count(engine) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(200), gone).await;
    let _ = tokio::time::timeout(Duration::from_millis(300), seats.leave()).await;
    for (stream, entries) in prefetch.entries() {
        let ids: Vec<String> = entries.iter().take(LOGGED_IDS).map(ToString::to_string).collect();
        tracing::error!(queue = %stream, jobs = entries.len(), entries = ids.join(","), "jobs were abandoned in flight");
    }
    prefetch.count()
}

/// The most ids in one log line.
const LOGGED_IDS: usize = 500;
