//! Given, when, then, of the shop.

use lockkeeper::domain::AggregateId;
use lockkeeper::testing;

use super::Shop;

pub use lockkeeper::testing::Line;

pub type World = testing::World<Shop>;

pub fn given(history: &[Line<'_>]) -> World {
    testing::given(history)
}

pub fn aggregate_id(text: &str) -> AggregateId {
    testing::aggregate_id::<Shop>(text)
}
