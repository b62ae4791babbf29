//! What a batch is decided as, without servers: which jobs go back, and whom they keep from overtaking them.

use foldhash::{HashMap, HashSet};
use lockkeeper::batch::{Known, Verdict, decide};
use lockkeeper::domain::{AggregateId, Domain, Targets};
use lockkeeper::job::{self, Entry, EntryId, Job, Outcome, Turn};
use lockkeeper::plan::{BatchId, Planned, Queued};
use lockkeeper::store::StoredReceipt;

use super::{Shop, State};

/// A job as the plan gives it out.
fn as_planned(job: Job<Shop>, aggregates: Vec<AggregateId>, turn: u64) -> Planned<Job<Shop>> {
    let turn = Turn { rank: turn, ..Turn::default() };
    let queued = Queued::new(turn, job.id, Targets::Known(aggregates), job.bytes, job);
    Planned { batch: BatchId::default(), queued: Box::new(queued) }
}

fn planned(job_type: &str, key: &str, data: &str, aggregates: &[&AggregateId], turn: u64) -> Planned<Job<Shop>> {
    let fields = [("type", job_type), ("key", key), ("data", data)];
    let fields = fields.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).to_vec();
    let job = job::decode::<Shop>(&Entry::new("jobs".into(), EntryId { ms: turn, seq: 0 }, fields), 1000);
    let aggregates = aggregates.iter().map(|&aggregate| aggregate.clone()).collect();
    as_planned(job, aggregates, turn)
}

/// The order of one pen stands; pens and ink are on sale.
fn known(order: &AggregateId, items: &[&AggregateId]) -> Known<Shop> {
    let (mut states, mut versions): (HashMap<_, State>, HashMap<_, u64>) = Default::default();
    let mut happened = |aggregate: &AggregateId, event_type: &str, payload: &str| {
        let event = Shop::decode(event_type, 1, payload.as_bytes()).expect("an event");
        Shop::evolve(states.entry(aggregate.clone()).or_default(), &event);
        *versions.entry(aggregate.clone()).or_default() += 1;
    };
    for item in items {
        let registered = r#"{"name":"n","supply_price":"1","vat":"0","is_tax_free":false,"stock":9,"member_id":1}"#;
        happened(item, "item.registered", registered);
        happened(item, "item.sale_allowed", "{}");
    }
    happened(items[0], "item.stock_reserved", r#"{"order_id":"o","quantity":1}"#);
    let line = r#"{"item_id":"pen","quantity":1,"price":"1.000","is_tax_free":false}"#;
    happened(order, "order.placed", &format!(r#"{{"member_id":1,"total_price":"1.000","lines":[{line}]}}"#));
    Known { receipts: HashMap::default(), states, versions, unreadable: HashSet::default(), hold_after_dead: false }
}

#[test]
fn a_job_locked_for_too_little_goes_back_and_nobody_overtakes_it_or_those_behind_it() {
    let (o, p) = (AggregateId::new("order", "o"), AggregateId::new("order", "p"));
    let (pen, ink, cap) =
        (AggregateId::new("item", "pen"), AggregateId::new("item", "ink"), AggregateId::new("item", "cap"));
    let both = r#"{"member_id":1,"lines":[{"item_id":"pen","quantity":1},{"item_id":"ink","quantity":1}]}"#;
    let one = r#"{"quantity":1}"#;
    let jobs = [
        // It was looked up before its order was placed, so its lock lacks the pen.
        planned("order.cancel", "o", r#"{"reason":"r"}"#, &[&o], 1),
        planned("item.restock", "pen", one, &[&pen], 2),
        planned("order.place", "p", both, &[&p, &pen, &ink], 3),
        planned("item.restock", "ink", one, &[&ink], 4),
        planned("item.restock", "cap", one, &[&cap], 5),
    ];
    let decided = decide(&jobs, known(&o, &[&pen, &ink, &cap]), 1);
    let applied = Verdict::Ends(Outcome::applied(Some((0, 0))));
    let expected = [Verdict::Again, Verdict::Again, Verdict::Again, Verdict::Again, applied];
    assert_eq!(decided.verdicts, expected);
}

#[test]
fn an_unreadable_aggregate_keeps_its_jobs_and_those_behind_them_back() {
    let (o, p) = (AggregateId::new("order", "o"), AggregateId::new("order", "p"));
    let (pen, ink) = (AggregateId::new("item", "pen"), AggregateId::new("item", "ink"));
    let both = r#"{"member_id":1,"lines":[{"item_id":"pen","quantity":1},{"item_id":"ink","quantity":1}]}"#;
    let jobs = [
        planned("order.place", "p", both, &[&p, &pen, &ink], 1),
        planned("item.restock", "ink", r#"{"quantity":1}"#, &[&ink], 2),
    ];
    let known = Known { unreadable: HashSet::from_iter([pen.clone()]), ..known(&o, &[&pen, &ink]) };
    assert_eq!(decide(&jobs, known, 1).verdicts, [Verdict::Unreadable, Verdict::Again]);
}

#[test]
fn a_receipt_is_looked_at_before_everything_else_and_an_id_is_good_for_one_job() {
    let (o, pen) = (AggregateId::new("order", "o"), AggregateId::new("item", "pen"));
    let restock = |turn| planned("item.restock", "pen", r#"{"quantity":1}"#, &[&pen], turn);
    let mut jobs = [restock(1), restock(1), restock(2), restock(2), restock(3)];
    // The same id again, once with the same content and once with another; and one that has a receipt and is too late.
    jobs[3].queued.job.fingerprint =
        planned("item.restock", "pen", r#"{"quantity":2}"#, &[&pen], 2).queued.job.fingerprint;
    jobs[4].queued.job.exp = Some(0);
    let receipt = StoredReceipt {
        outcome: "applied".into(),
        reason: None,
        positions: Some((7, 7)),
        fingerprint: jobs[4].queued.job.fingerprint,
        recorded_at: String::new(),
    };
    let known =
        Known { receipts: HashMap::from_iter([(jobs[4].queued.job.id, receipt.clone())]), ..known(&o, &[&pen]) };
    let verdicts = decide(&jobs, known, 1).verdicts;
    let applied = |index| Verdict::Ends(Outcome::applied(Some((index, index))));
    assert_eq!(verdicts, [applied(0), Verdict::Repeats(0), applied(1), Verdict::IdReused, Verdict::Duplicate(receipt)]);
}
