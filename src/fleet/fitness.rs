//! Whether a process reaches what the work needs. Pure.

use std::time::Instant;

/// So many probes in a row that came to nothing make a process unfit.
const MISSES: u32 = 2;

/// What the probes of one process have shown: the database and a quorum of lock nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fitness {
    /// How many probes in a row came to nothing.
    misses: u32,
    /// When the first of them was known to have.
    since: Option<Instant>,
    /// How many probes there were.
    probes: u64,
}

impl Fitness {
    /// A probe has ended.
    pub fn probed(&mut self, now: Instant, has_reached: bool) {
        self.probes += 1;
        if has_reached {
            (self.misses, self.since) = (0, None);
        } else {
            self.misses = self.misses.saturating_add(1);
            self.since.get_or_insert(now);
        }
    }

    /// Whether the work could be done here. A process that has just started has shown it.
    pub fn is_fit(&self) -> bool {
        self.misses < MISSES
    }

    /// Whether the last probe came to something.
    pub fn has_reached(&self) -> bool {
        self.misses == 0
    }

    /// Whether an owner should leave its streams to a peer that was last known at `peer` to reach what this process does not.
    /// While nobody reaches it, the owner keeps what it has.
    pub fn yields_to(&self, peer: Option<Instant>) -> bool {
        !self.is_fit() && self.since.zip(peer).is_some_and(|(since, peer)| peer > since)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn two_probes_in_a_row_decide_and_one_that_succeeds_begins_anew() {
        let (now, mut fitness) = (Instant::now(), Fitness::default());
        assert!(fitness.is_fit());
        for (has_reached, is_fit) in
            [(false, true), (true, true), (false, true), (false, false), (false, false), (true, true)]
        {
            fitness.probed(now, has_reached);
            assert_eq!((fitness.is_fit(), fitness.has_reached()), (is_fit, has_reached), "{fitness:?}");
        }
    }

    #[test]
    fn an_owner_yields_to_a_peer_that_goes_on_and_not_when_all_are_cut_off() {
        let (start, mut fitness) = (Instant::now(), Fitness::default());
        let at = |ms| start + Duration::from_millis(ms);
        fitness.probed(at(500), false);
        assert!(!fitness.yields_to(Some(at(600))), "one miss says little");
        fitness.probed(at(1000), false);
        assert!(!fitness.yields_to(None) && !fitness.yields_to(Some(at(400))), "the peer has shown nothing since");
        assert!(fitness.yields_to(Some(at(600))));
        fitness.probed(at(1500), true);
        assert!(!fitness.yields_to(Some(at(1400))));
    }
}
