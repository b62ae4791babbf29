//! The rules of an order.

use crate::shop::kit::{Line, aggregate_id, given};
use crate::shop::{Shop, State};
use lockkeeper::domain::{Domain, Targets};

const PEN: Line = (
    "item/pen",
    "item.registered",
    r#"{"name":"Pen","supply_price":"1.000","vat":"0.100","is_tax_free":false,"stock":5,"member_id":7}"#,
);
const INK: Line = (
    "item/ink",
    "item.registered",
    r#"{"name":"Ink","supply_price":"20.000","vat":"0.000","is_tax_free":true,"stock":2,"member_id":7}"#,
);
const PEN_ALLOWED: Line = ("item/pen", "item.sale_allowed", "{}");
const INK_ALLOWED: Line = ("item/ink", "item.sale_allowed", "{}");
const SHELVES: [Line; 4] = [PEN, INK, PEN_ALLOWED, INK_ALLOWED];

const WISH: &str = r#"{"member_id":9,"lines":[{"item_id":"pen","quantity":3},{"item_id":"ink","quantity":2}]}"#;
const PLACED: [Line; 3] = [
    (
        "order/o1",
        "order.placed",
        r#"{"member_id":9,"total_price":"43.300","lines":[{"item_id":"pen","quantity":3,"price":"1.100","is_tax_free":false},{"item_id":"ink","quantity":2,"price":"20.000","is_tax_free":true}]}"#,
    ),
    ("item/pen", "item.stock_reserved", r#"{"order_id":"o1","quantity":3}"#),
    ("item/ink", "item.stock_reserved", r#"{"order_id":"o1","quantity":2}"#),
];
const CANCELLED: [Line; 3] = [
    ("order/o1", "order.cancelled", r#"{"reason":"changed my mind"}"#),
    ("item/pen", "item.stock_released", r#"{"order_id":"o1","quantity":3}"#),
    ("item/ink", "item.stock_released", r#"{"order_id":"o1","quantity":2}"#),
];
const REASON: &str = r#"{"reason":"changed my mind"}"#;

fn wish(lines: &str) -> String {
    format!(r#"{{"member_id":9,"lines":{lines}}}"#)
}

fn stock(world: &crate::shop::kit::World, item: &str) -> u32 {
    world.states[&aggregate_id(item)].item().unwrap().stock
}

#[test]
fn an_order_takes_every_line_out_of_stock_at_the_present_price() {
    given(&SHELVES).when("order.place", "o1", WISH).then(&PLACED);
    let world = given(&[&SHELVES[..], &PLACED].concat());
    assert_eq!((stock(&world, "item/pen"), stock(&world, "item/ink")), (2, 0));
}

#[test]
fn an_order_is_placed_once_even_if_it_was_cancelled() {
    let placed = [&SHELVES[..], &PLACED].concat();
    given(&placed).when("order.place", "o1", WISH).then_no("order_exists");
    let cancelled = [&placed[..], &CANCELLED].concat();
    given(&cancelled).when("order.place", "o1", WISH).then_no("order_exists");
    given(&placed).when("order.place", "o1", &wish(r#"[{"item_id":"x","quantity":1}]"#)).then_no("order_exists");
}

#[test]
fn every_item_must_be_known_on_sale_and_in_stock_in_the_order_of_the_lines() {
    given(&[PEN, PEN_ALLOWED]).when("order.place", "o1", WISH).then_no("item_not_found");
    given(&SHELVES[..3]).when("order.place", "o1", WISH).then_no("item_not_on_sale");
    let missing_after_denied = wish(r#"[{"item_id":"pen","quantity":9},{"item_id":"x","quantity":1}]"#);
    given(&[PEN]).when("order.place", "o1", &missing_after_denied).then_no("item_not_on_sale");
    given(&SHELVES).when("order.place", "o1", &missing_after_denied).then_no("item_stock_shortage");
    let missing_first = wish(r#"[{"item_id":"x","quantity":1},{"item_id":"pen","quantity":9}]"#);
    given(&SHELVES).when("order.place", "o1", &missing_first).then_no("item_not_found");
}

#[test]
fn an_order_takes_the_last_piece_and_not_one_more() {
    let five = wish(r#"[{"item_id":"pen","quantity":5}]"#);
    assert_eq!(given(&SHELVES).when("order.place", "o1", &five).events().len(), 2);
    for quantity in ["6", "4294967296", "4294967297", "18446744073709551616"] {
        let lines = format!(r#"[{{"item_id":"pen","quantity":{quantity}}}]"#);
        given(&SHELVES).when("order.place", "o1", &wish(&lines)).then_no("item_stock_shortage");
    }
}

#[test]
fn an_order_whose_total_no_column_holds_is_rejected_last() {
    let dear = PEN.2.replace("\"1.000\"", "\"9999999.899\"").replace(":5,", ":4294967295,");
    let history = [("item/pen", "item.registered", &*dear), PEN_ALLOWED, INK];
    let one = wish(r#"[{"item_id":"pen","quantity":1}]"#);
    assert_eq!(given(&history).when("order.place", "o1", &one).events().len(), 2);
    for quantity in ["2", "4294967295"] {
        let lines = format!(r#"[{{"item_id":"pen","quantity":{quantity}}}]"#);
        given(&history).when("order.place", "o1", &wish(&lines)).then_no("out_of_range");
    }
    let lines = wish(r#"[{"item_id":"pen","quantity":2},{"item_id":"ink","quantity":1}]"#);
    given(&history).when("order.place", "o1", &lines).then_no("item_not_on_sale");
}

#[test]
fn cancelling_gives_every_line_back() {
    let placed = [&SHELVES[..], &PLACED].concat();
    given(&placed).when("order.cancel", "o1", REASON).then(&CANCELLED);
    let world = given(&[&placed[..], &CANCELLED].concat());
    assert_eq!((stock(&world, "item/pen"), stock(&world, "item/ink")), (5, 2));
}

#[test]
fn cancelling_does_not_depend_on_what_became_of_the_items() {
    let since = [
        ("item/pen", "item.sale_denied", "{}"),
        ("item/pen", "item.repriced", r#"{"supply_price":"9.000","vat":"0.000"}"#),
    ];
    given(&[&SHELVES[..], &PLACED, &since].concat()).when("order.cancel", "o1", REASON).then(&CANCELLED);
}

#[test]
fn only_a_standing_order_is_cancelled() {
    given(&SHELVES).when("order.cancel", "o1", REASON).then_no("order_not_found");
    let cancelled = [&SHELVES[..], &PLACED, &CANCELLED].concat();
    given(&cancelled).when("order.cancel", "o1", REASON).then_no("order_already_cancelled");
}

#[test]
fn a_stock_without_room_takes_nothing_back() {
    let filled = [("item/ink", "item.restocked", r#"{"quantity":4294967294}"#)];
    let history = [&SHELVES[..], &PLACED, &filled].concat();
    given(&history).when("order.cancel", "o1", REASON).then_no("out_of_range");
}

#[test]
fn a_malformed_order_names_the_field() {
    let hundred_and_one: Vec<_> = (0..101).map(|n| format!(r#"{{"item_id":"{n}","quantity":1}}"#)).collect();
    let hundred_and_one = format!("[{}]", hundred_and_one.join(","));
    let long_id = format!(r#"[{{"item_id":"{}","quantity":1}}]"#, "é".repeat(65));
    for (lines, problem) in [
        ("[]", "data.lines must have 1 to 100 elements"),
        (&*hundred_and_one, "data.lines must have 1 to 100 elements"),
        ("{}", "data.lines must be a list"),
        ("null", "data.lines must be a list"),
        ("[7]", "data.lines[0] must be a JSON object"),
        ("[[\"pen\",1]]", "data.lines[0] must be a JSON object"),
        (r#"[{"quantity":1}]"#, "data.lines[0].item_id is missing"),
        (r#"[{"item_id":"","quantity":1}]"#, "data.lines[0].item_id must have 1 to 128 bytes"),
        (&long_id, "data.lines[0].item_id must have 1 to 128 bytes"),
        (r#"[{"item_id":"a\nb","quantity":1}]"#, "data.lines[0].item_id must not contain control characters"),
        (r#"[{"item_id":"a"}]"#, "data.lines[0].quantity is missing"),
        (r#"[{"item_id":"a","quantity":1,"quantity":1}]"#, "data.lines[0].quantity is given twice"),
        (r#"[{"item_id":"a","quantity":1.5}]"#, "data.lines[0].quantity must be an unsigned integer"),
        (
            r#"[{"item_id":"a","quantity":1},{"item_id":"b","quantity":1},{"item_id":"c","quantity":0}]"#,
            "data.lines[2].quantity must be at least 1",
        ),
        (
            r#"[{"item_id":"b","quantity":1},{"item_id":"a","quantity":1},{"item_id":"\u0061","quantity":1}]"#,
            "data.lines[2].item_id repeats the item of data.lines[1]",
        ),
    ] {
        given(&SHELVES).when("order.place", "o1", &wish(lines)).then_no(problem);
    }
    given(&SHELVES).when("order.place", "o1", r#"{"member_id":9}"#).then_no("data.lines is missing");
    given(&SHELVES)
        .when("order.place", "o1", r#"{"lines":[{"item_id":"a","quantity":1}]}"#)
        .then_no("data.member_id is missing");
}

#[test]
fn a_hundred_lines_are_not_too_many() {
    let lines: Vec<_> = (0..100).map(|n| format!(r#"{{"item_id":"{n}","quantity":1}}"#)).collect();
    let data = wish(&format!("[{}]", lines.join(",")));
    given(&SHELVES).when("order.place", "o1", &data).then_no("item_not_found");
    let Targets::Known(targets) = Shop::targets(&Shop::command("order.place", "o1", 1, &data).unwrap()) else {
        panic!("an order names its items")
    };
    assert_eq!(targets.len(), 101);
}

#[test]
fn a_cancellation_gives_a_reason() {
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(256));
    for (data, problem) in [
        ("{}", "is missing"),
        (r#"{"reason":null}"#, "must be text"),
        (r#"{"reason":""}"#, "must have 1 to 255 characters"),
        (&*long, "must have 1 to 255 characters"),
    ] {
        given(&SHELVES).when("order.cancel", "o1", data).then_no(&format!("data.reason {problem}"));
    }
}

#[test]
fn an_order_touches_itself_and_its_items() {
    let all = ["order/o1", "item/pen", "item/ink"].map(aggregate_id);
    let place = Shop::command("order.place", "o1", 1, WISH).unwrap();
    assert_eq!(Shop::targets(&place), Targets::Known(all.to_vec()));
    assert_eq!(Shop::resolve(&place, &State::Nothing), all);

    let cancel = Shop::command("order.cancel", "o1", 1, REASON).unwrap();
    assert_eq!(Shop::targets(&cancel), Targets::FromStateOf(all[0].clone()));
    assert_eq!(Shop::resolve(&cancel, &State::Nothing), all[..1]);
    let world = given(&[&SHELVES[..], &PLACED].concat());
    assert_eq!(Shop::resolve(&cancel, &world.states[&all[0]]), all);
}

#[test]
fn a_cancellation_of_an_unknown_order_has_no_effect() {
    let world = given(&CANCELLED[..1]);
    assert_eq!(world.states[&aggregate_id("order/o1")].order(), None);
}
