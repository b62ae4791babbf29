mod properties;

use std::time::Duration;

use uuid::Uuid;

use super::*;

const TERMS: Terms = Terms { retry_delay: Duration::from_millis(100), retry_count: 3 };
const LIMITS: Limits = Limits { jobs: 4, bytes: 100, aggregates: 6, touches: 8 };

fn aggregate(n: u8) -> AggregateId {
    AggregateId::new("item", n.to_string())
}

fn job(name: u16, targets: &[u8]) -> Queued<u16> {
    let (id, targets) = (JobId(Uuid::from_u128(u128::from(name))), targets.iter().copied().map(aggregate).collect());
    Queued::new(Turn { rank: name.into(), ..Turn::default() }, id, Targets::Known(targets), 10, name)
}

fn names(batch: &Batch<u16>) -> Vec<u16> {
    batch.jobs.iter().map(|planned| planned.queued.job).collect()
}

fn finish(plan: &mut Plan<u16>, batch: Batch<u16>) {
    plan.close(batch.id);
    for planned in batch.jobs {
        plan.finish(&planned, Instant::now());
    }
}

#[test]
fn jobs_of_one_aggregate_share_a_batch_in_order() {
    let mut plan = Plan::new(TERMS);
    (0..3).for_each(|name| plan.push(job(name, &[7])));
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS, 1)), [0, 1, 2]);
}

#[test]
fn a_follower_of_a_job_in_flight_waits_and_bars_its_own_followers() {
    let mut plan = Plan::new(TERMS);
    plan.push(job(0, &[1]));
    let first = plan.next_batch(Instant::now(), LIMITS, 1);
    plan.push(job(1, &[1, 2]));
    plan.push(job(2, &[2]));
    plan.push(job(3, &[3]));
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS, 1)), [3], "2 must not overtake 1, 3 is free");
    finish(&mut plan, first);
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS, 1)), [1, 2]);
}

#[test]
fn one_job_id_is_never_in_two_batches() {
    let mut plan = Plan::new(TERMS);
    plan.push(job(0, &[1]));
    let first = plan.next_batch(Instant::now(), LIMITS, 1);
    plan.push(job(0, &[2]));
    assert!(plan.next_batch(Instant::now(), LIMITS, 1).jobs.is_empty());
    finish(&mut plan, first);
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS, 1)), [0]);
}

#[test]
fn an_unresolved_job_bars_the_younger_until_its_source_is_quiet() {
    let mut plan = Plan::new(TERMS);
    plan.push(job(0, &[9, 1]));
    plan.push(Queued { targets: Targets::FromStateOf(aggregate(9)), ..job(1, &[]) });
    plan.push(job(2, &[1]));
    plan.push(job(3, &[5]));
    assert!(plan.resolvable().is_empty(), "the job before it will change what it finds");
    let first = plan.next_batch(Instant::now(), LIMITS, 1);
    assert_eq!(names(&first), [0]);
    assert!(plan.resolvable().is_empty(), "its source is in flight");
    finish(&mut plan, first);
    assert_eq!(plan.resolvable().iter().map(|(_, waiting, _)| waiting.job).collect::<Vec<_>>(), [1]);
    assert!(plan.next_batch(Instant::now(), LIMITS, 1).jobs.is_empty());
    plan.resolve(Turn { rank: 1, ..Turn::default() }, vec![aggregate(9), aggregate(1)]);
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS, 1)), [1, 2, 3]);
}

#[test]
fn a_job_that_must_wait_bars_its_followers_only() {
    let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(60));
    let mut plan = Plan::new(TERMS);
    plan.push(Queued { not_before: Some(later), ..job(0, &[1]) });
    plan.push(job(1, &[1]));
    plan.push(job(2, &[2]));
    assert_eq!(names(&plan.next_batch(now, LIMITS, 1)), [2]);
    assert_eq!(plan.next_due(now), Some(later));
    assert_eq!(names(&plan.next_batch(later, LIMITS, 1)), [0, 1]);
}

