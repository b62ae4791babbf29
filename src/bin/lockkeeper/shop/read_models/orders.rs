//! The read models `orders`, every order as it is now, and `order_items`, what each of them is about.

use crate::shop::order::{self, Line, Order, Placed, Status};
use crate::shop::{Event, Shop};
use lockkeeper::projection::Sql;

use lockkeeper::projection::{Change, Projection};

/// Writes the table `orders`.
pub struct Orders;

impl Projection<Shop> for Orders {
    fn name(&self) -> &'static str {
        "orders"
    }

    fn write(&self, changes: &[Change<'_, Shop>], sql: &mut Sql) {
        let mut orders = changes.iter().filter_map(|change| Some((change, change.state.order()?))).peekable();
        if orders.peek().is_none() {
            return;
        }
        sql.raw("INSERT INTO orders (order_id,member_id,total_price,status,version) VALUES ");
        sql.list(orders, |sql, (change, order)| order_row(sql, change, order));
        sql.raw(
            " ON DUPLICATE KEY UPDATE member_id=VALUES(member_id),total_price=VALUES(total_price),\
             status=VALUES(status),version=VALUES(version);",
        );
    }
}

fn order_row(sql: &mut Sql, change: &Change<'_, Shop>, order: &Order) {
    let status = match order.status {
        Status::Placed => "PLACED",
        Status::Cancelled => "CANCELLED",
    };
    sql.raw("(").text(&change.aggregate.id);
    sql.raw(",").number(order.member_id);
    sql.raw(",").decimal(order.total_price.into());
    sql.raw(",").text(status);
    sql.raw(",").number(change.version).raw(")");
}

/// Writes the table `order_items`. The lines of an order never change, so they are written when it is placed and not
/// again.
pub struct OrderItems;

impl Projection<Shop> for OrderItems {
    fn name(&self) -> &'static str {
        "order_items"
    }

    fn write(&self, changes: &[Change<'_, Shop>], sql: &mut Sql) {
        let mut lines = changes.iter().flat_map(placed_lines).peekable();
        if lines.peek().is_none() {
            return;
        }
        sql.raw("INSERT INTO order_items (order_id,item_id,price,quantity,is_tax_free) VALUES ");
        sql.list(lines, |sql, (order_id, line)| line_row(sql, order_id, line));
        sql.raw(
            " ON DUPLICATE KEY UPDATE price=VALUES(price),quantity=VALUES(quantity),is_tax_free=VALUES(is_tax_free);",
        );
    }
}

/// The lines of the order if this batch placed it.
fn placed_lines<'a>(change: &'a Change<'a, Shop>) -> impl Iterator<Item = (&'a str, &'a Line)> {
    let placed = change.events.iter().filter_map(placed).next_back();
    placed.into_iter().flat_map(|placed| placed.lines.iter()).map(|line| (&*change.aggregate.id, line))
}

fn placed(event: &Event) -> Option<&Placed> {
    match event {
        Event::Order(order::Event::Placed(placed)) => Some(placed),
        Event::Order(order::Event::Cancelled(_)) | Event::Item(_) => None,
    }
}

fn line_row(sql: &mut Sql, order_id: &str, line: &Line) {
    sql.raw("(").text(order_id);
    sql.raw(",").text(&line.item_id);
    sql.raw(",").decimal(line.price.into());
    sql.raw(",").number(line.quantity);
    sql.raw(",").boolean(line.is_tax_free).raw(")");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::State;
    use crate::shop::kit::aggregate_id;
    use lockkeeper::domain::Domain;

    const TWO_LINES: &str = r#"{"member_id":9,"total_price":"43.300","lines":[{"item_id":"pen","quantity":3,"price":"1.100","is_tax_free":false},{"item_id":"ink","quantity":2,"price":"20.000","is_tax_free":true}]}"#;
    const ONE_LINE: &str = r#"{"member_id":8,"total_price":"1.100","lines":[{"item_id":"pen","quantity":1,"price":"1.100","is_tax_free":false}]}"#;

    fn placed(payload: &str) -> Event {
        Shop::decode("order.placed", 1, payload.as_bytes()).unwrap()
    }

    fn cancelled() -> Event {
        Shop::decode("order.cancelled", 1, br#"{"reason":"r"}"#).unwrap()
    }

    /// What the projection writes for a batch with these events, each order's after those that came `before`.
    fn written(projection: &dyn Projection<Shop>, batch: &[(&str, &[Event], &[Event])]) -> String {
        let batch: Vec<_> = batch
            .iter()
            .map(|&(id, before, events)| {
                let mut state = State::default();
                before.iter().chain(events).for_each(|event| Shop::evolve(&mut state, event));
                (aggregate_id(id), (before.len() + events.len()) as u64, state, events)
            })
            .collect();
        let changes: Vec<_> = batch
            .iter()
            .map(|(aggregate, version, state, events)| Change { aggregate, version: *version, state, events })
            .collect();
        let mut sql = Sql::new();
        projection.write(&changes, &mut sql);
        sql.into_string()
    }

    #[test]
    fn all_orders_of_a_batch_are_one_statement() {
        let batch: [(&str, &[Event], &[Event]); 2] =
            [("order/o1", &[], &[placed(TWO_LINES)]), ("order/o'2", &[placed(ONE_LINE)], &[cancelled()])];
        assert_eq!(
            written(&Orders, &batch),
            "INSERT INTO orders (order_id,member_id,total_price,status,version) VALUES ('o1',9,43.300,'PLACED',1),\
             (x'6f2732',8,1.100,'CANCELLED',2) ON DUPLICATE KEY UPDATE member_id=VALUES(member_id),\
             total_price=VALUES(total_price),status=VALUES(status),version=VALUES(version);"
        );
    }

    #[test]
    fn lines_are_written_when_the_order_is_placed_even_if_it_is_cancelled_at_once() {
        let batch: [(&str, &[Event], &[Event]); 3] = [
            ("order/o1", &[], &[placed(TWO_LINES)]),
            ("order/o2", &[], &[placed(ONE_LINE), cancelled()]),
            ("order/o3", &[placed(ONE_LINE)], &[cancelled()]),
        ];
        assert_eq!(
            written(&OrderItems, &batch),
            "INSERT INTO order_items (order_id,item_id,price,quantity,is_tax_free) VALUES ('o1','pen',1.100,3,0),\
             ('o1','ink',20.000,2,1),('o2','pen',1.100,1,0) ON DUPLICATE KEY UPDATE price=VALUES(price),\
             quantity=VALUES(quantity),is_tax_free=VALUES(is_tax_free);"
        );
    }

    #[test]
    fn a_batch_without_orders_writes_nothing() {
        let item = Shop::decode("item.sale_allowed", 1, b"{}").unwrap();
        let of_item: [(&str, &[Event], &[Event]); 1] = [("item/pen", &[], &[item])];
        let only_cancelled: [(&str, &[Event], &[Event]); 1] = [("order/o1", &[placed(ONE_LINE)], &[cancelled()])];
        assert_eq!(written(&Orders, &[]), "");
        assert_eq!(written(&Orders, &of_item), "");
        assert_eq!(written(&OrderItems, &of_item), "");
        assert_eq!(written(&OrderItems, &only_cancelled), "");
    }
}
