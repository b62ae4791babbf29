use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const TERMS: Terms = Terms { retry_delay: Duration::from_millis(100), retry_count: 3 };
const LIMITS: Limits = Limits { jobs: 4, bytes: 100, aggregates: 6, touches: 8 };

fn aggregate(n: u8) -> AggregateId {
    AggregateId::new("item", n.to_string())
}

fn job(name: u16, targets: &[u8]) -> Waiting<u16> {
    Waiting {
        id: JobId(Uuid::from_u128(u128::from(name))),
        targets: Targets::Known(targets.iter().copied().map(aggregate).collect()),
        bytes: 10,
        not_before: None,
        company: usize::MAX,
        alone: false,
        tries: 0,
        job: name,
    }
}

fn names(batch: &[Planned<u16>]) -> Vec<u16> {
    batch.iter().map(|planned| planned.job).collect()
}

fn finish(plan: &mut Plan<u16>, batch: Vec<Planned<u16>>) {
    for planned in batch {
        plan.finish(planned.id, &planned.aggregates, Instant::now());
    }
}

#[test]
fn jobs_of_one_aggregate_share_a_batch_in_order() {
    let mut plan = Plan::new(TERMS);
    (0..3).for_each(|name| plan.push(job(name, &[7])));
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS)), [0, 1, 2]);
}

#[test]
fn a_follower_of_a_job_in_flight_waits_and_bars_its_own_followers() {
    let mut plan = Plan::new(TERMS);
    plan.push(job(0, &[1]));
    let first = plan.next_batch(Instant::now(), LIMITS);
    plan.push(job(1, &[1, 2]));
    plan.push(job(2, &[2]));
    plan.push(job(3, &[3]));
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS)), [3], "2 must not overtake 1, 3 is free");
    finish(&mut plan, first);
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS)), [1, 2]);
}

#[test]
fn one_job_id_is_never_in_two_batches() {
    let mut plan = Plan::new(TERMS);
    plan.push(job(0, &[1]));
    let first = plan.next_batch(Instant::now(), LIMITS);
    plan.push(job(0, &[2]));
    assert!(plan.next_batch(Instant::now(), LIMITS).is_empty());
    finish(&mut plan, first);
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS)), [0]);
}

#[test]
fn an_unresolved_job_bars_the_younger_until_its_source_is_quiet() {
    let mut plan = Plan::new(TERMS);
    plan.push(job(0, &[9, 1]));
    plan.push(Waiting { targets: Targets::FromStateOf(aggregate(9)), ..job(1, &[]) });
    plan.push(job(2, &[1]));
    plan.push(job(3, &[5]));
    assert!(plan.resolvable().is_empty(), "the job before it will change what it finds");
    let first = plan.next_batch(Instant::now(), LIMITS);
    assert_eq!(names(&first), [0]);
    assert!(plan.resolvable().is_empty(), "its source is in flight");
    finish(&mut plan, first);
    assert_eq!(plan.resolvable().iter().map(|(_, waiting, _)| waiting.job).collect::<Vec<_>>(), [1]);
    assert!(plan.next_batch(Instant::now(), LIMITS).is_empty());
    plan.resolve(1, vec![aggregate(9), aggregate(1)]);
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS)), [1, 2, 3]);
}

#[test]
fn a_job_that_must_wait_bars_its_followers_only() {
    let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(60));
    let mut plan = Plan::new(TERMS);
    plan.push(Waiting { not_before: Some(later), ..job(0, &[1]) });
    plan.push(job(1, &[1]));
    plan.push(job(2, &[2]));
    assert_eq!(names(&plan.next_batch(now, LIMITS)), [2]);
    assert_eq!(plan.next_due(now), Some(later));
    assert_eq!(names(&plan.next_batch(later, LIMITS)), [0, 1]);
}

#[test]
fn jobs_of_a_busy_aggregate_wait_with_their_followers_for_one_moment() {
    let (now, mut plan) = (Instant::now(), Plan::new(TERMS));
    (0..3).for_each(|name| plan.push(job(name, &[name as u8])));
    for planned in plan.next_batch(now, LIMITS) {
        let waiting = job(planned.job, &[planned.job as u8]);
        plan.put_back(planned.turn, &planned.aggregates, waiting, now);
    }
    assert_eq!(plan.busy(&[aggregate(0), aggregate(1)], now, 0.5), 1);
    plan.push(job(3, &[1]));
    assert_eq!(names(&plan.next_batch(now, LIMITS)), [2]);
    let later = now + Duration::from_millis(50);
    assert_eq!(plan.next_due(now), Some(later));
    assert_eq!(names(&plan.next_batch(later, LIMITS)), [0, 1, 3]);
}

#[test]
fn a_refused_batch_comes_back_in_smaller_company() {
    let mut plan = Plan::new(TERMS);
    (0..4).for_each(|name| plan.push(Waiting { company: 2, ..job(name, &[name as u8]) }));
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS)), [0, 1]);
    plan.push(Waiting { company: 1, ..job(9, &[9]) });
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS)), [2, 3]);
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS)), [9]);
}

