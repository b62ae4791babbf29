//! When to stop asking a node that does not answer in time, and when to ask it again. Pure.

use std::time::{Duration, Instant};

/// This many answers in a row that come too late open the breaker. One may be a pause of our own process.
const LATE_IN_A_ROW: u32 = 3;

/// A node that is not asked is probed this often.
pub(super) const PROBE: Duration = Duration::from_millis(250);

/// One node's breaker. While it is open the node's vote counts as missing without asking, so that nobody waits for it;
/// one answer in time closes it.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    late: u32,
    /// When the node is to be probed, while the breaker is open.
    probe: Option<Instant>,
}

impl Breaker {
    pub fn is_open(&self) -> bool {
        self.probe.is_some()
    }

    /// An answer has not come in time.
    pub fn late(&mut self, now: Instant) {
        self.late = self.late.saturating_add(1);
        if self.late >= LATE_IN_A_ROW {
            self.trip(now);
        }
    }

    /// The node has been silent for so long that no count is needed.
    pub fn trip(&mut self, now: Instant) {
        self.probe = Some(now + PROBE);
    }

    /// An answer has come in time.
    pub fn close(&mut self) {
        *self = Self::default();
    }

    /// Whether the node is to be probed now; if so, the next probe is a while away.
    pub fn is_probe_due(&mut self, now: Instant) -> bool {
        let due = self.probe.is_some_and(|moment| moment <= now);
        if due {
            self.probe = Some(now + PROBE);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_given_up_after_three_late_answers_and_taken_back_after_one_in_time() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        breaker.late(now);
        breaker.late(now);
        assert!(!breaker.is_open());
        breaker.close();
        (0..2).for_each(|_| breaker.late(now));
        assert!(!breaker.is_open(), "only those in a row count");
        breaker.late(now);
        assert!(breaker.is_open());
        breaker.close();
        assert!(!breaker.is_open() && !breaker.is_probe_due(now + PROBE));
    }

    #[test]
    fn an_open_breaker_probes_at_its_pace() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        breaker.trip(now);
        assert!(breaker.is_open() && !breaker.is_probe_due(now));
        assert!(breaker.is_probe_due(now + PROBE));
        assert!(!breaker.is_probe_due(now + PROBE));
        assert!(breaker.is_probe_due(now + PROBE * 2));
    }
}
