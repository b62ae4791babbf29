//! Whose turn it is to read a subscription. Pure.
//!
//! As with the streams nobody compares clocks: whoever waits sees that the beats do not move any more, by the own clock.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::store::{Checkpoint, CheckpointState};

/// How much longer than others a daemon that runs jobs waits for a subscription that nobody reads: reading costs a core that is idle
/// elsewhere.
const RESERVE: Duration = Duration::from_secs(2);

/// What was seen of one subscription.
#[derive(Debug, Default)]
pub(super) struct Seat {
    seen: Option<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    token: Option<Uuid>,
    beats: u64,
    since: Instant,
    last: Instant,
}

impl Seat {
    /// A look has shown this. Returns whether to take the subscription now.
    pub fn looked(&mut self, now: Instant, checkpoint: &Checkpoint, lease: Duration, is_owner: bool) -> bool {
        let Checkpoint { token, beats, .. } = *checkpoint;
        // What nobody looked at for long may have moved meanwhile, or not: this process was not running.
        let is_same = |seen: &Seen| (seen.token, seen.beats) == (token, beats) && now - seen.last <= lease / 2;
        let since = self.seen.filter(is_same).map_or(now, |seen| seen.since);
        self.seen = Some(Seen { token, beats, since, last: now });
        let silence = match token {
            Some(_) => lease,
            None if is_owner => RESERVE,
            None => Duration::ZERO,
        };
        checkpoint.state == CheckpointState::Running && now - since >= silence
    }

    /// What was seen says nothing any more.
    pub fn forget(&mut self) {
        self.seen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(3);

    fn checkpoint(token: Option<u128>, beats: u64) -> Checkpoint {
        Checkpoint {
            name: "sales".to_owned(),
            position: 0,
            event_id: None,
            in_log: None,
            state: CheckpointState::Running,
            reason: None,
            token: token.map(Uuid::from_u128),
            beats,
            holder: String::new(),
            moved_at: String::new(),
            head: 0,
            age_seconds: None,
        }
    }

    #[test]
    fn a_free_one_is_taken_at_once_and_by_whoever_runs_jobs_after_a_while() {
        let (start, free) = (Instant::now(), checkpoint(None, 7));
        assert!(Seat::default().looked(start, &free, LEASE, false));
        let mut owner = Seat::default();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(
            [0, 1000, 1900, 2000].map(|ms| owner.looked(at(ms), &free, LEASE, true)),
            [false, false, false, true]
        );
        for state in [CheckpointState::Paused, CheckpointState::Stopped, CheckpointState::Dropped] {
            assert!(!Seat::default().looked(start, &Checkpoint { state, ..free.clone() }, LEASE, false));
        }
    }

    #[test]
    fn one_that_is_read_is_taken_when_its_beats_have_not_moved_for_the_lease_under_constant_looks() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut seat = Seat::default();
        let mut looked = |ms, token, beats| seat.looked(at(ms), &checkpoint(Some(token), beats), LEASE, false);
        assert_eq!([looked(0, 1, 1), looked(1000, 1, 1), looked(2000, 1, 2)], [false; 3], "its beats move");
        assert_eq!([looked(3000, 1, 2), looked(4000, 1, 2)], [false; 2]);
        assert!(!looked(5000, 2, 2), "it is somebody else's");
        assert_eq!([looked(6000, 2, 2), looked(7000, 2, 2), looked(8000, 2, 2)], [false, false, true]);
        assert!(!looked(20_000, 2, 2), "nobody looked in between");
        assert_eq!([looked(21_000, 2, 2), looked(22_000, 2, 2), looked(23_000, 2, 2)], [false, false, true]);
    }
}
