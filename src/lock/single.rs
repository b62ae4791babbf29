//! One key at a time.

use super::quorum::KeyResult;
use super::{Held, Redlock};
use std::time::{Duration, Instant};

/// Why a key is not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it. Trying again later helps.
    #[error("somebody else holds the lock")]
    Busy,
    /// Too few lock nodes answered in time.
    #[error("too few lock nodes answered")]
    Unavailable,
}

impl Redlock {
    /// Tries once to lock one key, and holds it: see [`Held`].
    pub async fn lock(&self, key: &str) -> Result<Held, LockError> {
        let acquisition = self.acquire(&[key.to_owned()]).await;
        match acquisition.results.first() {
            Some(KeyResult::Granted) => Ok(self.hold(acquisition.lease)),
            Some(KeyResult::Busy) => Err(LockError::Busy),
            Some(KeyResult::Unavailable) | None => Err(LockError::Unavailable),
        }
    }

    /// Tries to lock one key until `patience` is over, at random intervals between half of `delay` and all of it, so that
    /// those who wait for the same key do not meet again. The last try's error is returned.
    pub async fn lock_within(&self, key: &str, patience: Duration, delay: Duration) -> Result<Held, LockError> {
        let started = Instant::now();
        loop {
            let failed = match self.lock(key).await {
                Ok(held) => return Ok(held),
                Err(failed) => failed,
            };
            let pause = delay.mul_f64(rand::random_range(0.5..=1.0));
            if started.elapsed().saturating_add(pause) >= patience {
                return Err(failed);
            }
            tokio::time::sleep(pause).await;
        }
    }
}
