//! The read model `sales_per_day`: what was ordered and cancelled on each day, by the database's clock. It is about when things
//! happened, so it is read from the log.

use std::collections::BTreeMap;

use lockkeeper::projection::{Column, Happened, LogProjection, Sql, Table};
use rust_decimal::Decimal;

use crate::shop::{Event, Shop, order};

/// Keeps the table `sales_per_day`.
pub struct SalesPerDay;

/// As it is described.
pub const SALES: Table = Table {
    name: "sales_per_day",
    key: &[Column::new("day", "DATE")],
    columns: &[
        Column::new("orders", "BIGINT UNSIGNED"),
        Column::new("revenue", "DECIMAL(20,3)"),
        Column::new("cancelled", "BIGINT UNSIGNED"),
    ],
    indexes: &[],
};

#[derive(Default)]
struct Day {
    orders: u64,
    revenue: Decimal,
    cancelled: u64,
}

impl LogProjection<Shop> for SalesPerDay {
    fn name(&self) -> &'static str {
        "sales_per_day"
    }

    fn tables(&self) -> &'static [Table] {
        const { &[SALES] }
    }

    fn events(&self) -> &'static [&'static str] {
        &["order.placed", "order.cancelled"]
    }

    fn write(&self, page: &[Happened<'_, Shop>], sql: &mut Sql) {
        let mut days: BTreeMap<_, Day> = BTreeMap::new();
        for happened in page {
            let day = days.entry(happened.recorded_at.date_naive()).or_default();
            match happened.event {
                Event::Order(order::Event::Placed(placed)) => {
                    day.orders += 1;
                    day.revenue += Decimal::from(placed.total_price);
                }
                Event::Order(order::Event::Cancelled(_)) => day.cancelled += 1,
                Event::Item(_) => {}
            }
        }
        sql.raw("INSERT INTO ").table("sales_per_day").raw(" (day,orders,revenue,cancelled) VALUES ");
        sql.list(days, |sql, (day, sums)| {
            sql.raw("(").text(&day.to_string()).raw(",").number(sums.orders).raw(",").decimal(sums.revenue);
            sql.raw(",").number(sums.cancelled).raw(")");
        });
        sql.raw(
            " ON DUPLICATE KEY UPDATE orders=orders+VALUES(orders),revenue=revenue+VALUES(revenue),\
             cancelled=cancelled+VALUES(cancelled);",
        );
    }
}
