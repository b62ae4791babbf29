//! One clock for a fleet.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The broker's clock: `at` and `exp` mean one thing on every machine. Between two looks at it the time is counted by this
/// process's monotonic clock, so that a jump of the machine's clock changes nothing.
#[derive(Debug)]
pub struct BrokerClock(Mutex<(Instant, u64)>);

impl Default for BrokerClock {
    fn default() -> Self {
        Self(Mutex::new((Instant::now(), 0)))
    }
}

impl BrokerClock {
    /// The broker's clock shows `broker_ms` now.
    pub fn set(&self, broker_ms: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), broker_ms);
    }

    /// Unix milliseconds by the broker's clock; since this process's start before it was first set.
    pub fn now_ms(&self) -> u64 {
        let (seen, broker_ms) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        broker_ms.saturating_add(u64::try_from(seen.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}
