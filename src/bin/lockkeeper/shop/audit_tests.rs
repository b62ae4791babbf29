use std::collections::HashSet;

use lockkeeper::audit::{Audit, Checks, Row};
use lockkeeper::job::{Fingerprint, JobId};
use lockkeeper::store::{RecordedEvent, StoredReceipt, StoredSnapshot};

use super::promises::{LOGGED, TABLES};
use super::{Promises, Shop};

const PEN: &str = r#"{"name":"Pen","supply_price":"1.000","vat":"0.100","is_tax_free":false,"stock":5,"member_id":7}"#;
const PLACED: &str = r#"{"member_id":9,"total_price":"3.300","lines":[{"item_id":"pen","quantity":3,"price":"1.100","is_tax_free":false}]}"#;
const MOVED: &str = r#"{"order_id":"o1","quantity":3}"#;

const PEN_WITH_TWO: &str = r#"{"item":{"name":"Pen","supply_price":"1.000","vat":"0.100","is_tax_free":false,"is_on_sale":true,"stock":2,"member_id":7}}"#;

/// All that an audit reads.
#[derive(Clone)]
struct Data {
    pushed: HashSet<JobId>,
    receipts: Vec<(JobId, StoredReceipt)>,
    events: Vec<RecordedEvent>,
    rows: [Vec<Row>; 3],
    /// The read model of the log, up to this position.
    sales: (u64, Vec<Row>),
    snapshots: Vec<StoredSnapshot>,
    sequence: u64,
}

fn job(number: u128) -> JobId {
    JobId(uuid::Uuid::from_u128(number))
}

fn snapshot(aggregate: &str, version: u64, state: &str) -> StoredSnapshot {
    let (kind, id) = aggregate.split_once('/').unwrap();
    let (aggregate_type, aggregate_id) = (kind.to_owned(), id.to_owned());
    StoredSnapshot { aggregate_type, aggregate_id, version, schema_version: 1, state: state.into() }
}

fn row(text: &str) -> Row {
    text.split('|').map(str::to_owned).collect()
}

