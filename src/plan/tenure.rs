//! How long this daemon keeps an aggregate from everyone else. Pure.
//!
//! A lock that is released and taken again at once is free for no time at all: another daemon, or a client that asks every
//! 100 ms, might never get it. Those who wait leave no trace on the lock nodes, so an aggregate that was kept nearly
//! without a pause is left alone for a while now and then, for longer than anyone who waits pauses between two tries. All
//! aggregates that have been kept for long rest at once, since a job of several aggregates needs all of them, and so that
//! another daemon finds them all free.

use std::time::{Duration, Instant};

use foldhash::HashMap;

use crate::domain::AggregateId;

/// How contended aggregates are shared.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The longest pause before a lock that is held elsewhere is tried again.
    pub retry_delay: Duration,
    /// After so many tries the pauses get longer.
    pub retry_count: u32,
}

impl Terms {
    /// How long an aggregate is left alone: longer than the longest pause of whoever waits for it.
    fn rest(&self) -> Duration {
        self.retry_delay.mul_f64(1.5)
    }

    /// How long an aggregate is kept that nobody else is known to want.
    fn quiet(&self) -> Duration {
        self.rest() * 13
    }

    /// How long an aggregate is kept that somebody else has had lately.
    fn contended(&self) -> Duration {
        self.rest() * 2
    }

    /// For how long an aggregate that somebody else had counts as contended.
    fn memory(&self) -> Duration {
        self.rest() * 20
    }

    /// The pause after the `refusals`-th refusal in a row, before jitter. It stays below the rest that others grant.
    fn pause(&self, refusals: u32) -> Duration {
        if refusals > self.retry_count { self.retry_delay.mul_f64(1.4) } else { self.retry_delay }
    }
}

/// What is known of one aggregate that was in a batch lately.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    since: Instant,
    /// The time since then in which it was in no batch.
    free: Duration,
    /// When it left its last batch, unless it is in one.
    left: Option<Instant>,
    contended_until: Option<Instant>,
    rests_next: bool,
    refusals: u32,
}

impl Tenure {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            free: Duration::ZERO,
            left: Some(now),
            contended_until: None,
            rests_next: false,
            refusals: 0,
        }
    }

    fn is_contended(&self, now: Instant) -> bool {
        self.contended_until.is_some_and(|end| now < end)
    }

    /// Whether it was kept for `share` of its term, and free for less than a quarter of that time.
    fn is_kept(&self, now: Instant, terms: &Terms, share: f64) -> bool {
        let term = if self.is_contended(now) { terms.contended() } else { terms.quiet() };
        let age = now.saturating_duration_since(self.since);
        let free = self.free + self.left.map_or(Duration::ZERO, |left| now.saturating_duration_since(left));
        age >= term.mul_f64(share) && free * 4 < age
    }

    fn begin(&mut self, now: Instant) {
        (self.since, self.free) = (now, Duration::ZERO);
    }
}

/// The aggregates that were in a batch lately, and those that are left alone for now.
#[derive(Debug)]
pub(super) struct Tenures {
    terms: Terms,
    tenures: HashMap<AggregateId, Tenure>,
    resting: HashMap<AggregateId, Instant>,
    /// When aggregates that somebody else holds are tried again: together, so that they are had together.
    retry: Option<Instant>,
    swept: Option<Instant>,
}

impl Tenures {
    pub fn new(terms: Terms) -> Self {
        Self { terms, tenures: HashMap::default(), resting: HashMap::default(), retry: None, swept: None }
    }

    /// Forgets what does not matter any more.
    pub fn sweep(&mut self, now: Instant) {
        self.resting.retain(|_, end| *end > now);
        if self.swept.is_some_and(|last| now < last + self.terms.quiet()) {
            return;
        }
        self.swept = Some(now);
        let rest = self.terms.rest();
        self.tenures.retain(|_, tenure| {
            tenure.is_contended(now) || tenure.left.is_none_or(|left| now.saturating_duration_since(left) < rest)
        });
    }

