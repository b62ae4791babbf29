//! What is known of the fleet beside the leases.

use std::time::Instant;

use super::setup::Hold;
use crate::fleet::Take;
use crate::stream::Pause;

/// What is known of the fleet.
#[derive(Debug)]
pub(super) struct Fleet {
    /// When a peer was last known to be able to do the work.
    pub peer: Option<Instant>,
    /// What keeps the jobs of each stream from being started.
    pub pauses: Vec<Option<Pause>>,
    /// Of which streams jobs were kept from being started, until nothing is in hand of them.
    is_closed: Vec<bool>,
}

impl Fleet {
    pub fn new(streams: usize) -> Self {
        Self { peer: None, pauses: vec![None; streams], is_closed: vec![false; streams] }
    }

    /// The stream as it may be read by whoever has taken it; not while it is paused, and afterwards from its head.
    pub fn open(&mut self, stream: usize, take: Take, hold: &Hold) -> Option<Take> {
        self.is_closed[stream] = self.pauses[stream].is_some() || (self.is_closed[stream] && hold.is_busy());
        if self.is_closed[stream] {
            return None;
        }
        Some(Take { is_clean: take.is_clean && hold.is_told(), ..take })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKE: Take = Take { epoch: 7, is_clean: true };

    #[test]
    fn what_is_paused_is_open_again_when_the_pause_is_over_and_nothing_is_in_flight() {
        let (mut fleet, hold) = (Fleet::new(1), Hold::default());
        assert_eq!(fleet.open(0, TAKE, &hold), Some(TAKE));
        hold.begin();
        fleet.pauses[0] = Some(Pause::default());
        assert_eq!(fleet.open(0, TAKE, &hold), None);
        fleet.pauses[0] = None;
        assert_eq!(fleet.open(0, TAKE, &hold), None, "something is in flight");
        hold.settled(false);
        let doubted = Take { is_clean: false, ..TAKE };
        assert_eq!(fleet.open(0, TAKE, &hold), Some(doubted), "not every end was told");
        hold.begin_anew();
        assert_eq!(fleet.open(0, TAKE, &hold), Some(TAKE));
    }
}
