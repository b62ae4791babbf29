//! Which batches are in flight, and since when.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The batches in flight, and when each of them started.
#[derive(Debug, Default)]
pub(super) struct Running {
    next: AtomicU64,
    started: Mutex<BTreeMap<u64, Instant>>,
}

impl Running {
    /// How many there are, and for how long the oldest has been.
    pub fn count_and_age(&self) -> (usize, Duration) {
        let running = self.lock();
        (running.len(), running.values().min().map_or(Duration::ZERO, Instant::elapsed))
    }

    /// Nothing panics under this lock.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch in flight, until it is dropped.
#[derive(Debug)]
pub struct InFlight {
    running: Arc<Running>,
    number: u64,
    /// When it started.
    pub since: Instant,
}

impl InFlight {
    /// A batch starts.
    pub(super) fn begin(running: Arc<Running>) -> Self {
        let since = Instant::now();
        let number = running.next.fetch_add(1, Ordering::Relaxed);
        running.lock().insert(number, since);
        Self { running, number, since }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.running.lock().remove(&self.number);
    }
}
