//! Whatever comes and ends in whatever order.

use foldhash::HashMap;
use proptest::prelude::*;

use super::*;

/// What the property drives the plan with.
#[derive(Clone, Debug)]
enum Step {
    Push {
        targets: Vec<u8>,
        unresolved: bool,
        alone: bool,
    },
    Next,
    /// A batch is open; its jobs from the `kept`-th on will go back.
    Open {
        batch: usize,
        kept: usize,
    },
    Finish(usize),
    PutBack {
        batch: usize,
        delay: bool,
        busy: bool,
    },
    Resolve,
    /// Time passes, in milliseconds.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let targets = proptest::collection::btree_set(0u8..8, 1..4).prop_map(|set| set.into_iter().collect());
    prop_oneof![
        4 => (targets, proptest::bool::weighted(0.2), proptest::bool::weighted(0.1))
            .prop_map(|(targets, unresolved, alone)| Step::Push { targets, unresolved, alone }),
        3 => Just(Step::Next),
        2 => (0usize..4, 0usize..6).prop_map(|(batch, kept)| Step::Open { batch, kept }),
        2 => (0usize..4).prop_map(Step::Finish),
        1 => (0usize..4, any::<bool>(), any::<bool>())
            .prop_map(|(batch, delay, busy)| Step::PutBack { batch, delay, busy }),
        1 => (0u64..1_000).prop_map(Step::Wait),
        2 => Just(Step::Resolve),
    ]
}

/// A batch in flight.
struct Flight {
    batch: Batch<u16>,
    /// When it is open: how many of its jobs will not go back.
    kept: Option<usize>,
    /// One of its successors has ended, so it will not fail.
    stands: bool,
}

impl Flight {
    /// Whether a batch that comes after those of `before` may go by what this one makes of `job`.
    fn may_precede(&self, before: &[BatchId], job: u16) -> bool {
        let is_kept = |kept| self.batch.jobs.iter().take(kept).any(|planned| planned.queued.job == job);
        before.contains(&self.batch.id) && self.kept.is_some_and(is_kept)
    }
}

/// A plan with everything that the properties compare it with.
struct Model {
    plan: Plan<u16>,
    now: Instant,
    /// What each job touches once it is resolved; the first is the source of an unresolved one.
    touches: HashMap<u16, Vec<u8>>,
    in_flight: Vec<Flight>,
    /// Jobs that have not ended, oldest first, put-back ones included.
    open: Vec<u16>,
    next_name: u16,
}

impl Model {
    fn new() -> Self {
        let (plan, in_flight, open) = (Plan::new(TERMS), Vec::new(), Vec::new());
        Self { plan, now: Instant::now(), touches: HashMap::default(), in_flight, open, next_name: 0 }
    }

    fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Push { targets, unresolved, alone } => self.push(targets, unresolved, alone),
            Step::Next => self.next()?,
            Step::Open { batch, kept } => self.open(batch, kept),
            Step::Finish(n) => self.end(n),
            Step::PutBack { batch, delay, busy } => self.put_back(batch, delay, busy),
            Step::Wait(millis) => self.now += Duration::from_millis(millis),
            Step::Resolve => self.resolve(),
        }
        Ok(())
    }

    fn push(&mut self, targets: Vec<u8>, unresolved: bool, alone: bool) {
        let name = self.next_name;
        self.next_name += 1;
        let mut waiting = job(name, &targets);
        waiting.alone = alone;
        if unresolved {
            waiting.targets = Targets::FromStateOf(aggregate(targets[0]));
        }
        self.touches.insert(name, targets);
        self.open.push(name);
        self.plan.push(waiting);
    }

    fn next(&mut self) -> Result<(), TestCaseError> {
        let batch = self.plan.next_batch(self.now, LIMITS, 1);
        let (started, before) = (names(&batch), self.before(&batch));
        for (index, name) in started.iter().enumerate() {
            let mine = &self.touches[name];
            for flight in &self.in_flight {
                for other in &flight.batch.jobs {
                    let shared = other.aggregates().iter().any(|a| mine.iter().any(|m| aggregate(*m) == *a));
                    let fine = !shared || flight.may_precede(&before, other.queued.job);
                    prop_assert!(fine, "{name} shares an aggregate with {} in flight", other.queued.job);
                }
            }
            for older in self.open.iter().take_while(|older| *older != name) {
                let before_it = started[..index].contains(older)
                    || self.in_flight.iter().any(|flight| flight.may_precede(&before, *older));
                let shares = self.touches[older].iter().any(|a| mine.contains(a));
                prop_assert!(before_it || !shares, "{name} overtook {older}");
            }
        }
        let in_flight = self.in_flight.iter().flat_map(|flight| &flight.batch.jobs);
        let alone = batch.jobs.iter().chain(in_flight.clone()).any(|planned| planned.queued.alone);
        let beside = batch.jobs.len() + in_flight.count();
        prop_assert!(!alone || beside == 1, "a job that must run alone has {} beside it", beside - 1);
        prop_assert!(batch.jobs.len() <= LIMITS.jobs);
        let touches: usize = batch.jobs.iter().map(|planned| planned.aggregates().len()).sum();
        prop_assert!(batch.jobs.len() == 1 || touches <= LIMITS.touches, "{started:?} touch {touches} aggregates");
        if !batch.jobs.is_empty() {
            self.in_flight.push(Flight { batch, kept: None, stands: false });
        }
        Ok(())
    }

    /// The batches in flight that `batch` comes after, also by way of others.
    fn before(&self, batch: &Batch<u16>) -> Vec<BatchId> {
        let mut before = batch.after.clone();
        for index in 0.. {
            let Some(id) = before.get(index) else { break };
            if let Some(flight) = self.in_flight.iter().find(|flight| flight.batch.id == *id) {
                before.extend(&flight.batch.after);
            }
        }
        before
    }

    fn open(&mut self, n: usize, kept: usize) {
        let Some(flight) = self.in_flight.get_mut(n).filter(|flight| flight.kept.is_none()) else { return };
        let kept = kept.min(flight.batch.jobs.len());
        flight.kept = Some(kept);
        let shut: Vec<_> = flight.batch.jobs[kept..].iter().flat_map(|planned| planned.aggregates().to_vec()).collect();
        self.plan.open(flight.batch.id, &shut);
    }

    /// A batch ends: what was to go back goes back, the others have come to their end.
    fn end(&mut self, n: usize) {
        if n < self.in_flight.len() {
            let Flight { batch, kept, .. } = self.in_flight.swap_remove(n);
            let before = self.before(&batch);
            let stand = self.in_flight.iter_mut().filter(|flight| before.contains(&flight.batch.id));
            stand.for_each(|flight| flight.stands = true);
            self.plan.close(batch.id);
            let kept = kept.unwrap_or(batch.jobs.len());
            for (index, planned) in batch.jobs.into_iter().enumerate() {
                if index >= kept {
                    self.back(planned, false);
                } else {
                    self.open.retain(|name| *name != planned.queued.job);
                    self.plan.finish(&planned, self.now);
                }
            }
        }
    }

    /// A batch fails, and with it those that go by it.
    fn put_back(&mut self, n: usize, delay: bool, busy: bool) {
        if self.in_flight.get(n).is_none_or(|flight| flight.stands) {
            return;
        }
        let mut failed = vec![self.in_flight.swap_remove(n).batch];
        while let Some(batch) = failed.pop() {
            while let Some(next) = self.in_flight.iter().position(|flight| flight.batch.after.contains(&batch.id)) {
                failed.push(self.in_flight.swap_remove(next).batch);
            }
            let held: Vec<AggregateId> = batch.jobs.iter().flat_map(|planned| planned.aggregates().to_vec()).collect();
            self.plan.close(batch.id);
            batch.jobs.into_iter().for_each(|planned| self.back(planned, delay));
            if busy {
                self.plan.busy(&held, self.now, 1.0);
            }
        }
    }

    fn back(&mut self, planned: Planned<u16>, delay: bool) {
        let not_before = delay.then(|| self.now + Duration::from_millis(1));
        self.plan.put_back(planned, self.now, |queued| queued.not_before = not_before);
    }

    fn resolve(&mut self) {
        let found: Vec<(Turn, u16)> = self.plan.resolvable().iter().map(|(turn, w, _)| (*turn, w.job)).collect();
        for (turn, name) in found {
            let targets = self.touches[&name].iter().copied().map(aggregate).collect();
            self.plan.resolve(turn, targets);
        }
    }
}

proptest! {
    /// Asked at one moment, the plan leaves no job without a turn: it is in the batch, or there is a moment at which it will
    /// be. Asked at two, it may be in neither, which the dispatcher must never do.
    #[test]
    fn a_job_that_waits_is_in_the_batch_or_has_its_moment(offsets in proptest::collection::vec(-2i64..=2, 1..4)) {
        let now = Instant::now() + Duration::from_secs(1);
        let at = |offset: i64| match offset {
            ..0 => now - Duration::from_nanos(offset.unsigned_abs()),
            _ => now + Duration::from_nanos(offset.unsigned_abs()),
        };
        let mut plan = Plan::new(TERMS);
        for (name, offset) in offsets.iter().enumerate() {
            plan.push(Queued { not_before: Some(at(*offset)), ..job(name as u16, &[name as u8]) });
        }
        let planned = names(&plan.next_batch(now, LIMITS, 1));
        for (name, offset) in offsets.iter().enumerate() {
            prop_assert_eq!(planned.contains(&(name as u16)), *offset <= 0, "a job that is due at this very moment is due");
        }
        prop_assert_eq!(plan.next_due(now), offsets.iter().filter(|offset| **offset > 0).min().map(|offset| at(*offset)));
        if let Some(soonest) = plan.next_due(now) {
            prop_assert!(!plan.next_batch(soonest, LIMITS, 1).jobs.is_empty(), "its timer does not come in vain");
            prop_assert!(plan.next_due(soonest).is_none_or(|later| later > soonest));
        }
    }
}

proptest! {
    #[test]
    fn batches_are_disjoint_nobody_overtakes_and_all_are_planned(steps in proptest::collection::vec(step(), 1..80)) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step)?;
        }
        model.now += Duration::from_secs(1);
        for _ in 0..4 * model.next_name + 4 {
            model.resolve();
            model.next()?;
            model.end(0);
            // What the plan names is the only moment at which it is asked again.
            model.now = model.plan.next_due(model.now).unwrap_or(model.now);
        }
        prop_assert!(model.open.is_empty(), "never planned: {:?}", model.open);
        prop_assert_eq!(model.plan.waiting(), 0);
    }
}
