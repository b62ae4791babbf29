//! No place in the code fills the log, however often something happens there: a few lines at once, then one a second.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines that one place may write at once.
const BURST: u32 = 10;
/// Time after which it may write one more.
const REFILL: Duration = Duration::from_secs(1);

/// Leaves out lines of places that write too many, and says how many before the next one. Lines below `info` pass: whoever
/// asks for them wants all of them.
#[derive(Default)]
pub(super) struct Throttle(Mutex<HashMap<Identifier, Bucket>>);

impl<S: Subscriber> Layer<S> for Throttle {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let place = event.metadata();
        // Its own line is as rare as those that pass.
        if *place.level() > Level::INFO || place.target() == module_path!() {
            return true;
        }
        let admitted = {
            let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            buckets.entry(place.callsite()).or_insert_with(|| Bucket::full(Instant::now())).admit(Instant::now())
        };
        if let Some(omitted @ 1..) = admitted {
            tracing::warn!(omitted, place = place.name(), "lines like the next one were left out");
        }
        admitted.is_some()
    }
}

/// What one place has left to write.
struct Bucket {
    lines: u32,
    refilled: Instant,
    omitted: u64,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self { lines: BURST, refilled: now, omitted: 0 }
    }

    /// `None` when the line is to be left out; else how many were since the last one that was not.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        let refills = now.duration_since(self.refilled).as_secs() / REFILL.as_secs();
        let refills = u32::try_from(refills).unwrap_or(u32::MAX);
        self.refilled += REFILL * refills;
        self.lines = self.lines.saturating_add(refills).min(BURST);
        match self.lines.checked_sub(1) {
            Some(left) => {
                self.lines = left;
                Some(std::mem::take(&mut self.omitted))
            }
            None => {
                self.omitted += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_one_line_a_second_which_says_what_was_left_out() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        let burst: Vec<_> = (0..25).map(|_| bucket.admit(start)).collect();
        assert!(burst[..10].iter().all(|admitted| *admitted == Some(0)), "{burst:?}");
        assert!(burst[10..].iter().all(Option::is_none), "{burst:?}");
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(bucket.admit(after(999)), None);
        assert_eq!(bucket.admit(after(1001)), Some(16));
        assert_eq!(bucket.admit(after(1500)), None);
        assert_eq!(bucket.admit(after(2000)), Some(1), "the second is not begun anew by the lines in it");
        assert!((0..10).all(|_| bucket.admit(after(60_000)).is_some()), "quiet earns a burst again");
        assert_eq!(bucket.admit(after(60_000)), None, "and no more than one");
    }
}
