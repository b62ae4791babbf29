//! The shop's read models. A new one is a file and a line here.

mod items;
mod orders;

use lockkeeper::projection::Projection;

use super::Shop;

/// All of them.
pub fn all() -> Vec<Box<dyn Projection<Shop>>> {
    vec![Box::new(items::Items), Box::new(orders::Orders), Box::new(orders::OrderItems)]
}
