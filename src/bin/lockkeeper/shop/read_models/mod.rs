//! The shop's read models. A new one is a file and a line here.

pub mod items;
pub mod orders;
pub mod sales;

use lockkeeper::projection::{LogProjection, Projection};

use super::Shop;

/// Those that are written with the events.
pub fn all() -> Vec<Box<dyn Projection<Shop>>> {
    let mut all: Vec<Box<dyn Projection<Shop>>> =
        vec![Box::new(items::Items { version: 1 }), Box::new(orders::Orders), Box::new(orders::OrderItems)];
    if knows_two_versions() {
        all.push(Box::new(items::Items { version: 2 }));
    }
    all
}

/// Whether a test has this program know a version of `items` that others do not. Release builds never do.
fn knows_two_versions() -> bool {
    cfg!(debug_assertions) && std::env::var_os("LOCKKEEPER_TEST_ITEMS").is_some()
}

/// Those that are read from the log.
pub fn of_log() -> Vec<Box<dyn LogProjection<Shop>>> {
    vec![Box::new(sales::SalesPerDay)]
}

#[cfg(test)]
mod tests;
