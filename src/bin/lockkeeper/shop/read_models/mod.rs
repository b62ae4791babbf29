//! The shop's read models. A new one is a file and a line here.

pub mod items;
pub mod orders;
pub mod sales;

use lockkeeper::projection::{LogProjection, Projection};

use super::Shop;

/// Those that are written with the events.
pub fn all() -> Vec<Box<dyn Projection<Shop>>> {
    vec![Box::new(items::Items), Box::new(orders::Orders), Box::new(orders::OrderItems)]
}

/// Those that are read from the log.
pub fn of_log() -> Vec<Box<dyn LogProjection<Shop>>> {
    vec![Box::new(sales::SalesPerDay)]
}