#[test]
fn a_job_that_must_run_alone_waits_for_what_is_in_flight_and_bars_the_rest() {
    let mut plan = Plan::new(TERMS);
    plan.push(job(0, &[1]));
    let first = plan.next_batch(Instant::now(), LIMITS);
    plan.push(job(1, &[2]));
    plan.push(Waiting { alone: true, ..job(2, &[3]) });
    plan.push(job(3, &[4]));
    let second = plan.next_batch(Instant::now(), LIMITS);
    assert_eq!(names(&second), [1], "those before it go first");
    assert!(plan.next_batch(Instant::now(), LIMITS).is_empty(), "two batches are in flight");
    finish(&mut plan, first);
    finish(&mut plan, second);
    let alone = plan.next_batch(Instant::now(), LIMITS);
    assert_eq!(names(&alone), [2]);
    assert!(plan.next_batch(Instant::now(), LIMITS).is_empty(), "nothing runs beside it");
    finish(&mut plan, alone);
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS)), [3]);
}

/// What the property drives the plan with.
#[derive(Clone, Debug)]
enum Step {
    Push {
        targets: Vec<u8>,
        unresolved: bool,
        alone: bool,
    },
    Next,
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
        2 => (0usize..4).prop_map(Step::Finish),
        1 => (0usize..4, any::<bool>(), any::<bool>())
            .prop_map(|(batch, delay, busy)| Step::PutBack { batch, delay, busy }),
        1 => (0u64..1_000).prop_map(Step::Wait),
        2 => Just(Step::Resolve),
    ]
}

/// A plan with everything that the properties compare it with.
struct Model {
    plan: Plan<u16>,
    now: Instant,
    /// What each job touches once it is resolved; the first is the source of an unresolved one.
    touches: HashMap<u16, Vec<u8>>,
    in_flight: Vec<Vec<Planned<u16>>>,
    /// Jobs that have not ended, oldest first, put-back ones included.
    open: Vec<u16>,
    next_name: u16,
}

impl Model {
    fn new() -> Self {
        let (plan, in_flight, open) = (Plan::new(TERMS), Vec::new(), Vec::new());
        Self { plan, now: Instant::now(), touches: HashMap::new(), in_flight, open, next_name: 0 }
    }

    fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Push { targets, unresolved, alone } => self.push(targets, unresolved, alone),
            Step::Next => self.next()?,
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
        let batch = self.plan.next_batch(self.now, LIMITS);
        let started = names(&batch);
        for (index, name) in started.iter().enumerate() {
            let mine = &self.touches[name];
            for other in self.in_flight.iter().flatten() {
                let shared = other.aggregates.iter().any(|a| mine.iter().any(|m| aggregate(*m) == *a));
                prop_assert!(!shared, "{name} shares an aggregate with {} in flight", other.job);
            }
            for older in self.open.iter().take_while(|older| *older != name) {
                let before_it = started[..index].contains(older);
                let shares = self.touches[older].iter().any(|a| mine.contains(a));
                prop_assert!(before_it || !shares, "{name} overtook {older}");
            }
        }
        let alone = batch.iter().chain(self.in_flight.iter().flatten()).any(|planned| planned.alone);
        let beside = batch.len() + self.in_flight.iter().map(Vec::len).sum::<usize>();
        prop_assert!(!alone || beside == 1, "a job that must run alone has {} beside it", beside - 1);
        prop_assert!(batch.len() <= LIMITS.jobs);
        let touches: usize = batch.iter().map(|planned| planned.aggregates.len()).sum();
        prop_assert!(batch.len() == 1 || touches <= LIMITS.touches, "{started:?} touch {touches} aggregates");
        if !batch.is_empty() {
            self.in_flight.push(batch);
        }
        Ok(())
    }

    fn end(&mut self, n: usize) {
        if n < self.in_flight.len() {
            let batch = self.in_flight.swap_remove(n);
            self.open.retain(|name| !batch.iter().any(|planned| planned.job == *name));
            for planned in batch {
                self.plan.finish(planned.id, &planned.aggregates, self.now);
            }
        }
    }

    fn put_back(&mut self, n: usize, delay: bool, busy: bool) {
        if n < self.in_flight.len() {
            let batch = self.in_flight.swap_remove(n);
            let held: Vec<AggregateId> = batch.iter().flat_map(|planned| planned.aggregates.clone()).collect();
            for planned in batch {
                let mut waiting = job(planned.job, &self.touches[&planned.job]);
                waiting.alone = planned.alone;
                waiting.not_before = delay.then(|| self.now + Duration::from_millis(1));
                self.plan.put_back(planned.turn, &planned.aggregates, waiting, self.now);
            }
            if busy {
                self.plan.busy(&held, self.now, 1.0);
            }
        }
    }

    fn resolve(&mut self) {
        let found: Vec<(u64, u16)> = self.plan.resolvable().iter().map(|(turn, w, _)| (*turn, w.job)).collect();
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
            plan.push(Waiting { not_before: Some(at(*offset)), ..job(name as u16, &[name as u8]) });
        }
        let planned = names(&plan.next_batch(now, LIMITS));
        for (name, offset) in offsets.iter().enumerate() {
            prop_assert_eq!(planned.contains(&(name as u16)), *offset <= 0, "a job that is due at this very moment is due");
        }
        prop_assert_eq!(plan.next_due(now), offsets.iter().filter(|offset| **offset > 0).min().map(|offset| at(*offset)));
        if let Some(soonest) = plan.next_due(now) {
            prop_assert!(!plan.next_batch(soonest, LIMITS).is_empty(), "its timer does not come in vain");
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