/// A shop in which job 1 registered five pens, 2 put them on sale, 3 ordered three, 4 was rejected, 5 restocked two.
fn sound() -> Data {
    let mut data = Data {
        pushed: (1..=5).map(job).collect(),
        receipts: Vec::new(),
        events: Vec::new(),
        rows: [
            vec![row("pen|Pen|1.000|0.100|1.100|0|4|ALLOW|7|4")],
            vec![row("o1|9|3.300|PLACED|1")],
            vec![row("o1|pen|1.100|3|0")],
        ],
        sales: (5, vec![row("2026-01-31|1|3.300|0")]),
        snapshots: vec![snapshot("item/pen", 3, PEN_WITH_TWO)],
        sequence: 5,
    };
    data.receive(1, "applied", Some((1, 1)));
    data.receive(2, "applied", Some((2, 2)));
    data.receive(3, "applied", Some((3, 4)));
    data.receive(4, "rejected", None);
    data.receive(5, "applied", Some((5, 5)));
    data.append(1, "item/pen", 1, "item.registered", PEN);
    data.append(2, "item/pen", 2, "item.sale_allowed", "{}");
    data.append(3, "order/o1", 1, "order.placed", PLACED);
    data.append(3, "item/pen", 3, "item.stock_reserved", MOVED);
    data.append(5, "item/pen", 4, "item.restocked", r#"{"quantity":2}"#);
    data
}

impl Data {
    fn receive(&mut self, number: u128, outcome: &str, positions: Option<(u64, u64)>) {
        let (outcome, recorded_at) = (outcome.to_owned(), "2026-01-31 12:00:00.000000".to_owned());
        let receipt =
            StoredReceipt { outcome, reason: None, positions, fingerprint: Fingerprint([0; 16]), recorded_at };
        self.receipts.push((job(number), receipt));
    }

    fn append(&mut self, number: u128, aggregate: &str, version: u64, event_type: &str, payload: &str) {
        let (aggregate_type, aggregate_id) = aggregate.split_once('/').unwrap();
        let position = self.events.len() as u64 + 1;
        self.events.push(RecordedEvent {
            event_id: uuid::Uuid::nil(),
            position,
            aggregate_type: aggregate_type.to_owned(),
            aggregate_id: aggregate_id.to_owned(),
            version,
            event_type: event_type.to_owned(),
            schema_version: 1,
            payload: payload.into(),
            metadata: format!(r#"{{"job":"{}"}}"#, job(number)).into(),
            recorded_at: format!("2026-01-31 12:00:00.00000{position}"),
        });
    }

    fn audit(self) -> Audit {
        let (upto, sales) = self.sales;
        let mut checks = Checks::<Shop>::new(Box::new(Promises::default())).up_to(&[("sales_per_day", upto)]);
        self.receipts.into_iter().for_each(|(job, receipt)| checks.receipt(job, receipt));
        self.snapshots.into_iter().for_each(|snapshot| checks.snapshot(snapshot));
        self.events.iter().for_each(|event| checks.event(event));
        for (table, rows) in TABLES.iter().zip(self.rows) {
            rows.into_iter().for_each(|row| checks.row(table, row));
        }
        sales.into_iter().for_each(|row| checks.logged_row(&LOGGED[0].table, row));
        checks.finish(self.sequence, Some(&self.pushed))
    }
}

/// The lines that fail once the data is damaged, as `name: detail`.
fn failing(damage: impl FnOnce(&mut Data)) -> Vec<String> {
    let mut data = sound();
    damage(&mut data);
    let failed = data.audit().lines.into_iter().filter(|line| !line.passed);
    failed.map(|line| format!("{}: {}", line.name, line.detail)).collect()
}

/// Exactly one line fails, and says this.
#[track_caller]
fn assert_fails(damage: impl FnOnce(&mut Data), expected: &str) {
    assert_eq!(failing(damage), [expected]);
}

fn id(number: u128) -> String {
    job(number).to_string()
}

#[test]
fn a_sound_shop_passes() {
    let audit = sound().audit();
    assert!(audit.passed(), "{audit}");
    assert_eq!(audit.lines.len(), 9);
}

#[test]
fn an_empty_shop_passes() {
    let (pushed, rows) = (HashSet::new(), Default::default());
    let data =
        Data { pushed, receipts: vec![], events: vec![], rows, sales: (0, vec![]), snapshots: vec![], sequence: 0 };
    assert!(data.audit().passed());
}

#[test]
fn every_pushed_job_has_one_receipt_and_no_other_has_one() {
    let line = "jobs in = receipts";
    assert_fails(|data| drop(data.receipts.remove(3)), &format!("{line}: job {} has no receipt", id(4)));
    assert_fails(
        |data| data.receive(6, "rejected", None),
        &format!("{line}: the receipt of {} is of no job that was pushed", id(6)),
    );
    assert_fails(|data| data.receive(4, "rejected", None), &format!("{line}: job {} has two receipts", id(4)));
}

#[test]
fn what_was_pushed_need_not_be_known() {
    let mut checks = Checks::<Shop>::new(Box::new(Promises::default()));
    let (job, receipt) = sound().receipts.remove(3);
    checks.receipt(job, receipt);
    assert!(checks.finish(0, None).passed());
}

#[test]
fn a_receipts_positions_are_those_of_its_events() {
    let line = "each event belongs to one applied job";
    assert_fails(
        |data| data.receipts[2].1.positions = Some((3, 3)),
        &format!("{line}: the receipt of {} says events 3..3, its events are 3..4", id(3)),
    );
    assert_fails(
        |data| data.receipts[3].1.positions = Some((6, 6)),
        &format!("{line}: the receipt of {} says events 6..6, its events are none", id(4)),
    );
    assert_fails(
        |data| data.receipts[2].1.outcome = "rejected".to_owned(),
        &format!("{line}: job {} is rejected and has events", id(3)),
    );
    assert_fails(
        |data| data.events[4].metadata = br#"{"src":"x"}"#.to_vec(),
        &format!(
            "{line}: event 5 does not say which job it is of; the receipt of {} says events 5..5, its events are none",
            id(5)
        ),
    );
    let of_another = failing(|data| data.events[4].metadata = format!(r#"{{"job":"{}"}}"#, id(9)).into());
    assert!(of_another[0].contains(&format!("event 5 is of job {}, which has no receipt", id(9))), "{of_another:?}");
    let apart = failing(|data| data.events[4].metadata = format!(r#"{{"job":"{}"}}"#, id(2)).into());
    assert!(apart[0].contains(&format!("event 5 of job {} is apart from its others", id(2))), "{apart:?}");
}

#[test]
fn versions_have_no_gap() {
    let line = "versions gapless";
    assert_fails(
        |data| {
            data.events[4].version = 5;
            data.rows[0][0][9] = "5".to_owned();
        },
        &format!("{line}: item/pen has version 5 where 4 should be"),
    );
    assert_fails(
        |data| {
            data.events[4].version = 3;
            data.rows[0][0][9] = "3".to_owned();
        },
        &format!("{line}: item/pen has version 3 where 4 should be"),
    );
}

#[test]
fn positions_are_dense_and_in_commit_order() {
    let line = "positions dense, in commit order";
    assert_fails(|data| data.sequence = 6, &format!("{line}: the sequence row says 6, the last event has 5"));
    assert_fails(
        |data| data.events[4].recorded_at = "2026-01-31 12:00:00.000003".to_owned(),
        &format!("{line}: event 5 is older than the one before it"),
    );
    assert_fails(
        |data| {
            data.events[4].position = 6;
            data.receipts[4].1.positions = Some((6, 6));
            data.sequence = 6;
        },
        &format!("{line}: position 6 stands where 5 should"),
    );
}

#[test]
fn no_item_is_oversold_even_when_it_is_restocked_later() {
    let damage = |data: &mut Data| {
        data.events[0].payload = PEN.replace("\"stock\":5", "\"stock\":2").into();
        data.snapshots.clear();
        data.rows[0][0][6] = "2".to_owned();
    };
    assert_fails(damage, "no item oversold: order o1 took 3 of pen with 2 left");
}

#[test]
fn what_orders_hold_and_what_is_left_is_what_was_supplied() {
    let line = "stock + reserved = registered + restocked";
    let half_reserved = |data: &mut Data| {
        data.events[3].payload = MOVED.replace('3', "2").into();
        data.snapshots.clear();
        data.rows[0][0][6] = "5".to_owned();
    };
    assert_fails(half_reserved, &format!("{line}: pen: 5 in stock + 3 reserved, but 7 supplied"));
    let cancelled_without_release = |data: &mut Data| {
        data.append(6, "order/o1", 2, "order.cancelled", r#"{"reason":"r"}"#);
        data.receive(6, "applied", Some((6, 6)));
        data.pushed.insert(job(6));
        data.sequence = 6;
        data.rows[1][0] = row("o1|9|3.300|CANCELLED|2");
    };
    assert_fails(cancelled_without_release, &format!("{line}: pen: 4 in stock + 0 reserved, but 7 supplied"));
    let of_no_item = |data: &mut Data| {
        data.append(6, "order/o2", 1, "order.placed", &PLACED.replace("pen", "ink"));
        data.receive(6, "applied", Some((6, 6)));
        data.pushed.insert(job(6));
        data.sequence = 6;
        data.rows[1].push(row("o2|9|3.300|PLACED|1"));
        data.rows[2].push(row("o2|ink|1.100|3|0"));
    };
    assert_fails(of_no_item, &format!("{line}: ink: 3 reserved of an item without events"));
}

#[test]
fn read_models_equal_the_fold_in_both_directions() {
    let line = "read models = fold of the events";
    for (number, table) in TABLES.iter().enumerate() {
        let key = sound().rows[number][0][..table.key.len()].join(" ");
        let name = table.name;
        assert_fails(|data| drop(data.rows[number].pop()), &format!("{line}: {name} {key} is missing"));
        let surplus = |data: &mut Data| {
            let mut row = data.rows[number][0].clone();
            row[0] = "more".to_owned();
            data.rows[number].push(row);
        };
        let more = key.split_once(' ').map_or("more".to_owned(), |(_, rest)| format!("more {rest}"));
        assert_fails(surplus, &format!("{line}: {name} {more} should not be there"));
    }
}

#[test]
fn every_column_of_a_read_model_counts() {
    for (number, table) in TABLES.iter().enumerate() {
        let row = &sound().rows[number][0];
        for (column, should) in row.iter().enumerate().skip(table.key.len()) {
            let failed = failing(|data| data.rows[number][0][column].push('0'));
            assert!(failed[0].ends_with(&format!(" is {should}0, should be {should}")), "{failed:?}");
            assert_eq!(failed.len(), 1);
        }
    }
}

#[test]
fn snapshots_equal_the_fold_up_to_their_version() {
    let line = "snapshots = fold up to their version";
    let one = |stored| move |data: &mut Data| data.snapshots = vec![stored];
    let more = PEN_WITH_TWO.replace("\"stock\":2", "\"stock\":4");
    assert_fails(one(snapshot("item/pen", 3, &more)), &format!("{line}: item/pen v3 is not what its events add up to"));
    assert_eq!(failing(one(snapshot("item/pen", 4, &more))), [""; 0]);
    let gone = format!("{line}: item/pen v9 is of an event that is not there");
    assert_fails(one(snapshot("item/pen", 9, PEN_WITH_TWO)), &gone);
    assert_fails(
        one(snapshot("stock/pen", 3, PEN_WITH_TWO)),
        &format!("{line}: stock/pen: there is no aggregate type stock"),
    );
    let damaged = failing(one(snapshot("item/pen", 3, "{")));
    assert!(damaged[0].starts_with(&format!("{line}: item/pen v3: EOF")), "{damaged:?}");
    let of_another_schema = StoredSnapshot { schema_version: 9, ..snapshot("item/pen", 3, "{") };
    assert_eq!(failing(one(of_another_schema)), [""; 0]);
}

#[test]
fn an_event_that_cannot_be_read_is_told() {
    let failed = failing(|data| data.events[4].event_type = "item.mended".to_owned());
    assert!(failed[0].starts_with("read models = fold of the events: event 5: event item.mended v1"), "{failed:?}");
}

#[test]
fn of_many_problems_the_first_are_told() {
    let damage = |data: &mut Data| data.pushed.extend((10..20).map(job));
    let failed = failing(damage);
    assert!(failed[0].starts_with("jobs in = receipts: 10 problems, first: job "), "{failed:?}");
}

#[test]
fn a_read_model_of_the_log_has_its_events_up_to_the_checkpoint_and_no_others() {
    let line = "read models of the log = its events";
    let sales = |upto, rows: &[&str]| (upto, rows.iter().map(|text| row(text)).collect::<Vec<_>>());
    assert!(failing(|data| data.sales = sales(2, &[])).is_empty(), "the order comes behind the checkpoint");
    for (upto, rows, problem) in [
        (5, &["2026-01-31|1|3.400|0"][..], "sales_per_day 2026-01-31: revenue is 3.400, should be 3.300"),
        (5, &[], "sales_per_day 2026-01-31 is missing"),
        (2, &["2026-01-31|1|3.300|0"], "sales_per_day 2026-01-31 should not be there"),
    ] {
        assert_fails(|data| data.sales = sales(upto, rows), &format!("{line}: {problem}"));
    }
    let failed = failing(|data| data.events[2].recorded_at = "yesterday".to_owned());
    assert!(failed.iter().any(|line| line.contains("event 3: yesterday is no time")), "{failed:?}");
}
