//! What the suites of this repository share: surroundings for a test, on throwaway servers, and ways to look at them.

pub mod before;
pub mod hold;
pub mod journal;
pub mod panels;
mod program;
pub mod sales;
pub mod world;

use std::time::{Duration, Instant};

pub use program::{audit, lockkeeper, program};

/// How long a condition may take to come true. The machine may be slow; nothing is ever waited for longer than it takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something. Fails with `what` was expected.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
