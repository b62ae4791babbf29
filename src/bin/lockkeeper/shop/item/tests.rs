//! The rules of an item.

use crate::shop::kit::{Line, given};

const PEN: &str = r#"{"name":"Pen","supply_price":"1.000","vat":"0.100","is_tax_free":false,"stock":5,"member_id":7}"#;
const REGISTERED: Line = ("item/pen", "item.registered", PEN);

/// The data of a registration with `field` set to `value`, or left out when that is empty.
fn pen_with(field: &str, value: &str) -> String {
    let fields = [
        ("name", "\"Pen\""),
        ("supply_price", "1"),
        ("vat", "0.1"),
        ("is_tax_free", "false"),
        ("stock", "5"),
        ("member_id", "7"),
    ];
    let fields = fields.map(|(name, usual)| (name, if name == field { value } else { usual }));
    let fields = fields.iter().filter(|(_, value)| !value.is_empty());
    let fields: Vec<_> = fields.map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn restocked_to_the_limit() -> [Line<'static>; 2] {
    [REGISTERED, ("item/pen", "item.restocked", r#"{"quantity":4294967290}"#)]
}

#[test]
fn a_registered_item_is_known_and_not_on_sale() {
    given(&[]).when("item.register", "pen", &pen_with("", "")).then(&[REGISTERED]);
    let world = given(&[REGISTERED]);
    let item = world.states.values().next().unwrap().item().unwrap();
    assert!(!item.is_on_sale);
    assert_eq!(item.total_price().to_string(), "1.100");
}

#[test]
fn an_item_is_registered_once() {
    given(&[REGISTERED]).when("item.register", "pen", &pen_with("name", "\"Other\"")).then_no("item_exists");
    given(&[REGISTERED]).when("item.register", "pen", &pen_with("stock", "4294967296")).then_no("item_exists");
}

#[test]
fn a_registration_stays_within_the_columns() {
    let event = PEN.replace("\"1.000\"", "\"9999999.899\"").replace(":5,", ":4294967295,");
    let data = pen_with("supply_price", "9999999.899").replace(":5,", ":4294967295,");
    given(&[]).when("item.register", "pen", &data).then(&[("item/pen", "item.registered", &event)]);
    for (field, value) in [
        ("supply_price", "9999999.900"),
        ("supply_price", "\"10000000\""),
        ("vat", "99999999999999999999999999999999999999"),
        ("stock", "4294967296"),
        ("stock", "99999999999999999999999999999999999999"),
    ] {
        given(&[]).when("item.register", "pen", &pen_with(field, value)).then_no("out_of_range");
    }
}

#[test]
fn an_item_may_be_registered_before_there_is_any() {
    let event = PEN.replace(":5,", ":0,");
    let outcome = given(&[]).when("item.register", "pen", &pen_with("stock", "0"));
    outcome.then(&[("item/pen", "item.registered", &event)]);
}

#[test]
fn money_is_exact_however_it_is_written() {
    for (written, stored) in [("7", "7.000"), ("7.5", "7.500"), ("\"7.500\"", "7.500"), ("\"0.001\"", "0.001")] {
        let event = PEN.replace("1.000", stored);
        let outcome = given(&[]).when("item.register", "pen", &pen_with("supply_price", written));
        outcome.then(&[("item/pen", "item.registered", &event)]);
    }
}

#[test]
fn a_malformed_registration_names_the_field() {
    let long = format!("\"{}\"", "é".repeat(256));
    for (field, value, problem) in [
        ("name", "", "data.name is missing"),
        ("name", "null", "data.name must be text"),
        ("name", "7", "data.name must be text"),
        ("name", "\"\"", "data.name must have 1 to 255 characters"),
        ("name", &long, "data.name must have 1 to 255 characters"),
        ("name", r#""a\u0007b""#, "data.name must not contain control characters"),
        ("name", r#""\ud800""#, "data.name has an invalid escape sequence"),
        ("name", r#""Pen","name":"Pen""#, "data.name is given twice"),
        ("supply_price", "", "data.supply_price is missing"),
        ("supply_price", "-1", "data.supply_price must not be negative"),
        ("supply_price", "\"-1\"", "data.supply_price must not be negative"),
        ("supply_price", "1.0001", "data.supply_price must have at most three decimals"),
        ("vat", "1e2", "data.vat must be a decimal number like 7 or \"7.500\""),
        ("vat", "true", "data.vat must be a decimal number like 7 or \"7.500\""),
        ("is_tax_free", "0", "data.is_tax_free must be true or false"),
        ("stock", "-1", "data.stock must be an unsigned integer"),
        ("stock", "5.0", "data.stock must be an unsigned integer"),
        ("stock", "\"5\"", "data.stock must be an unsigned integer"),
        ("member_id", "1e2", "data.member_id must be an unsigned integer"),
        ("member_id", "18446744073709551616", "data.member_id must be at most 18446744073709551615"),
    ] {
        given(&[]).when("item.register", "pen", &pen_with(field, value)).then_no(problem);
    }
}

#[test]
fn names_may_be_long_and_in_any_script() {
    let name = "é".repeat(255);
    let event = PEN.replace("Pen", &name);
    let outcome = given(&[]).when("item.register", "pen", &pen_with("name", &format!("\"{name}\"")));
    outcome.then(&[("item/pen", "item.registered", &event)]);
    let event = PEN.replace("Pen", "볼펜 \\\"1\\\"");
    let outcome = given(&[]).when("item.register", "pen", &pen_with("name", r#""\ubcfc펜 \"1\"""#));
    outcome.then(&[("item/pen", "item.registered", &event)]);
}

#[test]
fn restocking_adds_to_the_stock() {
    let restocked = ("item/pen", "item.restocked", r#"{"quantity":3}"#);
    given(&[REGISTERED]).when("item.restock", "pen", r#"{"quantity":3}"#).then(&[restocked]);
    let world = given(&[REGISTERED, restocked]);
    assert_eq!(world.states.values().next().unwrap().item().unwrap().stock, 8);
}

#[test]
fn restocking_needs_an_item_and_room() {
    given(&[]).when("item.restock", "pen", r#"{"quantity":4294967296}"#).then_no("item_not_found");
    given(&restocked_to_the_limit()).when("item.restock", "pen", r#"{"quantity":1}"#).then_no("out_of_range");
    for quantity in ["4294967295", "4294967296", "18446744073709551616"] {
        let data = format!(r#"{{"quantity":{quantity}}}"#);
        given(&[REGISTERED]).when("item.restock", "pen", &data).then_no("out_of_range");
    }
}

#[test]
fn a_restock_of_nothing_is_malformed() {
    for (quantity, problem) in [
        ("0", "must be at least 1"),
        ("-3", "must be an unsigned integer"),
        ("[[[[]]]]", "must be an unsigned integer"),
        ("{}", "must be an unsigned integer"),
    ] {
        let data = format!(r#"{{"quantity":{quantity}}}"#);
        given(&[REGISTERED]).when("item.restock", "pen", &data).then_no(&format!("data.quantity {problem}"));
    }
}

#[test]
fn repricing_changes_both_parts() {
    let repriced = ("item/pen", "item.repriced", r#"{"supply_price":"2.000","vat":"0.250"}"#);
    given(&[REGISTERED]).when("item.reprice", "pen", r#"{"supply_price":2,"vat":"0.25"}"#).then(&[repriced]);
    let world = given(&[REGISTERED, repriced]);
    assert_eq!(world.states.values().next().unwrap().item().unwrap().total_price().to_string(), "2.250");
}

#[test]
fn repricing_needs_an_item_and_a_total_that_fits() {
    let data = r#"{"supply_price":9999999.999,"vat":0.001}"#;
    given(&[]).when("item.reprice", "pen", data).then_no("item_not_found");
    given(&[REGISTERED]).when("item.reprice", "pen", data).then_no("out_of_range");
    given(&[REGISTERED]).when("item.reprice", "pen", r#"{"supply_price":1}"#).then_no("data.vat is missing");
}

#[test]
fn sale_is_allowed_and_denied_as_often_as_asked() {
    let allowed = ("item/pen", "item.sale_allowed", "{}");
    let denied = ("item/pen", "item.sale_denied", "{}");
    given(&[REGISTERED]).when("item.allow_sale", "pen", "{}").then(&[allowed]);
    given(&[REGISTERED, allowed]).when("item.allow_sale", "pen", r#"{"why":1}"#).then(&[allowed]);
    given(&[REGISTERED, allowed]).when("item.deny_sale", "pen", "{}").then(&[denied]);
    given(&[REGISTERED]).when("item.deny_sale", "pen", "{}").then(&[denied]);
    for (history, on_sale) in [(vec![REGISTERED, allowed], true), (vec![REGISTERED, allowed, denied], false)] {
        assert_eq!(given(&history).states.values().next().unwrap().item().unwrap().is_on_sale, on_sale);
    }
}

#[test]
fn sale_needs_an_item_and_an_object() {
    for job in ["item.allow_sale", "item.deny_sale"] {
        given(&[]).when(job, "pen", "{}").then_no("item_not_found");
        given(&[REGISTERED]).when(job, "pen", "null").then_no("data must be a JSON object");
    }
}

#[test]
fn an_event_of_an_unknown_item_has_no_effect() {
    let world = given(&[("item/pen", "item.restocked", r#"{"quantity":3}"#)]);
    assert_eq!(world.states.values().next().unwrap().item(), None);
}