    /// Whether the aggregate is to be left alone. The first one whose term is over takes all along that are near theirs.
    pub fn rests(&mut self, aggregate: &AggregateId, now: Instant) -> bool {
        if self.resting.get(aggregate).is_some_and(|end| *end > now) {
            return true;
        }
        let Some(tenure) = self.tenures.get(aggregate) else { return false };
        if tenure.rests_next {
            return true;
        }
        if !tenure.is_kept(now, &self.terms, 1.0) {
            return false;
        }
        let end = now + self.terms.rest();
        for (aggregate, tenure) in &mut self.tenures {
            if tenure.is_kept(now, &self.terms, 0.5) {
                tenure.begin(now);
                match tenure.left {
                    Some(_) => drop(self.resting.insert(aggregate.clone(), end)),
                    None => tenure.rests_next = true,
                }
            }
        }
        self.resting.contains_key(aggregate) || self.tenures.get(aggregate).is_some_and(|tenure| tenure.rests_next)
    }

    /// The aggregate, which was in none, is in a batch from now on.
    pub fn taken(&mut self, aggregate: &AggregateId, now: Instant) {
        let (rest, quiet) = (self.terms.rest(), self.terms.quiet());
        let tenure = self.tenures.entry(aggregate.clone()).or_insert_with(|| Tenure::new(now));
        let pause = tenure.left.take().map_or(Duration::ZERO, |left| now.saturating_duration_since(left));
        tenure.free += pause;
        let age = now.saturating_duration_since(tenure.since);
        // Others have had their chance, in one pause or in many.
        if pause >= rest || (age >= quiet && tenure.free * 4 >= age) {
            tenure.begin(now);
        }
    }

    /// The aggregate's batch has ended, and it is in no other; `done` says whether a job of it came to its end.
    pub fn left(&mut self, aggregate: &AggregateId, now: Instant, done: bool) {
        let Some(tenure) = self.tenures.get_mut(aggregate) else { return };
        tenure.left = Some(now);
        if done {
            tenure.refusals = 0;
        }
        if std::mem::take(&mut tenure.rests_next) {
            tenure.begin(now);
            self.resting.insert(aggregate.clone(), now + self.terms.rest());
        }
    }

    /// Somebody else holds these aggregates: they are tried again after a pause, of which `jitter` is the share. Returns
    /// how often in a row they were refused at most.
    pub fn busy(&mut self, aggregates: &[AggregateId], now: Instant, jitter: f64) -> u32 {
        let known = aggregates.iter().filter_map(|aggregate| self.tenures.get(aggregate));
        let refusals = known.map(|tenure| tenure.refusals).max().unwrap_or(0).saturating_add(1);
        let pause = self.terms.pause(refusals).mul_f64(jitter);
        let retry = self.retry.filter(|moment| *moment > now).unwrap_or(now + pause);
        self.retry = Some(retry);
        for aggregate in aggregates {
            let tenure = self.tenures.entry(aggregate.clone()).or_insert_with(|| Tenure::new(now));
            // It is not free until then, and a new tenure begins.
            (tenure.since, tenure.free, tenure.left) = (retry, Duration::ZERO, Some(retry));
            tenure.contended_until = Some(now + self.terms.memory());
            tenure.refusals = tenure.refusals.saturating_add(1);
            self.resting.insert(aggregate.clone(), retry);
        }
        refusals
    }