#[test]
fn jobs_of_a_busy_aggregate_wait_with_their_followers_for_one_moment() {
    let (now, mut plan) = (Instant::now(), Plan::new(TERMS));
    (0..3).for_each(|name| plan.push(job(name, &[name as u8])));
    for planned in plan.next_batch(now, LIMITS, 1).jobs {
        plan.put_back(planned, now, |_| {});
    }
    assert_eq!(plan.busy(&[aggregate(0), aggregate(1)], now, 0.5), 1);
    plan.push(job(3, &[1]));
    assert_eq!(names(&plan.next_batch(now, LIMITS, 1)), [2]);
    let later = now + Duration::from_millis(50);
    assert_eq!(plan.next_due(now), Some(later));
    assert_eq!(names(&plan.next_batch(later, LIMITS, 1)), [0, 1, 3]);
}

#[test]
fn a_refused_batch_comes_back_in_smaller_batches() {
    let mut plan = Plan::new(TERMS);
    (0..4).for_each(|name| plan.push(Queued { batch_limit: 2, ..job(name, &[name as u8]) }));
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS, 1)), [0, 1]);
    plan.push(Queued { batch_limit: 1, ..job(9, &[9]) });
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS, 1)), [2, 3]);
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS, 1)), [9]);
}

#[test]
fn a_job_that_must_run_alone_waits_for_what_is_in_flight_and_bars_the_rest() {
    let mut plan = Plan::new(TERMS);
    plan.push(job(0, &[1]));
    let first = plan.next_batch(Instant::now(), LIMITS, 1);
    plan.push(job(1, &[2]));
    plan.push(Queued { alone: true, ..job(2, &[3]) });
    plan.push(job(3, &[4]));
    let second = plan.next_batch(Instant::now(), LIMITS, 1);
    assert_eq!(names(&second), [1], "those before it go first");
    assert!(plan.next_batch(Instant::now(), LIMITS, 1).jobs.is_empty(), "two batches are in flight");
    finish(&mut plan, first);
    finish(&mut plan, second);
    let alone = plan.next_batch(Instant::now(), LIMITS, 1);
    assert_eq!(names(&alone), [2]);
    assert!(plan.next_batch(Instant::now(), LIMITS, 1).jobs.is_empty(), "nothing runs beside it");
    finish(&mut plan, alone);
    assert_eq!(names(&plan.next_batch(Instant::now(), LIMITS, 1)), [3]);
}

#[test]
fn a_batch_that_is_open_is_succeeded_where_it_is_not_shut_and_by_one_batch_at_a_time() {
    let (now, mut plan) = (Instant::now(), Plan::new(TERMS));
    (0..3).for_each(|name| plan.push(job(name, &[name as u8])));
    let first = plan.next_batch(now, LIMITS, 1);
    plan.push(job(0, &[0]));
    for (name, targets) in [(3, [0, 7]), (4, [1, 0]), (5, [2, 8]), (6, [9, 2])] {
        plan.push(job(name, &targets));
    }
    assert!(plan.next_batch(now, LIMITS, 1).jobs.is_empty(), "it is not open");
    plan.open(first.id, &[aggregate(2)]);
    let second = plan.next_batch(now, LIMITS, 1);
    assert_eq!(names(&second), Vec::<u16>::new(), "the older delivery of the job with this id may still go back");
    finish(&mut plan, first);
    let second = plan.next_batch(now, LIMITS, 1);
    assert_eq!((names(&second), second.after.len()), (vec![0, 3, 4, 5], 0));
}

#[test]
fn a_successor_knows_whom_it_succeeds() {
    let (now, mut plan) = (Instant::now(), Plan::new(TERMS));
    plan.push(job(0, &[0]));
    let first = plan.next_batch(now, LIMITS, 1);
    plan.push(job(1, &[1]));
    let second = plan.next_batch(now, LIMITS, 1);
    assert_eq!(second.after, []);
    for (name, targets) in [(2, [1, 2]), (3, [0, 1]), (4, [5, 6])] {
        plan.push(job(name, &targets));
    }
    plan.open(first.id, &[]);
    plan.open(second.id, &[]);
    let third = plan.next_batch(now, LIMITS, 1);
    assert_eq!((names(&third), &third.after), (vec![2, 3, 4], &vec![second.id, first.id]));
    plan.push(job(5, &[0]));
    finish(&mut plan, first);
    assert!(plan.next_batch(now, LIMITS, 1).jobs.is_empty(), "it is the third's, which is not open");
    plan.open(third.id, &[]);
    assert_eq!(plan.next_batch(now, LIMITS, 1).after, [third.id]);
}
