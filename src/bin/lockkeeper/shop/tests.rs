//! What holds for the shop as a whole: its lists, its stored events, and its books over any sequence of jobs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::kit::World;
use super::money::Money;
use super::{Event, Shop, State};
use crate::shop::order::Status;
use crate::shop::{item, order};
use lockkeeper::domain::declare::Empty;
use lockkeeper::domain::{AggregateId, Domain};
use lockkeeper::testing::{Line, golden};

#[test]
fn every_stored_event_is_read_and_written_as_ever() {
    golden::events::<Shop>(super::GOLDEN);
}

/// What leads to every kind of state.
pub(super) const HISTORY: &[Line<'_>] = &[
    (
        "item/pen",
        "item.registered",
        r#"{"name":"Pen","supply_price":"1.000","vat":"0.100","is_tax_free":false,"stock":6,"member_id":7}"#,
    ),
    ("item/pen", "item.sale_allowed", "{}"),
    ("item/pen", "item.stock_reserved", r#"{"order_id":"o-1","quantity":2}"#),
    (
        "order/o-1",
        "order.placed",
        r#"{"member_id":9,"total_price":"2.200","lines":[{"item_id":"pen","quantity":2,"price":"1.100","is_tax_free":true}]}"#,
    ),
    ("order/o-2", "order.placed", r#"{"member_id":9,"total_price":"0.000","lines":[]}"#),
    ("order/o-2", "order.cancelled", r#"{"reason":"r"}"#),
];

#[test]
fn every_stored_state_is_read_and_written_as_ever() {
    golden::states::<Shop>(include_str!("golden.states"), HISTORY);
    let stranger = r#"{"item":{"name":"Pen","supply_price":"1.000","vat":"0.100","is_tax_free":false,"is_on_sale":true,"member_id":7}}"#;
    assert!(serde_json::from_str::<State>(stranger).is_err(), "no field is made up");
}

#[test]
fn the_lists_are_complete_and_hold_no_name_twice() {
    assert_eq!(Shop::AGGREGATES, ["item", "order"]);
    assert_eq!((Shop::JOBS.len(), Shop::EVENTS.len(), Shop::REJECTIONS.len()), (7, 9, 8));
    for list in [Shop::JOBS, Shop::EVENTS, Shop::REJECTIONS] {
        assert_eq!(list.iter().collect::<HashSet<_>>().len(), list.len());
        assert!(list.iter().all(|name| !name.is_empty()));
    }
}

#[test]
fn every_job_is_about_the_aggregate_it_is_named_for() {
    for job in Shop::JOBS {
        let subject = Shop::subject(job).unwrap();
        assert!(Shop::AGGREGATES.contains(&subject));
        assert!(job.starts_with(&format!("{subject}.")));
    }
    for unknown in ["", "item", "item.", "item.registered", "ITEM.REGISTER", "order.place "] {
        assert_eq!(Shop::subject(unknown), None);
    }
}

#[test]
fn an_unknown_event_is_undecodable() {
    for (event_type, version, payload) in [
        ("item.vanished", 1, &b"{}"[..]),
        ("item.sale_allowed", 2, b"{}"),
        ("item.sale_allowed", 0, b"{}"),
        ("item.sale_allowed", 1, b""),
        ("item.restocked", 1, b"{}"),
        ("item.restocked", 1, br#"{"quantity":4294967296}"#),
        ("item.restocked", 1, br#"{"quantity":-1}"#),
        ("item.repriced", 1, br#"{"supply_price":1.5,"vat":"0"}"#),
        ("item.repriced", 1, br#"{"supply_price":"10000000","vat":"0"}"#),
        ("order.cancelled", 1, b"{\"reason\":\"\xff\"}"),
    ] {
        let error = Shop::decode(event_type, version, payload).unwrap_err();
        assert_eq!((&*error.event_type, error.schema_version), (event_type, version));
        assert!(!error.problem.is_empty());
    }
    let huge = format!(r#"{{"quantity":"{}"}}"#, "x".repeat(100_000));
    assert!(Shop::decode("item.restocked", 1, huge.as_bytes()).unwrap_err().problem.len() <= 200);
}

#[test]
fn data_must_be_one_json_object() {
    let problem = |data: &str| Shop::command("item.allow_sale", "pen", 1, data).unwrap_err().to_string();
    for data in ["null", "7", "\"{}\"", "[]", "[{}]", &"[".repeat(100_000)] {
        assert_eq!(problem(data), "data must be a JSON object");
    }
    for data in ["", " ", "{", "{}}", "{} {}", "{\"a\"}", "{'a':1}", "{\"a\":1,}", "{\"a\":\"\n\"}", "nothing"] {
        assert!(problem(data).starts_with("data is not valid JSON: "), "{data}: {}", problem(data));
        assert!(problem(data).len() < 120);
    }
    for data in ["{}", " {\n} ", "{\"a\":1,\"a\":[2]}", "{\"\":null}"] {
        assert!(Shop::command("item.allow_sale", "pen", 1, data).is_ok(), "{data}");
    }
}

#[test]
fn depth_is_harmless() {
    for depth in [127, 128, 200, 100_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{}7{}", open.repeat(depth), close.repeat(depth));
            let known = Shop::command("item.restock", "pen", 1, &format!("{{\"quantity\":{deep}}}"));
            assert_eq!(known.unwrap_err().to_string(), "data.quantity must be an unsigned integer");
            let unknown = Shop::command("item.restock", "pen", 1, &format!("{{\"x\":{deep},\"quantity\":1}}"));
            assert!(unknown.is_ok());
            let lines = Shop::command("order.place", "o", 1, &format!("{{\"member_id\":1,\"lines\":{deep}}}"));
            assert!(lines.is_err());
        }
    }
}

#[test]
fn only_the_first_schema_version_is_known() {
    for version in [0, 2, u16::MAX] {
        let error = Shop::command("item.allow_sale", "pen", version, "{}").unwrap_err();
        assert_eq!(error.to_string(), "v must be 1");
    }
    assert_eq!(Shop::command("item.vanish", "pen", 1, "{}").unwrap_err().to_string(), "type is unknown");
}

#[test]
fn an_item_is_small_enough_to_clone_for_every_batch() {
    assert!(size_of::<State>() <= 64);
}

fn money() -> impl Strategy<Value = Money> {
    (0..=9_999_999_999_u64).prop_map(Money::from_thousandths)
}

fn text() -> impl Strategy<Value = Arc<str>> {
    any::<String>().prop_map(Arc::from)
}

fn moved() -> impl Strategy<Value = item::StockMoved> {
    (text(), any::<u32>()).prop_map(|(order_id, quantity)| item::StockMoved { order_id, quantity })
}

fn item_event() -> impl Strategy<Value = item::Event> {
    let registered = (text(), money(), money(), any::<bool>(), any::<u32>(), any::<u64>()).prop_map(
        |(name, supply_price, vat, is_tax_free, stock, member_id)| {
            item::Event::Registered(item::Registered { name, supply_price, vat, is_tax_free, stock, member_id })
        },
    );
    prop_oneof![
        registered,
        any::<u32>().prop_map(|quantity| item::Event::Restocked(item::Restocked { quantity })),
        (money(), money()).prop_map(|(supply_price, vat)| item::Event::Repriced(item::Repriced { supply_price, vat })),
        Just(item::Event::SaleAllowed(Empty {})),
        Just(item::Event::SaleDenied(Empty {})),
        moved().prop_map(item::Event::StockReserved),
        moved().prop_map(item::Event::StockReleased),
    ]
}

fn order_event() -> impl Strategy<Value = order::Event> {
    let line = (text(), any::<u32>(), money(), any::<bool>())
        .prop_map(|(item_id, quantity, price, is_tax_free)| order::Line { item_id, quantity, price, is_tax_free });
    let placed =
        (any::<u64>(), money(), proptest::collection::vec(line, 0..5)).prop_map(|(member_id, total_price, lines)| {
            order::Event::Placed(order::Placed { member_id, total_price, lines: lines.into() })
        });
    prop_oneof![placed, text().prop_map(|reason| order::Event::Cancelled(order::Cancelled { reason }))]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![item_event().prop_map(Event::Item), order_event().prop_map(Event::Order)]
}

/// A job as it comes in, sometimes beyond every limit.
#[derive(Clone, Debug)]
struct Job {
    job_type: &'static str,
    key: String,
    data: String,
}

fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..40_u64, 1 => Just(u64::from(u32::MAX) - 20), 1 => Just(u64::from(u32::MAX) + 1)]
}

fn price() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just("0.5"), 1 => Just("\"300000.001\""), 1 => Just("9999999.999"), 1 => Just("10000000")]
}

fn an_item() -> impl Strategy<Value = String> {
    (0..4).prop_map(|n| format!("item-{n}"))
}

fn job() -> impl Strategy<Value = Job> {
    let on_item = |job_type, data: BoxedStrategy<String>| {
        (an_item(), data).prop_map(move |(key, data)| Job { job_type, key, data })
    };
    let register = (price(), price(), amount()).prop_map(|(supply_price, vat, stock)| {
        format!(
            r#"{{"name":"x","supply_price":{supply_price},"vat":{vat},"is_tax_free":true,"stock":{stock},"member_id":1}}"#
        )
    });
    let reprice = (price(), price()).prop_map(|(price, vat)| format!(r#"{{"supply_price":{price},"vat":{vat}}}"#));
    let quantity = || amount().prop_map(|quantity| format!(r#"{{"quantity":{quantity}}}"#));
    let empty = || Just("{}".to_owned());
    let lines = proptest::collection::vec((an_item(), amount()), 1..4).prop_map(|lines| {
        let lines = lines.iter().map(|(id, quantity)| format!(r#"{{"item_id":"{id}","quantity":{quantity}}}"#));
        format!(r#"{{"member_id":1,"lines":[{}]}}"#, lines.collect::<Vec<_>>().join(","))
    });
    let on_order = |job_type, data: BoxedStrategy<String>| {
        (0..8, data).prop_map(move |(n, data)| Job { job_type, key: format!("order-{n}"), data })
    };
    prop_oneof![
        2 => on_item("item.register", register.boxed()),
        1 => on_item("item.restock", quantity().boxed()),
        1 => on_item("item.reprice", reprice.boxed()),
        3 => on_item("item.allow_sale", empty().boxed()),
        1 => on_item("item.deny_sale", empty().boxed()),
        6 => on_order("order.place", lines.boxed()),
        2 => on_order("order.cancel", Just(r#"{"reason":"r"}"#.to_owned()).boxed()),
    ]
}

/// What came in: every registered and restocked piece, by item.
#[derive(Default)]
struct Books(HashMap<AggregateId, u64>);

impl Books {
    fn enter(&mut self, aggregate: &AggregateId, event: &Event) {
        match event {
            Event::Item(item::Event::Registered(new)) => *self.entry(aggregate) += u64::from(new.stock),
            Event::Item(item::Event::Restocked(more)) => *self.entry(aggregate) += u64::from(more.quantity),
            Event::Item(_) | Event::Order(_) => {}
        }
    }

    fn entry(&mut self, aggregate: &AggregateId) -> &mut u64 {
        self.0.entry(aggregate.clone()).or_default()
    }

    /// Every piece is on a shelf or in a standing order.
    fn balance(&self, world: &World) -> Result<(), TestCaseError> {
        let mut found: HashMap<AggregateId, u64> = HashMap::new();
        for (aggregate, state) in &world.states {
            if let Some(item) = state.item() {
                *found.entry(aggregate.clone()).or_default() += u64::from(item.stock);
                prop_assert!(item.total_price().fits());
            }
            for line in state.order().iter().filter(|order| order.status == Status::Placed).flat_map(|o| &*o.lines) {
                *found.entry(line.item()).or_default() += u64::from(line.quantity);
            }
            if let Some(order) = state.order() {
                let sum = order.lines.iter().fold(Money::default(), |sum, l| sum.plus(l.price.times(l.quantity)));
                prop_assert_eq!(order.total_price, sum);
                prop_assert!(sum.fits());
            }
        }
        prop_assert_eq!(&found, &self.0);
        Ok(())
    }
}

proptest! {
    #[test]
    fn an_event_survives_its_stored_form(event in event()) {
        let stored = Shop::encode(&event);
        prop_assert!(Shop::EVENTS.contains(&stored.event_type));
        let read = Shop::decode(stored.event_type, stored.schema_version, stored.payload.as_bytes());
        prop_assert_eq!(read, Ok(event));
    }

    /// Any history at all, be it one that decisions lead to or not, so any state that a log can add up to.
    #[test]
    fn a_stored_state_and_the_events_after_it_add_up_to_what_all_events_do(
        events in proptest::collection::vec(event(), 0..30), at in any::<prop::sample::Index>(),
    ) {
        let (before, after) = events.split_at(at.index(events.len() + 1));
        let (mut whole, mut stored) = (State::default(), State::default());
        events.iter().for_each(|event| Shop::evolve(&mut whole, event));
        before.iter().for_each(|event| Shop::evolve(&mut stored, event));
        let json = serde_json::to_vec(&stored).unwrap();
        let mut read: State = serde_json::from_slice(&json).unwrap();
        prop_assert_eq!(&read, &stored);
        after.iter().for_each(|event| Shop::evolve(&mut read, event));
        prop_assert_eq!(read, whole);
    }

    #[test]
    fn no_history_panics(events in proptest::collection::vec(event(), 0..30)) {
        let mut state = State::default();
        for event in &events {
            Shop::evolve(&mut state, event);
        }
    }

    /// The stock never goes below zero either: it is unsigned, and the books would not balance.
    #[test]
    fn every_piece_is_accounted_for_after_any_sequence_of_jobs(jobs in proptest::collection::vec(job(), 0..120)) {
        let mut decided = World::default();
        let mut replayed = World::default();
        let mut books = Books::default();
        for job in &jobs {
            for new in decided.when(job.job_type, &job.key, &job.data).events() {
                let stored = Shop::encode(&new.event);
                replayed.replay(&new.aggregate, stored.event_type, &stored.payload);
                books.enter(&new.aggregate, &new.event);
                Shop::evolve(decided.states.entry(new.aggregate).or_default(), &new.event);
            }
            books.balance(&decided)?;
        }
        prop_assert_eq!(decided, replayed);
    }

    #[test]
    fn no_bytes_make_a_command_panic(job in 0..7_usize, key in any::<String>(), data in any::<Vec<u8>>()) {
        let _ = Shop::command(Shop::JOBS[job], &key, 1, &String::from_utf8_lossy(&data));
    }

    /// Nearly right data reaches deeper than random bytes do.
    #[test]
    fn no_slip_makes_a_command_panic(job in job(), at in any::<prop::sample::Index>(), slip in "[\\]\\[{}\",:\\\\0-9a-zé.+-]{0,3}") {
        let mut chars: Vec<char> = job.data.chars().collect();
        let at = at.index(chars.len());
        chars.splice(at..=at, slip.chars());
        if let Err(error) = Shop::command(job.job_type, &job.key, 1, &chars.into_iter().collect::<String>()) {
            prop_assert!(error.field.starts_with("data"));
            prop_assert!(error.to_string().len() < 200);
        }
    }
}
