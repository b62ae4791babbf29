//! What the shop's read models write.

use lockkeeper::testing::{Line, cuts, golden};

use super::{items, orders, sales};
use crate::shop::tests::HISTORY;

const GOLDEN: &str = include_str!("golden.rows");

#[test]
fn every_row_is_written_as_ever() {
    golden::rows(GOLDEN, &[&items::Items { version: 1 }, &orders::Orders, &orders::OrderItems], HISTORY);
    golden::log_rows(GOLDEN, &sales::SalesPerDay, HISTORY);
}

const JOBS: &[Line<'_>] = &[
    (
        "item/pen",
        "item.register",
        r#"{"name":"Pen","supply_price":"1","vat":"0.1","is_tax_free":false,"stock":5,"member_id":7}"#,
    ),
    ("item/pen", "item.allow_sale", "{}"),
    ("item/pen", "item.deny_sale", "{}"),
    ("item/pen", "item.restock", r#"{"quantity":3}"#),
    ("item/pen", "item.reprice", r#"{"supply_price":"2","vat":"0"}"#),
    ("order/o1", "order.place", r#"{"member_id":9,"lines":[{"item_id":"pen","quantity":2}]}"#),
    ("order/o2", "order.place", r#"{"member_id":9,"lines":[{"item_id":"pen","quantity":1}]}"#),
    ("order/o1", "order.cancel", r#"{"reason":"late"}"#),
];

#[test]
fn however_a_history_is_cut_the_rows_are_the_same() {
    cuts::leave_the_same_rows(&items::Items { version: 1 }, JOBS);
    cuts::leave_the_same_rows(&orders::Orders, JOBS);
    cuts::leave_the_same_rows(&orders::OrderItems, JOBS);
}
