//! What is known of the fleet beside the leases.

use std::time::{Duration, Instant};

use super::setup::Hold;
use crate::fleet::Take;
use crate::stream::{Pause, Skills};

/// What is known of the fleet.
#[derive(Debug)]
pub(super) struct Fleet {
    /// When a peer was last known to be able to do the work.
    pub peer: Option<Instant>,
    /// The other daemons that could do the work, as they have shown lately.
    pub peers: Vec<String>,
    /// What keeps the jobs of each stream from being started.
    pub pauses: Vec<Option<Pause>>,
    /// What a job of each stream waits for.
    pub wants: Vec<Option<Want>>,
    /// What is known in the fleet beside what this process knows.
    pub skills: Vec<Skills>,
    /// Of which streams jobs were kept from being started, until nothing is in hand of them.
    is_closed: Vec<bool>,
}

/// What a job needs that this process does not know.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub skill: String,
    /// Since when it waits.
    pub since: Instant,
    /// Until when it waits.
    pub until: Instant,
}

/// How long the older jobs in hand may take to be begun before the stream is left for the sake of one that is not known.
const OLDER_FIRST: Duration = Duration::from_millis(100);

impl Fleet {
    pub fn new(streams: usize) -> Self {
        let (pauses, wants) = (vec![None; streams], vec![None; streams]);
        Self { peer: None, peers: Vec::new(), pauses, wants, skills: Vec::new(), is_closed: vec![false; streams] }
    }

    /// What a job of the stream needs, if a peer knows it and what is older has been begun: then the stream is left to that one.
    pub fn known_to_peer(&self, stream: usize, now: Instant) -> Option<&str> {
        let Want { skill, since, .. } = self.wants[stream].as_ref()?;
        let is_due = now.duration_since(*since) >= OLDER_FIRST;
        (is_due && self.skills.iter().any(|skills| skills.have(skill))).then_some(skill)
    }

    /// Forgets what nobody waits for any more.
    pub fn forget(&mut self, now: Instant) {
        self.wants.iter_mut().for_each(|want| drop(want.take_if(|want| want.until <= now)));
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
