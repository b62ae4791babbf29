//! The read models `orders`, every order as it is now, and `order_items`, what each of them is about.

use lockkeeper::domain::AggregateId;
use lockkeeper::projection::{Column, Rows, StateProjection, Table, Touches};

use crate::shop::order::{self, Status};
use crate::shop::{Event, Shop, State};

/// Keeps the table `orders`.
pub struct Orders;

/// As it is described.
pub const ORDERS: Table = Table {
    name: "orders",
    key: &[Column::id("order_id")],
    columns: &[
        Column::new("member_id", "BIGINT UNSIGNED"),
        Column::new("total_price", "DECIMAL(10,3)"),
        Column::new("status", "VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin"),
        Column::new("version", "BIGINT UNSIGNED"),
    ],
    indexes: &[],
};

impl StateProjection<Shop> for Orders {
    fn table(&self) -> &'static Table {
        const { &ORDERS }
    }

    fn aggregates(&self) -> &'static [&'static str] {
        &["order"]
    }

    fn rows(&self, aggregate: &AggregateId, version: u64, state: &State, rows: &mut Rows<'_>) {
        let Some(order) = state.order() else { return };
        let status = match order.status {
            Status::Placed => "PLACED",
            Status::Cancelled => "CANCELLED",
        };
        let (member, price) = (order.member_id.into(), order.total_price.into());
        rows.add(&[(&*aggregate.id).into(), member, price, status.into(), version.into()]);
    }
}

/// Keeps the table `order_items`.
pub struct OrderItems;

/// As it is described.
pub const ORDER_ITEMS: Table = Table {
    name: "order_items",
    key: &[Column::id("order_id"), Column::id("item_id")],
    columns: &[
        // The price of one piece when the order was placed.
        Column::new("price", "DECIMAL(10,3)"),
        Column::new("quantity", "INT UNSIGNED"),
        Column::new("is_tax_free", "BOOLEAN"),
    ],
    indexes: &[],
};

impl StateProjection<Shop> for OrderItems {
    fn table(&self) -> &'static Table {
        const { &ORDER_ITEMS }
    }

    fn aggregates(&self) -> &'static [&'static str] {
        &["order"]
    }

    fn rows(&self, aggregate: &AggregateId, _: u64, state: &State, rows: &mut Rows<'_>) {
        for line in state.order().iter().flat_map(|order| order.lines.iter()) {
            let (quantity, is_tax_free) = (line.quantity.into(), line.is_tax_free.into());
            rows.add(&[(&*aggregate.id).into(), (&*line.item_id).into(), line.price.into(), quantity, is_tax_free]);
        }
    }

    /// The lines of an order never change.
    fn touches(&self, event: &Event) -> Touches {
        match event {
            Event::Order(order::Event::Placed(_)) => Touches::Rows,
            Event::Order(order::Event::Cancelled(_)) | Event::Item(_) => Touches::Nothing,
        }
    }
}