    /// When the next aggregate that is left alone may be taken again.
    pub fn next_end(&self, now: Instant) -> Option<Instant> {
        self.resting.values().filter(|end| **end > now).min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { retry_delay: Duration::from_millis(100), retry_count: 3 };

    fn aggregate(n: u32) -> AggregateId {
        AggregateId::new("item", n.to_string())
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Takes the aggregate for `held`, again and again with pauses of `free`, until it rests or `limit` has passed.
    fn keep(tenures: &mut Tenures, start: Instant, held: u64, free: u64, limit: u64) -> Option<Duration> {
        let mut now = start;
        while now < start + ms(limit) {
            if tenures.rests(&aggregate(1), now) {
                return Some(now - start);
            }
            tenures.taken(&aggregate(1), now);
            now += ms(held);
            tenures.left(&aggregate(1), now, true);
            now += ms(free);
        }
        None
    }

    #[test]
    fn an_aggregate_kept_without_a_pause_rests_for_longer_than_anyone_pauses_every_two_seconds() {
        let (mut tenures, start) = (Tenures::new(TERMS), Instant::now());
        let rested = keep(&mut tenures, start, 20, 1, 10_000).expect("it rests");
        assert!(rested >= ms(1_900) && rested <= ms(2_000), "{rested:?}");
        let end = tenures.next_end(start + rested).expect("the rest ends");
        assert_eq!(end - (start + rested), ms(150));
        assert!(tenures.rests(&aggregate(1), end - ms(1)) && !tenures.rests(&aggregate(1), end));
        let again = keep(&mut tenures, end, 20, 1, 10_000).expect("and again");
        assert!(again >= ms(1_900) && again <= ms(2_000), "{again:?}");
    }

    #[test]
    fn an_aggregate_that_is_free_for_a_quarter_of_the_time_never_rests() {
        let mut tenures = Tenures::new(TERMS);
        assert_eq!(keep(&mut tenures, Instant::now(), 30, 12, 60_000), None);
    }

    #[test]
    fn one_that_somebody_else_had_is_kept_for_a_shorter_time() {
        let (mut tenures, start) = (Tenures::new(TERMS), Instant::now());
        tenures.busy(&[aggregate(1)], start, 1.0);
        let again = tenures.next_end(start).expect("it is tried again");
        assert_eq!(again - start, ms(100));
        let rested = keep(&mut tenures, again, 20, 1, 10_000).expect("it rests");
        assert!(rested <= ms(320), "{rested:?}");
        let quiet = again + ms(5_000);
        let rested = keep(&mut tenures, quiet, 20, 1, 10_000).expect("it rests");
        assert!(rested >= ms(1_900), "nobody wanted it for five seconds, yet {rested:?}");
    }

    #[test]
    fn those_near_their_term_rest_together_also_from_the_midst_of_a_batch() {
        let (mut tenures, start) = (Tenures::new(TERMS), Instant::now());
        for (n, after) in [(1, 0), (2, 900), (3, 1_500)] {
            tenures.taken(&aggregate(n), start + ms(after));
        }
        tenures.left(&aggregate(1), start + ms(1_960), true);
        tenures.left(&aggregate(3), start + ms(1_960), true);
        let now = start + ms(1_961);
        assert!(tenures.rests(&aggregate(1), now));
        assert!(!tenures.rests(&aggregate(3), now), "it has had little");
        assert!(tenures.rests(&aggregate(2), now), "it is still in its batch, which is to have no successor");
        tenures.left(&aggregate(2), now + ms(10), true);
        assert!(tenures.rests(&aggregate(2), now + ms(11)));
    }

    #[test]
    fn busy_aggregates_are_tried_together_and_after_some_refusals_less_often() {
        let (mut tenures, start) = (Tenures::new(TERMS), Instant::now());
        assert_eq!(tenures.busy(&[aggregate(1)], start, 0.5), 1);
        assert_eq!(tenures.busy(&[aggregate(2)], start + ms(20), 1.0), 1);
        assert_eq!(tenures.next_end(start), Some(start + ms(50)));
        assert!(tenures.rests(&aggregate(2), start + ms(49)) && !tenures.rests(&aggregate(2), start + ms(50)));
        let mut now = start;
        for refusal in 2..=4 {
            now = tenures.next_end(now).expect("it is tried again");
            assert_eq!(tenures.busy(&[aggregate(1)], now, 1.0), refusal);
        }
        assert_eq!(tenures.next_end(now), Some(now + ms(140)));
        assert!(TERMS.pause(100) < TERMS.rest(), "whoever waits must try while the others rest");
        tenures.left(&aggregate(1), now, true);
        assert_eq!(tenures.busy(&[aggregate(1)], now + ms(500), 1.0), 1, "it was had in between");
    }

    #[test]
    fn what_nobody_touches_is_forgotten() {
        let (mut tenures, start) = (Tenures::new(TERMS), Instant::now());
        (0..1000).for_each(|n| tenures.taken(&aggregate(n), start));
        (1..1000).for_each(|n| tenures.left(&aggregate(n), start, true));
        tenures.sweep(start + ms(1_000));
        assert_eq!(tenures.tenures.len(), 1, "one is still in a batch");
        tenures.busy(&[aggregate(1)], start + ms(1_000), 1.0);
        tenures.sweep(start + ms(3_500));
        assert_eq!((tenures.tenures.len(), tenures.resting.len()), (2, 0));
        tenures.sweep(start + ms(10_000));
        assert_eq!(tenures.tenures.len(), 1);
    }
}
