//! One clock for a fleet.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// This process's clock, set right by the broker's: `at` and `exp` mean one thing on every machine.
#[derive(Debug, Default)]
pub struct BrokerClock {
    offset_ms: AtomicI64,
}

impl BrokerClock {
    /// The broker's clock shows `broker_ms` now.
    pub fn set(&self, broker_ms: u64) {
        let offset = i64::try_from(broker_ms).unwrap_or(i64::MAX) - i64::try_from(local_ms()).unwrap_or(i64::MAX);
        self.offset_ms.store(offset, Ordering::Relaxed);
    }

    /// Unix milliseconds by the broker's clock.
    pub fn now_ms(&self) -> u64 {
        local_ms().saturating_add_signed(self.offset_ms.load(Ordering::Relaxed))
    }
}

fn local_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
